"""Real images with what is known of them: CT slices with their headers' tags, images moved by known amounts, tiles
whose stain tells nothing.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from pydicom import dcmread
from scipy import ndimage

from medlat.core.ranges import Count, Seed
from medlat.core.stains import DARKEST, stain_vectors, stained, stains
from medlat.data.ct.dicom import CTDicom
from medlat.data.modality import CT, HISTOLOGY, RADIOGRAPH, Modality
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice, SliceSource
from medlat.measure.stain import stains_of
from medlat.phantoms.factors import Draws, Margin

TAGS = (
    "table_height",
    "age",
    "male",
    "contrast",
    "ge",
    "kvp",
    "sharp_kernel",
    "slice_thickness",
    "pixel_size",
    "exposure",
)
SHARP = ("BONE", "LUNG", "50s", "60f")  # what the kernels end with that enhance edges; 59 .10.AB50 is a middle one


class Stain(NamedTuple):
    """vectors: [2, 3] unit densities of haematoxylin and eosin. strength: [2] of their strongest pixels, in density."""

    vectors: np.ndarray
    strength: np.ndarray


STAIN = Stain(stain_vectors()[:2], np.array([0.9, 0.9]))  # the published colours, about as strong as LC25000's tiles


class Tagged(CTDicom):
    """CT slices whose headers' tags stand beside them, in columns `tag.NAME` of the image store; NaN where a header
    does not say. Contrast is in the names of this collection's files.
    """

    def scan(self, parallel_map: ParallelMap) -> Scan:
        scan = super().scan(parallel_map)
        for chunk in scan.chunks:
            tags = np.array([tags_of(item.path) for item in chunk.items])
            chunk.columns.update({f"tag.{name}": tags[:, i] for i, name in enumerate(TAGS)})
        return scan


def tags_of(path: str) -> list[float]:
    """TAGS of one file: mm, years, 0 or 1, kV, mAs."""
    header = dcmread(path, stop_before_pixels=True)
    kernel = str(header.ConvolutionKernel)
    found = {
        "table_height": float(header.TableHeight),
        "age": float(header.PatientAge.rstrip("Y")),
        "male": float(header.PatientSex == "M"),
        "contrast": float("CONTRAST_1" in path),
        "ge": float(header.Manufacturer.startswith("GE")),
        "kvp": float(header.KVP),
        "sharp_kernel": float(kernel.endswith(SHARP)),
        "slice_thickness": float(header.SliceThickness),
        "pixel_size": float(header.PixelSpacing[0]),
        "exposure": float(header.get("Exposure") or "nan"),
    }
    return [found[name] for name in TAGS]


class Move(NamedTuple):
    """A known transform: its amounts lie between -most and most."""

    name: str
    unit: str
    most: float


POSE = (
    Move("shift_x", "share of the side", 0.08),
    Move("shift_y", "share of the side", 0.08),
    Move("turn", "deg", 12.0),
)
STAINS = (Move("haematoxylin", "log2", 0.6), Move("eosin", "log2", 0.6), Move("zoom", "log2", 0.4))
MOVES = {
    CT.name: (*POSE, Move("offset", "HU", 120.0)),
    RADIOGRAPH.name: (*POSE, Move("offset", "grey levels", 40.0)),
    HISTOLOGY.name: (*STAINS, Move("offset", "grey levels", 30.0)),
}


class _Item(NamedTuple):
    item: Any
    amounts: tuple[float, ...]


class Transformed:
    """The images of another source, each `copies` times, each time moved by amounts that are drawn anew and known: in
    columns `factor.NAME`.

    margin, correlation: of the amounts (`medlat.phantoms.factors.Draws`); uniform between -most and most, or Gaussian
    with the same standard deviation. seed: of the draws.
    """

    def __init__(
        self, source: Any, copies: Count = 1, margin: Margin = "uniform", correlation: float = 0.0, seed: Seed = 0
    ) -> None:
        self.source: SliceSource = source
        self.copies, self.draws, self.seed = copies, Draws(margin, correlation), seed
        self.moves = MOVES[self.modality.name]

    @property
    def modality(self) -> Modality:
        return self.source.modality

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def expected(self) -> int | None:
        found = self.source.expected()
        return None if found is None else found * self.copies

    def scan(self, parallel_map: ParallelMap) -> Scan:
        scan, rng = self.source.scan(parallel_map), np.random.default_rng(self.seed)
        scan.chunks = [self._moved(chunk, rng) for chunk in scan.chunks for _ in range(self.copies)]
        scan.units |= {move.name: move.unit for move in self.moves}
        return scan

    def _moved(self, chunk: Chunk, rng: np.random.Generator) -> Chunk:
        most = np.array([move.most for move in self.moves]) * (3.0**0.5 if self.draws.margin == "gaussian" else 1.0)
        amounts = np.array(
            [
                self.draws.between(-most, most, self.draws.correlated(rng.random(len(most)), rng.standard_normal()))
                for _ in chunk.items
            ]
        )
        items = tuple(_Item(item, tuple(row)) for item, row in zip(chunk.items, amounts.tolist(), strict=True))
        known = {f"factor.{move.name}": amounts[:, i] for i, move in enumerate(self.moves)}
        return replace(chunk, items=items, columns=chunk.columns | known)

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged | Remark]:
        plain = replace(chunk, items=tuple(item.item for item in chunk.items))
        for found, item in zip(self.source.read(plain), chunk.items, strict=True):
            yield found._replace(pixels=self._apply(found.pixels, item)) if isinstance(found, Slice) else found

    def _apply(self, pixels: np.ndarray, item: _Item) -> np.ndarray:
        by = dict(zip((move.name for move in self.moves), item.amounts, strict=True))
        values = pixels.astype(np.float32)
        if "haematoxylin" in by:
            values = zoomed(values, 2.0 ** by["zoom"])
            strength = np.array([2.0 ** by["haematoxylin"], 2.0 ** by["eosin"], 1.0], np.float32)
            return np.clip(stained(stains(values) * strength) + by["offset"], 0.0, 255.0).astype(np.float32)
        is_ct = self.modality.name == CT.name
        values = posed(values, by["turn"], (by["shift_y"], by["shift_x"]), CT.fill if is_ct else None) + by["offset"]
        return np.maximum(values, CT.fill) if is_ct else np.clip(values, 0.0, 255.0)


class OneStain(ImageFolder):
    """Tiles of H&E that are all stained alike: what is left is tissue."""

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged | Remark]:
        for found in super().read(chunk):
            yield found._replace(pixels=restained(found.pixels, STAIN)) if isinstance(found, Slice) else found


def restained(image: np.ndarray, stain: Stain) -> np.ndarray:
    """RGB [H, W, 3] from 0 to 255 with another stain (Macenko et al. 2009); as it is where it has not two stains."""
    own = stain_of(image)
    if own is None:
        return image
    amounts = density_of(image) @ np.linalg.pinv(own.vectors) * (stain.strength / own.strength)
    return np.clip(255.0 * 10.0 ** -(amounts @ stain.vectors), 0.0, 255.0).astype(np.float32)


def stain_of(image: np.ndarray) -> Stain | None:
    """Of an image as above; None where it has not two stains."""
    found = stains_of(density_of(image).reshape(-1, 3))
    return None if found is None else Stain(*found)


def density_of(image: np.ndarray) -> np.ndarray:
    return -np.log10(np.clip(image.astype(np.float64) / 255.0, DARKEST, 1.0))


def posed(image: np.ndarray, degrees: float, shift: tuple[float, float], fill: float | None) -> np.ndarray:
    """[H, W] turned about its middle and then shifted (down, right) by shares of its sides; what comes in from outside
    is `fill`, or the nearest pixel's.
    """
    turn = np.deg2rad(degrees)
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = (np.array(image.shape) - 1.0) / 2.0
    offset = middle - back @ (middle + np.array(shift) * image.shape)
    outside: dict[str, Any] = {"mode": "nearest"} if fill is None else {"mode": "constant", "cval": fill}
    return ndimage.affine_transform(image, back, offset, order=1, **outside).astype(np.float32)


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """[H, W, 3] magnified about its middle; what comes in from outside is its mirror image."""
    middle = (np.array(image.shape[:2]) - 1.0) / 2.0
    offset = middle * (1.0 - 1.0 / factor)
    planes = [
        ndimage.affine_transform(plane, [1.0 / factor] * 2, offset, order=1, mode="mirror")
        for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, axis=-1)
