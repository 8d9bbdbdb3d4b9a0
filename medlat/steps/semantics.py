"""What the directions of one method do to the image, by measurement."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.config import build
from medlat.core.progress import track
from medlat.core.spaces import Directions, ImageSpec, LatentModel, decode_in_parts, device_of
from medlat.core.tables import write_table
from medlat.evaluation.chance import evidence
from medlat.evaluation.editing import Nearness, common_range, editing_range, shown_steps
from medlat.evaluation.naming import Candidate, candidate, nothing
from medlat.evaluation.readout import centre_and_scale
from medlat.evaluation.semantics import Effect, common_slopes, effects, groups_of, per_person
from medlat.evaluation.traversal import traverse
from medlat.measure.measurement import MeasurementSet
from medlat.steps import builders
from medlat.steps.base_codes import Base, base_codes, stds
from medlat.steps.directions import NUMBERS
from medlat.steps.disentanglement import disentanglement
from medlat.steps.fidelity import extractors, feature_settings
from medlat.steps.measurements import Measured, load_measurements, write_numbers
from medlat.steps.methods import Method
from medlat.steps.step import Context, Step

EDITED = 16  # base codes whose distance to the data is looked at
SHOWN = 3  # steps to either side in figures
SETTINGS = ("base_codes", "steps", "editing")  # of the evaluation, that semantics depend on


class Semantics(Step):
    """Leaves semantics.csv, a row per direction and measurement; candidates.csv, what each direction might be called;
    slopes.npz, of every patient; editing.csv, how far each may be followed; the traversal of one base code, which
    figures show, with the length of a step; and how well the coordinates along the directions tell the known factors.
    """

    folder = "semantics"
    version = 2

    def __init__(self, method: Method, encoder: bool) -> None:
        self.method, self.name = method, f"semantics/{method.name}"
        self.needs = ("images", "split", "generator", "regressor", "measurements", method.step)
        if encoder:
            self.needs += ("encoder",)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        asked = build.plain(config.evaluation)
        found = {name: asked[name] for name in SETTINGS} | {"features": feature_settings(config)}
        return found | {"seed": config.seed, "method": self.method.name}

    def inputs(self, context: Context) -> dict[str, str]:
        found = super().inputs(context)
        return found | {"directions": found.pop(self.method.step)}

    def run(self, context: Context, out: Path) -> None:
        subject: Subject = context.kept("subject of semantics", lambda: subject_of(context))
        directions = context.directions(self.method)
        semantics(subject, directions, base_codes(context, directions.space.name), out)
        numbers = disentanglement(context, subject.model, directions)
        trained = context.folder(self.method.step) / NUMBERS
        if trained.exists():
            own = json.loads(trained.read_text())
            numbers |= {f"directions/{directions.method}/{name}": value for name, value in own.items()}
        write_numbers(out / "metrics.json", numbers)


@dataclass(frozen=True)
class Subject:
    """What directions are measured on.

    measurements: what is measured; measured: what that gave on real images.
    see:  images [N, C, H, W] in [-1, 1] -> features [N, F]; nearness: of such features to real images.
    """

    config: DictConfig
    model: LatentModel
    spec: ImageSpec
    measurements: MeasurementSet
    measured: Measured
    see: Callable[[Tensor], np.ndarray]
    nearness: Nearness

    def measure(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] -> [N, M]."""
        return self.measurements.of(images, self.spec)


def subject_of(context: Context) -> Subject:
    opened, parts, spec = context.images, context.split, context.spec
    measured = load_measurements(context.folder("measurements"))
    measurements, see = builders.measurements(context.config), features(context)[1]
    near = Nearness(*(see(opened.fetch(part, spec)) for part in (measured.train_rows, parts.test)))
    return Subject(context.config, context.generator(), spec, measurements, measured, see, near)


def features(context: Context) -> tuple[str, Callable[[Tensor], np.ndarray]]:
    """The run's features by name, images [N, C, H, W] in [-1, 1] -> [N, F]: those of its first network; without one its
    measurements in standard deviations, 0 where missing; where nothing is measured either, 8 x 8 mean pixels.
    """
    networks = extractors(context)
    if networks:
        return networks[0].name, networks[0]
    measurements, spec = builders.measurements(context.config), context.spec
    if not len(measurements):
        return "8 x 8 pixels", lambda images: torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1).numpy()
    centre, scale = centre_and_scale(load_measurements(context.folder("measurements")).real)
    return "measurements", lambda images: np.nan_to_num((measurements.of(images, spec) - centre) / scale)


