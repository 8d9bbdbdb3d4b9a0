"""Directions found with a classifier's help, on a generator and a classifier whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import Pixels, Quarters

from medlat.classifiers.black_box import Target
from medlat.core.errors import UserError
from medlat.core.statistics import auc, r2
from medlat.core.statistics import ridge_with_intercept as ridge
from medlat.directions.conditional import Conditional
from medlat.directions.finder import Supervision, name_of, needs_of
from medlat.directions.gradient import LatentShift, MeanGradient
from medlat.directions.linear import SVM, Linear
from medlat.directions.linear_models import cross_validated, logistic, support_vectors
from medlat.directions.sefa import SeFa
from medlat.directions.style_channels import StyleChannels

WEIGHTS = (3.0, 0.0, -4.0, 0.0)
TRUTH = torch.tensor([0.6, 0.0, -0.8, 0.0])
FINDERS = {
    "linear": Linear(),
    "logistic": Linear("logistic"),
    "svm": SVM(),
    "mean_gradient": MeanGradient(),
    "latent_shift": LatentShift(),
    "style_channels": StyleChannels(count=2, codes=64),
}


def supervision(weights=WEIGHTS, n=400, differentiable=True, measured=None, sigma=None) -> Supervision:
    model, target = Pixels(), Target(Quarters(*weights, differentiable=differentiable))
    codes = model.sample(n, generator=torch.Generator().manual_seed(0))
    table = codes[:, :2].numpy() if measured is None else measured(codes.numpy())
    return Supervision(
        space=model.spaces["z"],
        codes=codes,
        values=target.linear(target(model.decode(codes))),
        threshold=0.0,
        score=lambda images: target.linear(target(images)),
        differentiable=differentiable,
        measure=lambda: table,
        measurements=["first", "second"],
        groups=np.arange(n) // 4,
        sigma=torch.ones(4) if sigma is None else sigma,
    )


@pytest.mark.parametrize("name", FINDERS)
def test_a_linear_classifier_gives_its_own_weights(name):
    found = FINDERS[name].find(Pixels(), supervision())
    assert found.method == name
    assert "supervision" in needs_of(FINDERS[name])
    assert name_of(FINDERS[name]) == name
    cosine = float(found.vectors[0] @ TRUTH)
    assert cosine > (0.97 if name in ("logistic", "svm") else 0.999), found.vectors[0]
    assert torch.linalg.norm(found.vectors[0]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", FINDERS)
def test_the_opposite_classifier_gives_the_opposite_direction(name):
    found = FINDERS[name].find(Pixels(), supervision(weights=tuple(-w for w in WEIGHTS)))
    assert float(found.vectors[0] @ TRUTH) < -0.97


def test_scores_of_a_perfect_fit_and_of_none():
    assert float(Linear().find(Pixels(), supervision()).scores[0]) == pytest.approx(1.0, abs=1e-3)
    assert float(SVM().find(Pixels(), supervision()).scores[0]) > 0.995
    noise = torch.randn(400, generator=torch.Generator().manual_seed(1))
    nothing = replace(supervision(), values=noise)
    assert float(Linear().find(Pixels(), nothing).scores[0]) < 0.02
    assert abs(float(SVM().find(Pixels(), nothing).scores[0]) - 0.5) < 0.1


def test_steps_are_steepest_per_standard_deviation():
    """A coordinate that varies ten times as much counts ten times as much, in the fit and in the move."""
    wide = supervision(weights=(1.0, 1.0, 0.0, 0.0), sigma=torch.tensor([10.0, 1.0, 1.0, 1.0]))
    for finder in (Linear(), MeanGradient()):
        vector = finder.find(Pixels(), wide).vectors[0]
        assert float(vector[0] / vector[1]) == pytest.approx(100.0, rel=0.01)


def test_single_channels_follow_their_combination():
    gentle = supervision(weights=(0.3, 0.0, -0.4, 0.0))  # far from probabilities of 0 and 1
    found = StyleChannels(count=2, codes=32, step=1.0).find(Pixels(), gentle)
    assert found.vectors[1].tolist() == [0.0, 0.0, -1.0, 0.0]
    assert found.vectors[2].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert found.scores.tolist() == pytest.approx([0.7, 0.4, 0.3], rel=1e-3)  # per σ


def test_latent_shift_differs_from_image_to_image():
    """Of a classifier that is not linear: sigmoid of the product of two coordinates."""

    def score(images):
        codes = torch.nn.functional.avg_pool2d(images, 2).flatten(1) * 10.0
        return codes[:, 0] * codes[:, 1]

    codes = torch.tensor([[1.0, 2.0, 0.0, 0.0], [-3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = LatentShift().directions_at(Pixels(), replace(supervision(), score=score), codes)
    assert found[0].tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0.0, 0.0], abs=1e-5)
    assert found[1].tolist() == pytest.approx([1 / 10**0.5, -3 / 10**0.5, 0.0, 0.0], abs=1e-5)
    assert torch.linalg.norm(found[2]) == pytest.approx(1.0, abs=1e-5)  # no gradient there: the mean direction


def test_conditional_takes_the_confounder_out():
    found = Conditional(Linear(), ["first"]).find(Pixels(), supervision())
    assert found.vectors[0].abs().tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0], abs=2e-3)
    assert float(found.vectors[0][2]) < 0.0
    assert float(found.scores[0]) == pytest.approx(0.8, abs=1e-3)
    same = Conditional(Linear(), ["second"]).find(Pixels(), supervision())
    assert float(same.vectors[0] @ TRUTH) > 0.999


def test_several_confounders_that_overlap():
    tilted = supervision(measured=lambda z: np.stack([z[:, 0], z[:, 0] + z[:, 1]], axis=1))
    found = Conditional(Linear(), ["first", "second"]).find(Pixels(), tilted)
    assert found.vectors[0].abs().tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0], abs=2e-3)


def test_where_all_lie_on_one_side_the_median_divides():
    found = SVM().find(Pixels(), replace(supervision(), threshold=100.0))
    assert float(found.vectors[0] @ TRUTH) > 0.97


def test_unsupervised_methods_are_none():
    assert needs_of(SeFa()) == {"latent_affines"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MeanGradient().find(Pixels(), supervision(differentiable=False)), "needs gradients"),
        (lambda: LatentShift().find(Pixels(), supervision(differentiable=False)), "latent_shift: needs gradients"),
        (lambda: Conditional(Linear(), []), "confounders=\\[\\]: expected at least one"),
        (lambda: Conditional(Linear(), ["frist"]).find(Pixels(), supervision()), "did you mean 'first'"),
        (
            lambda: Conditional(Linear(), ["first"]).find(Pixels(), supervision(measured=lambda z: 0.0 * z[:, :2])),
            "the same, or not defined, in all images",
        ),
        (
            lambda: Conditional(Linear(), ["first"]).find(
                Pixels(), supervision((0.3, 0.0, -0.4, 0.0), measured=lambda z: z @ np.diag(WEIGHTS) @ np.ones((4, 2)))
            ),
            "nothing is left",
        ),
        (lambda: SVM().find(Pixels(), replace(supervision(), values=torch.ones(400))), "nothing to tell apart"),
        (lambda: StyleChannels().find(Pixels(), supervision(weights=(0.0,) * 4)), "does not change"),
        (lambda: MeanGradient().find(Pixels(), supervision(weights=(0.0,) * 4)), "does not change"),
        (lambda: StyleChannels(count=0), "count=0"),
        (lambda: StyleChannels(codes=0), "codes=0"),
        (lambda: StyleChannels(step=0.0), "step=0"),
        (lambda: MeanGradient(codes=0), "codes=0"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_ridge_in_closed_form():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    y = 3.0 * x[:, 0] - x[:, 1] + 5.0
    assert ridge(x, y, 0.0) == pytest.approx([3.0, -1.0, 5.0])
    assert ridge(x, y, 2.0) == pytest.approx([3.0 * 2 / 4, -8 / 10, 5.0])  # a²/(a² + λ) of each
    wide = np.random.default_rng(0).normal(size=(5, 9))
    target = wide @ np.arange(9.0)
    padded = np.concatenate([wide, np.zeros((20, 9))])  # rows of the mean leave the solution, and change its form
    padded[5:] = wide.mean(axis=0)
    tall = ridge(padded, np.append(target, np.full(20, target.mean())), 1.0)
    assert ridge(wide, target, 1.0)[:-1] == pytest.approx(tall[:-1], abs=1e-9)


@pytest.mark.parametrize("fit", [logistic, support_vectors])
def test_classifiers_separate_what_can_be(fit):
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = x[:, 1] > 0.3
    weights = fit(x, y, 1e-3)
    assert ((x @ weights[:-1] + weights[-1] > 0.0) == y).mean() > 0.99
    assert abs(weights[1]) > 20.0 * abs(weights[0])


def test_cross_validation_keeps_groups_together():
    """A code that names the patient predicts nothing of other patients."""
    groups = np.repeat(np.arange(20), 10)
    y = np.random.default_rng(0).normal(size=20)[groups]
    x = np.eye(20)[groups]
    assert cross_validated(ridge, x, y, groups, r2).quality < 0.05


def test_qualities():
    y = np.array([False, True, True])
    assert auc(y, np.array([0.0, 1.0, 2.0])) == 1.0
    assert auc(y, np.array([2.0, 1.0, 0.0])) == 0.0
    assert auc(y, np.ones(3)) == 0.5
    assert np.isnan(auc(np.ones(3, bool), np.arange(3.0)))
    assert r2(np.arange(3.0), np.arange(3.0)) == 1.0
    assert r2(np.arange(3.0), np.ones(3)) == 0.0
    assert np.isnan(r2(np.ones(3), np.ones(3)))
