"""Series of images along a direction from real images' codes, and the counterfactual on each: the image nearest to
where it began whose prediction has changed as asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medlat.classifiers.black_box import Target, predict, predict_each
from medlat.core.spaces import LatentModel, decode_in_parts
from medlat.core.statistics import ridge_with_intercept, spearman_of_rows

SHRINKAGE = 0.01  # of the codes' own variance, that further directions are found with
BISECTIONS = 8  # the step is known to 1/256 of the distance between two steps of the series


@dataclass(frozen=True)
class Traversal:
    """N codes, and for each a move of one step that is to raise the prediction.

    codes, moves: [N, *space.shape] on the CPU; a move is a unit direction times the σ of real images' codes along it.
    noise: [N, ...] that belongs to the images and stays, where it is known.
    """

    model: LatentModel
    space: str
    codes: Tensor
    moves: Tensor
    target: Target
    device: torch.device
    noise: Tensor | None = None

    def of(self, rows: Tensor) -> "Traversal":
        """That of some of the codes, by their numbers."""
        noise = None if self.noise is None else self.noise[rows]
        return replace(self, codes=self.codes[rows], moves=self.moves[rows], noise=noise)

    def images(self, steps: Tensor) -> Tensor:
        """One image of each code, `steps` [N] along its move: [N, C, H, W] in [-1, 1] on the CPU."""
        far = steps.float().reshape(-1, *[1] * (self.codes.dim() - 1))
        return decode_in_parts(self.model, (self.codes + far * self.moves).to(self.device), self.space, self.noise)

    def predictions(self, steps: Tensor) -> Tensor:
        """Of those images, [N]."""
        return predict(self.target, self.images(steps), self.device)

    def predictions_at(self, steps: Sequence[float]) -> Tensor:
        """Predictions at fixed steps, [N, S]."""
        return self.target.of(self.outputs_at(steps))

    def outputs_at(self, steps: Sequence[float]) -> Tensor:
        """All that the black box predicts at fixed steps, [N, S, K]."""
        shown = (self.images(torch.full((len(self.codes),), float(step))) for step in steps)
        return torch.stack(predict_each(self.target.black_box, shown, self.device), dim=1)


@dataclass(frozen=True)
class TargetRange:
    """What a prediction is asked to become. threshold: between its two sides; low, high: how far beyond it counts as
    reached: at most `low` for an image above the threshold, at least `high` for one below.
    """

    threshold: float
    low: float
    high: float


@dataclass(frozen=True)
class Counterfactuals:
    """For each of N images: step [N] along its move, prediction [N] there, and whether it was reached within the series
    [N] (else the step is the furthest one in the asked sense); flipped [N]: whether some step lies on the
    other side of the threshold.
    """

    step: Tensor
    prediction: Tensor
    reached: Tensor
    flipped: Tensor


def counterfactuals(
    traversal: Traversal, steps: Sequence[float], predictions: Tensor, asked: TargetRange
) -> Counterfactuals:
    """Bisection between the first step of the predictions that reaches what is wanted and the one before it.

    steps: rising, with 0 among them. predictions: [N, S], at these steps.
    """
    places = torch.tensor(steps, dtype=torch.float64)
    zero = int(places.abs().argmin())
    rising = predictions[:, zero] <= asked.threshold  # the ones whose prediction is to go up
    flipped = _reached(predictions, rising, zero, asked.threshold, asked.threshold).any(dim=1)
    there = _reached(predictions, rising, zero, asked.low, asked.high)
    reached = there.any(dim=1)
    order = torch.where(rising[:, None], torch.arange(len(steps)), torch.arange(len(steps)).flip(0))
    first = torch.gather(there, 1, order).float().argmax(dim=1)  # along the way, not along the axis
    last = torch.where(reached, first, len(steps) - 1)
    far = places[torch.gather(order, 1, last[:, None])[:, 0]]
    near = places[torch.gather(order, 1, (last - 1).clamp_min(0)[:, None])[:, 0]]
    found = torch.gather(predictions, 1, torch.gather(order, 1, last[:, None]))[:, 0]
    rows = reached.nonzero()[:, 0]
    some, up = traversal.of(rows), rising[rows]
    for _ in range(BISECTIONS if len(rows) else 0):
        middle = (near[rows] + far[rows]) / 2.0
        predicted = some.predictions(middle)
        beyond = torch.where(up, predicted >= asked.high, predicted <= asked.low)
        far[rows], found[rows] = torch.where(beyond, middle, far[rows]), torch.where(beyond, predicted, found[rows])
        near[rows] = torch.where(beyond, near[rows], middle)
    return Counterfactuals(far, found, reached, flipped)


def _reached(predictions: Tensor, rising: Tensor, zero: int, low: float, high: float) -> Tensor:
    """[N, S] bool: which steps in the asked sense have a prediction of at least `high`, or at most `low`."""
    asked = torch.arange(predictions.shape[1])[None] - zero
    up = (asked > 0) & (predictions >= high) & (predictions > low)
    down = (asked < 0) & (predictions <= low)
    return torch.where(rising[:, None], up, down)


def chosen_direction(vectors: Tensor, codes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Signs that make unsigned directions raise a prediction, and how strongly each goes with it.

    vectors [K, D], codes [N, D] standardised alike, values [N] -> signs [K], |correlation| [K]: of the codes' places
    along each direction with the values.
    """
    along = (codes @ vectors.T).double()
    along = along - along.mean(dim=0)
    centred = (values - values.mean()).double()
    scale = along.norm(dim=0) * centred.norm()
    correlation = torch.where(scale > 0.0, (centred @ along) / scale.clamp_min(1e-12), 0.0)
    return torch.where(correlation < 0.0, -1.0, 1.0).float(), correlation.abs().float()


def further_directions(direction: np.ndarray, codes: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Other directions that the values go with, orthogonal to the one that is known and to each other, [K <= count, D]
    of unit length, towards higher values: each is the ridge regression of the values on what is left of the codes when
    those before it are taken out (iterative nullspace projection, Ravfogel et al. 2020, arXiv 2004.07667).

    direction: [D]; codes: [N, D], values: [N].
    """
    found, left = [direction / np.linalg.norm(direction)], codes - codes.mean(axis=0)
    penalty = SHRINKAGE * np.square(left).sum() / left.shape[1]
    for _ in range(min(count, codes.shape[1] - 1)):
        left = left - np.outer(left @ found[-1], found[-1])
        weights = ridge_with_intercept(left, values, penalty)[:-1]
        length = np.linalg.norm(weights)
        if length < 1e-12:  # the values do not vary
            break
        found.append(weights / length)
    return np.array(found[1:]).reshape(-1, codes.shape[1])


def monotonicity(predictions: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Spearman's correlation of step and prediction for each image, [N, S] -> [N]; 0 where nothing changes."""
    return spearman_of_rows(predictions, np.broadcast_to(steps, predictions.shape))
