"""Each score of counterfactuals as its paper defines it: arrays in, a number for each image out.

What needs a network from a hub is left out: LPIPS, for which `feature_distance` over the run's own named features
stands and is called so; FVA and FS, which are of face recognition; FID over Inception.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medlat.classifiers.black_box import PIXELS_AT_ONCE

NEIGHBOURS = 5
UNRELATED = 0.2  # |Spearman| with the prediction over real images below which a measurement should stay
SAME = 0.02  # of the intensity range: pixels that change by less count as unchanged
FURTHER = 2  # counterfactuals of an image beside the first, for diversity
PARTS = 20  # that the pixels of a counterfactual are put in place in
WEIGHTS = (0.8, 0.2)  # of the two sides of minimality, as in the code of Melistas et al.
PAIRS = 2000  # of real images that say how far apart two are


def first_flip(values: np.ndarray, steps: Sequence[float], threshold: float) -> np.ndarray:
    """How far along the asked sense each image changes side, [N] >= 0, in σ; infinite where it does not.

    values: [N, S] predictions at rising steps, 0 among them, on a scale on which they may be interpolated linearly
    between two steps. One that is not above the threshold at 0 is asked to go above it, others not to stay above.
    """
    places, zero = np.asarray(steps, dtype=np.float64), int(np.abs(steps).argmin())
    upper = values > threshold
    found = np.full(len(values), np.inf)
    for sign, asked in ((1, ~upper[:, zero]), (-1, upper[:, zero])):
        way = np.arange(zero, len(steps) if sign > 0 else -1, sign)
        flipped = upper[:, way] != upper[:, [zero]]
        rows = np.flatnonzero(asked & flipped.any(axis=1))
        after = flipped[rows].argmax(axis=1)  # at least 1
        a, b = values[rows, way[after - 1]], values[rows, way[after]]
        near, far = np.abs(places[way[after - 1]]), np.abs(places[way[after]])
        found[rows] = near + (far - near) * (threshold - a) / (b - a)
    return found


def flips_within(flips: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image flips within the editing range, [N] 0 or 1; and its part of the area below the curve of flips
    against the share of the range that was gone, [N] from 0 (does not flip within it) to 1 (flips at once).

    flips: [N] of `first_flip`. reach: in σ; 0: there is no range to flip in.
    """
    if reach <= 0.0:
        return np.zeros(len(flips)), np.zeros(len(flips))
    return (flips <= reach).astype(np.float64), np.clip(1.0 - flips / reach, 0.0, 1.0)


def crossed(before: np.ndarray, after: np.ndarray, rising: np.ndarray, threshold: float) -> np.ndarray:
    """Whether predictions [N] went over the threshold in the asked sense, [N] 0 or 1.

    Of a classifier that was not asked while images were changed: what convinces it too is less likely to be a weakness
    of the one that is explained (the oracle score of Hvilshøj et al. 2021, arXiv 2111.00177, but that what it sees on
    the wanted side from the start does not count). rising: [N] bool, which are to go up.
    """
    up = (before <= threshold) & (after > threshold)
    down = (before > threshold) & (after <= threshold)
    return np.where(rising, up, down).astype(np.float64)


