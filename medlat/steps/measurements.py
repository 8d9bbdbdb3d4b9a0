"""What real images measure, and how well that tells the known factors: of the data alone, for all generators."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from medlat.core.progress import track
from medlat.data.batches import in_batches
from medlat.evaluation.readout import Readout
from medlat.steps import builders
from medlat.steps.step import Context, Step

BATCH = 256
READOUT_IMAGES = 4000  # training images that are measured, at most
READABLE = 0.5  # R² on held-out patients from which a factor counts


class Measurements(Step):
    """Leaves the measurements of held-out and of training images and, where factors are known, what reads them from
    measurements: those that can be read on held-out patients (R² >= 0.5).
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
        factors = opened.factors()
        if factors and measured["train"].shape[1]:
            known = {name: values[seen] for name, values in factors.items()}
            readout = Readout.fit(measured["train"], known, opened.patient[seen])
            held_out = {name: values[parts.test] for name, values in factors.items()}
            scores = readout.r2(measured["test"], held_out)
            numbers = {f"readout/r2_{name}": value for name, value in scores.items()}
            readable = [name for name, value in scores.items() if value >= READABLE]
            if readable:
                readout.keep(readable).save(out / "readout.npz")
        write_numbers(out / "metrics.json", numbers)


def load_measurements(folder: Path) -> tuple[dict[str, np.ndarray], Readout | None]:
    """Measurements of `test` [T, M] and `train` [R, M] images and the rows of the latter, `train_rows` [R]; and what
    reads factors from them, None where none can be read.
    """
    with np.load(folder / "measurements.npz") as arrays:
        measured = dict(arrays)
    readout = folder / "readout.npz"
    return measured, Readout.load(readout) if readout.exists() else None


def write_numbers(path: Path, numbers: dict[str, float]) -> None:
    """As JSON, without a value where there is none."""
    clean = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
    path.write_text(json.dumps(clean, indent=2) + "\n")


def read_numbers(path: Path) -> dict[str, float]:
    """What `write_numbers` wrote; NaN where there was no value."""
    return {name: np.nan if value is None else value for name, value in json.loads(path.read_text()).items()}
