"""The finding in a sentence."""

import math

import pytest

from medlat.steps.explanation import _finding

ASKED = {"target": "tumour", "threshold": 0.5}


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.0, None, None, "crosses 0.5 in 0% of 6 held-out images"),
        (0.0, 0.0, 0.1, "crosses 0.5 in 0% [0%, 10%] of 6 held-out images"),
        (0.5, 0.3, 0.7, "crosses 0.5 in 50% [30%, 70%] of 6 held-out images"),
        (0.5, math.nan, math.nan, "crosses 0.5 in 50% of 6 held-out images"),
    ],
)
def test_none_of_the_images_is_a_number_too(value, low, high, words):
    row = {"method": "linear", "score": "flips_in_range", "value": value, "low": low, "high": high, "images": 6}
    assert words in _finding(ASKED, "linear", [row])
