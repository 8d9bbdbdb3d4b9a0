"""How a tile of the histology phantom is painted: where nuclei lie, what tissue is between them, and the stains.

All that is random is drawn in micrometres, so one seed gives the same tissue at any pixel size (and other noise).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from medlat.core.stains import stained

SIZE_SPREAD, HAEMATOXYLIN_SPREAD = 0.14, 0.12  # standard deviation of the logarithm from nucleus to nucleus
IN_STROMA = 0.4  # chance that a nucleus stays where it was drawn, if that is stroma
CYTOPLASM, FIBRES = 0.28, 0.10  # haematoxylin between nuclei, as a share of the nuclei's: in cytoplasm, in stroma
STROMA_EOSIN = 1.3  # of the cytoplasm's
PINK = 0.22  # of the third stain in eosin: Ruifrok's vectors alone give magenta, which no slide has
NOISE_GREY = 2.0  # standard deviation of a pixel's noise, of 255 grey levels


class Rendering(NamedTuple):
    """rgb:    [size, size, 3] float32 from 0 to 255.
    nuclei: [size, size] int32: 1, 2, ... nuclei whose centre is in the tile, -1, -2, ... those that reach in from
            outside, 0 none.
    stroma: [size, size] bool.
    """

    rgb: np.ndarray
    nuclei: np.ndarray
    stroma: np.ndarray


@dataclass(frozen=True)
class Tissue:
    """What is to be painted.

    inside:      nuclei whose centre is in the tile.
    diameter_um: their mean diameter (of the circle of the same area).
    haematoxylin, eosin: mean optical density, of the nuclei and between them.
    stroma:      share of the tile's area.
    """

    inside: int
    diameter_um: float
    haematoxylin: float
    eosin: float
    stroma: float


@dataclass
class Nuclei:
    """centre [K, 2] (x, y) and radius [K] in µm, bend [K]; axis [K, 2] unit vectors of the long axis, aspect [K] of
    long to short; strength [K] of the stain, mean 1. The first `inside` of them have their centre in the tile."""

    inside: int
    centre: np.ndarray
    radius: np.ndarray
    axis: np.ndarray
    aspect: np.ndarray
    bend: np.ndarray
    strength: np.ndarray


def paint(tissue: Tissue, size: int, mpp: float, rng: np.random.Generator) -> Rendering:
    """One tile, `size` pixels a side of `mpp` µm."""
    extent = size * mpp
    angle = rng.uniform(0, np.pi)  # of the fibres
    depth, stroma = _stroma(tissue.stroma, size, mpp, rng)
    texture = 1 + 0.09 * smooth_noise(rng, size, mpp, 12.0) + 0.12 * smooth_noise(rng, size, mpp, 3.0)
    fibres = _fibres(angle, size, mpp, rng)
    nuclei = _place(tissue, extent, stroma, angle, rng)
    chromatin = smooth_noise(rng, size, mpp, 1.6)
    cover, strength, labels = _draw(nuclei, size, mpp)
    between = texture * (1 + depth * (STROMA_EOSIN * (1 + 0.35 * fibres) - 1))
    between *= tissue.eosin / max(float(between.mean()), 1e-6)
    background = (CYTOPLASM + (FIBRES - CYTOPLASM) * depth) * texture
    inner = strength * (1 + 0.14 * chromatin)
    concentrations = np.zeros((size, size, 3), np.float32)
    concentrations[..., 0] = tissue.haematoxylin * (background + cover * (inner - background))
    concentrations[..., 1] = between * (1 - 0.6 * cover)
    concentrations[..., 2] = PINK * concentrations[..., 1]
    rgb = stained(np.maximum(concentrations, 0, out=concentrations))
    rgb += np.float32(NOISE_GREY) * rng.standard_normal(rgb.shape, dtype=np.float32)
    return Rendering(np.clip(rgb, 0, 255, out=rgb), labels, stroma)


def smooth_noise(rng: np.random.Generator, size: int, mpp: float, scale_um: float) -> np.ndarray:
    """Gaussian noise without structure below `scale_um`, standard deviation about 1, [size, size] float32."""
    basis = _splines(size, mpp, scale_um)
    return basis @ rng.standard_normal((basis.shape[1],) * 2, dtype=np.float32) @ basis.T


@lru_cache(maxsize=64)
def _splines(size: int, mpp: float, scale_um: float) -> np.ndarray:
    """[size, knots] cubic B-splines at pixel centres, scaled so that white noise keeps its standard deviation."""
    position = (np.arange(size) + 0.5) * mpp / scale_um
    knots = np.arange(int(np.ceil(size * mpp / scale_um)) + 3) - 1
    distance = np.abs(position[:, None] - knots)
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    basis = np.where(distance < 1, near, far)
    return (basis / np.sqrt((basis**2).sum(1, keepdims=True))).astype(np.float32)


def _stroma(share: float, size: int, mpp: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How far into the stroma a pixel is, from 0 (outside, and at its edge) to 1, and the mask with that share."""
    field = smooth_noise(rng, size, mpp, 26.0) + 0.15 * smooth_noise(rng, size, mpp, 6.0)
    edge = float(np.quantile(field, 1.0 - share)) if share > 0 else np.inf
    return np.clip((field - edge) / 0.3, 0, 1).astype(np.float32), field > edge


