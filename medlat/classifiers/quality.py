"""How good a classifier is on images it never saw: discrimination, calibration, and an interval over patients.

Images of a patient resemble each other, so the interval comes from drawing patients, not images.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from medlat.classifiers.black_box import Task
from medlat.core.errors import ArgumentError
from medlat.core.randomness import derive_seed

BINS = 10
BOOTSTRAPS = 1000
SMALLEST = 1e-7  # probability that the log loss takes a smaller one for

Metric = Callable[[np.ndarray, np.ndarray], float]  # predictions [N, K], targets [N] -> NaN where undefined


def quality(
    task: Task, predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """The numbers that suit the task. What is undefined (an AUC where only one class occurs) is left out.

    binary:      auc, accuracy, balanced_accuracy, f1, brier, log_loss, ece.
    multiclass:  the same; auc, balanced_accuracy and f1 are means over the classes that occur.
    ordinal:     the same, kappa (quadratic weights), and mae of the expected grade.
    regression:  r2, mae (in the target's unit).

    The headline (auc; kappa; r2) has a 95% bootstrap interval over groups, e.g. auc_low and auc_high.

    predictions: [N, K] as a `BlackBox` gives them. targets: [N] class numbers, or values. groups: [N], e.g. patients.
    Raises UserError where the targets are not the classes of the predictions.
    """
    assert len(predictions) == len(targets) == len(groups) > 0
    predictions = np.asarray(predictions, dtype=np.float64)
    truth = np.asarray(targets, dtype=np.float64)
    if task != "regression":
        truth = _class_numbers(truth, 2 if task == "binary" else predictions.shape[1])
    headline, metric = _headline(task)
    found = {headline: metric(predictions, truth)}
    found[f"{headline}_low"], found[f"{headline}_high"] = _interval(metric, predictions, truth, groups, seed)
    if task == "regression":
        found["mae"] = float(np.abs(predictions[:, 0] - truth).mean())
    else:
        found |= _of_classes(predictions, truth)
    if task == "ordinal":
        found["auc"] = mean_auc(predictions, truth)
        found["mae"] = float(np.abs(predictions @ np.arange(predictions.shape[1]) - truth).mean())
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _headline(task: Task) -> tuple[str, Metric]:
    if task == "regression":
        return "r2", lambda p, t: r2(p[:, 0], t)
    if task == "ordinal":
        return "kappa", lambda p, t: quadratic_kappa(p.argmax(axis=1), t, p.shape[1])
    return "auc", (lambda p, t: auc(p[:, 0], t == 1)) if task == "binary" else mean_auc


def _class_numbers(truth: np.ndarray, classes: int) -> np.ndarray:
    numbers = truth.astype(np.int64)
    if (numbers != truth).any() or numbers.min() < 0 or numbers.max() >= classes:
        raise ArgumentError(
            "classes",
            f"the classifier has {classes} classes, and the labels of the data run from {truth.min():g} to "
            f"{truth.max():g}; expected whole numbers from 0 to {classes - 1}",
        )
    return numbers


def _of_classes(predictions: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What does not depend on which classes there are. predictions: [N, 1] of the second class, or [N, K]."""
    binary = predictions.shape[1] == 1
    full = np.hstack([1.0 - predictions, predictions]) if binary else predictions
    chosen = full.argmax(axis=1)
    right = chosen == truth
    own = full[np.arange(len(truth)), truth]
    squares = np.square(full - np.eye(full.shape[1])[truth])
    recalls = [right[truth == k].mean() for k in np.unique(truth)]
    rows = reliability(full[:, 1], truth) if binary else reliability(full.max(axis=1), right)
    return {
        "accuracy": right.mean(),
        "balanced_accuracy": float(np.mean(recalls)),
        "f1": _f1(chosen, truth, 1) if binary else float(np.mean([_f1(chosen, truth, k) for k in np.unique(truth)])),
        "brier": squares[:, 1].mean() if binary else squares.sum(axis=1).mean(),
        "log_loss": -np.log(np.maximum(own, SMALLEST)).mean(),
        "ece": expected_calibration_error(rows),
    }


def _f1(chosen: np.ndarray, truth: np.ndarray, k: int) -> float:
    both, either = ((chosen == k) & (truth == k)).sum(), (chosen == k).sum() + (truth == k).sum()
    return 2.0 * both / either if either else np.nan


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive has the higher score, ties counting half; NaN where all are of one class.

    scores: [N]. positive: [N] bool. From the rank sum (Hanley & McNeil 1982).
    """
    n = int(positive.sum())
    if n in (0, len(positive)):
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def mean_auc(predictions: np.ndarray, truth: np.ndarray) -> float:
    """The mean over the classes that occur of the AUC of that class against the rest. [N, K], [N] class numbers."""
    found = [auc(predictions[:, k], truth == k) for k in np.unique(truth)]
    return float(np.mean(found)) if len(found) > 1 else float("nan")


def quadratic_kappa(chosen: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 agreement, 0 chance; NaN where all targets are alike.

    chosen, truth: [N] class numbers from 0 to classes - 1.
    """
    if len(np.unique(truth)) < 2:
        return float("nan")
    grades = np.arange(classes)
    weight = np.square(grades[:, None] - grades)
    seen = np.zeros((classes, classes))
    np.add.at(seen, (truth, chosen), 1.0 / len(truth))
    by_chance = np.outer(seen.sum(axis=1), seen.sum(axis=0))
    return float(1.0 - (weight * seen).sum() / (weight * by_chance).sum())


def r2(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Share of the variance that is predicted: 1 perfect, 0 no better than the mean; NaN where nothing varies."""
    spread = np.square(truth - truth.mean()).sum()
    return float(1.0 - np.square(truth - predicted).sum() / spread) if spread > 0.0 else float("nan")


def reliability(predicted: np.ndarray, observed: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """How often it is true where the classifier says so: a row for each bin of equal width that is not empty.

    predicted: [N] probabilities. observed: [N] 0 or 1.
    -> low, high of the bin, predicted (mean), observed (share), count.
    """
    predicted, observed = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    number = np.clip((predicted * bins).astype(int), 0, bins - 1)
    rows = []
    for i in np.unique(number):
        here = number == i
        rows.append(
            {
                "low": float(i / bins),
                "high": float((i + 1) / bins),
                "predicted": float(predicted[here].mean()),
                "observed": float(observed[here].mean()),
                "count": int(here.sum()),
            }
        )
    return rows


def expected_calibration_error(rows: list[dict[str, float]]) -> float:
    """Mean of |observed - predicted| over the rows of `reliability`, by count (Guo et al. 2017, equation 3)."""
    counts = [row["count"] for row in rows]
    return float(np.average([abs(row["observed"] - row["predicted"]) for row in rows], weights=counts))


def _interval(
    metric: Metric, predictions: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int
) -> tuple[float, float]:
    """95% percentile interval over draws of groups; NaN for fewer than two, or where most draws have no value."""
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(derive_seed(seed, "quality"))
    values = []
    for _ in range(BOOTSTRAPS):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        rows = np.repeat(np.arange(len(truth)), times[number])
        values.append(metric(predictions[rows], truth[rows]))
    known = np.array(values)[np.isfinite(values)]
    if len(known) < BOOTSTRAPS / 2:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
