"""How much of what a direction does falls on one quantity, and how much could.

A quantity's *share* is its part of everything that moves, each in standard deviations over real images. Quantities that
say the same (|correlation| of at least 0.9 over real images) count once in the total. Few shares can reach 1: lungs
that grow change the lung fraction, the mean HU and the mediastinum too. So a share stands between what chance gives and
the *ceiling*, the share that it has when one thing alone varies: *normalised*, (share - chance) / (ceiling - chance).
"""

import numpy as np

from medlat.core.statistics import nan_mean

SAME = 0.9  # |correlation| over real images from which two quantities are one
ROOM = 0.1  # between chance and a ceiling, below which no share tells a quantity from the others


def overlaps(real: np.ndarray) -> np.ndarray:
    """Which quantities say the same: [N, Q] of real images -> [Q], the number of the group that each is in. In a group
    every two are correlated by at least 0.9 (complete linkage).
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if real.shape[1] < 2:
        return np.zeros(real.shape[1], dtype=int)
    apart = 1.0 - np.abs(correlations(real))
    np.fill_diagonal(apart, 0.0)
    found = fcluster(linkage(squareform(apart, checks=False), "complete"), 1.0 - SAME + 1e-12, "distance")
    return np.unique(found, return_inverse=True)[1]


def shares(standardised: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Effects [..., Q] in standard deviations over real images -> [..., Q]: each over the sum of the largest of every
    group. NaN where a quantity has no effect that is known, or nothing moves.
    """
    size = np.abs(standardised)
    known = np.nan_to_num(size)
    total = sum(known[..., groups == group].max(axis=-1) for group in np.unique(groups))
    total = np.asarray(total)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0.0, size / total, np.nan)


def ceilings(responses: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The largest share that each quantity has in any of F responses [F, Q], one for each thing that may vary alone:
    [Q]; NaN where it answers to none.
    """
    found = shares(responses, groups)
    known = np.isfinite(found).any(axis=0)
    return np.where(known, np.nan_to_num(found).max(axis=0), np.nan)


def responses_to_factors(measured: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """What each known factor does alone: slopes of quantities [N, Q] on factors [N, F], both in standard deviations, by
    least squares over real images -> [F, Q]. Of one quantity the rows count that have a value.
    """
    x = _standardised(factors)
    x = x[:, np.isfinite(x).all(axis=0) & (np.nanstd(factors, axis=0) > 0.0)]
    found = np.full((x.shape[1], measured.shape[1]), np.nan)
    for column, y in enumerate(_standardised(measured).T):
        seen = np.isfinite(y)
        if seen.sum() > x.shape[1] + 1:
            found[:, column] = np.linalg.lstsq(np.c_[x[seen], np.ones(seen.sum())], y[seen], rcond=None)[0][:-1]
    return found


def responses_of_real(measured: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What goes with each quantity where no factor is known: [N, Q] of real images, and whose each is [N] -> [Q, Q].

    Row q: how the others differ on average between people whose q differs by a standard deviation, which is their
    correlation. It takes everything that goes with q among people for q's doing, so the ceiling is a low one, but not
    what few people show by chance: r² is that of Olkin & Pratt's first order, (n r² - 1) / (n - 1) for n people.
    """
    people, number = np.unique(groups, return_inverse=True)
    means = np.stack([nan_mean(measured[number == i]) for i in range(len(people))])
    r, n = np.nan_to_num(correlations(means)), max(len(people), 2)
    found = np.sign(r) * np.sqrt(np.maximum((n * r**2 - 1.0) / (n - 1.0), 0.0))
    np.fill_diagonal(found, 1.0)
    return found


def normalised(share: np.ndarray, ceiling: np.ndarray, chance: float) -> np.ndarray:
    """Shares [..., Q] between chance, 0, and their ceilings [Q], 1, which is the largest value; NaN for a quantity
    whose ceiling is hardly above chance.
    """
    room = np.where(ceiling - chance >= ROOM, ceiling - chance, np.nan)
    return np.minimum((share - chance) / room, 1.0)


def correlations(values: np.ndarray) -> np.ndarray:
    """Of the columns of [N, Q], over the rows that have both: [Q, Q]; 0 where there are none or one does not vary."""
    z = np.nan_to_num(_standardised(values))
    seen = np.isfinite(values).astype(np.float64)
    both = np.maximum(seen.T @ seen, 1.0)
    sums, squares = z.T @ seen, (z**2).T @ seen
    spread = np.sqrt(np.maximum(squares / both - (sums / both) ** 2, 0.0))
    centre = (sums / both) * (sums / both).T
    scale = spread * spread.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 1e-12, (z.T @ z / both - centre) / scale, 0.0).clip(-1.0, 1.0)


def _standardised(values: np.ndarray) -> np.ndarray:
    """[N, Q] in standard deviations from the mean of what is finite."""
    seen = np.where(np.isfinite(values), values, np.nan)
    centre = nan_mean(seen)
    spread = np.sqrt(nan_mean((seen - centre) ** 2))
    return (seen - centre) / np.where(spread > 0.0, spread, 1.0)