def _fibres(angle: float, size: int, mpp: float, rng: np.random.Generator) -> np.ndarray:
    """Wavy bundles along the angle, [size, size] float32 about -1 to 1: noise that is long one way, warped."""
    from scipy.ndimage import map_coordinates

    line = (np.arange(size, dtype=np.float32) + 0.5) * mpp
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    along = cos * line[None, :] + sin * line[:, None]
    across = cos * line[:, None] - sin * line[None, :] + 5.0 * smooth_noise(rng, size, mpp, 30.0)
    threads = rng.standard_normal((16, 64), dtype=np.float32)
    where = np.stack([along / 22.0 % 16, across / 2.6 % 64])
    return np.tanh(1.5 * map_coordinates(threads, where, order=1, mode="grid-wrap"))


def _place(tissue: Tissue, extent: float, stroma: np.ndarray, angle: float, rng: np.random.Generator) -> Nuclei:
    """Nuclei in the tile and around it: rarer and spindle-shaped in stroma, pushed apart where they overlap."""
    margin = 1.2 * tissue.diameter_um
    around = round(tissue.inside * ((1 + 2 * margin / extent) ** 2 - 1))
    count = tissue.inside + around
    centre = np.concatenate(
        [_points_in(tissue.inside, stroma, extent, rng), _points_around(around, margin, extent, rng)]
    )
    radius = np.exp(SIZE_SPREAD * rng.standard_normal(count))
    radius *= tissue.diameter_um / 2 / max(radius[: tissue.inside].mean(), 1e-6) if tissue.inside else 1.0
    strength = np.exp(HAEMATOXYLIN_SPREAD * rng.standard_normal(count))
    strength /= strength[: tissue.inside].mean() if tissue.inside else 1.0
    shape, turn = rng.standard_normal((3, count)), rng.uniform(0, np.pi, count)
    _push_apart(centre, radius, tissue.inside, extent)
    spindle = _is_in(stroma, centre, extent)
    direction = np.where(spindle, angle + 0.25 * shape[0], turn)
    aspect = np.where(spindle, 2.0, 1.2) * np.exp(0.15 * np.abs(shape[1]))
    axis = np.stack([np.cos(direction), np.sin(direction)], axis=1)
    return Nuclei(tissue.inside, centre, radius, axis, aspect, 0.18 * shape[2], strength)


def _is_in(mask: np.ndarray, points: np.ndarray, extent: float) -> np.ndarray:
    """Whether points [..., 2] (x, y) in µm are in the mask; those outside the tile, whether its nearest pixel is."""
    at = np.clip((points / extent * len(mask)).astype(int), 0, len(mask) - 1)
    return mask[at[..., 1], at[..., 0]]


def _points_in(count: int, stroma: np.ndarray, extent: float, rng: np.random.Generator) -> np.ndarray:
    """[count, 2] in the tile: of four draws each, the first that is not in stroma, or is and may stay."""
    tries = rng.uniform(0, extent, (count, 4, 2))
    stays = ~_is_in(stroma, tries, extent) | (rng.random((count, 4)) < IN_STROMA)
    return np.take_along_axis(tries, stays.argmax(1)[:, None, None], 1)[:, 0]


