"""What directions mean: what measurements do along them, with intervals, and how purely.

For each direction and measurement, a straight line is fitted to the measurement over the steps, one for each base
code with a common slope per code. The *effect* is the mean slope per latent σ with a 95% bootstrap interval over base
codes; *R²* the share of the within-code variance that the common slope explains; the *standardised* effect is divided
by the measurement's standard deviation over real images; a measurement's *share* is its part of the direction's summed
absolute standardised effects, and the direction's *purity* the largest share. *Coverage* counts the measurements or
factors that some direction moves with purity of at least 0.5 and an interval without 0.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.statistics import bootstrap_means, difference_of_means, nan_mean

NUMBERS = ("effect", "effect_low", "effect_high", "standardised", "share", "r2")  # columns of semantics.csv
PURE = 0.5
MOVES = 0.1


@dataclass(frozen=True)
class Effect:
    """A row of semantics.csv: one measurement along one direction."""

    method: str
    direction: str
    kind: str  # "measurement", or "factor": read from the measurements (see `readout`)
    measurement: str
    unit: str
    effect: float  # per latent σ, in `unit`
    effect_low: float
    effect_high: float
    standardised: float  # effect / standard deviation of the measurement over real images
    share: float  # of the direction's total |standardised| over the same kind
    r2: float

    @property
    def significant(self) -> bool:
        return self.effect_low > 0.0 or self.effect_high < 0.0

    def row(self) -> dict:
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Effect":
        """From a row of semantics.csv, whatever else is in it."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})


def read_semantics(path: Path) -> list[dict[str, Any]]:
    """Rows of semantics.csv with their numbers as floats."""
    with open(path, newline="") as file:
        return [row | {name: float(row[name]) for name in NUMBERS} for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Quantity:
    """What is measured: name, unit, kind, and its standard deviation over real images."""

    name: str
    unit: str
    kind: str
    std: float


def effects(
    values: np.ndarray,
    steps: Sequence[float],
    quantities: Sequence[Quantity],
    method: str,
    direction: str,
    seed: int = 0,
) -> list[Effect]:
    """The effects of one direction on quantities of one kind.

    values: [N, S, M], M quantities at S steps from N base codes; NaN where a quantity could not be measured.
    """
    slopes, r2 = common_slopes(values, np.asarray(steps, dtype=np.float64))
    mean, low, high = bootstrap_means(slopes, seed)
    std = np.array([q.std for q in quantities])
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised = np.where(std > 0.0, mean / std, np.nan)
    total = np.nansum(np.abs(standardised))
    share = np.abs(standardised) / total if total > 0.0 else np.full(len(std), np.nan)
    columns = zip(quantities, mean, low, high, standardised, share, r2, strict=True)
    return [Effect(method, direction, q.kind, q.name, q.unit, *map(float, numbers)) for q, *numbers in columns]


def common_slopes(values: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares slope for each base code and quantity, [N, S, M] -> [N, M], and R² of the mean slope, [M].

    Steps without a value are left out; a code with fewer than three has the slope NaN.
    """
    seen = np.isfinite(values)
    count = seen.sum(axis=1)  # [N, M]
    x = np.where(seen, steps[None, :, None], 0.0)
    y = np.where(seen, values, 0.0)
    safe = np.maximum(count, 1)
    dx = np.where(seen, steps[None, :, None] - (x.sum(1) / safe)[:, None], 0.0)
    dy = np.where(seen, y - (y.sum(1) / safe)[:, None], 0.0)
    sxx = (dx**2).sum(1)
    usable = (count >= 3) & (sxx > 0.0)
    slopes = np.where(usable, (dx * dy).sum(1) / np.where(usable, sxx, 1.0), np.nan)
    mean = nan_mean(slopes)
    kept = usable[:, None] & seen
    residual = np.where(kept, dy - np.nan_to_num(mean) * dx, 0.0)
    total = np.where(kept, dy, 0.0)
    total_square = (total**2).sum((0, 1))
    explained = 1.0 - (residual**2).sum((0, 1)) / np.where(total_square > 0.0, total_square, 1.0)
    return slopes, np.where(np.isfinite(mean) & (total_square > 0.0), explained, np.nan)


def purity(rows: Sequence[Effect], kind: str) -> dict[str, Effect]:
    """For each direction, by name, the effect with the largest share among rows of one kind."""
    best: dict[str, Effect] = {}
    for row in rows:
        if (
            row.kind == kind
            and np.isfinite(row.share)
            and (row.direction not in best or row.share > best[row.direction].share)
        ):
            best[row.direction] = row
    return best


def coverage(rows: Sequence[Effect], kind: str) -> set[str]:
    """Names of the quantities that some direction moves: with purity >= 0.5, an interval that excludes 0, and an effect
    per σ of at least a tenth of the quantity's standard deviation (a share of nothing says nothing).
    """
    best = purity(rows, kind).values()
    return {r.measurement for r in best if r.share >= PURE and r.significant and abs(r.standardised) >= MOVES}


def summary(rows: Sequence[Effect], kind: str, seed: int = 0) -> dict[str, float]:
    """Mean purity with its 95% interval over directions, and coverage, of one method."""
    shares = np.array([[row.share] for row in purity(rows, kind).values()])
    if len(shares) == 0:
        return {"purity": float("nan"), "purity_low": float("nan"), "purity_high": float("nan"), "coverage": 0.0}
    mean, low, high = bootstrap_means(shares, seed)
    numbers = {"purity": mean[0], "purity_low": low[0], "purity_high": high[0], "coverage": len(coverage(rows, kind))}
    return {name: float(value) for name, value in numbers.items()}


def gain(rows: Sequence[Effect], chance: Sequence[Effect], kind: str, seed: int = 0) -> dict[str, float]:
    """Mean purity of a method's directions less that of the control's, with its 95% bootstrap interval."""
    ours, theirs = (np.array([r.share for r in purity(part, kind).values()]) for part in (rows, chance))
    found = difference_of_means(ours, theirs, seed)
    return {"gain": found.value, "gain_low": found.low, "gain_high": found.high}
