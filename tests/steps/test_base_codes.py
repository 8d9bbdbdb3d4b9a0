"""The codes that directions are measured from: whose they are, and how long a step is."""

import numpy as np
import pytest
import torch

from medlat.steps.base_codes import Base, one_of_each, principal_axes


def test_one_image_of_each_patient_as_far_as_there_are_enough():
    rows = 100 + np.arange(30)
    owners = np.repeat(np.arange(10), 3)
    for count in (4, 10):
        found = one_of_each(rows, owners, count, seed=0)
        assert len(set(owners[found - 100])) == len(found) == count
        assert found.tolist() == sorted(found)
    more = np.bincount(owners[one_of_each(rows, owners, 14, seed=0) - 100])
    assert sorted(more.tolist()) == [1] * 6 + [2] * 4
    assert one_of_each(rows, owners, 99, seed=0).tolist() == rows.tolist()
    assert one_of_each(rows, owners, 5, seed=1).tolist() != one_of_each(rows, owners, 5, seed=0).tolist()


def test_who_has_few_images_does_not_get_more_turns():
    owners = np.array([0] * 50 + [1])
    assert 50 in one_of_each(np.arange(51), owners, 2, seed=0)


def test_axes_along_which_codes_do_not_vary_are_left_out():
    codes = np.random.default_rng(0).standard_normal((100, 4)) * [1.0, 0.0, 2.0, 1e-5]
    assert principal_axes(codes)[0].shape == (2, 4)
    assert principal_axes(np.ones((10, 4)))[1].tolist() == [0.0], "one at least"


def test_axes_and_the_length_of_a_step():
    spread = np.array([3.0, 1.0, 0.5])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    codes = (np.random.default_rng(0).standard_normal((20_000, 3)) * spread) @ turn + 7.0
    axes, found = principal_axes(codes)
    assert found == pytest.approx(spread, rel=0.03)
    assert np.abs(axes @ turn.T) == pytest.approx(np.eye(3), abs=0.03)
    base = Base(torch.zeros(1, 3), None, np.zeros(1), True, axes, found, {}, {})
    vectors = torch.from_numpy(np.vstack([turn, (turn[0] + turn[1]) / np.sqrt(2.0)])).float()
    expected = [*spread, np.sqrt((9.0 + 1.0) / 2.0)]
    assert base.sigma(vectors).tolist() == pytest.approx(expected, rel=0.03)
    assert base.sigma(vectors.reshape(4, 3, 1)).tolist() == pytest.approx(expected, rel=0.03), "of any shape"
    assert base.sigma(vectors[:3]).numpy() == pytest.approx((codes @ turn.T).std(axis=0), rel=1e-4)
