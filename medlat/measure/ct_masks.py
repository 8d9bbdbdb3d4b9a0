"""Soft masks of the body and the lungs in stacks of axial CT images, by thresholds, shifts and connected components.

Every mask is a share in [0, 1] per pixel (partial volume), so areas and edges are finer than a pixel.
"""

from typing import NamedTuple

import numpy as np

AIR, FAT, WATER = -1000.0, -100.0, 0.0
SMALLEST_BODY_CM2, SMALLEST_LUNG_CM2 = 60.0, 6.0
_FACES = np.zeros((3, 3, 3), bool)  # neighbours by edge within an image, never across the batch
_FACES[1, 1, :] = _FACES[1, :, 1] = True
_CORNERS = np.zeros((3, 3, 3), bool)
_CORNERS[1] = True


class Masks(NamedTuple):
    """found: [N] bool, there is a body. The rest is [N, H, W]: body and lung float32 shares, the cores bool, pixels
    that belong wholly to the body or the lungs."""

    found: np.ndarray
    body: np.ndarray
    core: np.ndarray
    lung: np.ndarray
    lung_core: np.ndarray


def masks(hu: np.ndarray, spacing_mm: float) -> Masks:
    """hu: [N, H, W] float32."""
    inside = body_mask(hu, spacing_mm)
    found = inside.any((1, 2)) & (border_share(inside) < 0.7)
    inside &= found[:, None, None]
    core = erode(inside)
    around = dilate(inside) & ~((hu > -500) & ~inside)  # the soft edge, without a table that touches it
    share = np.clip((hu - AIR) / (FAT - AIR), 0, 1, dtype=np.float32)
    body = np.where(core, np.float32(1), share * around)
    lung = lung_mask(hu, core, spacing_mm)
    lung_core = erode(lung)
    near = dilate(lung) & inside
    level = mean_over(hu, lung_core, empty=-850.0).astype(np.float32)[:, None, None]
    lung_share = np.clip((hu - 20.0) / (level - 20.0), 0, 1, dtype=np.float32)
    soft_lung = np.where(lung_core, np.float32(1), lung_share * near)
    return Masks(found, body.astype(np.float32, copy=False), core, soft_lung.astype(np.float32, copy=False), lung_core)


def body_mask(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The largest solid thing, holes filled, without the table; [N, H, W] bool, all False where nothing is large."""
    solid = hu > -500
    rows = np.arange(hu.shape[1], dtype=np.float32)
    weight = solid.sum(2)
    middle = (weight @ rows) / np.maximum(weight.sum(1), 1)
    lower = (rows[None, :] > middle[:, None])[:, :, None]
    least = SMALLEST_BODY_CM2 * 100 / spacing_mm**2
    # Below the middle whatever is thinner than three pixels from top to bottom is taken for table ...
    body = _largest_filled(np.where(lower, _open_vertically(solid), solid), least)
    # ... unless this breaks a thin chest wall and loses the lungs: then holes are filled before the table is cut off.
    filled = fill(solid)
    broken = np.flatnonzero(body.sum((1, 2)) < 0.78 * filled.sum((1, 2)))
    if len(broken):
        other = np.where(lower[broken], _open_vertically(filled[broken]), filled[broken])
        other = _largest_filled(other, least)
        lost = body[broken].sum((1, 2)) < 0.78 * other.sum((1, 2))
        body[broken[lost]] = other[lost]
    return body


def _open_vertically(mask: np.ndarray) -> np.ndarray:
    return _dilate_axis(_erode_axis(mask, 1), 1)


def _largest_filled(mask: np.ndarray, least: float) -> np.ndarray:
    filled = fill(mask)
    return fill(largest(dilate(erode(filled)), least) & filled)


def lung_mask(hu: np.ndarray, core: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Air inside the body in pieces that are large enough; [N, H, W] bool. Pieces below 60 cm² of which more than a
    fifth is as dark as gas are bowel, stomach or airway."""
    from scipy import ndimage

    labels, count = ndimage.label((hu < -450) & core, _FACES)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    gas = np.bincount(labels[hu < -950], minlength=count + 1)
    area = sizes * spacing_mm**2 / 100
    keep = (area > SMALLEST_LUNG_CM2) & ((gas <= 0.2 * sizes) | (area > 60))
    keep[0] = False
    return keep[labels]


def fill(mask: np.ndarray) -> np.ndarray:
    """Close holes: background that does not reach the image's border."""
    from scipy import ndimage

    labels, count = ndimage.label(~mask, _FACES)
    outside = np.zeros(count + 1, bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[edge.ravel()] = True
    outside[0] = False
    return ~outside[labels]


def largest(mask: np.ndarray, least: float) -> np.ndarray:
    """The largest connected piece of each image where it has at least `least` pixels."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, _CORNERS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    image = np.zeros(count + 1, np.intp)
    image[labels] = np.arange(len(mask))[:, None, None]
    sizes[0] = 0
    best = np.zeros(len(mask), sizes.dtype)
    np.maximum.at(best, image, sizes)
    keep = (sizes == best[image]) & (sizes >= max(least, 1))
    return keep[labels]


def border_share(mask: np.ndarray) -> np.ndarray:
    """Share of each image's border that the mask covers, [N]."""
    edges = np.concatenate([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]], axis=1)
    return edges.mean(1)


def mean_over(values: np.ndarray, mask: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Mean of values [N, H, W] where mask is True, `empty` where it nowhere is; [N] float64."""
    count = mask.sum((1, 2))
    total = np.where(mask, values, 0).sum((1, 2), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), empty)


def dilate(mask: np.ndarray) -> np.ndarray:
    """By one pixel in the eight directions, within each image."""
    return _dilate_axis(_dilate_axis(mask, 1), 2)


def erode(mask: np.ndarray) -> np.ndarray:
    """By one pixel in the eight directions; a body cut off by the image's border is not thinned there."""
    return _erode_axis(_erode_axis(mask, 1), 2)


def _dilate_axis(mask: np.ndarray, axis: int) -> np.ndarray:
    first, last = _neighbours(axis)
    grown = mask.copy()
    grown[first] |= mask[last]
    grown[last] |= mask[first]
    return grown


def _erode_axis(mask: np.ndarray, axis: int) -> np.ndarray:
    first, last = _neighbours(axis)
    shrunk = mask.copy()
    shrunk[first] &= mask[last]
    shrunk[last] &= mask[first]
    return shrunk


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))
