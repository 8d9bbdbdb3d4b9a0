"""What the directions of one method do to the image, by measurement."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.config import build
from medlat.core.progress import track
from medlat.core.randomness import generator_for
from medlat.core.spaces import Directions, ImageSpec, LatentModel, decode_in_parts
from medlat.core.tables import write_table
from medlat.evaluation.editing import Nearness, common_range, editing_range, shown_steps
from medlat.evaluation.readout import Readout, centre_and_scale
from medlat.evaluation.semantics import Effect, Quantity, effects
from medlat.evaluation.traversal import latent_sigma, traverse
from medlat.measure.measurement import MeasurementSet
from medlat.steps import builders
from medlat.steps.directions import NUMBERS
from medlat.steps.disentanglement import disentanglement
from medlat.steps.fidelity import extractors, feature_settings
from medlat.steps.measurements import load_measurements, write_numbers
from medlat.steps.methods import Method
from medlat.steps.step import Context, Step

NOTHING = Quantity("nothing", "", "measurement", np.nan)  # without measurements: each direction keeps a row
EDITED = 16  # base codes whose distance to the data is looked at
SETTINGS = ("base_codes", "steps", "editing")  # of the evaluation, that semantics depend on


class Semantics(Step):
    """Leaves semantics.csv, a row per direction and measurement; editing.csv, how far each may be followed; the
    traversal of one base code, which figures show; and how well the coordinates along the directions tell the known
    factors.
    """

    folder = "semantics"
    version = 2

    def __init__(self, method: Method) -> None:
        self.method, self.name = method, f"semantics/{method.name}"
        self.needs = ("images", "split", "generator", "regressor", "measurements", method.step)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        asked = build.plain(config.evaluation)
        found = {name: asked[name] for name in SETTINGS} | {"features": feature_settings(config)}
        return found | {"seed": config.seed, "method": self.method.name}

    def inputs(self, context: Context) -> dict[str, str]:
        found = super().inputs(context)
        return found | {"directions": found.pop(self.method.step)}

    def run(self, context: Context, out: Path) -> None:
        subject: Subject = context.kept("subject of semantics", lambda: _subject(context))
        directions = context.directions(self.method)
        rows = semantics(subject, directions, out)
        write_table(out / "semantics.csv", [row.row() for row in rows])
        numbers = disentanglement(context, subject.model, directions)
        trained = context.folder(self.method.step) / NUMBERS
        if trained.exists():
            own = json.loads(trained.read_text())
            numbers |= {f"directions/{directions.method}/{name}": value for name, value in own.items()}
        write_numbers(out / "metrics.json", numbers)


@dataclass(frozen=True)
class Subject:
    """What directions are measured on.

    measurements: what is measured; real: of real images [R, M]; readout: of the known factors, units: theirs.
    see:  images [N, C, H, W] in [-1, 1] -> features [N, F]; nearness: of such features to real images.
    """

    config: DictConfig
    model: LatentModel
    spec: ImageSpec
    measurements: MeasurementSet
    real: np.ndarray
    readout: Readout | None
    units: Mapping[str, str]
    see: Callable[[Tensor], np.ndarray]
    nearness: Nearness

    def measure(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] -> [N, M]."""
        return self.measurements.of(images, self.spec)


def _subject(context: Context) -> Subject:
    opened, parts, spec = context.images, context.split, context.spec
    measured, readout = load_measurements(context.folder("measurements"))
    real = np.concatenate([measured["test"], measured["train"]])
    networks = extractors(context)
    measurements = builders.measurements(context.config)
    see = networks[0] if networks else partial(_standardised, spec, measurements, *centre_and_scale(real))
    near = Nearness(*(see(opened.fetch(part, spec)) for part in (measured["train_rows"], parts.test)))
    model, units = context.generator(), opened.info["units"]
    return Subject(context.config, model, spec, measurements, real, readout, units, see, near)


def _standardised(
    spec: ImageSpec, measurements: MeasurementSet, centre: np.ndarray, scale: np.ndarray, images: torch.Tensor
) -> np.ndarray:
    """What stands for features where there is no network: measurements in standard deviations, 0 where missing; where
    nothing is measured, the images themselves, averaged to 8 x 8 pixels.
    """
    if not len(measurements):
        return torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1).numpy()
    return np.nan_to_num((measurements.of(images, spec) - centre) / scale)


