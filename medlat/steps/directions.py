"""Directions in the generator's latent space, with or without a classifier to say which."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import Target, predict
from medlat.core.errors import UserError
from medlat.core.randomness import generator_for
from medlat.core.spaces import Directions, LatentModel, decode_in_parts
from medlat.data.batches import in_batches
from medlat.directions.finder import (
    Evidence,
    SupervisedFinder,
    TrainedFinder,
    is_supervised,
    is_taught_by_images,
    is_trained,
)
from medlat.explain.series import Wanted
from medlat.inversion.mapping import code_statistics, map_codes
from medlat.measure.rulers import ruler
from medlat.steps import builders
from medlat.steps.classifier import load_target, predicted
from medlat.steps.data import Made, load_data
from medlat.steps.generator import BATCH, load_generator
from medlat.steps.inversion import load_codes

FILE, NUMBERS = "directions.safetensors", "metrics.json"
SIGMA_SAMPLES = 4096
REACHED = (0.1, 0.9)  # of a probability; of other predictions the percentiles over training images


def directions(
    config: DictConfig,
    section: DictConfig,
    made: Made,
    tracker: Any,
    out: Path,
    judge: str = "classifier",
    name: str | None = None,
) -> None:
    """Reads the generator, for a supervised method the codes of training images and the classifier, for one that looks
    at real images those; leaves directions, and of a method that is trained its curves and numbers.

    judge: the classifier's place among the artifacts. name: of the method, where not its own.
    """
    model = load_generator(made["generator"], builders.hardware(config).device, builders.named_classes(config))
    finder: Any = builders.finder(section)
    if is_supervised(finder):
        found: Directions = finder.find(model, evidence_for(config, finder, made, model, judge))
    elif is_trained(finder):
        found = _trained(config, finder, model, tracker, out)
    elif is_taught_by_images(finder):
        found = finder.find(model, _training_images(config, made, finder.images))
    else:
        found = finder.find(model)
    (found if name is None else found.renamed(name)).save(out / FILE)


def _trained(config: DictConfig, finder: TrainedFinder, model: LatentModel, tracker: Any, out: Path) -> Directions:
    from medlat.training.batchless import Steps
    from medlat.training.loop import train

    def report(records: list) -> None:
        tracker.replay([replace(record, name=f"directions/{record.name}") for record in records])

    hardware, module = builders.hardware(config).alone(), finder.module(model)
    train(module, Steps(finder.schedule.steps), finder.schedule, hardware, out, report)
    found, numbers = finder.directions(model, module.to(hardware.device))
    (out / NUMBERS).write_text(json.dumps(numbers, indent=2) + "\n")
    return found


def _training_images(config: DictConfig, made: Made, count: int) -> Iterator[Tensor]:
    """Batches [N, C, H, W] in [-1, 1] of evenly spaced training images, on the CPU."""
    opened, parts, spec = load_data(config, made)
    rows = parts.train[np.unique(np.linspace(0, len(parts.train) - 1, min(len(parts.train), count)).astype(int))]
    return (opened.fetch(part, spec) for part in in_batches(rows, BATCH))


def evidence_for(
    config: DictConfig, finder: SupervisedFinder, made: Made, model: LatentModel, judge: str = "classifier"
) -> Evidence:
    """What a supervised method learns from: codes of training images, samples, or both, and their predictions."""
    opened, _, spec = load_data(config, made)
    device = builders.hardware(config).device
    target = load_target(config, made[judge], spec)
    space = finder_space(config, finder, model)
    rows = load_codes(made["inversion"])[1]["fit_rows"]
    wanted = wanted_of(config, target, predicted(target, opened, rows, spec, device))
    parts, groups = [], []
    if finder.origin != "samples":
        parts.append(real_codes(config, made, model, space, "fit")[0])
        groups.append(opened.patient[rows])
    if finder.origin != "real":
        parts.append(model.sample(len(rows), space, generator_for(config.seed, "evidence")).cpu())
        groups.append(-1 - np.arange(len(rows)))  # each its own
    codes = torch.cat(parts).to(device)
    # Of real images too, what is asked is what the classifier says of their decoding: that is what moving changes.
    images = decode_in_parts(model, codes, space)
    rule = ruler(spec.unit)
    return Evidence(
        space=model.spaces[space],
        codes=codes,
        values=target.linear(predict(target, images, device)),
        threshold=float(target.linear(torch.tensor(wanted.threshold))),
        score=lambda x: target.linear(target(x)),
        differentiable=target.black_box.differentiable,
        measure=lambda: rule.measure(spec.pictures(images), spec.spacing_mm),
        measurements=[m.name for m in rule.measurements],
        groups=np.concatenate(groups),
        sigma=space_sigma(model, space),
    )


def finder_space(config: DictConfig, finder: Any, model: LatentModel) -> str:
    """The space a supervised method works in. Raises UserError where the generator has none of that name."""
    if finder.space is not None and finder.space not in model.spaces:
        raise UserError(f"directions.space={finder.space}: this generator has {', '.join(model.spaces)}")
    preferred = [name for name in getattr(finder, "preferred", ()) if name in model.spaces]
    return finder.space or next(iter(preferred), None) or builders.inversion_space(config, model)


def real_codes(config: DictConfig, made: Made, model: LatentModel, space: str, which: str) -> tuple[Tensor, np.ndarray]:
    """Codes of real images, mapped to a space: "fit" or "explained"; and their rows in the slice store."""
    codes, arrays = load_codes(made["inversion"])
    device = builders.hardware(config).device
    parts = codes[which].to(device).split(4096)
    mapped = [map_codes(model, part, builders.inversion_space(config, model), space).cpu() for part in parts]
    return torch.cat(mapped), arrays[f"{which}_rows"]


def space_sigma(model: LatentModel, space: str) -> Tensor:
    """[*shape]: of each coordinate; 1 under a standard normal prior."""
    if model.spaces[space].prior == "normal":
        return torch.ones(model.spaces[space].shape)
    sigma = code_statistics(model, space, SIGMA_SAMPLES, generator_for("sigma"))[1].cpu()
    return torch.where(sigma > 0.0, sigma, 1.0)


def wanted_of(config: DictConfig, target: Target, predictions: Tensor) -> Wanted:
    """Threshold and wanted predictions, from the configuration or from the training images' predictions [N].

    Raises UserError where they do not enclose the threshold.
    """
    asked = config.explain
    low, median, high = torch.quantile(predictions, torch.tensor([REACHED[0], 0.5, REACHED[1]])).tolist()
    if target.is_probability:
        low, median, high = REACHED[0], 0.5, REACHED[1]
    threshold = median if asked.threshold is None else asked.threshold
    if asked.wanted is not None:
        low, high = asked.wanted
    if not low <= threshold <= high:
        raise UserError(
            f"explain.wanted=[{low:.3g}, {high:.3g}]: expected a prediction below and one above "
            f"explain.threshold={threshold:.3g}"
        )
    return Wanted(threshold, low, high)
