"""Random moves as far as counterfactuals, and another classifier in the place of the one explained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_models import SPEC, Pixels, Quarters

from medlat.classifiers.black_box import Target
from medlat.explain.alignment import DRAWN
from medlat.explain.counterfactuals import Traversal
from medlat.steps import alignment
from medlat.steps.base_codes import Base

CODES = torch.tensor([[-1.0, 0.5, 0.0, 2.0], [1.0, -0.5, 1.0, 0.0], [0.0, 0.0, 2.0, 1.0]])
SPREAD = np.array([2.0, 1.0, 0.5, 0.25])


def codes_of(images):
    return torch.nn.functional.avg_pool2d(images, 2).flatten(1).double().numpy() * 10.0


def test_random_moves_are_as_many_sigma_and_have_the_sign_of_a_control(monkeypatch):
    """Of each image's own step, along directions drawn with the covariance of the codes, the same for each image."""
    signs = torch.where(torch.arange(DRAWN) % 3 == 0, -1.0, 1.0)
    monkeypatch.setattr(alignment, "signs_of", lambda subject, space, vectors: (signs, None))
    base = Base(CODES, None, np.arange(3), True, np.eye(4), SPREAD, {}, {})
    target = Target(Quarters(1.0, 0.0, 0.0, 0.0))
    way = Traversal(Pixels(), "z", CODES, torch.zeros_like(CODES), target, torch.device("cpu"))
    step = torch.tensor([1.0, -2.0, 0.0])
    parts = list(alignment._random(SimpleNamespace(spec=SPEC), way, step, base, 0, "moves"))
    moved = codes_of(torch.cat(parts)).reshape(DRAWN, 3, 4) - CODES.double().numpy()
    assert np.abs(moved[:, 2]).max() < 1e-4
    assert moved[:, 1] == pytest.approx(-2.0 * moved[:, 0], abs=1e-4)
    length = np.linalg.norm(moved[:, 0], axis=1)
    unit = moved[:, 0] / length[:, None]
    assert length == pytest.approx(np.sqrt(np.square(unit * SPREAD).sum(axis=1)), rel=1e-3), "one σ along it"
    again = codes_of(torch.cat(list(alignment._random(SimpleNamespace(spec=SPEC), way, -step, base, 0, "moves"))))
    assert again.reshape(DRAWN, 3, 4)[:, 0] - CODES[0].numpy() == pytest.approx(-moved[:, 0], abs=1e-4)
    drawn = unit * signs.numpy()[:, None]
    assert np.square(drawn).mean(axis=0)[0] > 0.5, "most along the axis that codes vary along most"
    assert abs(drawn[:, 0].mean()) < 0.2, "either way"
