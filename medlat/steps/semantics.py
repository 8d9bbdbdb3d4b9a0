"""What directions do to the image, by measurement."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.core.progress import track
from medlat.core.randomness import generator_for
from medlat.core.spaces import Directions, ImageSpec, LatentModel, decode_in_parts
from medlat.core.tables import write_table
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.evaluation.atlas import agreement, atlas
from medlat.evaluation.disentanglement import all_metrics
from medlat.evaluation.editing import Nearness, common_range, editing_range, shown_steps
from medlat.evaluation.naming import names
from medlat.evaluation.readout import Readout, centre_and_scale
from medlat.evaluation.semantics import CHANCE, Effect, Quantity, effects, gain, summary
from medlat.evaluation.traversal import latent_sigma, traverse
from medlat.measure.measurement import MeasurementSet
from medlat.steps.generator import BATCH

EDITED = 16  # base codes whose distance to the data is looked at
NOTHING = Quantity("nothing", "", "measurement", np.nan)  # without measurements: each direction keeps a row
READABLE = 0.5  # R² on held-out patients from which a factor counts


def fit_readout(
    opened: ImageStore, parts: Split, measured: dict[str, np.ndarray], numbers: dict[str, float]
) -> Readout | None:
    """What reads the known factors from measurements: those that it can read on held-out patients (R² >= 0.5)."""
    factors = opened.factors()
    if not factors or not measured["train"].shape[1]:
        return None
    rows = measured["train_rows"]
    known = {name: values[rows] for name, values in factors.items()}
    readout = Readout.fit(measured["train"], known, opened.patient[rows])
    scores = readout.r2(measured["test"], {name: values[parts.test] for name, values in factors.items()})
    numbers |= {f"readout/r2_{name}": value for name, value in scores.items()}
    readable = [name for name, value in scores.items() if value >= READABLE]
    return readout.keep(readable) if readable else None


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

    @property
    def kind(self) -> str:
        """What names are made of: known factors where there are any."""
        return "measurement" if self.readout is None else "factor"

    def measure(self, images: Tensor) -> np.ndarray:
        """Images [N, C, H, W] -> [N, M]."""
        return self.measurements.of(images, self.spec)


def semantics(subject: Subject, found: Mapping[str, Directions], out: Path) -> list[Effect]:
    """Measure what every direction does, and how far it may be followed; leaves the traversals that figures show.

    found: directions by their place.
    """
    config, measured = subject.config, subject.measurements.measurements
    settings = config.evaluation
    steps = list(settings.steps)
    _, std = centre_and_scale(subject.real)
    quantities = [Quantity(m.name, m.unit, "measurement", float(s)) for m, s in zip(measured, std, strict=True)]
    quantities = quantities or [NOTHING]
    factors = [] if subject.readout is None else _factor_quantities(subject.readout, subject.units)
    rows: list[Effect] = []
    ranges: list[dict[str, Any]] = []
    for directions in found.values():
        space = directions.space.name
        codes = subject.model.sample(settings.base_codes, space, generator_for(config.seed, "base codes"))
        sigma = latent_sigma(subject.model, directions, generator_for(config.seed, "sigma"))
        traversals: Iterator[Tensor] = traverse(subject.model, directions, codes, steps, sigma)
        shown = track(traversals, f"measuring {directions.method} directions", len(directions))
        for name, images in zip(directions.names, shown, strict=True):
            values = subject.measure(images.flatten(0, 1)).reshape(len(codes), len(steps), len(measured))
            if not measured:
                values = np.full((len(codes), len(steps), 1), np.nan)
            rows += effects(values, steps, quantities, directions.method, name, config.seed)
            if subject.readout is not None:
                rows += effects(subject.readout.predict(values), steps, factors, directions.method, name, config.seed)
        curves, reach = _editing(subject, directions, codes[:EDITED], sigma)
        ranges += curves
        _shown(subject, directions, codes, sigma, reach, out / f"traversal_{directions.method}.npz")
    write_table(out / "editing.csv", ranges)
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


def disentanglement(subject: Subject, found: Mapping[str, Directions], samples: int) -> dict[str, float]:
    """MIG, DCI and SAP of every method's coordinates and the known factors, read from images of the same codes."""
    if subject.readout is None:
        return {}
    numbers: dict[str, float] = {}
    for space in dict.fromkeys(d.space.name for d in found.values()):
        codes = subject.model.sample(samples, space, generator_for(subject.config.seed, "disentanglement"))
        parts = [subject.measure(decode_in_parts(subject.model, x, space)) for x in codes.split(BATCH)]
        factors = subject.readout.predict(np.concatenate(parts))
        flat = codes.flatten(1).double().cpu()
        for directions in (d for d in found.values() if d.space.name == space):
            vectors = directions.vectors.flatten(1).double()
            along = (flat @ torch.linalg.pinv(vectors)).numpy()  # of directions that are not orthogonal too
            metrics = all_metrics(along, factors, subject.config.seed)
            numbers |= {f"disentanglement/{directions.method}/{name}": value for name, value in metrics.items()}
    return numbers


def names_and_atlas(
    subject: Subject, found: Mapping[str, Directions], rows: list[Effect], out: Path
) -> dict[str, float]:
    """Leaves names.csv, atlas.csv and agreement.csv; returns how many directions of each method have a name."""
    named = names(rows, subject.kind, {"deg": "°", "1": ""})
    write_table(out / "names.csv", [asdict(n) for n in named])
    vectors = [(d.space.name, v.flatten().numpy()) for d in found.values() for v in d.vectors]
    map_ = atlas(vectors, rows, subject.kind)
    write_table(out / "atlas.csv", [asdict(place) for place in map_.places])
    write_table(out / "agreement.csv", agreement(map_))
    np.savez(out / "atlas.npz", angles=map_.angles, effects=map_.effects, order=map_.order)
    return {
        f"semantics/{d.method}/named": float(sum(n.is_named for n in named if n.method == d.method))
        for d in found.values()
    }


def summaries(rows: list[Effect], kind: str, seed: int) -> dict[str, float]:
    """Purity, coverage and gain over random directions of every method."""
    by_method = {m: [r for r in rows if r.method == m] for m in dict.fromkeys(r.method for r in rows)}
    numbers: dict[str, float] = {}
    for method, own in by_method.items():
        found = summary(own, kind, seed)
        if method != CHANCE and CHANCE in by_method:
            found |= gain(own, by_method[CHANCE], kind, seed)
        numbers |= {f"semantics/{method}/{kind}_{name}": value for name, value in found.items()}
    return numbers


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
