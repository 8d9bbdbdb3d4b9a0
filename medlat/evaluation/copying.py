"""Whether a generator copies the images that it learnt from: samples against training images, beside held-out images.

A copy lies much nearer to one training image than to those of any other patient: its distance to the nearest is less
than a third of that to the nearest of another patient (Yoon et al. 2023, *Diffusion probabilistic models generalize
when they fail to memorize*, with patients in the place of images, whose slices are alike). The ratio of the two does
not fall where all images of a generator are blurred or near the mean, as the distance itself does.

What there would be without copying is said by images of held-out patients, as in the three-sample test of Meehan,
Chaudhuri & Dasgupta 2020 (arXiv 2004.05675, with one cell, of the ratio instead of the distance).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medlat.core.statistics import Interval, auc, grouped_mean
from medlat.evaluation.distance import squared_distances

COPY = 1.0 / 3.0  # of the two distances, below which an image is a copy
AT_ONCE = 4_000_000  # distances in memory
RULE_OF_THREE = 3.0  # of n patients none of whom has it, at most this / n do (95%; Hanley & Lippman-Hand 1983)


@dataclass(frozen=True)
class Copying:
    """What was found in one feature space.

    share:    of samples that are copies, its interval over samples (which are drawn independently).
    held_out: of held-out images that would count as copies, its interval over patients.
    closer:   probability that a sample's ratio is below a held-out image's: 0.5 where there is no copying, 1 where
              every sample is a copy (Mann & Whitney's U, as in Meehan et al.).
    """

    share: Interval
    held_out: Interval
    closer: float

    @property
    def copies(self) -> bool:
        """Whether more samples are copies than can be explained by how alike patients are."""
        return self.share.low > self.held_out.high

    def numbers(self, name: str) -> dict[str, float]:
        """As they stand in metrics.json."""
        found = {"share": self.share, "held_out": self.held_out}
        numbers = {f"copying/{name}_{key}": interval.value for key, interval in found.items()}
        numbers |= {f"copying/{name}_{key}_low": interval.low for key, interval in found.items()}
        numbers |= {f"copying/{name}_{key}_high": interval.high for key, interval in found.items()}
        return numbers | {f"copying/{name}_closer": self.closer, f"copying/{name}_copies": float(self.copies)}


def was_measured(numbers: Mapping[str, float]) -> bool:
    """Whether anybody looked. numbers: of metrics.json."""
    return "copying/pixels_copies" in numbers


def warning(numbers: Mapping[str, float], noun: str) -> str | None:
    """What is said of a generator that copies. numbers: of metrics.json; noun: of its images, e.g. "slice"."""
    for space in ("pixels", "measurements"):
        if numbers.get(f"copying/{space}_copies"):
            value, low, high, held_out = (
                numbers[f"copying/{space}_{key}"] for key in ("share", "share_low", "share_high", "held_out")
            )
            return (
                f"The generator copies its training data: {value:.0%} [{low:.0%}, {high:.0%}] of its samples are one "
                f"training {noun} (told by {space}; of held-out {noun}s {held_out:.0%} would count as such). "
                "Its weights and its images show patients."
            )
    return None


def copying(
    samples: np.ndarray,
    held_out: np.ndarray,
    groups: np.ndarray,
    train: np.ndarray,
    patients: np.ndarray,
    seed: int = 0,
) -> Copying | None:
    """samples [N, D], held-out images [H, D] of `groups` [H], training images [T, D] of `patients` [T], all finite.
    None where there are training images of fewer than two patients, or no samples or held-out images.
    """
    if len(np.unique(patients)) < 2 or min(len(samples), len(held_out)) == 0:
        return None
    ours, theirs = (nearness(x, train, patients) for x in (samples, held_out))
    share = grouped_mean(ours < COPY, np.arange(len(ours)), seed)
    mean, low, high = grouped_mean(theirs < COPY, groups, seed)
    least = max(mean, min(1.0, RULE_OF_THREE / len(np.unique(groups))))
    bound = Interval(mean, low, float(np.fmax(high, least)))  # of few patients there is no interval, and still a bound
    is_sample = np.repeat([True, False], [len(ours), len(theirs)])
    return Copying(share, bound, auc(is_sample, -np.concatenate([ours, theirs])))


def nearness(x: np.ndarray, train: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Distance of each row of [N, D] to the nearest row of [T, D], divided by that to the nearest of another patient:
    [N] from 0 (the same) to 1.
    """
    found, block = [], max(1, AT_ONCE // len(train))
    for start in range(0, len(x), block):
        squares = squared_distances(x[start : start + block].astype(np.float64), train.astype(np.float64))
        nearest, rows = squares.argmin(axis=1), np.arange(len(squares))
        first = squares[rows, nearest]
        second = np.where(patients == patients[nearest][:, None], np.inf, squares).min(axis=1)
        found.append(np.sqrt(np.divide(first, second, out=np.ones(len(first)), where=second > 0.0)))
    return np.concatenate(found)


def whitening(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre [M] and matrix [M, K] that turn measurements like the reference's [N, M] (finite) into K uncorrelated
    numbers of variance 1, so that what several measurements say counts once. Directions in which the reference varies
    by less than a thousandth of the most are left out.
    """
    centre = reference.mean(axis=0)
    _, spread, axes = np.linalg.svd((reference - centre) / np.sqrt(len(reference)), full_matrices=False)
    kept = spread > 1e-3 * spread.max(initial=0.0)
    return centre, axes[kept].T / spread[kept]
