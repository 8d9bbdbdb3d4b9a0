"""Names for directions, by measurement: only where the evidence is better than what random directions show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medlat.evaluation.semantics import MOVES, Effect, purity

LEVEL = 95.0  # percentile of the control's evidence that a name has to exceed
UNNAMED = "unnamed"


@dataclass(frozen=True)
class Named:
    """A row of names.csv.

    evidence: the part of the direction's total effect that surely falls on its strongest quantity (the nearer end of
              the 95% interval), times R² of the straight line: 0 to 1. level: what random directions reach in 95%.
    rank:     by evidence within the method, from 1.
    """

    method: str
    direction: str
    rank: int
    name: str
    measurement: str
    evidence: float
    level: float

    @property
    def is_named(self) -> bool:
        return self.name != UNNAMED


def names(rows: Sequence[Effect], kind: str, chance: str | None, signs: Mapping[str, str] | None = None) -> list[Named]:
    """A name, or "unnamed", for each direction of every method but the control, from rows of one kind; best first.

    chance: the method that says what chance gives; without one nothing is named. signs: unit -> how it is printed.
    """
    best = {m: purity([r for r in rows if r.method == m], kind) for m in dict.fromkeys(r.method for r in rows)}
    beside = [evidence(row) for row in best.get(chance or "", {}).values()]
    level = float(np.percentile(beside, LEVEL)) if beside else float("inf")
    found = []
    for method, strongest in best.items():
        ranked = sorted(strongest.values(), key=evidence, reverse=True)
        nothing = [d for d in dict.fromkeys(r.direction for r in rows if r.method == method) if d not in strongest]
        for rank, row in enumerate(ranked, 1):
            sure = method != chance and evidence(row) > level and row.significant and abs(row.standardised) >= MOVES
            text = _text(row, signs or {}) if sure else UNNAMED
            found.append(Named(method, row.direction, rank, text, row.measurement, evidence(row), level))
        for rank, direction in enumerate(nothing, len(ranked) + 1):  # along which nothing measurable changes
            found.append(Named(method, direction, rank, UNNAMED, "", 0.0, level))
    return found


def evidence(row: Effect) -> float:
    """Of a direction's strongest quantity; 0 where the interval of its effect holds 0, or nothing is known."""
    if not row.significant or not row.effect:
        return 0.0
    sure = min(abs(row.effect_low), abs(row.effect_high)) / abs(row.effect)
    value = row.share * sure * max(row.r2, 0.0)
    return float(value) if np.isfinite(value) else 0.0


def _text(row: Effect, signs: Mapping[str, str]) -> str:
    unit = signs.get(row.unit, row.unit)
    unit = unit if unit in ("", "°", "%") else f" {unit}"
    effect = f"{row.effect:+.2g}".replace("-", "\u2212")
    return f"{row.measurement.replace('_', ' ')} {effect}{unit}/σ, purity {row.share:.2f}"
