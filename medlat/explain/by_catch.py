"""The by-catch of a direction: what else a classifier of several findings says when one of them is moved.

A row for each method and finding, the one that is explained among them. Controls are moved along with the sign that
raises the same finding, so that their by-catch is what any direction with that effect brings with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medlat.core.statistics import grouped_mean
from medlat.evaluation.semantics import common_slopes

FEWEST_STEPS = 3  # that a slope is taken over


@dataclass(frozen=True)
class Moved:
    """How one finding answers. change: of its logit for a step of one σ, the mean over images and directions, with its
    95% interval over patients (NaN for fewer than 20); largest: the mean over images of the direction that moves it
    most, whichever way. explained: whether it is the finding that is explained.
    """

    method: str
    control: bool
    finding: str
    explained: bool
    change: float
    low: float
    high: float
    largest: float
    directions: int
    images: int

    def row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Moved":
        """From a row of a table, whose numbers alone are read as such."""
        whole = {name: int(row[name]) for name in ("directions", "images")}
        return cls(**{**row, **whole, **{name: row[name] == "True" for name in ("control", "explained")}})


def slopes(logits: np.ndarray, steps: Sequence[float], reach: float | None) -> np.ndarray:
    """Of every image and finding the least-squares slope of logits [N, S, K] over the steps within `reach` of 0 (None:
    all), of which at least the nearest three are taken: [N, K].
    """
    places = np.asarray(steps, dtype=float)
    nearest = np.sort(np.abs(places))[min(FEWEST_STEPS, len(places)) - 1]
    inside = np.abs(places) <= max(np.inf if reach is None else reach, nearest)
    return common_slopes(logits[:, inside], places[inside])[0]


def by_catch(
    method: str, control: bool, found: Sequence[np.ndarray], findings: Sequence[str], explained: int,
    groups: np.ndarray, seed: int = 0,
) -> list[Moved]:  # fmt: skip
    """found: for each direction that the method follows its slopes [N, K]; groups: [N], e.g. patients; explained: the
    number of the finding that is explained.
    """
    means = np.abs([np.nanmean(each, axis=0) for each in found]).max(axis=0)
    every, whose = np.concatenate(list(found)), np.tile(groups, len(found))
    rows = []
    for number, finding in enumerate(findings):
        change = grouped_mean(every[:, number], whose, seed)
        told = (*change, float(means[number]), len(found), len(groups))
        rows.append(Moved(method, control, finding, number == explained, *told))
    return rows


def told(rows: Sequence[Moved], method: str) -> str:
    """A sentence on what moves along with the explained finding by more than along any direction of the controls; ""
    where nothing is sure to.
    """
    largest: dict[str, float] = {}
    for row in rows:
        if row.control:
            largest[row.finding] = max(row.largest, largest.get(row.finding, 0.0))
    own = [row for row in rows if row.method == method and not row.explained and row.low * row.high > 0.0]
    sure = [row for row in own if abs(row.change) > largest.get(row.finding, 0.0)]
    if not sure:
        return ""
    sure.sort(key=lambda row: -abs(row.change))
    each = "; ".join(f"{row.finding} {row.change:+.2g} [{row.low:.2g}, {row.high:.2g}]" for row in sure)
    return f"Other findings move with it, more than along any direction of the controls (logits for each σ): {each}."
