"""From an image of any size and spacing to the square grid of the slice store."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from medlat.core.errors import UserError
from medlat.data.modality import CT, Modality
from medlat.data.source import Slice

MOST_VALUES = 1 << 25  # resampled at once, padding included: 5,792² pixels in grey, 3,344² in colour; 0.5 GB
STRIP = 64  # rows of the result that are averaged together


class UnusableImage(ValueError):
    """An image that no grid can be made of; the message says why in fixed words."""


class ToGrid:
    """Resample the central square of an image to [C, size, size] in the limits and the dtype of its modality.

    The square of `field_of_view_mm` about the image's centre is cut out to the nearest pixel (filled where the image
    ends), so that every result has the isotropic spacing field_of_view_mm / size whatever the slice's own spacing.

    size:             rows and columns of the result.
    field_of_view_mm: side of the square. None: the whole image, padded to a square; the spacing of the result then
                      differs from image to image.
    modality:         limits, dtype and what an image is padded with.

    An image of more than 5,792² pixels, padding included (3,344² in colour), is first averaged over whole blocks of
    them, so that neither memory nor time grow with what a file claims.

    Raises UserError where size or field of view is not positive.
    """

    def __init__(self, size: int, field_of_view_mm: float | None, modality: Modality = CT) -> None:
        if size < 1:
            raise UserError(f"size: found {size}, expected at least 1 pixel")
        if field_of_view_mm is not None and not 0 < field_of_view_mm < math.inf:
            raise UserError(f"field_of_view_mm: found {field_of_view_mm}, expected more than 0 mm, e.g. 400")
        self.size, self.field_of_view_mm, self.modality = size, field_of_view_mm, modality

    def __call__(self, image: Slice) -> np.ndarray:
        """An image of any size and spacing -> [C, size, size].

        Raises UnusableImage where the image, or the field of view in it, is narrower than a pixel: nothing would be
        seen of it.
        """
        import torch

        kind, spacing, sides = self.modality, image.spacing_mm, image.pixels.shape[:2]
        if 0 in sides or not all(0 < mm < math.inf for mm in spacing):
            raise UnusableImage("no pixels, or none with a size")
        field = self.field_of_view_mm or max(n * mm for n, mm in zip(sides, spacing, strict=True))
        if any(n * mm < field / self.size for n, mm in zip(sides, spacing, strict=True)):
            raise UnusableImage("narrower than a pixel of the result")
        if any(mm > field for mm in spacing):
            raise UnusableImage("pixels larger than the field of view")
        values_before = kind.channels * math.prod(field / mm for mm in spacing)
        block = min(math.ceil(math.sqrt(values_before / MOST_VALUES)), *sides)
        pixels = image.pixels if block <= 1 else _averaged(image.pixels, block, kind)
        rows, columns = (max(1, round(field / (mm * block))) for mm in spacing)
        # clipped before it is averaged: one metal pixel of 30,000 HU would otherwise colour its whole surroundings
        values = np.clip(pixels.astype(np.float32, copy=False), kind.low, kind.high)
        channels = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
        assert len(channels) == kind.channels, (image.pixels.shape, kind)
        grid = torch.from_numpy(np.ascontiguousarray(channels))
        del pixels, values, channels  # one of a few copies, all as large
        with _without_metadata():
            for step in _steps(rows, columns, self.size, kind.fill):
                grid = step(grid)
        whole = np.issubdtype(kind.dtype, np.integer)
        return (grid.round() if whole else grid).numpy().astype(kind.dtype)


def _averaged(pixels: np.ndarray, block: int, kind: Modality) -> np.ndarray:
    """The means of blocks of block x block pixels, clipped first: [H, W] or [H, W, 3] -> float32, H // block rows.

    Strip by strip, so that no copy of the whole is made. What does not fill a block is left out, evenly at both ends.
    """
    height, width = (n // block for n in pixels.shape[:2])
    top, left = ((n % block) // 2 for n in pixels.shape[:2])
    inner = pixels[top : top + height * block, left : left + width * block]
    means = np.empty((height, width, *pixels.shape[2:]), np.float32)
    for row in range(0, height, STRIP):
        strip = inner[row * block : (row + STRIP) * block].astype(np.float32)
        np.clip(strip, kind.low, kind.high, out=strip)
        rows = np.add.reduce([strip[k::block] for k in range(block)])
        means[row : row + STRIP] = np.add.reduce([rows[:, k::block] for k in range(block)]) / block**2
    return means


@functools.lru_cache(maxsize=1024)
def _steps(rows: int, columns: int, size: int, fill: float) -> tuple[Callable, ...]:
    """Crop or pad to rows x columns, interpolate to the next multiple of `size`, average that down to `size`.

    Averaging alone is exact only where the ratio is whole; with the interpolation before it, it is nearly so for any.
    Root mean square error against the analytic average, discs of up to 800 HU, 500 -> 64 pixels: 1.6 HU; "area" alone
    14, anti-aliased bilinear 29, bilinear 78. Upsampling is the first step alone, bilinear.
    """
    from monai.transforms import Resize, ResizeWithPadOrCrop

    fine = tuple(size * math.ceil(n / size) for n in (rows, columns))
    crop = ResizeWithPadOrCrop((rows, columns), mode="constant", value=fill)
    return crop, Resize(fine, mode="bilinear"), Resize((size, size), mode="area")


@contextmanager
def _without_metadata() -> Iterator[None]:
    """MONAI's metadata tracking costs more than the resampling itself."""
    from monai.data import get_track_meta, set_track_meta

    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
