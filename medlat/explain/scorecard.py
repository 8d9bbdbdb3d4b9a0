"""Whether to believe an explanation: one row per method and score, each with its 95% interval.

Every score is an average over held-out images; intervals are bootstrapped over patients. The scores of counterfactuals
(proximity to realism) are over the images whose wanted prediction was reached, and how many these are stands beside
them: an explanation that changes nothing is near to the image and says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from medlat.core.statistics import grouped_mean

NEIGHBOURS = 5
UNRELATED = 0.2  # |Spearman| with the prediction over real images below which a measurement should stay
SAME = 0.02  # of the intensity range: pixels that change by less count as unchanged


class Score(NamedTuple):
    """What a score is called, its unit ("" where it has none; "image" stands for that of the image) and which way is
    better.
    """

    key: str
    unit: str
    better: str
    meaning: str


SCORES = (
    Score("flip_rate", "", "higher", "share of images whose prediction crosses the threshold within the series"),
    Score("reach_rate", "", "higher", "share whose wanted prediction is reached"),
    Score("oracle_rate", "", "higher", "share of these that another classifier says cross the threshold too"),
    Score("monotonicity", "", "higher", "Spearman's correlation of step and prediction"),
    Score("proximity", "image", "lower", "mean absolute change of the counterfactual from the inverted image"),
    Score("ms_ssim", "", "higher", "structural similarity of the two"),
    Score("sparsity", "", "higher", "share of pixels that stay as they are (within 2% of the intensity range)"),
    Score("realism", "", "lower", "distance to the nearest real images of the target side, 1 for real images"),
    Score("identity", "σ", "lower", "change of measurements that have nothing to do with the prediction"),
    Score("inversion_drift", "", "lower", "change of the prediction by inversion alone"),
    Score("oracle_drift", "", "lower", "the same of that other classifier: where it is large, it cannot judge"),
    Score("seconds", "s", "lower", "per image: series and counterfactual"),
)


@dataclass(frozen=True)
class Row:
    """A row of scorecard.csv. images: that the score is over."""

    method: str
    score: str
    value: float
    low: float
    high: float
    unit: str
    better: str
    control: bool
    images: int

    def row(self) -> dict:
        return asdict(self)


def rows(
    method: str, values: Mapping[str, np.ndarray], groups: np.ndarray, control: bool, unit: str, seed: int = 0
) -> list[Row]:
    """Average every score. values: key -> [N], NaN where an image has none; groups: [N] whose image it is."""
    found = []
    for score in SCORES:
        if score.key not in values:
            continue
        mean, low, high = grouped_mean(values[score.key], groups, seed)
        images = int(np.isfinite(values[score.key]).sum())
        shown = unit if score.unit == "image" else score.unit
        found.append(Row(method, score.key, mean, low, high, shown, score.better, control, images))
    return found


@dataclass(frozen=True)
class Response:
    """A row of response_curves.csv: how the prediction answers to a step along a method's direction, on average over
    `images` images, with its 95% interval over groups.
    """

    method: str
    step: float
    mean: float
    low: float
    high: float
    images: int

    def row(self) -> dict:
        return asdict(self)


def responses(method: str, predictions: np.ndarray, steps: Sequence[float], groups: np.ndarray) -> list[Response]:
    """Average the predictions of every step. predictions: [N, S], NaN where there is none; groups: [N] whose image it
    is. A step without predictions has no row.
    """
    assert predictions.shape[1] == len(steps), (method, predictions.shape, len(steps))
    found = []
    for step, values in zip(steps, predictions.T, strict=True):
        images = int(np.isfinite(values).sum())
        if images:
            found.append(Response(method, float(step), *grouped_mean(values, groups), images))
    return found


def crossed(before: np.ndarray, after: np.ndarray, rising: np.ndarray, threshold: float) -> np.ndarray:
    """Whether predictions [N] went over the threshold in the asked sense, [N] 0 or 1.

    Of an oracle, a classifier that was not asked while images were changed: what convinces it too is less likely to be
    a weakness of the one that is explained (the oracle score of Hvilshøj et al. 2021, arXiv 2111.00177, but that what
    it sees on the wanted side from the start does not count). rising: [N] bool, which are to go up.
    """
    up = (before <= threshold) & (after > threshold)
    down = (before > threshold) & (after <= threshold)
    return np.where(rising, up, down).astype(np.float64)


def realism(measured: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean distance of each row to its nearest real rows, relative to the same among the real rows.

    measured [N, M], real [R, M], both in standard deviations, NaN taken for the real median. 1: as near as real images
    are to each other. NaN where there are too few real rows.
    """
    if len(real) <= NEIGHBOURS:
        return np.full(len(measured), np.nan)
    middle = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in real.T])
    ours, theirs = (np.where(np.isfinite(x), x, middle) for x in (measured, real))
    among = np.sort(_distances(theirs, theirs), axis=1)[:, 1 : NEIGHBOURS + 1].mean()
    near = np.sort(_distances(ours, theirs), axis=1)[:, :NEIGHBOURS].mean(axis=1)
    return near / among if among > 0.0 else np.full(len(measured), np.nan)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2.0 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))


def unrelated(measured: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """[M] bool: measurements of real images [N, M] that do not go with their predictions [N]."""
    from scipy.stats import spearmanr

    found = np.zeros(measured.shape[1], dtype=bool)
    for i, column in enumerate(measured.T):
        known = np.isfinite(column)
        if known.sum() > 2 and column[known].std() > 0.0 and predictions[known].std() > 0.0:
            found[i] = abs(spearmanr(column[known], predictions[known]).statistic) < UNRELATED
    return found


def identity(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean |change| of measurements [N, M] in standard deviations, [N]; NaN where none is defined in both."""
    change = np.abs(after - before)
    known = np.isfinite(change)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, change, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def sparsity(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Share of pixels of network images [N, C, H, W] that change by less than 2% of the intensity range, [N]."""
    change = np.abs(after - before).max(axis=1)
    return (change < 2.0 * SAME).reshape(len(change), -1).mean(axis=1)
