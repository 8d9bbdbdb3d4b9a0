"""Shares, which quantities are the same, and how large a share can be."""

import numpy as np
import pytest

from medlat.evaluation.shares import (
    ceilings,
    correlations,
    normalised,
    overlaps,
    responses_of_real,
    responses_to_factors,
    shares,
)


def test_shares_by_hand():
    assert shares(np.array([1.0, -3.0]), np.array([0, 1])).tolist() == [0.25, 0.75]
    assert shares(np.array([1.0, -3.0, 2.9]), np.array([0, 1, 1])).tolist() == pytest.approx([0.25, 0.75, 0.725])
    assert np.isnan(shares(np.zeros(2), np.array([0, 1]))).all(), "nothing moves"
    assert shares(np.array([2.0, np.nan]), np.array([0, 1])).tolist()[0] == 1.0
    assert shares(np.ones((4, 5, 2)), np.array([0, 1])).shape == (4, 5, 2)


def test_quantities_that_say_the_same_are_one(rng):
    a, b = rng.normal(size=(2, 500))
    groups = overlaps(np.stack([a, b, -a + 0.1 * rng.normal(size=500), a + b], axis=1))
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3, "a + b is correlated by 0.7 with either"
    assert overlaps(rng.normal(size=(10, 1))).tolist() == [0]


def test_correlations_leave_out_what_is_missing(rng):
    values = rng.normal(size=(300, 3))
    values[:, 2] = 2.0 * values[:, 0]
    assert np.allclose(correlations(values), np.corrcoef(values.T))
    values[::3, 2] = np.nan
    assert correlations(values)[0, 2] == pytest.approx(1.0)
    kept = np.isfinite(values[:, 2])
    assert correlations(values)[1, 2] == pytest.approx(np.corrcoef(values[kept, 1], values[kept, 2])[0, 1])
    assert correlations(np.ones((5, 2))).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_ceiling_of_known_factors_is_that_of_a_move_along_one(rng):
    factors = rng.normal(size=(4000, 3)) * [1.0, 10.0, 0.1]
    z = factors / [1.0, 10.0, 0.1]
    measured = np.stack([z[:, 0], z[:, 1] + z[:, 2], z[:, 1] - z[:, 2]], axis=1)
    found = ceilings(responses_to_factors(measured, factors), np.arange(3))
    assert found == pytest.approx([1.0, 0.5, 0.5], abs=0.02), "whatever moves one of the last two moves the other"
    constant = np.column_stack([factors, np.ones(len(factors))])
    assert np.allclose(ceilings(responses_to_factors(measured, constant), np.arange(3)), found)


def test_correlated_factors_are_taken_apart(rng):
    factors = rng.multivariate_normal([0, 0], [[1.0, 0.8], [0.8, 1.0]], size=4000)
    assert ceilings(responses_to_factors(factors, factors), np.arange(2)) == pytest.approx([1.0, 1.0], abs=0.01)


def test_the_ceiling_on_real_images_is_that_of_what_goes_together(rng):
    """r = 0.5 of two: going along with the first moves it by 1 and the other by 0.5."""
    people = rng.multivariate_normal([0, 0, 0], [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]], size=5000)
    found = ceilings(responses_of_real(people, np.arange(5000)), np.arange(3))
    assert found == pytest.approx([1 / 1.5, 1 / 1.5, 1.0], abs=0.03)


def test_few_people_do_not_lower_the_ceiling_by_much(rng):
    """Ten independent quantities of 30 people: without the correction the mean ceiling would be 0.42."""
    found = [ceilings(responses_of_real(rng.normal(size=(30, 10)), np.arange(30)), np.arange(10)) for _ in range(50)]
    assert np.mean(found) > 0.5


def test_images_of_one_person_count_once(rng):
    people = rng.normal(size=(200, 2))
    owners = np.repeat(np.arange(200), 5)
    images = people[owners] + 3.0 * np.tile(np.arange(5.0), 200)[:, None]  # within a person both rise together
    assert responses_of_real(images, owners)[0, 1] == pytest.approx(0.0, abs=0.25)


def test_normalised_by_hand():
    found = normalised(np.array([0.3, 0.65, 1.0, 0.5]), np.array([1.0, 1.0, 0.9, 0.39]), 0.3)
    assert found[:3].tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert np.isnan(found[3]), "a ceiling that is hardly above chance tells nothing"
