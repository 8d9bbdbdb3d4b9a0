"""Linear models with a penalty chosen by cross-validation over patients: ridge, logistic, support vectors."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata

PENALTIES = np.logspace(-3, 4, 8)  # per sample and squared standard deviation of a coordinate
Fit = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # x [N, D], y [N], penalty -> weights [D + 1]
Quality = Callable[[np.ndarray, np.ndarray], float]  # y, predicted -> higher is better


class Fitted(NamedTuple):
    """weights: [D]; intercept; quality: on patients left out, of the best penalty."""

    weights: np.ndarray
    intercept: float
    quality: float
    penalty: float


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Least squares + penalty · |w|², the intercept free: x [N, D], y [N] -> [D + 1], the intercept last."""
    centre, level = x.mean(axis=0), y.mean()
    a, b = x - centre, y - level
    if a.shape[1] <= len(a):
        weights = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)
    else:  # the same in as many unknowns as there are samples
        weights = a.T @ np.linalg.solve(a @ a.T + penalty * np.eye(len(a)), b)
    return np.append(weights, level - centre @ weights)


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
    sign = np.where(y, 1.0, -1.0)
    padded = np.append(x, np.ones((len(x), 1)), axis=1)
    penalised = np.append(np.ones(x.shape[1]), 0.0)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(sign * (padded @ weights))
        gradient = padded.T @ (slope * sign) + penalty * penalised * weights
        return value.sum() + 0.5 * penalty * (penalised * weights**2).sum(), gradient

    return minimize(objective, np.zeros(padded.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def cross_validated(
    fit: Fit, x: np.ndarray, y: np.ndarray, groups: np.ndarray, quality: Quality, folds: int = 5
) -> Fitted:
    """The model with the penalty that is best on patients left out, fitted to all.

    x [N, D], y [N], groups [N]. The quality is that of the predictions of all folds together; NaN of one group only.
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


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    """1 - residual / total variance; NaN where y does not vary."""
    total = np.square(y - y.mean()).sum()
    return float(1.0 - np.square(y - predicted).sum() / total) if total > 0.0 else float("nan")


def auc(y: np.ndarray, predicted: np.ndarray) -> float:
    """Area under the ROC curve, the Mann-Whitney statistic: y [N] bool; NaN where there is one class only."""
    positive = int(np.sum(y))
    if positive in (0, len(y)):
        return float("nan")
    ranks = rankdata(predicted)
    return float((ranks[y].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))
