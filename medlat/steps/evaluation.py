"""The evaluation: everything that is measured, from what the stages before it left."""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from medlat.core.progress import track
from medlat.core.spaces import Directions, ImageSpec
from medlat.core.tables import write_table
from medlat.data.batches import in_batches
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.evaluation.editing import Nearness
from medlat.evaluation.features import RegressorFeatures
from medlat.evaluation.readout import centre_and_scale
from medlat.evaluation.reconstruction import Reconstruction, reconstruct
from medlat.measure.rulers import ruler
from medlat.steps import builders, distances
from medlat.steps.data import Made, load_data
from medlat.steps.directions import NUMBERS
from medlat.steps.generator import BATCH, load_generator, sample_images
from medlat.steps.regressor import load_regressor
from medlat.steps.semantics import Subject, disentanglement, fit_readout, names_and_atlas, semantics, summaries

READOUT_IMAGES = 4000


def evaluation(config: DictConfig, methods: Mapping[str, DictConfig], made: Made, out: Path) -> None:
    """Reads everything before it; leaves numbers, tables and the images for figures."""
    opened, parts, spec = load_data(config, made)
    settings = config.evaluation
    device = builders.hardware(config).device
    model = load_generator(made["generator"], device, builders.named_classes(config))
    regressor = load_regressor(made["regressor"], device)
    extractors = [*([RegressorFeatures(regressor)] if regressor else []), *builders.features(config)]
    numbers: dict[str, float] = {}
    if model.can("encode"):
        numbers |= _reconstruction(opened, parts, spec, model, device, settings.active_kl, out)
    samples = sample_images(model, settings.samples, config.seed)
    real, measured = _measured(opened, parts, spec)
    sampled = ruler(spec.unit).measure(spec.pictures(samples), spec.spacing_mm)
    compared = distances.compare(opened, parts, spec, samples, sampled, measured["test"])
    if compared is not None:
        rows_of_distances = distances.all_distances(compared, model, extractors, config.seed)
        write_table(out / "distances.csv", distances.table(rows_of_distances))
        numbers |= distances.numbers(rows_of_distances)
    readout = fit_readout(opened, parts, measured, numbers)
    seen = np.concatenate([measured["test"], measured["train"]])
    directions = {place: Directions.load(made[place].path / "directions.safetensors") for place in methods}
    see = extractors[0] if extractors else partial(_standardised, spec, *centre_and_scale(seen))
    near = Nearness(*(see(opened.fetch(part, spec)) for part in (measured["train_rows"], parts.test)))
    subject = Subject(config, model, spec, seen, readout, opened.info["units"], see, near)
    rows = semantics(subject, directions, out)
    numbers |= names_and_atlas(subject, directions, rows, out)
    numbers |= disentanglement(subject, directions, settings.samples)
    numbers |= {f"directions/{d}/{k}": v for d, own in _of_training(made, directions).items() for k, v in own.items()}
    for kind in sorted({row.kind for row in rows}):
        numbers |= summaries(rows, kind, config.seed)
    write_table(out / "semantics.csv", [row.row() for row in rows])
    np.savez(out / "images.npz", real=real, samples=spec.pictures(samples[: len(real)]))
    clean = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    (out / "metrics.json").write_text(json.dumps(clean, indent=2) + "\n")


def _standardised(spec: ImageSpec, centre: np.ndarray, scale: np.ndarray, images: torch.Tensor) -> np.ndarray:
    """What stands for features where there is no network: measurements in standard deviations, 0 where missing."""
    values = ruler(spec.unit).measure(spec.pictures(images), spec.spacing_mm)
    return np.nan_to_num((values - centre) / scale)


def _of_training(made: Made, found: Mapping[str, Directions]) -> dict[str, dict[str, float]]:
    """By method, what the training of directions has left: how well they are told apart."""
    left = {d.method: made[place].path / NUMBERS for place, d in found.items()}
    return {method: json.loads(path.read_text()) for method, path in left.items() if path.exists()}


def _reconstruction(
    opened: ImageStore, parts: Split, spec: ImageSpec, model: Any, device: torch.device, active_kl: float, out: Path
) -> dict[str, float]:
    batches = (opened.fetch(rows, spec) for rows in in_batches(parts.test, BATCH))
    result: Reconstruction = reconstruct(
        model, track(batches, "reconstructing held-out slices", -(-len(parts.test) // BATCH)), device
    )
    decoded = spec.pictures(torch.from_numpy(result.images))
    order = np.argsort(result.psnr)
    shown = np.unique(np.concatenate([order[:2], order[len(order) // 2 - 1 : len(order) // 2 + 1], order[-2:]]))
    np.savez(
        out / "reconstruction.npz",
        psnr=result.psnr,
        ms_ssim=result.ms_ssim,
        real=opened.physical(parts.test[shown], spec),
        decoded=decoded[shown],
        shown=shown,
        **({} if result.kl is None else {"kl": result.kl}),  # type: ignore[arg-type]
    )
    return {f"reconstruction/{name}": value for name, value in result.summary(active_kl).items()}


def _measured(opened: ImageStore, parts: Split, spec: ImageSpec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Some held-out images for figures, and measurements of test and training images."""
    seen = parts.train[np.linspace(0, len(parts.train) - 1, min(len(parts.train), READOUT_IMAGES)).astype(int)]
    measure, measured = ruler(spec.unit).measure, {}
    for name, rows in (("test", parts.test), ("train", seen)):
        batches = track(in_batches(rows, BATCH), f"measuring {name} slices", -(-len(rows) // BATCH))
        measured[name] = np.concatenate([measure(opened.physical(part, spec), spec.spacing_mm) for part in batches])
    measured["train_rows"] = seen
    spread = parts.test[np.linspace(0, len(parts.test) - 1, min(len(parts.test), 24)).astype(int)]
    return opened.physical(spread, spec), measured
