"""From an image of any size and spacing to the square grid of the slice store."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from medlat.data.source import CT, Modality, Slice
from medlat.errors import UserError


class ToGrid:
    """Resample the central square of an image to [C, size, size] in the limits and the dtype of its modality.

    The square of `field_of_view_mm` about the image's centre is cut out to the nearest pixel (filled where the image
    ends), so that every result has the isotropic spacing field_of_view_mm / size whatever the slice's own spacing.

    size:             rows and columns of the result.
    field_of_view_mm: side of the square. None: the whole image, padded to a square; the spacing of the result then
                      differs from image to image.
    modality:         limits, dtype and what an image is padded with.

    Raises UserError where size or field of view is not positive.
    """

    def __init__(self, size: int, field_of_view_mm: float | None, modality: Modality = CT) -> None:
        if size < 1:
            raise UserError(f"size: found {size}, expected at least 1 pixel")
        if field_of_view_mm is not None and not 0 < field_of_view_mm < math.inf:
            raise UserError(f"field_of_view_mm: found {field_of_view_mm}, expected more than 0 mm, e.g. 400")
        self.size, self.field_of_view_mm, self.modality = size, field_of_view_mm, modality

    def __call__(self, image: Slice) -> np.ndarray:
        """An image of any size and spacing -> [C, size, size]."""
        import torch

        kind, spacing = self.modality, image.spacing_mm
        field = self.field_of_view_mm or max(n * mm for n, mm in zip(image.pixels.shape[:2], spacing, strict=True))
        rows, columns = (max(1, round(field / mm)) for mm in spacing)
        # clipped before it is averaged: one metal pixel of 30,000 HU would otherwise colour its whole surroundings
        values = np.clip(image.pixels.astype(np.float32, copy=False), kind.low, kind.high)
        channels = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
        assert len(channels) == kind.channels, (image.pixels.shape, kind)
        grid = torch.from_numpy(np.ascontiguousarray(channels))
        with _without_metadata():
            for step in _steps(rows, columns, self.size, kind.fill):
                grid = step(grid)
        return grid.round().numpy().astype(kind.dtype)


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
