"""The finding in a sentence."""

import json
import math
from types import SimpleNamespace

import pytest

from medlat.steps.verdict import _finding, _samples

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


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ({"distance/fd_measurements": 4.5, "distance/fd_measurements_floor": 0.5}, (4.5, 0.5)),
        ({"distance/fd_measurements": None, "distance/fd_measurements_floor": None}, None),  # too few images
        ({"distance/fd_measurements": 4.5, "distance/fd_measurements_floor": None}, None),
        ({}, None),
    ],
)
def test_the_distance_of_samples_is_told_where_there_is_one(tmp_path, numbers, found):
    (tmp_path / "metrics.json").write_text(json.dumps(numbers))
    assert _samples(SimpleNamespace(folder=lambda _: tmp_path)) == found