def semantics(subject: Subject, directions: Directions, out: Path) -> list[Effect]:
    """Measure what every direction does, and how far it may be followed; leaves the traversals that figures show."""
    config, model, measured = subject.config, subject.model, subject.measurements.measurements
    settings = config.evaluation
    steps, space = list(settings.steps), directions.space.name
    _, std = centre_and_scale(subject.real)
    quantities = [Quantity(m.name, m.unit, "measurement", float(s)) for m, s in zip(measured, std, strict=True)]
    quantities = quantities or [NOTHING]
    factors = [] if subject.readout is None else _factor_quantities(subject.readout, subject.units)
    codes = model.sample(settings.base_codes, space, generator_for(config.seed, "base codes"))
    sigma = latent_sigma(model, directions, generator_for(config.seed, "sigma"))
    traversals: Iterator[Tensor] = traverse(model, directions, codes, steps, sigma)
    shown = track(traversals, f"measuring {directions.method} directions", len(directions))
    rows: list[Effect] = []
    for name, images in zip(directions.names, shown, strict=True):
        values = subject.measure(images.flatten(0, 1)).reshape(len(codes), len(steps), len(measured))
        if not measured:
            values = np.full((len(codes), len(steps), 1), np.nan)
        rows += effects(values, steps, quantities, directions.method, name, config.seed)
        if subject.readout is not None:
            rows += effects(subject.readout.predict(values), steps, factors, directions.method, name, config.seed)
    curves, reach = _editing(subject, directions, codes[:EDITED], sigma)
    write_table(out / "editing.csv", curves)
    _shown(subject, directions, codes, sigma, reach, out / "traversal.npz")
    return rows


def _editing(
    subject: Subject, directions: Directions, codes: Tensor, sigma: Tensor
) -> tuple[list[dict[str, Any]], float]:
    """Rows of editing.csv, and the range of the method: what three quarters of its directions reach."""
    steps = list(subject.config.evaluation.editing)
    rows, reached = [], []
    for name, images in zip(directions.names, traverse(subject.model, directions, codes, steps, sigma), strict=True):
        far = subject.nearness(subject.see(images.flatten(0, 1)).reshape(len(codes), len(steps), -1))
        reached.append(editing_range(steps, far))
        for step, distance in zip(steps, np.median(far, axis=0), strict=True):
            row = {"method": directions.method, "direction": name, "step": step, "distance": float(distance)}
            rows.append(row | {"range": reached[-1]})
    return rows, common_range(reached)


def _shown(subject: Subject, directions: Directions, codes: Tensor, sigma: Tensor, reach: float, path: Path) -> None:
    """The traversals of one base code, as far as images stay near the data."""
    base = _typical(subject, codes, directions.space.name)
    steps = shown_steps(reach, len(subject.config.evaluation.steps) // 2)
    parts = [x[0] for x in traverse(subject.model, directions, codes[base : base + 1], steps, sigma)]
    images = torch.stack(parts)  # [K, S, C, H, W]
    seen = subject.spec.pictures(images.flatten(0, 1))
    np.savez(
        path,
        images=seen.reshape(*images.shape[:2], *seen.shape[1:]).astype(np.float32),
        values=subject.measure(images.flatten(0, 1)).reshape(*images.shape[:2], len(subject.measurements)),
        steps=steps,
    )


def _factor_quantities(readout: Readout, units: Mapping[str, str]) -> list[Quantity]:
    return [Quantity(n, units.get(n, ""), "factor", float(s)) for n, s in zip(readout.names, readout.std, strict=True)]


def _typical(subject: Subject, codes: Tensor, space: str) -> int:
    """The base code whose image is nearest to the median in all measurements: the one that figures show."""
    values = subject.measure(decode_in_parts(subject.model, codes, space))
    if not values.shape[1]:
        return 0
    centre, scale = centre_and_scale(values)
    far = np.abs(values - centre) / scale
    return int(np.argmin(np.where(np.isfinite(far), far, 3.0).mean(axis=1)))
