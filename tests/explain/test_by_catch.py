import numpy as np
import pytest

from medlat.explain.by_catch import Moved, by_catch, slopes, told

STEPS = [-4.0, -2.0, 0.0, 2.0, 4.0]
NAMES = ("mass", "effusion", "nodule")


def logits(gains, people=40, bend=0.0):
    """[people, S, K]: straight lines of these slopes, that bend beyond ±2."""
    steps = np.array(STEPS)[None, :, None]
    beyond = np.sign(steps) * np.clip(np.abs(steps) - 2.0, 0.0, None)
    return np.arange(people)[:, None, None] + np.array(gains) * steps + bend * beyond


def test_slopes_are_taken_as_far_as_images_stay_near_the_data():
    straight = slopes(logits([1.0, -0.5, 0.0]), STEPS, None)
    np.testing.assert_allclose(straight, np.tile([1.0, -0.5, 0.0], (40, 1)), atol=1e-12)
    bent = logits([1.0, -0.5, 0.0], bend=3.0)
    np.testing.assert_allclose(slopes(bent, STEPS, 2.5), straight, atol=1e-12)
    np.testing.assert_allclose(slopes(bent, STEPS, 0.1), straight, atol=1e-12)  # the nearest three steps
    assert slopes(bent, STEPS, 4.0)[0, 0] > 1.5


def test_by_catch_in_closed_form(rng):
    groups, noise = np.arange(40), rng.normal(0.0, 0.1, (40, 3))
    noise -= noise.mean(axis=0)
    rows = by_catch("linear", False, [np.array([1.0, 0.4, 0.0]) + noise], NAMES, 0, groups)
    assert [row.finding for row in rows if row.explained] == ["mass"]
    assert [row.change for row in rows] == pytest.approx([1.0, 0.4, 0.0])
    assert rows[1].low == pytest.approx(0.4 - 0.03, abs=0.03)
    assert rows[2].low < 0.0 < rows[2].high
    random = [np.array([0.1, 0.2, -0.3]) + noise, np.array([0.1, -0.2, 0.1]) + noise]
    others = by_catch("random", True, random, NAMES, 0, groups)
    assert others[1].change == pytest.approx(0.0)
    assert others[1].largest == pytest.approx(0.2)
    assert others[2].largest == pytest.approx(0.3)
    assert (others[0].directions, others[0].images) == (2, 40)
    said = told([*rows, *others], "linear")
    assert "effusion +0.4" in said
    assert "nodule" not in said
    assert "mass" not in said, "that is what was asked"
    stronger = by_catch("random", True, [3.0 * each for each in random], NAMES, 0, groups)
    assert told([*rows, *stronger], "linear") == "", "a random direction moves it as much"


def test_few_patients_have_no_interval_and_nothing_is_sure():
    rows = by_catch("linear", False, [np.ones((6, 3))], NAMES, 1, np.arange(6))
    assert all(np.isnan(row.low) for row in rows)
    assert told(rows, "linear") == ""


def test_a_row_of_a_table_is_read_again():
    row = Moved("random", True, "1", False, 0.25, float("nan"), float("nan"), 0.5, 8, 64)
    text = {name: str(value) if not isinstance(value, float) else value for name, value in row.row().items()}
    assert str(Moved.of(text)) == str(row)
