"""Linear models with a penalty chosen by cross-validation over patients: logistic, support vectors, any other fit."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from medlat.core.statistics import Metric

PENALTIES = np.logspace(-3, 4, 8)  # per sample and squared standard deviation of a coordinate
Fit = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # x [N, D], y [N], penalty -> weights [D + 1]


class Fitted(NamedTuple):
    """weights: [D]; intercept; quality: on patients left out, of the best penalty."""

    weights: np.ndarray
    intercept: float
    quality: float
    penalty: float


def logistic(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Logistic loss + penalty / 2 · |w|²; y [N] bool."""

    def loss(margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.logaddexp(0.0, -margin), -1.0 / (1.0 + np.exp(np.clip(margin, -500.0, 500.0)))

    return _by_margin(x, y, penalty, loss)


def support_vectors(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Squared hinge loss + penalty / 2 · |w|², a linear support vector machine (Fan et al. 2008); y [N] bool."""

    def loss(margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slack = np.maximum(0.0, 1.0 - margin)
        return slack**2, -2.0 * slack

    return _by_margin(x, y, penalty, loss)


def _by_margin(x: np.ndarray, y: np.ndarray, penalty: float, loss: Callable) -> np.ndarray:
    from scipy.optimize import minimize

    sign = np.where(y, 1.0, -1.0)
    padded = np.append(x, np.ones((len(x), 1)), axis=1)
    penalised = np.append(np.ones(x.shape[1]), 0.0)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(sign * (padded @ weights))
        gradient = padded.T @ (slope * sign) + penalty * penalised * weights
        return value.sum() + 0.5 * penalty * (penalised * weights**2).sum(), gradient

    return minimize(objective, np.zeros(padded.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def cross_validated(
    fit: Fit, x: np.ndarray, y: np.ndarray, groups: np.ndarray, quality: Metric, folds: int = 5
) -> Fitted:
    """The model with the penalty that is best on patients left out, fitted to all.

    x [N, D], y [N], groups [N]. quality: higher is better; it is that of the predictions of all folds together; NaN of
    one group only.
    """
    fold = np.unique(groups, return_inverse=True)[1] % folds
    found = []
    for penalty in PENALTIES:
        predicted = np.full(len(y), np.nan)
        for number in np.unique(fold):
            out = fold == number
            if out.all() or len(np.unique(y[~out])) < 2:
                continue
            weights = fit(x[~out], y[~out], penalty)
            predicted[out] = x[out] @ weights[:-1] + weights[-1]
        known = np.isfinite(predicted)
        found.append(quality(y[known], predicted[known]) if known.any() else float("nan"))
    best = int(np.nanargmax(found)) if np.isfinite(found).any() else len(PENALTIES) // 2
    weights = fit(x, y, PENALTIES[best])
    return Fitted(weights[:-1], float(weights[-1]), float(found[best]), float(PENALTIES[best]))
