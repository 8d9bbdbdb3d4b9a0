"""Sizes of networks, and what is said where they do not fit."""

import pytest

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.generators.sizes import check_positive, doublings


def spec(height, width):
    return ImageSpec(1, height, width, -1000.0, 2000.0, "HU", 1.0)


@pytest.mark.parametrize(
    ("size", "base", "expected"), [((64, 64), (4, 4), 4), ((8, 8), (4, 4), 1), ((64, 32), (8, 4), 3)]
)
def test_doublings(size, base, expected):
    assert doublings(spec(*size), base) == expected


@pytest.mark.parametrize(
    ("size", "base", "nearest"),
    [((60, 60), (4, 4), "64"), ((64, 32), (4, 4), "64"), ((4, 4), (4, 4), "8"), ((64, 64), (8, 4), "64x32")],
)
def test_what_no_doubling_reaches(size, base, nearest):
    with pytest.raises(UserError, match=rf"image_size={size[0]}: .* nearest: {nearest}$"):
        doublings(spec(*size), base)


def test_check_positive():
    check_positive(width=1)
    with pytest.raises(UserError, match=r"width=0: expected a whole number of at least 1"):
        check_positive(depth=2, width=0)
