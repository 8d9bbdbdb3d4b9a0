"""ToGrid against closed forms."""

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.resample import ToGrid
from medlat.data.source import Slice


def ramp(rows: int, columns: int, spacing: tuple[float, float]) -> Slice:
    """8 HU per mm to the back and 2 per mm to the left, 0 in the image's centre."""
    y, x = (np.arange(rows) - (rows - 1) / 2) * spacing[0], (np.arange(columns) - (columns - 1) / 2) * spacing[1]
    return Slice((8 * y[:, None] + 2 * x[None]).astype(np.float32), spacing)


# rows, columns, spacing, size, field of view (None: all)
GRIDS = [
    (64, 64, (1, 1), 16, None),
    (64, 64, (1, 1), 16, 48),
    (60, 60, (1, 1), 16, None),  # 3.75 pixels to one
    (64, 48, (0.75, 1), 16, 48),  # not square in pixels, square in mm
    (90, 60, (1, 1.5), 16, 72),
    (24, 24, (1, 1), 16, None),
    (16, 16, (1, 1), 16, None),
    (8, 8, (2, 2), 32, None),  # upsampling
    (32, 8, (0.5, 2), 12, None),  # down along rows, up along columns
]


@pytest.mark.parametrize(("rows", "columns", "spacing", "size", "field"), GRIDS)
def test_a_ramp_in_millimetres_stays_that_ramp(
    rows: int, columns: int, spacing: tuple, size: int, field: float
) -> None:
    grid = ToGrid(size, field)(ramp(rows, columns, spacing))[0]
    mm = (field or rows * spacing[0]) / size
    assert grid.dtype == np.int16
    assert grid.shape == (size, size)
    centre = (np.arange(size) - (size - 1) / 2) * mm
    expected = 8 * centre[:, None] + 2 * centre[None]
    inner = slice(1, -1) if mm >= min(spacing) else slice(size // 4, -size // 4)  # extrapolation is flat
    np.testing.assert_allclose(grid[inner, inner], expected[inner, inner], atol=0.51 + 0.04 * 8 * mm)


def test_a_whole_ratio_is_the_plain_average() -> None:
    pixels = np.random.default_rng(0).integers(-1000, 2000, (64, 64)).astype(np.float32)
    average = pixels.reshape(16, 4, 16, 4).mean((1, 3))
    np.testing.assert_allclose(ToGrid(16, None)(Slice(pixels, (1, 1)))[0], average, atol=0.51)


def test_the_same_size_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(-1000, 2000, (16, 16)).astype(np.float32)
    np.testing.assert_array_equal(ToGrid(16, 16)(Slice(pixels, (1, 1)))[0], pixels)


def test_beyond_the_image_is_air() -> None:
    grid = ToGrid(16, 64)(Slice(np.full((32, 32), 40, np.float32), (1, 1)))[0]
    expected = np.full((16, 16), -1024)
    expected[4:12, 4:12] = 40
    np.testing.assert_array_equal(grid, expected)


def test_the_whole_of_an_oblong_slice_is_padded_to_a_square() -> None:
    grid = ToGrid(8, None)(Slice(np.full((32, 16), 40, np.float32), (1, 1)))[0]
    expected = np.full((8, 8), -1024)
    expected[:, 2:6] = 40
    np.testing.assert_array_equal(grid, expected)


def test_values_are_clipped_before_they_are_averaged_and_rounded_to_nearest() -> None:
    pixels = np.zeros((8, 8), np.float32)
    pixels[:2, :2] = 30000
    pixels[:2, 2:4] = -3000
    pixels[:2, 4:6] = [[1, 1], [1, 0]]  # 0.75
    pixels[4, 0] = 30000
    grid = ToGrid(4, 8)(Slice(pixels, (1, 1)))[0]
    assert grid[0].tolist() == [3071, -1024, 1, 0]
    assert grid[2, 0] == round(3071 / 4)


def test_views_and_read_only_pixels_are_taken() -> None:
    pixels = np.arange(64, dtype=np.float32).reshape(8, 8)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(ToGrid(8, None)(Slice(pixels[::-1].T, (1, 1)))[0], pixels[::-1].T)


def test_metadata_tracking_is_left_as_it_was() -> None:
    from monai.data import get_track_meta

    before = get_track_meta()
    ToGrid(4, None)(Slice(np.zeros((8, 8), np.float32), (1, 1)))
    assert get_track_meta() is before is True


@pytest.mark.parametrize(("size", "field"), [(0, 400), (-1, None), (64, 0), (64, -1), (64, float("nan"))])
def test_arguments_out_of_range_are_named(size: int, field: float) -> None:
    with pytest.raises(UserError, match=r"size: found|field_of_view_mm: found"):
        ToGrid(size, field)
