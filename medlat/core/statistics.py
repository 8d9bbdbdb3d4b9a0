"""Every statistic that more than one part of the program needs: scores of predictions, ridge regression, intervals.

Scores take the truth first, then what was predicted. Intervals are of 95%. Bootstraps draw whole groups, e.g. patients:
images of one patient resemble each other, and an interval over images would be too narrow (Davison & Hinkley 1997,
section 3.8). Their seeds make them reproducible to the last digit. `scipy.stats` is imported where it
is used: it takes longer than all that the rest of a report computes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

BOOTSTRAPS = 1000
ENDS = (2.5, 97.5)  # percentiles between which an interval lies
FEWEST_GROUPS = 20  # below which an interval over them says little

Metric = Callable[[np.ndarray, np.ndarray], float]  # truth [N], predicted [N] or [N, K] -> NaN where undefined


class Interval(NamedTuple):
    """A number and the 95% interval around it; NaN where it is not known."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)


# --- scores ----------------------------------------------------------------------------------------------------------


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Coefficient of determination, 1 - Σ(truth - predicted)² / Σ(truth - mean)²: truth [N], predicted [N].

    1: perfect; 0: no better than the mean; below: worse. NaN where the truth does not vary.
    """
    spread = np.square(truth - truth.mean()).sum()
    return float(1.0 - np.square(truth - predicted).sum() / spread) if spread > 0.0 else math.nan


def r2_of_each(truth: Mapping[str, np.ndarray], predicted: np.ndarray) -> dict[str, float]:
    """`r2` of several targets: truth name -> [N], predicted [N, F] in the same order -> name -> R²."""
    assert len(truth) == predicted.shape[1], (len(truth), predicted.shape)
    return {name: r2(values, predicted[:, i]) for i, (name, values) in enumerate(truth.items())}


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a positive has the higher score, ties counting half.

    truth: [N] bool. scores: [N]. From the rank sum (Hanley & McNeil 1982). NaN where all are of one class.
    """
    from scipy.stats import rankdata

    positive = int(truth.sum())
    if positive in (0, len(truth)):
        return math.nan
    ranks = rankdata(scores)
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def mean_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """The mean over the classes that occur of the AUC of that class against the rest.

    truth: [N] class numbers. scores: [N, K]. NaN where all are of one class.
    """
    found = [auc(truth == k, scores[:, k]) for k in np.unique(truth)]
    return float(np.mean(found)) if len(found) > 1 else math.nan