@torch.no_grad()
def cout(
    before: Tensor, after: Tensor, rising: np.ndarray, predict: Callable[[Tensor], Tensor], parts: int = PARTS
) -> np.ndarray:
    """Counterfactual transition, COUT (Khorram & Fuxin 2022, arXiv 2203.15064), [N] from -1 to 1.

    Pixels of the counterfactual replace those of the image, the ones that differ most first. The areas below the curves
    of p(asked side) and of p(side it had) against the share of pixels are AUPC_c' and AUPC_c, and COUT is AUPC_c' -
    AUPC_c: towards 1 where a few pixels decide, 0 where the prediction grows evenly from one side to the other, -1
    where it never goes over. Image: the inverted one, from which the counterfactual was made.

    before, after: [N, C, H, W]. rising: [N] bool, asked to become probable. predict: images -> [N], a probability; that
    of the other side is what is left to 1.
    parts: that pixels are divided in; as many images are predicted.
    """
    change = (after - before).abs().sum(dim=1, keepdim=True).flatten(2)
    rank = change.argsort(dim=2, descending=True, stable=True).argsort(dim=2).reshape(-1, 1, *before.shape[2:])
    pixels, sign = change.shape[2], torch.from_numpy(np.where(rising, 1.0, -1.0))
    gone = torch.tensor([round(part * pixels / parts) for part in range(parts + 1)]).reshape(-1, 1, 1, 1, 1)
    found = []
    for some in torch.arange(len(before)).split(max(1, PIXELS_AT_ONCE // (pixels * (parts + 1)))):
        shown = torch.where(rank[some] < gone, after[some], before[some])  # [parts + 1, images, C, H, W]
        predicted = predict(shown.flatten(0, 1)).double().reshape(parts + 1, -1)
        curve = sign[some] * (2.0 * predicted - 1.0)  # p(asked side) - p(the other)
        found.append(torch.trapezoid(curve, dx=1.0 / parts, dim=0))
    return torch.cat(found).numpy() if found else np.zeros(0)


def minimality(
    before: np.ndarray, after: np.ndarray, upper: np.ndarray, real: np.ndarray, real_upper: np.ndarray
) -> np.ndarray:
    """Counterfactual latent divergence, CLD (Sanchez & Tsaftaris 2022, arXiv 2202.10166; with weights by Melistas et
    al. 2024, arXiv 2403.20287), [N] from 0 to 1, less is better.

    log(w1 exp P(S_other <= d) + w2 exp P(S_own >= d)), where d is the distance of image and counterfactual, S_other
    those of the image to the real ones on the asked side and S_own to those on its own, w = 0.8, 0.2. 0: nearer than
    any real image of the asked side, and farther than all of its own. Nothing changed: 0.30; farther than all: 0.86.

    before, after: [N, F] features. upper: [N] bool, side of the image. real: [R, F], real_upper: [R] bool. NaN where a
    side has no real images. The distance is the mean absolute difference, missing values left out.
    """
    moved, found = np.abs(after - before), np.full(len(before), np.nan)
    if real_upper.all() or not real_upper.any():
        return found
    for i, side in enumerate(upper):
        known = np.isfinite(moved[i])
        if not known.any():
            continue
        far, d = _mean_known(np.abs(real - before[i])[:, known]), moved[i][known].mean()
        nearer, farther = (far[real_upper != side] <= d).mean(), (far[real_upper == side] >= d).mean()
        found[i] = np.log(WEIGHTS[0] * np.exp(nearer) + WEIGHTS[1] * np.exp(farther))
    return found


def correlation_difference(flips: np.ndarray, changes: np.ndarray, correlations: np.ndarray) -> float:
    """Correlation difference, CD (Jeanneret et al. 2022, arXiv 2203.15636): Σ_a |corr(δ_q, δ_a) - c_a|, 0
    or more, less is better: counterfactuals change other attributes as they go with the queried one among real images.

    flips: [N] δ_q, what became of the queried attribute: -1, 0, 1. changes: [N, A] δ_a, of the others. correlations:
    [A] c_a, of query and attribute over real images. A correlation with what does not vary is 0, as in their code.
    """
    return float(np.abs(correlations_with(flips, changes) - correlations).sum())


def correlations_with(query: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pearson's correlation of [N] with each column of [N, A], [A]; 0 where one of the two does not vary."""
    q, x = query - query.mean(), others - others.mean(axis=0)
    scale = np.sqrt(np.square(q).sum() * np.square(x).sum(axis=0))
    return np.divide(q @ x, scale, out=np.zeros(others.shape[1]), where=scale > 1e-12)


def unit_distance(real: np.ndarray, seed: int) -> float:
    """Mean distance of two different real images' features [R, F]: what `feature_distance` is in units of. NaN where
    there are not two, or all are the same.
    """
    if len(real) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    first = rng.integers(len(real), size=PAIRS)
    second = (first + rng.integers(1, len(real), size=PAIRS)) % len(real)
    found = float(_distance(real[first], real[second]).mean())
    return found if found > 0.0 else float("nan")


def feature_distance(a: np.ndarray, b: np.ndarray, unit: float) -> np.ndarray:
    """How far apart rows of features [N, F] are, [N]: 0 the same, 1 as far as two different real images on average.

    It has LPIPS's place (Zhang et al. 2018, arXiv 1801.03924) over the features that the run has: euclidean, each
    feature in standard deviations over real images. No number of it compares with LPIPS. unit: of `unit_distance`.
    """
    return _distance(a, b) / unit


def diversity(several: Sequence[np.ndarray], unit: float) -> np.ndarray:
    """Mean `feature_distance` of all pairs of an image's counterfactuals, [N], more is better; NaN where there are not
    two. σ_LPIPS of Jeanneret et al. 2022 (arXiv 2203.15636) over the run's features.

    several: features [N, F] of each counterfactual, rows of NaN where it was not reached.
    """
    pairs = [feature_distance(a, b, unit) for a, b in itertools.combinations(several, 2)]
    return _mean_known(np.stack(pairs, axis=1)) if pairs else np.full(len(several[0]), np.nan)


def realism(measured: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean distance of each row to its nearest real rows, relative to the same among the real rows.

    measured [N, M], real [R, M], both in standard deviations, NaN taken for the real median. 1: as near as real images
    are to each other. NaN where there are too few real rows, or nothing is measured.
    """
    from scipy.spatial import cKDTree

    if len(real) <= NEIGHBOURS or not measured.size:
        return np.full(len(measured), np.nan)
    middle = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in real.T])
    ours, theirs = (np.where(np.isfinite(x), x, middle) for x in (measured, real))
    tree = cKDTree(theirs)
    among = tree.query(theirs, NEIGHBOURS + 1)[0][:, 1:].mean()
    near = tree.query(ours, NEIGHBOURS)[0].mean(axis=1)
    return near / among if among > 0.0 else np.full(len(measured), np.nan)


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
    return _mean_known(np.abs(after - before))


def sparsity(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Share of pixels of network images [N, C, H, W] that change by less than 2% of the intensity range, [N]."""
    change = np.abs(after - before).max(axis=1)
    return (change < 2.0 * SAME).reshape(len(change), -1).mean(axis=1)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(a - b).sum(axis=1))


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of [N, M] of what is finite, [N]; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