def semantics(subject: Subject, directions: Directions, base: Base, out: Path) -> None:
    """Measure what every direction does, and how far it may be followed; leaves the tables, and what figures show."""
    steps, model = list(subject.config.evaluation.steps), subject.model
    sigma = base.sigma(directions.vectors)
    curves, reach = _editing(subject, directions, base, sigma)
    write_table(out / "editing.csv", curves)
    traversals: Iterator[Tensor] = traverse(model, directions, base.codes, steps, sigma, base.noise)
    shown = track(traversals, f"measuring {directions.method} directions", len(directions))
    found = [
        _direction(subject, directions, number, base, subject.measure(images.flatten(0, 1)), reach[number])
        for number, images in enumerate(shown)
    ]
    write_table(out / "semantics.csv", [row.row() for rows, _, _ in found for row in rows])
    write_table(out / "candidates.csv", [asdict(row) for _, candidates, _ in found for row in candidates])
    slopes = {kind: np.stack([own[kind] for _, _, own in found]) for kind in subject.measured.quantities}
    np.savez(out / "slopes.npz", people=np.array(base.people), **slopes)  # type: ignore[arg-type]
    _shown(subject, directions, base, sigma, common_range(reach), out / "traversal.npz")


def _direction(
    subject: Subject, directions: Directions, number: int, base: Base, measured: np.ndarray, reach: float
) -> tuple[list[Effect], list[Candidate], dict[str, np.ndarray]]:
    """The effects of one direction, what it might be called, and slopes [G, Q] of every patient by kind of quantities.
    measured: [N·S, M]. Without measurements it keeps a row.
    """
    steps, seed = list(subject.config.evaluation.steps), subject.config.seed
    method, name, space = directions.method, directions.names[number], directions.space.name
    values = measured.reshape(len(base.codes), len(steps), -1)
    vector = directions.vectors[number : number + 1].flatten(1).double().numpy()
    rows: list[Effect] = []
    candidates, slopes = [], {}
    for kind, quantities in subject.measured.quantities.items():
        read = subject.measured.read(kind, values)
        slope, r2 = common_slopes(read, np.asarray(steps, dtype=np.float64))
        slopes[kind] = per_person(slope / stds(quantities), base.owners)
        own = effects(slopes[kind], r2, quantities, method, name, base.people, seed)
        ceiling, chance = np.array([q.ceiling for q in quantities]), base.chance[kind].share
        clear = evidence(base.answers[kind].along(vector), groups_of(quantities), ceiling, chance)[0]
        reaches = (reach, max(map(abs, steps)))
        candidates.append(candidate(own, read, slopes[kind], clear, quantities, chance, space, reaches))
        rows += own
    if not rows:
        rows = [Effect(method, name, "measurement", "nothing", "", *[np.nan] * 6)]
        candidates = [nothing(method, name, space, "measurement", reach, max(map(abs, steps)))]
    return rows, candidates, slopes


def _editing(
    subject: Subject, directions: Directions, base: Base, sigma: Tensor
) -> tuple[list[dict[str, Any]], list[float]]:
    """Rows of editing.csv, and the range of every direction."""
    asked, codes = subject.config.evaluation, base.codes[:EDITED]
    steps = sorted({*asked.editing, asked.steps[0], asked.steps[-1]})
    noise = None if base.noise is None else base.noise[:EDITED]
    series: Iterator[Tensor] = traverse(subject.model, directions, codes, steps, sigma, noise)
    rows, reached = [], []
    for name, images in zip(directions.names, series, strict=True):
        far = subject.nearness(subject.see(images.flatten(0, 1)).reshape(len(codes), len(steps), -1))
        reached.append(editing_range(steps, far))
        for step, distance in zip(steps, np.median(far, axis=0), strict=True):
            row = {"method": directions.method, "direction": name, "step": step, "distance": float(distance)}
            rows.append(row | {"range": reached[-1]})
    return rows, reached


def _shown(subject: Subject, directions: Directions, base: Base, sigma: Tensor, reach: float, path: Path) -> None:
    """The traversals of one base code, as far as images stay near the data."""
    at = _typical(subject, base, directions.space.name)
    one, noise = base.codes[at : at + 1], None if base.noise is None else base.noise[at : at + 1]
    steps = shown_steps(reach, SHOWN)
    parts = [x[0] for x in traverse(subject.model, directions, one, steps, sigma, noise)]
    images = torch.stack(parts)  # [K, S, C, H, W]
    seen = subject.spec.pictures(images.flatten(0, 1))
    np.savez(
        path,
        images=seen.reshape(*images.shape[:2], *seen.shape[1:]).astype(np.float32),
        values=subject.measure(images.flatten(0, 1)).reshape(*images.shape[:2], len(subject.measurements)),
        steps=steps,
        sigma=sigma.numpy(),
    )


def _typical(subject: Subject, base: Base, space: str) -> int:
    """The base code whose image is nearest to the median in all measurements: the one that figures show."""
    values = subject.measure(decode_in_parts(subject.model, base.codes.to(device_of(subject.model)), space, base.noise))
    if not values.shape[1]:
        return 0
    centre, scale = centre_and_scale(values)
    far = np.abs(values - centre) / scale
    return int(np.argmin(np.where(np.isfinite(far), far, 3.0).mean(axis=1)))
