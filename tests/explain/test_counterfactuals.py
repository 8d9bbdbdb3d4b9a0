import numpy as np
import pytest
import torch
from toy_models import Pixels, Quarters

from medlat.classifiers.black_box import Target
from medlat.explain.counterfactuals import (
    TargetRange,
    Traversal,
    chosen_direction,
    counterfactuals,
    further_directions,
    monotonicity,
)

STEPS = [-4.0, -2.0, 0.0, 2.0, 4.0]
WANTED = TargetRange(0.5, 0.1, 0.9)
LOGIT = float(np.log(9.0))  # of 0.9


def traversal(codes, weights=(1.0, 0.0, 0.0, 0.0), move=(1.0, 0.0, 0.0, 0.0)) -> Traversal:
    codes = torch.tensor(codes)
    target, device = Target(Quarters(*weights)), torch.device("cpu")
    return Traversal(Pixels(), "z", codes, torch.tensor(move).expand_as(codes), target, device)


def test_series_are_the_predictions_at_the_steps():
    way = traversal([[0.5, 0.0, 0.0, 0.0], [-1.0, 3.0, 0.0, 0.0]])
    expected = torch.sigmoid(torch.tensor([[0.5], [-1.0]]) + torch.tensor(STEPS))
    torch.testing.assert_close(way.predictions_at(STEPS), expected)


def test_counterfactuals_are_found_where_the_prediction_is_what_was_asked():
    """Of a code at x the logit is x + step: 0.9 and 0.1 are at ±2.197 - x."""
    way = traversal([[-1.0, 0.0, 0.0, 0.0], [1.5, 0.0, 0.0, 0.0]])
    found = counterfactuals(way, STEPS, way.predictions_at(STEPS), WANTED)
    assert found.reached.tolist() == [True, True]
    assert found.flipped.tolist() == [True, True]
    assert found.step.tolist() == pytest.approx([LOGIT + 1.0, -LOGIT - 1.5], abs=2.0 / 256 + 1e-6)
    assert float(found.prediction[0]) >= 0.9
    assert float(found.prediction[1]) <= 0.1
    torch.testing.assert_close(way.predictions(found.step), found.prediction)


def test_what_is_out_of_reach_says_so():
    way = traversal([[-3.0, 0.0, 0.0, 0.0], [-9.0, 0.0, 0.0, 0.0]])
    found = counterfactuals(way, STEPS, way.predictions_at(STEPS), WANTED)
    assert found.reached.tolist() == [False, False]
    assert found.flipped.tolist() == [True, False]  # -3 + 4 lies above 0.5, but below 0.9
    assert found.step.tolist() == [4.0, 4.0]
    assert found.prediction.tolist() == pytest.approx(torch.sigmoid(torch.tensor([1.0, -5.0])).tolist())


def test_a_direction_that_changes_nothing_flips_nothing():
    way = traversal([[-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], move=(0.0, 1.0, 0.0, 0.0))
    series = way.predictions_at(STEPS)
    found = counterfactuals(way, STEPS, series, WANTED)
    assert not found.flipped.any()
    assert monotonicity(series.numpy(), STEPS).tolist() == [0.0, 0.0]


def test_only_moves_in_the_asked_sense_count():
    """A direction that points the wrong way leads a low prediction to lower ones."""
    way = traversal([[-1.0, 0.0, 0.0, 0.0]], move=(-1.0, 0.0, 0.0, 0.0))
    series = way.predictions_at(STEPS)
    assert not counterfactuals(way, STEPS, series, WANTED).flipped.any()
    assert monotonicity(series.numpy(), STEPS).tolist() == [-1.0]


def test_on_the_threshold_goes_up():
    way = traversal([[0.0, 0.0, 0.0, 0.0]])
    assert float(counterfactuals(way, STEPS, way.predictions_at(STEPS), WANTED).step[0]) > 0.0


def test_monotonicity_is_spearmans():
    from scipy.stats import spearmanr

    series = np.random.default_rng(0).normal(size=(5, 7))
    steps = list(range(7))
    expected = [spearmanr(row, steps).statistic for row in series]
    np.testing.assert_allclose(monotonicity(series, steps), expected, atol=1e-12)
    assert monotonicity(np.exp(np.arange(7.0))[None], steps).tolist() == pytest.approx([1.0])


def test_signs_and_strengths_of_unsigned_directions():
    codes = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    signs, strength = chosen_direction(torch.eye(3), codes, -2.0 * codes[:, 1])
    assert signs[1] == -1.0
    assert strength.argmax() == 1
    assert float(strength[1]) == pytest.approx(1.0, abs=1e-5)
    assert float(strength[0]) < 0.15
    constant = chosen_direction(torch.eye(3), codes, torch.ones(500))
    assert constant[1].tolist() == [0.0, 0.0, 0.0]


def test_further_directions_find_what_is_left_without_the_first():
    """Of codes that vary alike, values 3 a + 2 b - c: without a it is 2 b - c, and nothing without that too."""
    codes = np.random.default_rng(0).normal(size=(4000, 4))
    values = codes @ np.array([3.0, 2.0, -1.0, 0.0])
    found = further_directions(np.array([5.0, 0.0, 0.0, 0.0]), codes, values, 1)
    assert found == pytest.approx(np.array([[0.0, 2.0, -1.0, 0.0]]) / 5**0.5, abs=0.03)
    three = further_directions(np.array([5.0, 0.0, 0.0, 0.0]), codes, values, 9)
    assert three.shape == (3, 4), "as many as there are dimensions"
    basis = np.concatenate([[[1.0, 0.0, 0.0, 0.0]], three])
    assert basis @ basis.T == pytest.approx(np.eye(4), abs=1e-6)
    assert np.corrcoef(codes @ three[0], values)[0, 1] > 0.5, "towards higher values"
    assert further_directions(np.eye(4)[0], codes, np.ones(4000), 2).shape == (0, 4), "values that do not vary"


def test_some_codes_of_a_traversal_are_moved_like_all():
    way = traversal([[0.5, 0.0, 0.0, 0.0], [-1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    some = way.of(torch.tensor([2, 0]))
    torch.testing.assert_close(some.predictions_at(STEPS), way.predictions_at(STEPS)[[2, 0]])
