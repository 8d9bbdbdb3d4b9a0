"""What directions do to the image, by measurement."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from medlat.data.slices import SliceStore
from medlat.data.splits import Split
from medlat.evaluation.readout import Readout, centre_and_scale
from medlat.evaluation.semantics import CHANCE, Effect, Quantity, effects, gain, summary
from medlat.evaluation.traversal import latent_sigma, traverse
from medlat.measure.rulers import ruler
from medlat.progress import track
from medlat.randomness import generator_for
from medlat.spaces import Directions, ImageSpec, LatentModel, decode_in_parts
from medlat.stages.data import Made

READABLE = 0.5  # R² on held-out patients from which a factor counts


def fit_readout(
    opened: SliceStore, parts: Split, measured: dict[str, np.ndarray], numbers: dict[str, float]
) -> Readout | None:
    """What reads the known factors from measurements: those that it can read on held-out patients (R² >= 0.5)."""
    factors = opened.factors()
    if not factors:
        return None
    rows = measured["train_rows"]
    known = {name: values[rows] for name, values in factors.items()}
    readout = Readout.fit(measured["train"], known, opened.patient[rows])
    scores = readout.r2(measured["test"], {name: values[parts.test] for name, values in factors.items()})
    numbers |= {f"readout/r2_{name}": value for name, value in scores.items()}
    readable = [name for name, value in scores.items() if value >= READABLE]
    return readout.keep(readable) if readable else None


def semantics(
    config: DictConfig,
    methods: Mapping[str, DictConfig],
    made: Made,
    model: LatentModel,
    spec: ImageSpec,
    real: np.ndarray,
    readout: Readout | None,
    units: Mapping[str, str],
    out: Path,
) -> list[Effect]:
    """Measure what every direction does. units: of the known factors."""
    settings, rule = config.evaluation, ruler(spec.unit)
    steps = list(settings.steps)
    _, std = centre_and_scale(real)
    quantities = [
        Quantity(m.name, m.unit, "measurement", float(s)) for m, s in zip(rule.measurements, std, strict=True)
    ]
    factors = [] if readout is None else _factor_quantities(readout, units)
    rows: list[Effect] = []
    for place in methods:
        found = Directions.load(made[place].path / "directions.safetensors")
        codes = model.sample(settings.base_codes, found.space.name, generator_for(config.seed, "base codes"))
        base = _typical(model, codes, found.space.name, spec)
        sigma = latent_sigma(model, found, generator_for(config.seed, "sigma"))
        shown, readings = [], []
        traversals: Iterator[Tensor] = traverse(model, found, codes, steps, sigma)
        for name, images in zip(
            found.names, track(traversals, f"measuring {found.method} directions", len(found)), strict=True
        ):
            seen = spec.pictures(images.flatten(0, 1))
            values = rule.measure(seen, spec.spacing_mm).reshape(len(codes), len(steps), -1)
            rows += effects(values, steps, quantities, found.method, name, config.seed)
            if readout is not None:
                rows += effects(readout.predict(values), steps, factors, found.method, name, config.seed)
            shown.append(seen.reshape(*images.shape[:2], *seen.shape[1:])[base])
            readings.append(values[base])
        np.savez(
            out / f"traversal_{found.method}.npz",
            images=np.stack(shown).astype(np.float32),
            values=np.stack(readings),
            steps=steps,
        )
    return rows


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


def _typical(model: LatentModel, codes: Tensor, space: str, spec: ImageSpec) -> int:
    """The base code whose image is nearest to the median in all measurements: the one that figures show."""
    images = spec.pictures(decode_in_parts(model, codes, space))
    values = ruler(spec.unit).measure(images, spec.spacing_mm)
    centre, scale = centre_and_scale(values)
    far = np.abs(values - centre) / scale
    return int(np.argmin(np.where(np.isfinite(far), far, 3.0).mean(axis=1)))
