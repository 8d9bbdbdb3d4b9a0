"""Which classifiers share a reason: counterfactuals of each are shown to all (counterfactual alignment, Cohen,
Blankemeier & Chaudhari 2023, arXiv 2312.02186).

A cell is the relative change of one classifier's prediction at the counterfactuals of another: 1 where it goes along
wholly, 0 where it does not move. Beside it stands what random directions give that are followed as far.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from math import inf, nan
from typing import Any

import numpy as np

from medlat.core.statistics import BOOTSTRAPS, FEWEST_GROUPS, bootstrap_draws, grouped_mean
from medlat.evaluation.chance import LEVEL, false_alarms

FILE = "alignment.csv"
DRAWN = 200  # random directions
HALF = 0.5  # of the change: where another's is surely less, it does not go along


def relative_change(other: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The change of another classifier's prediction as a share of the change of the one that a counterfactual is of,
    [..., N] and [N] -> [..., N]; NaN where the latter does not change.

    Both are from the inverted image, from which the counterfactual was made.
    """
    shape = np.broadcast_shapes(other.shape, own.shape)
    return np.divide(other, own, out=np.full(shape, nan), where=np.broadcast_to(own != 0.0, shape))


@dataclass(frozen=True)
class Shown:
    """The N counterfactuals of one classifier, shown to all. changes: by the name of who is asked, of the predictions,
    [N]. random: the same of images that were moved as far along each of R random directions, with the sign that raises
    the predictions of the one whose counterfactuals these are, [R, N]. groups: [N], whose images they are.
    """

    changes: Mapping[str, np.ndarray]
    random: Mapping[str, np.ndarray]
    groups: np.ndarray


@dataclass(frozen=True)
class Cell:
    """A row of alignment.csv.

    of, asked: the classifier whose counterfactuals are shown, and the one that is asked about them.
    change:    relative, the mean over images; low, high: its 95% interval over people, NaN for fewer than 20.
    random:    the mean of the same along random directions, with its interval. level: what a change has to exceed, as
               the largest of all pairs does in 5% of random directions.
    p:         that the largest of all pairs along a random direction is as large. p_half: that it goes along by half or
               more, over all pairs; NaN of one that has no counterfactuals itself, and so may not see what images show.
               Both NaN of a classifier with itself.
    false_alarms: share of random directions of one half along which some pair is above the level of the other half.
    """

    of: str
    asked: str
    change: float
    low: float
    high: float
    random: float
    random_low: float
    random_high: float
    level: float
    p: float
    p_half: float
    images: int
    people: int
    false_alarms: float

    @property
    def told(self) -> str:
        """What the numbers say; "" of a classifier with itself."""
        if self.of == self.asked:
            return ""
        moves, less = self.p <= LEVEL and (self.low > 0.0 or self.high < 0.0), self.p_half <= LEVEL
        if moves and self.change < 0.0:
            return "goes against"
        if moves:
            return "goes along in part" if less else "goes along"
        return "does not go along" if less else "not sure"

    def row(self) -> dict[str, Any]:
        return asdict(self) | {"told": self.told}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Cell":
        """From a row of a table, whose numbers alone are read as such."""
        whole = {name: int(row[name]) for name in ("images", "people")}
        return cls(**{name: row[name] for name in cls.__dataclass_fields__} | whole)


def matrix(shown: Mapping[str, Shown], seed: int = 0) -> list[Cell]:
    """A cell for every classifier's counterfactuals and every one that is asked, in their order.

    p is single-step max-T (Westfall & Young 1993): draws are the same directions for all pairs, and each pair's values
    are in units of their root mean square over draws.
    """
    everyone = list(product(shown, shown))
    pairs = [(of, asked) for of, asked in everyone if of != asked and len(shown[of].groups)]
    random = {(of, asked): relative_change(shown[of].random[asked], shown[of].changes[of]) for of, asked in everyone}
    drawn = {pair: np.abs(random[pair].mean(axis=1)) for pair in pairs}
    units = {pair: float(np.sqrt(np.square(values).mean())) for pair, values in drawn.items()}
    largest = np.max([drawn[pair] / unit for pair, unit in units.items() if unit > 0.0] or [[0.0]], axis=0)
    found, alarms = [], false_alarms(largest, 1)
    for of, asked in everyone:
        groups, values = shown[of].groups, relative_change(shown[of].changes[asked], shown[of].changes[of])
        change, beside = (grouped_mean(x, groups, seed) for x in (values, random[of, asked].mean(axis=0)))
        level = p = p_half = nan
        if (of, asked) in units:
            unit = units[of, asked]
            level = unit * float(np.quantile(largest, 1.0 - LEVEL))
            size = abs(change.value) / unit if unit > 0.0 else inf if change.value else 0.0
            p = float((1 + (largest >= size).sum()) / (1 + len(largest)))
            p_half = _p_half(values, groups, len(pairs), seed) if len(shown[asked].groups) else nan
        found.append(Cell(of, asked, *change, *beside, level, p, p_half, len(values), len(np.unique(groups)), alarms))
    return found


def _p_half(values: np.ndarray, groups: np.ndarray, pairs: int, seed: int) -> float:
    """Whether the mean of [N] is half or more, over draws of whole groups [N] (Bonferroni over the pairs); NaN for
    fewer than 20.
    """
    number = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(number, values), np.bincount(number)
    if len(sums) < FEWEST_GROUPS:
        return nan
    draws = bootstrap_draws(len(sums), seed)
    reached = (sums[draws].sum(axis=1) / counts[draws].sum(axis=1) >= HALF).sum()
    return float(min(1.0, pairs * (1 + reached) / (1 + BOOTSTRAPS)))


def told(cells: Sequence[Cell]) -> str:
    """Who shares a reason, and whose is its own, in sentences; "" where that cannot be said of anyone."""
    pairs = {(cell.of, cell.asked): cell for cell in cells if cell.of != cell.asked}
    names, sentences = list(dict.fromkeys(cell.of for cell in cells)), []
    for first, second in combinations(names, 2):
        both = [pairs[first, second], pairs[second, first]]
        if all(cell.told == "goes along" for cell in both):
            sentences.append(f"{first} and {second} share a reason{_in_words(both)}.")
    for name in names:
        asked = [cell for (_, who), cell in pairs.items() if who == name]
        others = [cell for (of, _), cell in pairs.items() if of == name]
        if asked and all(cell.told == "does not go along" for cell in asked):
            whose = _listed(cell.of for cell in asked)
            sentences.append(f"{name} does not go by the reason of {whose}{_in_words(asked)}.")
        if others and all(cell.told == "does not go along" for cell in others):
            whose = _listed(cell.asked for cell in others)
            sentences.append(f"What {name} goes by is its own, and not that of {whose}{_in_words(others)}.")
    return " ".join(sentences)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)


def _in_words(cells: Sequence[Cell]) -> str:
    """The numbers that a sentence rests on."""
    each = "; ".join(
        f"{cell.asked} along counterfactuals of {cell.of} {cell.change:.2f} [{cell.low:.2f}, {cell.high:.2f}], n = "
        f"{cell.images}, random directions {cell.random:.2f}, level {cell.level:.2f}"
        for cell in cells
    )
    return f" (change of the prediction, of that of the one whose counterfactuals these are: {each})"
