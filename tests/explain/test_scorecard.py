import numpy as np
import pytest

from medlat.explain import scorecard


def test_responses_by_hand():
    values = np.array([[0.0, 0.2], [0.4, np.nan]])
    found = scorecard.responses("linear", values, [0.0, 1.0], np.arange(2))
    assert [row.mean for row in found] == pytest.approx([0.2, 0.2])
    assert [row.images for row in found] == [2, 1]
    assert np.isnan([found[0].low, found[0].high]).all(), "of two"
    assert scorecard.responses("lost", np.full((3, 2), np.nan), [0.0, 1.0], np.arange(3)) == []
    assert scorecard.responses("none", np.zeros((0, 2)), [0.0, 1.0], np.arange(0)) == []


def test_the_band_of_responses_is_over_patients():
    """Thirty images of each of 40 patients, all of a patient alike: they say no more than one image each, and the band
    is wider by √30 than one over images.
    """
    patient = np.random.default_rng(0).normal(size=40)
    one = scorecard.responses("m", patient[:, None], [0.0], np.arange(40))[0]
    many = scorecard.responses("m", np.repeat(patient, 30)[:, None], [0.0], np.repeat(np.arange(40), 30))[0]
    images = scorecard.responses("m", np.repeat(patient, 30)[:, None], [0.0], np.arange(1200))[0]
    assert (many.low, many.mean, many.high) == pytest.approx((one.low, one.mean, one.high))
    assert (many.high - many.low) / (images.high - images.low) == pytest.approx(30**0.5, rel=0.1)


def test_rows_say_what_they_are():
    values = {"flip_rate": np.ones(20), "proximity": np.array([3.0, np.nan, 5.0, 4.0] * 5)}
    rows = scorecard.rows("linear", values, np.arange(20), False, "HU")
    assert [(r.score, r.value, r.unit, r.better, r.images) for r in rows] == [
        ("flip_rate", 1.0, "", "higher", 20),
        ("proximity", 4.0, "HU", "lower", 15),
    ]
    assert (rows[0].low, rows[0].high) == (1.0, 1.0)
    assert np.isnan(rows[1].low), "over 15 patients there is none"


def test_a_score_of_other_classifiers_has_a_row_for_each():
    values = {"agreement/b": np.ones(20), "alignment/a": np.zeros(20), "agreement/a": np.full(20, 0.5)}
    rows = scorecard.rows("linear", values, np.arange(20), False, "HU")
    found = [(row.score, row.value) for row in rows]
    assert found == [("agreement/b", 1.0), ("agreement/a", 0.5), ("alignment/a", 0.0)]
    assert scorecard.keys_of(scorecard.BY_KEY["agreement"], ["agreement/b", "alignment/a"]) == ["agreement/b"]


def test_the_curve_of_flips_by_hand():
    far = np.array([0.0, 0.5, 1.0, np.inf])
    rows = scorecard.flip_curve("linear", far, np.arange(4))
    assert [row.flips for row in rows if row.share in (0.0, 0.5, 1.0)] == [0.25, 0.5, 0.75]
    assert {row.images for row in rows} == {4}
    assert [row.share for row in rows] == scorecard.SHARES


def test_scores_are_called_and_explained():
    assert len(scorecard.BY_KEY) == len(scorecard.SCORES)
    assert all(score.meaning and score.better in ("higher", "lower") for score in scorecard.SCORES)
    assert [score.key for score in scorecard.SCORES if score.decides] == [
        "flips_in_range", "flip_area", "realism", "agreement",
    ]  # fmt: skip