def quadratic_kappa(truth: np.ndarray, chosen: np.ndarray, classes: int) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 agreement, 0 chance; NaN where all targets are alike.

    truth, chosen: [N] class numbers from 0 to classes - 1.
    """
    if len(np.unique(truth)) < 2:
        return math.nan
    grades = np.arange(classes)
    weight = np.square(grades[:, None] - grades)
    seen = np.zeros((classes, classes))
    np.add.at(seen, (truth, chosen), 1.0 / len(truth))
    by_chance = np.outer(seen.sum(axis=1), seen.sum(axis=0))
    return float(1.0 - (weight * seen).sum() / (weight * by_chance).sum())


def cohen_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two readers beyond chance (Cohen 1960): 1 agreement, 0 chance, below 0 less than chance.

    one, other: [N], what each said of each case. NaN where both said one and the same thing throughout, of nothing.
    """
    if not len(one):
        return math.nan
    words = np.unique(np.concatenate([one, other]))
    seen = float(np.mean(one == other))
    by_chance = float(sum(np.mean(one == word) * np.mean(other == word) for word in words))
    return (seen - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else math.nan


def fleiss_kappa(said: np.ndarray) -> float:
    """The same of any number of readers (Fleiss 1971): [N, R], what each of R >= 2 readers said of each of N cases.

    NaN where all said one and the same thing throughout, and of no case.
    """
    if not len(said):
        return math.nan
    readers = said.shape[1]
    counts = np.stack([(said == word).sum(axis=1) for word in np.unique(said)], axis=1)  # [N, words], n_ij
    seen = float(((np.square(counts).sum(axis=1) - readers) / (readers * (readers - 1))).mean())
    by_chance = float(np.square(counts.sum(axis=0) / counts.sum()).sum())
    return (seen - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else math.nan


def spearman_of_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of [N, M] with the same row of [N, M], [N]; 0 where one does not vary."""
    from scipy.stats import rankdata

    x, y = (rankdata(values, axis=1) for values in (a, b))
    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (x, y))
    scale = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    return np.divide((x * y).sum(axis=1), scale, out=np.zeros(len(x)), where=scale > 0.0)


# --- ridge regression ------------------------------------------------------------------------------------------------


def ridge(x: np.ndarray, y: np.ndarray, penalty: float | np.ndarray) -> np.ndarray:
    """Weights w that minimise |y - x w|² + Σ penalty · w² (Hoerl & Kennard 1970), without an intercept.

    x: [N, D]. y: [N] or [N, F]. penalty: one, or [D], one for each weight. -> [D] or [D, F].
    """
    if np.ndim(penalty) > 0 or x.shape[1] <= len(x):
        return np.linalg.solve(x.T @ x + np.diag(np.broadcast_to(penalty, x.shape[1])), x.T @ y)
    return x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)  # the same in as many unknowns as samples


def ridge_with_intercept(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """`ridge` with a free intercept: x [N, D], y [N] -> [D + 1], the intercept last."""
    centre, level = x.mean(axis=0), y.mean()
    weights = ridge(x - centre, y - level, penalty)
    return np.append(weights, level - centre @ weights)


# --- intervals -------------------------------------------------------------------------------------------------------


def t_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values and its interval by Student's t; no ends for one value."""
    from scipy.stats import t

    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(t.ppf(0.975, n - 1)) * error
    return Interval(mean, mean - half, mean + half)


def bootstrap_draws(n: int, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Which of n groups each draw with replacement takes, [BOOTSTRAPS, n] (Efron 1979)."""
    return np.random.default_rng(seed).integers(0, n, size=(BOOTSTRAPS, n))


def bootstrap_means(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over the first axis with their percentile intervals: [N, M] -> mean, low, high, each [M].

    A row is a group of its own. NaN values are left out; a column of nothing else is NaN.
    """
    counts = _times_drawn(bootstrap_draws(len(values), seed))
    seen = np.isfinite(values)
    sums, weights = counts @ np.where(seen, values, 0.0), counts @ seen.astype(np.float64)
    means = np.where(weights > 0.0, sums / np.maximum(weights, 1.0), np.nan)
    present = seen.any(axis=0)
    bounds = np.full((2, values.shape[1]), np.nan)
    bounds[:, present] = np.nanpercentile(means[:, present], ENDS, axis=0)
    return nan_mean(values), bounds[0], bounds[1]


def grouped_mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Interval:
    """Mean of what is finite in [N], and its percentile interval over draws of whole groups [N].

    A group counts by its values, so that of unequal groups a draw's mean is a ratio of sums (cluster bootstrap). No
    ends for fewer than 20 groups.
    """
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        return UNKNOWN
    number = np.unique(groups[known], return_inverse=True)[1]
    sums, counts = np.bincount(number, values[known]), np.bincount(number)
    mean = float(values[known].mean())
    if len(sums) < FEWEST_GROUPS:
        return Interval(mean, math.nan, math.nan)
    draws = bootstrap_draws(len(sums), seed)
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), ENDS)
    return Interval(mean, float(low), float(high))


def crossed_mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Interval:
    """Mean of what is finite in [R, N], and its percentile interval over draws of rows and, apart from them, of whole
    groups [N] of columns, e.g. of readers and of the people whose images they read (pigeonhole bootstrap, Owen 2007).

    Of one row the interval is over the groups alone. No ends for fewer than 20 groups.
    """
    known = np.isfinite(values)
    if not known.any():
        return UNKNOWN
    mean = float(values[known].mean())
    number = np.unique(groups[known.any(axis=0)], return_inverse=True)[1]
    count = int(number.max()) + 1
    if count < FEWEST_GROUPS:
        return Interval(mean, math.nan, math.nan)
    rng, member = np.random.default_rng(seed), np.eye(count)[number]
    values, known = values[:, known.any(axis=0)], known[:, known.any(axis=0)]
    sums, counts = np.where(known, values, 0.0) @ member, known.astype(np.float64) @ member  # [R, groups]
    rows, columns = (_times_drawn(bootstrap_draws(n, rng)) for n in (len(values), count))
    if len(values) == 1:
        rows = np.ones_like(rows)
    seen = np.einsum("br,rg,bg->b", rows, counts, columns, optimize=True)
    total = np.einsum("br,rg,bg->b", rows, sums, columns, optimize=True)
    low, high = np.percentile(total[seen > 0] / seen[seen > 0], ENDS)
    return Interval(mean, float(low), float(high))


def _times_drawn(draws: np.ndarray) -> np.ndarray:
    """Draws [B, n] of n things -> how often each was taken, [B, n]."""
    counts = np.zeros(draws.shape)
    np.add.at(counts, (np.arange(len(draws))[:, None], draws), 1.0)
    return counts


def bootstrap(metric: Metric, truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, seed: int = 0) -> Interval:
    """Any score of predictions and its percentile interval over draws of whole groups.

    truth: [N]. predicted: [N] or [N, K]. groups: [N]. Draws without a value (an AUC of one class) are left out; no ends
    for fewer than 20 groups, or where most draws have no value.
    """
    value = metric(truth, predicted)
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return Interval(value, math.nan, math.nan)
    values = []
    for draw in bootstrap_draws(len(names), seed):
        rows = np.repeat(np.arange(len(truth)), np.bincount(draw, minlength=len(names))[number])
        values.append(metric(truth[rows], predicted[rows]))
    known = np.array(values)[np.isfinite(values)]
    if len(known) < BOOTSTRAPS / 2:
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(known, ENDS)
    return Interval(value, float(low), float(high))


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is finite; NaN where nothing is."""
    seen = np.isfinite(values)
    count = seen.sum(0)
    return np.where(count > 0, np.where(seen, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)
