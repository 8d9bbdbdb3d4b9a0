"""What directions that nobody looked for do: random ones, as real images' codes differ from each other.

How every quantity answers to a small move along each principal axis of real images' codes is measured once: then the
answer to any direction is a sum, and a great many random directions cost nothing. A direction that is to have a name is
asked in the same way: its *evidence* and that of random ones are the same number of the same base codes and the same
range, and for both the best over all quantities is taken.
"""

from dataclasses import dataclass

import numpy as np

from medlat.core.statistics import nan_mean
from medlat.evaluation.shares import normalised, shares

DRAWN = 20_000
LEVEL = 0.05  # family-wise, over all directions of one page
PART = 500  # directions that are looked at together


@dataclass(frozen=True)
class Answers:
    """slopes: [G, Q, A], what each of Q quantities does for each of G patients along each of A axes, in standard
    deviations over real images for a unit of the code. axes: [A, D], orthonormal. spread: [A], the standard deviations
    of real images' codes along them.
    """

    slopes: np.ndarray
    axes: np.ndarray
    spread: np.ndarray

    def along(self, vectors: np.ndarray) -> np.ndarray:
        """The same along directions [K, D]: [K, G, Q]."""
        return self.summed(vectors @ self.axes.T)

    def summed(self, weights: np.ndarray) -> np.ndarray:
        """Of moves with a part [K, A] along each axis: [K, G, Q]."""
        return np.einsum("gqa,ka->kgq", self.slopes, weights, optimize=True)


def evidence(slopes: np.ndarray, groups: np.ndarray, ceiling: np.ndarray, chance: float) -> np.ndarray:
    """How surely a direction moves each quantity and little else: [K, G, Q] of directions -> [K, Q], 0 to 1.

    Its normalised share times the part of the patients' squared slopes that is common to all, mean² / mean of squares:
    the R² of a common slope along a straight line. groups, ceiling: [Q]; chance: share that random directions have.
    """
    mean = nan_mean(slopes.swapaxes(0, 1))
    square = nan_mean(np.square(slopes).swapaxes(0, 1))
    common = np.where(square > 0.0, np.square(mean) / np.where(square > 0.0, square, 1.0), 0.0)
    return np.nan_to_num(normalised(shares(mean, groups), ceiling, chance)).clip(0.0) * common


@dataclass(frozen=True)
class Chance:
    """What random directions give: the mean of their largest share, and the largest evidence of each, [DRAWN]."""

    share: float
    evidence: np.ndarray


def chance(answers: Answers, groups: np.ndarray, ceiling: np.ndarray, seed: int, drawn: int = DRAWN) -> Chance:
    """Of directions drawn from the Gaussian with the covariance of real images' codes."""
    rng = np.random.default_rng(seed)
    parts = [answers.spread * rng.standard_normal((PART, len(answers.spread))) for _ in range(drawn // PART)]
    means = [nan_mean(answers.summed(part).swapaxes(0, 1)) for part in parts]
    share = float(np.mean([np.nan_to_num(shares(mean, groups)).max(axis=1) for mean in means]))
    largest = [evidence(answers.summed(part), groups, ceiling, share).max(axis=1) for part in parts]
    return Chance(share, np.concatenate(largest))


def family_wise(found: float, random: np.ndarray, count: int) -> float:
    """The probability that the best of `count` directions that are no better than random ones has this evidence or
    more, at most (Bonferroni; Phipson & Smyth 2010, arXiv 1603.05766, for a p-value of draws).
    """
    return float(min(1.0, count * (1 + (random >= found).sum()) / (len(random) + 1)))


def false_alarms(random: np.ndarray, count: int) -> float:
    """The share of lots of `count` random directions of one half in which one at least is above the level that the
    other half gives; NaN where a half has no lot.
    """
    halves, lots = np.array_split(random, 2), len(random) // 2 // count
    if lots == 0:
        return float("nan")
    rates = []
    for ours, theirs in (halves, halves[::-1]):
        best = ours[: lots * count].reshape(lots, count).max(axis=1)
        rates.append(np.mean([family_wise(x, theirs, count) <= LEVEL for x in best]))
    return float(np.mean(rates))
