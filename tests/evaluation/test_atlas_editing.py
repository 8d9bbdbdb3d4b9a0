"""The atlas and the editing range on numbers whose answer is known."""

import numpy as np
import pytest

from medlat.evaluation.atlas import agreement, atlas
from medlat.evaluation.editing import Nearness, common_range, editing_range, shown_steps
from medlat.evaluation.semantics import Effect


def row(method, direction, measurement, standardised, share, r2=1.0, sure=0.9, unit="deg"):
    ends = sorted((standardised * sure, standardised * (2.0 - sure)))
    return Effect(method, direction, "factor", measurement, unit, standardised, *ends, standardised, share, r2)


def test_the_same_direction_of_two_methods_is_found():
    rows = [
        row("a", "a 00", "x", 1.0, 1.0),
        row("a", "a 01", "y", 1.0, 1.0),
        row("b", "b 00", "y", -2.0, 1.0),
        row("b", "b 01", "z", 1.0, 1.0),
    ]
    axes = np.eye(3)
    vectors = [("z", axes[0]), ("z", axes[1]), ("z", -axes[1]), ("z", axes[2])]
    found = atlas(vectors, rows, "factor")
    second, third = found.places[1], found.places[2]
    assert (second.nearest_by_angle, second.angle_cosine) == ("b 00", pytest.approx(1.0))
    assert (third.nearest_by_effect, third.effect_cosine) == ("a 01", pytest.approx(1.0))
    assert second.cluster == third.cluster == 0  # the only cluster of two is the largest
    assert len({place.cluster for place in found.places}) == 3
    assert [place.duplicates for place in found.places] == [0, 1, 1, 0]
    table = {(t["method"], t["found_in"]): t for t in agreement(found)}
    assert table["a", "b"]["by_angle"] == pytest.approx(0.5)
    assert table["a", "b"]["by_effect"] == pytest.approx(0.5)


def test_directions_of_two_spaces_have_no_angle():
    rows = [row("a", "a 00", "x", 1.0, 1.0), row("b", "b 00", "x", 1.0, 1.0)]
    found = atlas([("z", np.array([1.0, 0.0])), ("w", np.array([1.0, 0.0, 0.0]))], rows, "factor")
    assert found.places[0].nearest_by_angle == ""
    assert np.isnan(found.places[0].angle_cosine)
    assert found.places[0].effect_cosine == pytest.approx(1.0)
    assert np.isnan(agreement(found)[0]["by_angle"])


def test_how_far_a_direction_may_be_followed():
    near = np.array([[0.9, 0.5, 0.2, 0.5, 1.2]])
    assert editing_range([-4, -2, 0, 2, 4], near) == 2
    assert editing_range([-4, -2, 0, 2, 4], np.zeros((3, 5))) == 4
    assert editing_range([-4, -2, 0, 2, 4], np.array([[2.0, 2.6, 2.0, 2.0, 2.0]])) == 0
    assert editing_range([-4, -2, 0, 2, 4], np.array([[2.6, 2.4, 2.0, 2.0, 2.0]])) == 2


def test_what_is_shown_of_a_method():
    assert common_range([3.0, 3.0, 3.0, 8.0, 0.0]) == 3.0
    assert common_range([0.0, 8.0, 8.0, 8.0]) == 6.0
    assert shown_steps(3.0, 3) == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    assert shown_steps(2.625, 3) == [-2.25, -1.5, -0.75, 0.0, 0.75, 1.5, 2.25]
    assert shown_steps(0.0, 2) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert shown_steps(0.0, 8)[-1] == 2.0  # no step is shorter than a quarter


def test_distances_are_relative_to_held_out_images():
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(500, 3)), rng.normal(size=(200, 3))
    near = Nearness(train, held_out)
    assert np.percentile(near(held_out), 95) == pytest.approx(1.0)
    assert near(train).max() == 0.0
    assert near(np.full((2, 4, 3), 100.0)).shape == (2, 4)
    assert near(np.full((1, 3), 100.0))[0] > 50.0
    scaled = Nearness(train * [1.0, 1000.0, 1.0], held_out * [1.0, 1000.0, 1.0])
    assert np.allclose(scaled(held_out * [1.0, 1000.0, 1.0]), near(held_out))
