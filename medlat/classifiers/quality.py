"""How good a classifier is on images it never saw: discrimination, calibration, and an interval over patients.

Images of a patient resemble each other, so the interval comes from drawing patients, not images.
"""

import numpy as np

from medlat.classifiers.black_box import Task
from medlat.core.errors import ArgumentError
from medlat.core.randomness import derive_seed
from medlat.core.statistics import Metric, auc, bootstrap, mean_auc, quadratic_kappa, r2

BINS = 10
SMALLEST = 1e-7  # probability that the log loss takes a smaller one for


def quality(
    task: Task, targets: np.ndarray, predictions: np.ndarray, groups: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """The numbers that suit the task. What is undefined (an AUC where only one class occurs) is left out.

    binary:      auc, accuracy, balanced_accuracy, f1, brier, log_loss, ece.
    multiclass:  the same; auc, balanced_accuracy and f1 are means over the classes that occur.
    ordinal:     the same, kappa (quadratic weights), and mae of the expected grade.
    regression:  r2, mae (in the target's unit).

    The headline (auc; kappa; r2) has a 95% bootstrap interval over groups, e.g. auc_low and auc_high.

    targets: [N] class numbers, or values. predictions: [N, K] as a `BlackBox` gives them. groups: [N], e.g. patients.
    Raises UserError where the targets are not the classes of the predictions.
    """
    assert len(predictions) == len(targets) == len(groups) > 0
    predictions = np.asarray(predictions, dtype=np.float64)
    truth = np.asarray(targets, dtype=np.float64)
    if task != "regression":
        truth = _class_numbers(truth, 2 if task == "binary" else predictions.shape[1])
    headline, metric = _headline(task)
    interval = bootstrap(metric, truth, predictions, groups, derive_seed(seed, "quality"))
    found = {headline: interval.value, f"{headline}_low": interval.low, f"{headline}_high": interval.high}
    if task == "regression":
        found["mae"] = float(np.abs(predictions[:, 0] - truth).mean())
    else:
        found |= _of_classes(truth, predictions)
    if task == "ordinal":
        found["auc"] = mean_auc(truth, predictions)
        found["mae"] = float(np.abs(predictions @ np.arange(predictions.shape[1]) - truth).mean())
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def below_chance(
    task: Task, targets: np.ndarray, predictions: np.ndarray, groups: np.ndarray, seed: int = 0
) -> str | None:
    """A sentence where predictions are clearly worse than knowing nothing, None where they are not: where the 95%
    interval over groups of a score that counts every class alike lies below chance as a whole. Arguments as above.

    binary: the AUC; several classes: the balanced accuracy among the classes that occur; None of regressions, and of
    fewer than 20 groups, where there is no interval.
    """
    occurring = np.unique(targets).astype(int)
    if task == "regression" or len(occurring) < 2:
        return None
    if task == "binary":
        name, chance, found = "AUC", 0.5, bootstrap(_headline(task)[1], targets, predictions, groups, seed)
    else:
        name, chance = "balanced accuracy", 1.0 / len(occurring)

        def balanced(truth: np.ndarray, predicted: np.ndarray) -> float:
            right = occurring[predicted[:, occurring].argmax(axis=1)] == truth
            return float(np.mean([right[truth == k].mean() for k in np.unique(truth)]))

        found = bootstrap(balanced, targets, predictions, groups, seed)
    if not found.high < chance:
        return None
    return (
        f"on {len(targets):,} held-out images of {len(np.unique(groups)):,} patients its {name} is {found.value:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}], and knowing nothing gives {chance:.2f}"
    )


def _headline(task: Task) -> tuple[str, Metric]:
    if task == "regression":
        return "r2", lambda t, p: r2(t, p[:, 0])
    if task == "ordinal":
        return "kappa", lambda t, p: quadratic_kappa(t, p.argmax(axis=1), p.shape[1])
    return "auc", (lambda t, p: auc(t == 1, p[:, 0])) if task == "binary" else mean_auc


def _class_numbers(truth: np.ndarray, classes: int) -> np.ndarray:
    numbers = truth.astype(np.int64)
    if (numbers != truth).any() or numbers.min() < 0 or numbers.max() >= classes:
        raise ArgumentError(
            "classes",
            f"the classifier has {classes} classes, and the labels of the data run from {truth.min():g} to "
            f"{truth.max():g}; expected whole numbers from 0 to {classes - 1}",
        )
    return numbers


def _of_classes(truth: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """What does not depend on which classes there are. predictions: [N, 1] of the second class, or [N, K]."""
    binary = predictions.shape[1] == 1
    full = np.hstack([1.0 - predictions, predictions]) if binary else predictions
    chosen = full.argmax(axis=1)
    right = chosen == truth
    own = full[np.arange(len(truth)), truth]
    squares = np.square(full - np.eye(full.shape[1])[truth])
    recalls = [right[truth == k].mean() for k in np.unique(truth)]
    rows = reliability(truth, full[:, 1]) if binary else reliability(right, full.max(axis=1))
    return {
        "accuracy": right.mean(),
        "balanced_accuracy": float(np.mean(recalls)),
        "f1": _f1(truth, chosen, 1) if binary else float(np.mean([_f1(truth, chosen, k) for k in np.unique(truth)])),
        "brier": squares[:, 1].mean() if binary else squares.sum(axis=1).mean(),
        "log_loss": -np.log(np.maximum(own, SMALLEST)).mean(),
        "ece": expected_calibration_error(rows),
    }


def _f1(truth: np.ndarray, chosen: np.ndarray, k: int) -> float:
    both, either = ((chosen == k) & (truth == k)).sum(), (chosen == k).sum() + (truth == k).sum()
    return 2.0 * both / either if either else np.nan


def reliability(observed: np.ndarray, predicted: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """How often it is true where the classifier says so: a row for each bin of equal width that is not empty.

    observed: [N] 0 or 1. predicted: [N] probabilities.
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