def _points_around(count: int, margin: float, extent: float, rng: np.random.Generator) -> np.ndarray:
    """[count, 2], evenly spread in the frame of that width around the tile."""
    outer = extent + 2 * margin
    points, found = np.empty((0, 2)), 0
    while found < count:
        draws = rng.uniform(-margin, extent + margin, (8 + 2 * round(count * outer**2 / (outer**2 - extent**2)), 2))
        points = np.concatenate([points, draws[((draws < 0) | (draws > extent)).any(1)]])
        found = len(points)
    return points[:count]


def _push_apart(centre: np.ndarray, radius: np.ndarray, inside: int, extent: float, rounds: int = 8) -> None:
    """Move overlapping nuclei away from each other, in place; those inside stay inside, those around stay put."""
    place = centre.astype(np.float32)
    reach = (1.02 * (radius[:inside, None] + radius)).astype(np.float32)
    for _ in range(rounds):
        dx, dy = (place[:inside, None, axis] - place[:, axis] for axis in (0, 1))
        push = np.maximum(0.5 * reach / np.maximum(np.sqrt(dx * dx + dy * dy), 1e-3) - 0.5, 0)
        np.fill_diagonal(push, 0.0)
        moved = place[:inside] * (1 + push.sum(1, keepdims=True)) - push @ place
        place[:inside] = np.clip(moved, 0.0, extent * (1 - 1e-6))
    centre[:] = place


def _draw(nuclei: Nuclei, size: int, mpp: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of each pixel that nuclei cover, stain strength there (darker at the rim; mean 1) and labels."""
    if not len(nuclei.radius):
        empty = np.zeros((size, size), np.float32)
        return empty, empty, np.zeros((size, size), np.int32)
    long = nuclei.radius * np.sqrt(nuclei.aspect)
    half = int(np.ceil((long * (1 + np.abs(nuclei.bend))).max() / mpp + 1))
    corner = np.floor(nuclei.centre / mpp).astype(int) - half
    cover, strength = _windows(nuclei, corner, 2 * half + 1, mpp)
    beyond = max(0.0, -nuclei.centre.min(), nuclei.centre.max() - size * mpp)  # neighbours that reach into the tile
    pad = 2 * half + 1 + int(np.ceil(beyond / mpp))
    canvas = np.zeros((3, size + 2 * pad, size + 2 * pad), np.float32)
    side = cover.shape[1]
    for i, (x, y) in enumerate((corner + pad).tolist()):
        view = canvas[:, y : y + side, x : x + side]
        over = cover[i] > view[0]
        np.copyto(view[0], cover[i], where=over)
        np.copyto(view[1], strength[i], where=over)
        np.copyto(view[2], i + 1 if i < nuclei.inside else nuclei.inside - i - 1, where=over & (cover[i] > 0.5))
    tile = canvas[:, pad : pad + size, pad : pad + size]
    return tile[0], tile[1], tile[2].astype(np.int32)


def _windows(nuclei: Nuclei, corner: np.ndarray, side: int, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Every nucleus in a window of its own: cover and stain strength, each [K, side, side] float32."""
    steps = np.arange(side) + 0.5
    x = ((corner[:, :1] + steps) * mpp - nuclei.centre[:, :1]).astype(np.float32)[:, None, :]
    y = ((corner[:, 1:] + steps) * mpp - nuclei.centre[:, 1:]).astype(np.float32)[:, :, None]
    cos, sin, radius, aspect, bend, stain = (
        values.astype(np.float32)[:, None, None]
        for values in (*nuclei.axis.T, nuclei.radius, nuclei.aspect, nuclei.bend, nuclei.strength)
    )
    along = (cos * x + sin * y) / (radius * np.sqrt(aspect))
    across = (cos * y - sin * x) * np.sqrt(aspect) / radius
    across += bend * (along**2 - 0.25)  # a shear: the ellipse becomes a bean of the same area
    squared = along**2 + across**2
    distance = (np.sqrt(squared) - 1) * radius / np.float32(mpp)  # to the edge in pixels, nearly
    rim = np.minimum(squared, 1) ** 2
    return np.clip(np.float32(0.5) - distance, 0, 1), stain * (np.float32(0.9) + np.float32(0.3) * rim)
