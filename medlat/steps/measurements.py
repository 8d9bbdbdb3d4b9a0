"""What real images measure, and how well that tells the known factors: of the data alone, for all generators."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from medlat.core.progress import track
from medlat.data.batches import in_batches
from medlat.evaluation.readout import Readout, centre_and_scale
from medlat.evaluation.semantics import Quantity
from medlat.evaluation.shares import ceilings, overlaps, responses_of_real, responses_to_factors
from medlat.steps import builders
from medlat.steps.step import Context, Step

BATCH = 256
READOUT_IMAGES = 4000  # training images that are measured, at most
READABLE = 0.5  # R² on held-out patients from which a factor counts
QUANTITIES = "quantities.json"


class Measurements(Step):
    """Leaves the measurements of held-out and of training images and, where factors are known, what reads them from
    measurements: those that can be read on held-out patients (R² >= 0.5). Of all quantities it says which are the same,
    and how large a share each can have.
    """

    name = "measurements"
    needs = ("images", "split")
    version = 2

    def settings(self, config: DictConfig) -> dict[str, Any]:
        return {"intensity_range": builders.intensity_range(config), "measure": builders.measured_by(config)}

    def run(self, context: Context, out: Path) -> None:
        opened, parts, spec = context.images, context.split, context.spec
        count = min(len(parts.train), READOUT_IMAGES)
        seen = parts.train[np.linspace(0, len(parts.train) - 1, count).astype(int)]
        measure, measured = builders.measurements(context.config).measure, {}
        for name, rows in (("test", parts.test), ("train", seen)):
            batches = track(in_batches(rows, BATCH), f"measuring {name} images", -(-len(rows) // BATCH))
            measured[name] = np.concatenate([measure(opened.physical(part, spec), spec.spacing_mm) for part in batches])
        np.savez(out / "measurements.npz", train_rows=seen, train=measured["train"], test=measured["test"])
        numbers: dict[str, float] = {}
        factors, patient = opened.factors(), opened.patient[seen]
        known = {name: values[seen] for name, values in factors.items()}
        readout = None
        if factors and measured["train"].shape[1]:
            readout = Readout.fit(measured["train"], known, patient)
            held_out = {name: values[parts.test] for name, values in factors.items()}
            scores = readout.r2(measured["test"], held_out)
            numbers = {f"readout/r2_{name}": value for name, value in scores.items()}
            readable = [name for name, value in scores.items() if value >= READABLE]
            readout = readout.keep(readable) if readable else None
        if readout is not None:
            readout.save(out / "readout.npz")
        labels = [(m.name, m.unit) for m in builders.measurements(context.config).measurements]
        _, std = centre_and_scale(np.concatenate([measured["test"], measured["train"]]))
        found = _quantities(labels, "measurement", std, measured["train"], known, patient)
        if readout is not None:
            units, read = opened.info["units"], readout.predict(measured["train"])
            labels = [(name, units.get(name, "")) for name in readout.names]
            found += _quantities(labels, "factor", readout.std, read, known, patient)
        (out / QUANTITIES).write_text(json.dumps([asdict(quantity) for quantity in found], indent=2) + "\n")
        write_numbers(out / "metrics.json", numbers)


def _quantities(
    labels: list[tuple[str, str]],
    kind: str,
    std: np.ndarray,
    real: np.ndarray,
    factors: Mapping[str, np.ndarray],
    patient: np.ndarray,
) -> list[Quantity]:
    """labels: name and unit of each; real: [N, Q] of training images; factors: name -> [N], where some are known."""
    if not labels:
        return []
    groups = overlaps(real)
    table = np.stack(list(factors.values()), axis=1) if factors else None
    responses = responses_of_real(real, patient) if table is None else responses_to_factors(real, table)
    columns = zip(labels, std, groups, ceilings(responses, groups), strict=True)
    return [Quantity(*label, kind, float(s), int(group), float(ceiling)) for label, s, group, ceiling in columns]


@dataclass(frozen=True)
class Measured:
    """Measurements of held-out images [T, M], of training images [R, M], and the rows of the latter [R]; what reads
    factors from them, None where none can be read; and the quantities by kind: "measurement", "factor".
    """

    test: np.ndarray
    train: np.ndarray
    train_rows: np.ndarray
    readout: Readout | None
    quantities: dict[str, list[Quantity]]

    @property
    def real(self) -> np.ndarray:
        return np.concatenate([self.test, self.train])

    def read(self, kind: str, values: np.ndarray) -> np.ndarray:
        """Measurements [..., M] -> quantities of a kind [..., Q]."""
        return values if kind == "measurement" else self.readout.predict(values)  # type: ignore[union-attr]


def load_measurements(folder: Path) -> Measured:
    with np.load(folder / "measurements.npz") as file:
        arrays = dict(file)
    readout = folder / "readout.npz"
    quantities = [Quantity(**row) for row in json.loads((folder / QUANTITIES).read_text())]
    kinds = dict.fromkeys(quantity.kind for quantity in quantities)
    return Measured(
        arrays["test"],
        arrays["train"],
        arrays["train_rows"],
        Readout.load(readout) if readout.exists() else None,
        {kind: [quantity for quantity in quantities if quantity.kind == kind] for kind in kinds},
    )


def write_numbers(path: Path, numbers: dict[str, float]) -> None:
    """As JSON, without a value where there is none."""
    clean = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
    path.write_text(json.dumps(clean, indent=2) + "\n")


def read_numbers(path: Path) -> dict[str, float]:
    """What `write_numbers` wrote; NaN where there was no value."""
    return {name: np.nan if value is None else value for name, value in json.loads(path.read_text()).items()}
