"""What directions mean: what measurements do along them, with intervals, and how purely.

For each direction and measurement, a straight line is fitted to the measurement over the steps, one for each base
code with a common slope per code. A step is a standard deviation of real images' codes along the direction. The
*effect* is the slope per step, averaged over each patient's base codes and then over patients, with a 95% bootstrap
interval over patients; *R²* the share of the within-code variance that the common slope explains; the *standardised*
effect is divided by the measurement's standard deviation over real images; its *share* is its part of all that moves
(`shares`), and a direction's *purity* the largest share.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.statistics import ENDS, FEWEST_GROUPS, bootstrap_draws, bootstrap_means, nan_mean
from medlat.evaluation.shares import shares

NUMBERS = ("effect", "effect_low", "effect_high", "standardised", "share", "r2")  # columns of semantics.csv


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
    """What is measured: name, unit, kind, and its standard deviation over real images.

    group:   the number that it shares with quantities that say the same (`shares.overlaps`).
    ceiling: the share that it has where one thing alone varies (`shares.ceilings`).
    """

    name: str
    unit: str
    kind: str
    std: float
    group: int
    ceiling: float = 1.0


def groups_of(quantities: Sequence[Quantity]) -> np.ndarray:
    return np.array([quantity.group for quantity in quantities])


def effects(
    slopes: np.ndarray,
    r2: np.ndarray,
    quantities: Sequence[Quantity],
    method: str,
    direction: str,
    people: bool = True,
    seed: int = 0,
) -> list[Effect]:
    """The effects of one direction on quantities of one kind.

    slopes: [G, Q] standardised, of each patient, NaN where a quantity could not be measured; r2: [Q].
    people: whether the G are patients. The interval is over them, and there is none over less than 20, or over codes
            that belong to nobody.
    """
    std = np.array([q.std for q in quantities])
    mean, low, high = bootstrap_means(slopes, seed)
    if not people or len(slopes) < FEWEST_GROUPS:
        low, high = np.full((2, len(std)), np.nan)
    share = shares(mean, groups_of(quantities))
    columns = zip(quantities, mean * std, low * std, high * std, mean, share, r2, strict=True)
    return [Effect(method, direction, q.kind, q.name, q.unit, *map(float, numbers)) for q, *numbers in columns]


def per_person(values: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Means over the rows of each owner: [N, ...] and owners [N] -> [G, ...], by rising owner."""
    return np.stack([nan_mean(values[owners == owner]) for owner in np.unique(owners)])


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


def mean_purity(slopes: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean purity of K directions, and the same of each bootstrap draw of patients [BOOTSTRAPS].

    slopes: [K, G, Q] standardised, of each patient; groups: [Q] of the quantities.
    """
    counts = np.zeros((len(draws := bootstrap_draws(slopes.shape[1])), slopes.shape[1]))
    np.add.at(counts, (np.arange(len(draws))[:, None], draws), 1.0)
    seen = np.isfinite(slopes)
    sums = np.einsum("bg,kgq->bkq", counts, np.where(seen, slopes, 0.0), optimize=True)
    weights = np.einsum("bg,kgq->bkq", counts, seen.astype(np.float64), optimize=True)
    drawn = np.where(weights > 0.0, sums / np.maximum(weights, 1.0), np.nan)
    means = nan_mean(slopes.transpose(1, 0, 2))
    return float(_purities(means, groups).mean()), _purities(drawn, groups).mean(axis=-1)


def _purities(standardised: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """[..., Q] -> [...]; 0 where nothing moves."""
    return np.nan_to_num(shares(standardised, groups)).max(axis=-1)


def summary(slopes: np.ndarray, chance: np.ndarray | None, groups: np.ndarray, people: bool) -> dict[str, float]:
    """Mean purity of a method, and what it is more than that of the control [K, G, Q] on the same patients, each with
    its 95% interval over patients (none of less than 20, or where the G are none).
    """
    value, drawn = mean_purity(slopes, groups)
    numbers = {"purity": (value, drawn)}
    if chance is not None:
        beside, beside_drawn = mean_purity(chance, groups)
        numbers["gain"] = (value - beside, drawn - beside_drawn)
    sure = people and slopes.shape[1] >= FEWEST_GROUPS
    found: dict[str, float] = {}
    for name, (number, draws) in numbers.items():
        low, high = np.percentile(draws, ENDS) if sure else (np.nan, np.nan)
        found |= {name: number, f"{name}_low": float(low), f"{name}_high": float(high)}
    return found
