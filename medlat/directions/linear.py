"""The direction of a linear model from codes to predictions (Schutte et al. 2020, arXiv 2101.07563)."""

from typing import Literal

import numpy as np
import torch

from medlat.core.spaces import Directions, LatentModel
from medlat.core.statistics import auc, r2, ridge_with_intercept
from medlat.directions.finder import Origin, Supervision
from medlat.directions.linear_models import Fitted, cross_validated, logistic, support_vectors


class Linear:
    """The weights of a linear model that predicts the classifier's output from the code.

    Codes are standardised, so the direction is that of the steepest rise per standard deviation. The score is the
    quality of the model on patients left out: R² of ridge, AUC of logistic regression.

    model:  "ridge" on logits (or values); "logistic" on whether the prediction lies above the threshold.
    space:  name of the latent space; null: that of the inverted images.
    origin: codes to learn from: those of "real" training images, "samples" of the generator, or "both"; None: both,
            but real ones alone where images keep the noise that belongs to them, which samples have none of.
    """

    needs = frozenset({"supervision"})

    def __init__(
        self, model: Literal["ridge", "logistic"] = "ridge", space: str | None = None, origin: Origin | None = None
    ) -> None:
        self.model, self.space, self.origin = model, space, origin
        self.name = "linear" if model == "ridge" else "logistic"

    def find(self, model: LatentModel, supervision: Supervision) -> Directions:
        x = supervision.standardised()
        if self.model == "ridge":
            values = supervision.values.double().cpu().numpy()
            fitted = cross_validated(ridge_with_intercept, x, values, supervision.groups, r2)
        else:
            fitted = cross_validated(logistic, x, supervision.above(), supervision.groups, auc)
        return one_direction(supervision, fitted, self.name)


class SVM:
    """The normal of the plane that best separates codes whose prediction lies above the threshold from the others: a
    linear support vector machine. The score is its AUC on patients left out. space, origin: as of `Linear`.
    """

    name = "svm"
    needs = frozenset({"supervision"})

    def __init__(self, space: str | None = None, origin: Origin | None = None) -> None:
        self.space, self.origin = space, origin

    def find(self, model: LatentModel, supervision: Supervision) -> Directions:
        fitted = cross_validated(
            support_vectors, supervision.standardised(), supervision.above(), supervision.groups, auc
        )
        return one_direction(supervision, fitted, self.name)


def one_direction(supervision: Supervision, fitted: Fitted, method: str) -> Directions:
    """The weights of a linear model as a direction; the first axis where all are 0."""
    weights = fitted.weights if np.any(fitted.weights) else np.eye(len(fitted.weights))[0]
    return supervision.directions(weights[None], torch.tensor([fitted.quality]), method)
