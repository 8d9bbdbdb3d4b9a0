"""From a CT slice of any size and spacing to a square grid of Hounsfield units."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from medlat.data.source import Slice
from medlat.errors import UserError

AIR_HU = -1024.0  # air, and everything outside the scanned circle
HIGHEST_HU = 3071.0  # of 12-bit CT


class ToGrid:
    """Resample the central square of a slice to [size, size] int16 HU in [-1024, 3071].

    The square of `field_of_view_mm` about the image's centre is cut out to the nearest pixel (air where the image
    ends), so that every result has the isotropic spacing field_of_view_mm / size whatever the slice's own spacing.

    size:             rows and columns of the result.
    field_of_view_mm: side of the square. None: the whole slice, padded with air to a square; the spacing of the
                      result then differs from slice to slice.

    Raises UserError where size or field of view is not positive.
    """

    def __init__(self, size: int, field_of_view_mm: float | None) -> None:
        if size < 1:
            raise UserError(f"size: found {size}, expected at least 1 pixel")
        if field_of_view_mm is not None and not 0 < field_of_view_mm < math.inf:
            raise UserError(f"field_of_view_mm: found {field_of_view_mm}, expected more than 0 mm, e.g. 400")
        self.size = size
        self.field_of_view_mm = field_of_view_mm

    def __call__(self, image: Slice) -> np.ndarray:
        """A slice of any size and spacing -> [size, size] int16 HU."""
        import torch

        spacing = image.spacing_mm
        field = self.field_of_view_mm or max(n * mm for n, mm in zip(image.pixels.shape, spacing, strict=True))
        rows, columns = (max(1, round(field / mm)) for mm in spacing)
        # clipped before it is averaged: one metal pixel of 30,000 HU would otherwise colour its whole surroundings
        grid = torch.from_numpy(np.clip(image.pixels, AIR_HU, HIGHEST_HU)).unsqueeze(0)
        with _without_metadata():
            for step in _steps(rows, columns, self.size):
                grid = step(grid)
        return grid[0].round().to(torch.int16).numpy()


@functools.lru_cache(maxsize=1024)
def _steps(rows: int, columns: int, size: int) -> tuple[Callable, ...]:
    """Crop or pad to rows x columns, interpolate to the next multiple of `size`, average that down to `size`.

    Averaging alone is exact only where the ratio is whole; with the interpolation before it, it is nearly so for any.
    Root mean square error against the analytic average, discs of up to 800 HU, 500 -> 64 pixels: 1.6 HU; "area" alone
    14, anti-aliased bilinear 29, bilinear 78. Upsampling is the first step alone, bilinear.
    """
    from monai.transforms import Resize, ResizeWithPadOrCrop

    fine = tuple(size * math.ceil(n / size) for n in (rows, columns))
    crop = ResizeWithPadOrCrop((rows, columns), mode="constant", value=AIR_HU)
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
