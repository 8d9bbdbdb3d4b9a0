import pytest
import torch
from omegaconf import OmegaConf
from toy_models import Quarters

from medlat.classifiers.black_box import Target
from medlat.core.errors import UserError
from medlat.steps.directions import target_range


class Values(Quarters):
    task = "regression"


def asked(threshold=None, wanted=None):
    return OmegaConf.create({"explain": {"threshold": threshold, "target_range": wanted}})


PREDICTIONS = torch.arange(101.0)


def test_probabilities_are_moved_over_a_half():
    found = target_range(asked(), Target(Quarters(1.0)), PREDICTIONS / 100)
    assert (found.threshold, found.low, found.high) == (0.5, 0.1, 0.9)


def test_values_are_moved_over_the_median_of_the_training_images():
    found = target_range(asked(), Target(Values(1.0)), PREDICTIONS)
    assert (found.threshold, found.low, found.high) == pytest.approx((50.0, 10.0, 90.0))


def test_what_is_asked_goes_first():
    found = target_range(asked(0.3, [0.2, 0.6]), Target(Quarters(1.0)), PREDICTIONS / 100)
    assert (found.threshold, found.low, found.high) == pytest.approx((0.3, 0.2, 0.6))


@pytest.mark.parametrize("wanted", [[0.6, 0.9], [0.1, 0.4], [0.9, 0.1]])
def test_wanted_predictions_lie_on_both_sides(wanted):
    with pytest.raises(UserError, match=r"explain.target_range=.*below and one above explain.threshold=0.5"):
        target_range(asked(None, wanted), Target(Quarters(1.0)), PREDICTIONS / 100)
