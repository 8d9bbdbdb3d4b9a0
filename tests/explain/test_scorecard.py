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


def test_real_images_are_as_real_as_each_other():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 4))
    assert scorecard.realism(rng.normal(size=(500, 4)), real).mean() == pytest.approx(1.0, abs=0.08)
    assert scorecard.realism(rng.normal(size=(50, 4)) + 10.0, real).mean() > 5.0
    assert np.isnan(scorecard.realism(real[:3], real[:5])).all()
    gone = np.full((2, 4), np.nan)
    middle = np.tile(np.median(real, axis=0), (2, 1))
    np.testing.assert_allclose(scorecard.realism(gone, real), scorecard.realism(middle, real))


def test_measurements_that_have_nothing_to_do_with_it():
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=300)
    measured = np.stack([predictions**3, rng.normal(size=300), np.ones(300), np.full(300, np.nan)], axis=1)
    assert scorecard.unrelated(measured, predictions).tolist() == [False, True, False, False]


def test_identity_and_sparsity():
    before = np.array([[0.0, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    after = np.array([[1.0, 1.0], [2.5, 3.0], [0.0, 0.0]])
    found = scorecard.identity(before, after)
    assert found[:2].tolist() == [0.5, 0.5]
    assert np.isnan(found[2])
    images = np.zeros((2, 1, 4, 4))
    changed = images.copy()
    changed[1, 0, :2] = 0.5
    changed[0, 0, 0, 0] = 0.039  # just under 2% of a range of 2
    assert scorecard.sparsity(images, changed).tolist() == [1.0, 0.5]


def test_an_oracle_that_is_the_classifier_goes_along_and_one_that_is_constant_does_not():
    before, after = np.array([0.2, 0.9, 0.4, 0.5]), np.array([0.8, 0.1, 0.3, 0.51])
    rising = before <= 0.5
    np.testing.assert_array_equal(scorecard.crossed(before, after, rising, 0.5), [1, 1, 0, 1])
    for constant in (np.zeros(4), np.ones(4)):
        assert not scorecard.crossed(constant, constant, rising, 0.5).any()
    assert not scorecard.crossed(after, before, rising, 0.5).any()  # the other way
