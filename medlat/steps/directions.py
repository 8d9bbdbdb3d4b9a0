"""Directions in the generator's latent space, with or without a classifier to say which."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import TARGET_VERSION, Target, predict
from medlat.config import build
from medlat.config.build import naming
from medlat.core.errors import ArgumentError, UserError
from medlat.core.randomness import generator_for
from medlat.core.spaces import Directions, LatentModel, decode_in_parts
from medlat.directions.finder import Supervision, TrainedFinder, needs_of
from medlat.explain.counterfactuals import TargetRange
from medlat.inversion.mapping import code_statistics, map_codes
from medlat.steps import builders
from medlat.steps.classifier import config_of, files_of, load_target, predicted
from medlat.steps.generator import training_images
from medlat.steps.inversion import load_codes
from medlat.steps.methods import PERMUTED, Method
from medlat.steps.step import NOT_LEARNT_FROM, Context, Step, without

FILE, NUMBERS = "directions.safetensors", "metrics.json"
SIGMA_SAMPLES = 4096
IMAGES = 4096  # that a finder gets which does not say how many it looks at
REACHED = (0.1, 0.9)  # of a probability; of other predictions the percentiles over training images


class FoundDirections(Step):
    """Leaves the directions of one method, and of one that is trained its curves and numbers.

    It reads the generator; for a supervised method also the codes of training images and the classifier, for one that
    looks at real images those.
    """

    folder = "directions"
    version = 3
    resumable = True

    def __init__(self, method: Method) -> None:
        self.method, self.name = method, method.step
        declared = method.needs
        self.needs = ("generator",)
        if "images" in declared:
            self.needs += ("images", "split")
        if "supervision" in declared:
            self.needs += (method.classifier, "inversion")

    def settings(self, config: DictConfig) -> dict[str, Any]:
        section = without(build.plain(self.method.section), *NOT_LEARNT_FROM)
        found: dict[str, Any] = {"method": section, "name": self.method.name}
        if "supervision" in self.method.needs:
            asked = build.plain(config.explain) | {"target_version": TARGET_VERSION}
            names = ("target", "target_version", "threshold", "target_range")
            found |= {"explain": {name: asked[name] for name in names}}
            found["seed"] = config.seed
        if self.method.needs & {"supervision", "measurements"}:
            found["measure"] = builders.measured_by(config)
        return found

    def inputs(self, context: Context) -> dict[str, str]:
        known = {self.method.classifier: "classifier"}  # whichever it learns from: the artifact says
        return {known.get(name, name): context.identities[name] for name in self.needs}

    def run(self, context: Context, out: Path) -> None:
        with naming(self.method.section):
            self._find(context, out).renamed(self.method.name).save(out / FILE)

    def _find(self, context: Context, out: Path) -> Directions:
        model, finder, needs = context.generator(), self.method.finder(), self.method.needs
        if "training" in needs:
            return _trained(context, finder, model, out)
        if "supervision" in needs:
            return _supervised(context, self.method, model)
        given = _images_for(context, finder)
        if "measurements" in needs:
            given["measurements"] = builders.measurements(context.config)
        return finder.find(model, **given)


def found_by(
    context: Context, method: Method, model: LatentModel, target: Target, most: int | None = None
) -> Directions:
    """Directions of a supervised method that asks this target. most: as of `supervision_for`."""
    finder = method.finder()
    given = _images_for(context, finder)
    return finder.find(model, **given, supervision=supervision_for(context, finder, model, target, most))


def _images_for(context: Context, finder: Any) -> dict[str, Any]:
    """`images` for a finder that needs them."""
    if "images" not in needs_of(finder):
        return {}
    return {"images": training_images(context, getattr(finder, "images", IMAGES))}


def _supervised(context: Context, method: Method, model: LatentModel) -> Directions:
    """Of several classifiers (of permuted labels) the first direction of each."""
    config, left = config_of(context.config, method.classifier), context.artifacts[method.classifier]
    targets = [load_target(config, left, context.spec, file) for file in files_of(config, method.classifier)]
    found = [found_by(context, method, model, target) for target in targets]
    if method.classifier != PERMUTED:
        return found[0]
    vectors, scores = (torch.cat([getattr(one, name)[:1] for one in found]) for name in ("vectors", "scores"))
    names = [f"{found[0].method} {number:02d}" for number in range(len(found))]
    return Directions(vectors, scores, names, found[0].method, found[0].space)


def _trained(context: Context, finder: TrainedFinder, model: LatentModel, out: Path) -> Directions:
    from medlat.training.batchless import Steps
    from medlat.training.loop import train

    def report(records: list) -> None:
        context.tracker.replay([replace(record, name=f"directions/{record.name}") for record in records])

    hardware, module = builders.hardware(context.config).alone(), finder.module(model)
    train(module, Steps(finder.schedule.steps), finder.schedule, hardware, out, report)
    found, numbers = finder.directions(model, module.to(hardware.device))
    (out / NUMBERS).write_text(json.dumps(numbers, indent=2) + "\n")
    return found


def supervision_for(
    context: Context, finder: Any, model: LatentModel, target: Target, most: int | None = None
) -> Supervision:
    """What a supervised method learns from: codes of training images, samples, or both, and what the target predicts.

    most: of the training images, and of the samples; None: all that were inverted.
    """
    config, opened, spec, device = context.config, context.images, context.spec, context.device
    space, kept = finder_space(config, finder, model), builders.keeps_noise(config)
    rows = load_codes(context.artifacts["inversion"])[1]["fit_rows"]
    some = np.arange(len(rows)) if most is None else np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)
    rows = rows[some]
    real = predicted(target, opened, rows, spec, device)
    asked = target_range(config, target, real)
    origin = getattr(finder, "origin", None) or ("real" if kept else "both")
    codes, images, groups = [], [], []
    if origin != "samples":
        codes.append(real_codes(context, model, space, "fit")[0][some])
        # What the classifier says of their decoding is asked: that is what moving changes. With its own noise a code is
        # decoded to the image itself.
        images.append(opened.fetch(rows, spec) if kept else decode_in_parts(model, codes[-1].to(device), space))
        groups.append(opened.patient[rows])
    if origin != "real":
        codes.append(model.sample(len(rows), space, generator_for(config.seed, "evidence")).cpu())
        images.append(decode_in_parts(model, codes[-1].to(device), space))
        groups.append(-1 - np.arange(len(rows)))  # each its own
    shown = torch.cat(images)
    measurements = builders.measurements(config)
    return Supervision(
        space=model.spaces[space],
        codes=torch.cat(codes).to(device),
        values=target.linear(predict(target, shown, device)),
        threshold=float(target.linear(torch.tensor(asked.threshold))),
        score=lambda x: target.linear(target(x)),
        differentiable=target.black_box.differentiable,
        measure=lambda: measurements.of(shown, spec),
        measurements=measurements.names,
        groups=np.concatenate(groups),
        sigma=space_sigma(model, space),
    )


def finder_space(config: DictConfig, finder: Any, model: LatentModel) -> str:
    """The space a supervised method works in. Raises UserError where the generator has none of that name."""
    asked = getattr(finder, "space", None)
    if asked is not None and asked not in model.spaces:
        raise ArgumentError("space", f"this generator has {', '.join(model.spaces)}", asked, of=finder)
    preferred = [name for name in getattr(finder, "preferred", ()) if name in model.spaces]
    return asked or next(iter(preferred), None) or builders.inversion_space(config, model)


def real_codes(context: Context, model: LatentModel, space: str, which: str) -> tuple[Tensor, np.ndarray]:
    """Codes of real images, mapped to a space: "fit" or "explained"; and their rows in the image store."""
    codes, arrays = load_codes(context.artifacts["inversion"])
    parts = codes[which].to(context.device).split(4096)
    inverted = builders.inversion_space(context.config, model)
    return torch.cat([map_codes(model, part, inverted, space).cpu() for part in parts]), arrays[f"{which}_rows"]


def space_sigma(model: LatentModel, space: str) -> Tensor:
    """[*shape]: of each coordinate; 1 under a standard normal prior."""
    if model.spaces[space].prior == "normal":
        return torch.ones(model.spaces[space].shape)
    sigma = code_statistics(model, space, SIGMA_SAMPLES, generator_for("sigma"))[1].cpu()
    return torch.where(sigma > 0.0, sigma, 1.0)


def target_range(config: DictConfig, target: Target, predictions: Tensor) -> TargetRange:
    """Threshold and the predictions to reach, from the configuration or from the training images' predictions [N].

    Raises UserError where they do not enclose the threshold.
    """
    asked = config.explain
    low, median, high = torch.quantile(predictions, torch.tensor([REACHED[0], 0.5, REACHED[1]])).tolist()
    if target.is_probability:
        low, median, high = REACHED[0], 0.5, REACHED[1]
    threshold = median if asked.threshold is None else asked.threshold
    if asked.target_range is not None:
        low, high = asked.target_range
    if not low <= threshold <= high:
        raise UserError(
            f"explain.target_range=[{low:.3g}, {high:.3g}]: expected a prediction below and one above "
            f"explain.threshold={threshold:.3g}"
        )
    return TargetRange(threshold, low, high)
