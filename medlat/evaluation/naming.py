"""Names for directions: only where all of the evidence is there, else "unnamed" and why.

A name needs all of: more evidence than the best of as many random directions (`chance`), family-wise at 5% over all
directions of a page; a normalised share of at least 0.5 (`shares`), R² of at least 0.5 along the traversal, and an
effect of at least a tenth of a standard deviation a step; that images stay near the data and can be measured as far as
the traversal goes; and that both halves of the patients say the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medlat.core.statistics import nan_mean
from medlat.evaluation.chance import LEVEL, family_wise
from medlat.evaluation.semantics import Effect, Quantity, groups_of, purity
from medlat.evaluation.shares import normalised, shares

UNMEASURED = "Nothing is measured in this run: its directions have no names."
PURE = 0.5  # normalised share
STRAIGHT = 0.5  # R²
MOVES = 0.1  # standard deviations over real images, for a step
MEASURED = 0.8  # of what is measured on the base images, that can be measured at the ends of the traversal
UNNAMED = "unnamed"
NOT_TOLD_APART = "what they move most would, alone, make up no more of all change than in random directions"


@dataclass(frozen=True)
class Candidate:
    """The quantity that a direction moves most, with all that a name needs.

    effect, standardised, share, r2: of its row of semantics.csv; ceiling, chance, normalised: see `shares`.
    evidence: see `chance.evidence`. range, needed: how far images stay near the data, and how far the traversal goes.
    measured: share of the base images' values that are there at the ends of the traversal.
    again:    1 where it is what moves most, in the same sense, in either half of the patients, else 0.
    """

    method: str
    direction: str
    space: str
    kind: str
    measurement: str
    unit: str
    effect: float
    standardised: float
    share: float
    ceiling: float
    chance: float
    normalised: float
    r2: float
    evidence: float
    range: float
    needed: float
    measured: float
    again: float

    @property
    def is_clear(self) -> bool:
        """Whether it is most of what the direction does, along a straight line."""
        return self.normalised >= PURE and self.r2 >= STRAIGHT and abs(self.standardised) >= MOVES

    def lacks(self, p: float) -> list[str]:
        """What a name needs and is not there, in words. p: of its evidence, family-wise."""
        if not self.measurement:
            return ["nothing measurable changes"]
        tested = np.isfinite(self.normalised)
        wanted = {
            f"could not be tested: alone it would reach {self.ceiling:.2f} of what changes here, and random directions "
            f"have {self.chance:.2f}": tested,
            f"no clearer than random directions (p = {p:.2g})": p <= LEVEL or not tested,
            f"{self.share:.2f} of what changes, where it alone would reach {self.ceiling:.2f} and random directions "
            f"{self.chance:.2f}": not tested or self.normalised >= PURE,
            f"no straight line (R² {self.r2:.2f})": self.r2 >= STRAIGHT,
            f"hardly moves ({abs(self.standardised):.2f} standard deviations)": abs(self.standardised) >= MOVES,
            f"images leave the data beyond {self.range:.2g}σ": self.range >= self.needed,
            f"measured in {self.measured:.0%} of the images at the ends": self.measured >= MEASURED,
            "not the same in both halves of the data": self.again == 1.0,
        }
        return [reason for reason, holds in wanted.items() if not holds]


@dataclass(frozen=True)
class Named:
    """A row of names.csv. rank: by evidence within the method, from 1. why: it is unnamed, "" where it has a name.

    evidence, p: of the strongest quantity; p is family-wise over the page. The others: see `Candidate`.
    """

    method: str
    direction: str
    rank: int
    name: str
    measurement: str
    why: str
    share: float
    normalised: float
    r2: float
    evidence: float
    p: float
    range: float
    again: float

    @property
    def is_named(self) -> bool:
        return self.name != UNNAMED


def nothing(method: str, direction: str, space: str, kind: str, reach: float, needed: float) -> Candidate:
    """Of a direction along which nothing measurable changes."""
    known = (method, direction, space, kind, "", "")
    unknown = (np.nan, np.nan, np.nan, np.nan, np.nan)
    return Candidate(*known, 0.0, 0.0, *unknown, 0.0, reach, needed, 0.0, 0.0)


def candidate(
    rows: Sequence[Effect],
    values: np.ndarray,
    slopes: np.ndarray,
    evidence: np.ndarray,
    quantities: Sequence[Quantity],
    chance: float,
    space: str,
    reach: tuple[float, float],
) -> Candidate:
    """Of one direction and kind of quantities. rows: its effects. values: [N, S, Q] along it, the middle step at the
    base. slopes: [G, Q] standardised. evidence: [Q]. chance: share of random directions. reach: the range in which
    images stay near the data, and that of the traversal.
    """
    first = rows[0]
    known = (first.method, first.direction, space, first.kind)
    best = next(iter(purity(rows, first.kind).values()), None)
    if best is None:
        return nothing(*known, *reach)
    at = [row.measurement for row in rows].index(best.measurement)
    groups, ceiling = groups_of(quantities), np.array([q.ceiling for q in quantities])
    relative = float(normalised(np.array([row.share for row in rows]), ceiling, chance)[at])
    there = np.isfinite(values[..., at]).mean(axis=0)
    measured = float(there[[0, -1]].mean() / max(there[len(there) // 2], 1e-12))
    again = float(all(_strongest(half, groups) == _strongest(slopes, groups) for half in (slopes[::2], slopes[1::2])))
    return Candidate(
        *known, best.measurement, best.unit, best.effect, best.standardised, best.share, float(ceiling[at]), chance,
        relative, best.r2, float(evidence[at]), *reach, measured, again,
    )  # fmt: skip


def _strongest(slopes: np.ndarray, groups: np.ndarray) -> tuple[int, bool]:
    """Of [G, Q] the group of quantities that moves most, and whether upwards; (-1, False) where nothing does."""
    mean = nan_mean(slopes)
    share = np.nan_to_num(shares(mean, groups))
    at = int(share.argmax()) if len(share) else 0
    return (int(groups[at]), bool(mean[at] > 0.0)) if share[at] > 0.0 else (-1, False)


def names(
    found: Sequence[Candidate],
    random: Mapping[str, np.ndarray],
    controls: Sequence[str],
    signs: Mapping[str, str] | None = None,
) -> list[Named]:
    """A name, or "unnamed" and why, for each direction, by method, those with most evidence first.

    random: space -> evidence of random directions; {}: nothing is compared with them, and nothing has a name.
    controls: methods that know nothing; they are tried as all others, and do not count among what is tried. signs: unit
    -> how it is printed.
    """
    count = max(1, sum(row.method not in controls for row in found))
    named = []
    for method in dict.fromkeys(row.method for row in found):
        own = sorted((row for row in found if row.method == method), key=lambda row: -row.evidence)
        for rank, row in enumerate(own, 1):
            p = family_wise(row.evidence, random[row.space], count) if row.space in random else 1.0
            why = "; ".join(row.lacks(p))
            name = UNNAMED if why else _text(row, signs or {})
            shown = (row.share, row.normalised, row.r2, row.evidence, p, row.range, row.again)
            named.append(Named(row.method, row.direction, rank, name, row.measurement, why, *shown))
    return named


def _text(row: Candidate, signs: Mapping[str, str]) -> str:
    unit = signs.get(row.unit, row.unit)
    unit = unit if unit in ("", "°", "%") else f" {unit}"
    effect = f"{row.effect:+.2g}".replace("-", "\u2212")
    return f"{row.measurement.replace('_', ' ')} {effect}{unit}/σ"


def verdict(names: Sequence[Mapping[str, str]], main: str, controls: Sequence[str]) -> str:
    """The finding, of names only. names: rows of names.csv."""
    by_method = {m: [r for r in names if r["method"] == m] for m in dict.fromkeys(r["method"] for r in names)}
    own = by_method[main]
    named = [row["name"] for row in own if row["name"] != UNNAMED]
    if not named:
        text = f"What is measured here explains none of the {len(own)} {main} directions; look at the pictures."
    else:
        text = f"Of {len(own)} {main} directions {len(named)} can be named: {'; '.join(named)}."
    counts = {m: (sum(row["name"] != UNNAMED for row in rows), len(rows)) for m, rows in by_method.items()}
    beside = [
        f"{n} of {of} {method}{' (control)' * (method in controls)}"
        for method, (n, of) in counts.items()
        if method != main
    ]
    text += f" Beside it: {', '.join(beside)}." if beside else ""
    if untested := sum(bool(row["measurement"]) and row["normalised"] != row["normalised"] for row in own):
        text += f" {untested} of the {len(own)} {main} directions could not be tested: {NOT_TOLD_APART}."
    knows_nothing = max((n / of for method, (n, of) in counts.items() if method in controls), default=0.0)
    if named and knows_nothing >= len(named) / len(own):
        text += f" A control, which knows nothing, has as many: these names say nothing for {main}."
    elif named:
        text += " This is one training: `-m seed=1,2` says whether they come again."
    return text
