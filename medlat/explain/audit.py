"""What a classifier uses: how its prediction answers when one quantity alone changes, beside random changes.

Classifier and quantities are asked along the principal axes of real images' codes (`evaluation.chance.Answers`). Where
both answer nearly in proportion, the response to any change of a code is a sum, and a great many random ones cost
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from medlat.core.statistics import FEWEST_GROUPS, bootstrap_means, nan_mean
from medlat.evaluation.chance import DRAWN, LEVEL, Answers, family_wise
from medlat.evaluation.semantics import Quantity, groups_of

HELD = 2.0  # standard deviations of real images' codes that one of a quantity takes at most, of what a generator holds


@dataclass(frozen=True)
class Response:
    """A row of audit.csv: how the prediction answers to one quantity alone.

    response:  of the prediction (a probability: its logit) for a standard deviation of the quantity over real images,
               mean over held-out patients; low, high: its 95% interval over them, NaN for fewer than 20.
    length:    of that change of the code, in standard deviations of real images' codes; about 1 where nothing has to
               be held in place.
    p:         family-wise against random changes, see `responses`.
    """

    kind: str
    quantity: str
    response: float
    low: float
    high: float
    length: float
    p: float

    @property
    def is_asked(self) -> bool:
        """Whether the generator changes the quantity alone, so that something can be said."""
        return 0.0 < self.length <= HELD

    @property
    def lacks(self) -> list[str]:
        """Why it cannot be said that the classifier uses it, in words; [] where it does."""
        wanted = {
            "the generator does not change it alone": self.is_asked,
            f"no more than random changes (p = {self.p:.2g})": self.p <= LEVEL,
            "not sure: its interval holds 0": self.low > 0.0 or self.high < 0.0,
        }
        return [reason for reason, holds in wanted.items() if not holds]

    @property
    def is_used(self) -> bool:
        return not self.lacks

    def told(self, unit: str) -> str:
        """In words. unit: of the prediction."""
        name, ends = self.quantity.replace("_", " "), f" [{self.low:+.2f}, {self.high:+.2f}]"
        interval = ends if np.isfinite(self.low) else ""
        return f"{name} ({self.response:+.2f}{interval} {unit} a standard deviation, p = {self.p:.2g})"

    def row(self) -> dict:
        return asdict(self)


def alone(slopes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The shortest changes of a code that move one quantity and none that says something else: [Q, A] -> [Q, A].

    slopes: of quantities, in their standard deviations, along whitened axes. groups: [Q], see `shares.overlaps`. A row
    of 0 for a quantity that cannot be moved.
    """
    found = np.zeros_like(slopes)
    for number, own in enumerate(slopes):
        others = slopes[groups != groups[number]]
        found[number] = np.linalg.pinv(np.vstack([own, others]))[:, 0]
    return found


def responses(
    slopes: np.ndarray, answers: Answers, quantities: Sequence[Quantity], people: bool, seed: int
) -> list[Response]:
    """How a classifier answers to each quantity alone, the largest for its length first.

    slopes:  of its prediction, [G, A], for each of G patients along the axes of `answers`, for a unit of the code.
    answers: of the quantities along the same axes. people: whether the G are patients; if not, there is no interval.

    p is the probability that the best of as many random changes (drawn with the covariance of real images' codes, and
    as long) has a response as large, whatever its sign.
    """
    own, found = slopes * answers.spread, nan_mean(answers.slopes) * answers.spread
    changes = alone(np.nan_to_num(found), groups_of(quantities))
    lengths = np.linalg.norm(changes, axis=1)
    mean, low, high = bootstrap_means(own @ changes.T, seed)
    if not people or len(slopes) < FEWEST_GROUPS:
        low, high = np.full((2, len(mean)), np.nan)
    draws = np.random.default_rng(seed).standard_normal((DRAWN, len(answers.spread)))
    random = np.abs(draws @ nan_mean(own)) / np.linalg.norm(draws, axis=1)
    rows, numbers = [], [x.tolist() for x in (mean, low, high)]
    for quantity, length, value, bottom, top in zip(quantities, lengths.tolist(), *numbers, strict=True):
        p = family_wise(abs(value) / length, random, len(quantities)) if length > 0.0 else 1.0
        rows.append(Response(quantity.kind, quantity.name, value, bottom, top, length, p))
    return sorted(rows, key=lambda row: (row.p, -abs(row.response)))


def planted(measurements: Mapping[str, str | None], column: str) -> set[str]:
    """The names that stand for a column of the slice store (`factor.<name>`): the factor's own and those of
    measurements that read it. measurements: name -> the factor that it reads.
    """
    prefix, _, factor = column.partition(".")
    return {factor} | {name for name, read in measurements.items() if read == factor} if prefix == "factor" else set()
