"""What an explanation is made of, and what it leaves for figures: images, saliency, the mean effect, inversion."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.adapters import Own
from medlat.classifiers.asking import Asked
from medlat.classifiers.black_box import Target, predict
from medlat.classifiers.trained import Trained
from medlat.core.spaces import ImageSpec, LatentModel
from medlat.core.tables import read_table, write_table
from medlat.explain.by_catch import Moved, by_catch, slopes
from medlat.explain.counterfactuals import (
    Counterfactuals,
    TargetRange,
    Traversal,
)
from medlat.explain.cycles import Invert
from medlat.explain.saliency import grad_cam, grad_cam_of_own, integrated_gradients, occlusion
from medlat.measure.measurement import MeasurementSet
from medlat.report.rendering import Look
from medlat.steps import builders
from medlat.steps.inversion import load_codes
from medlat.steps.labels import Label
from medlat.steps.methods import Method
from medlat.steps.step import Context

BY_CATCH = "by_catch.csv"


@dataclass(frozen=True)
class FeatureSpace:
    """The run's features, in standard deviations over real images.

    name: whose. see: images [N, C, H, W] in [-1, 1] -> [N, F]; scale: [F]. real: [R, F] of training images, upper [R]
    whether their prediction lies above the threshold; unit: the mean distance of two of them.
    """

    name: str
    see: Callable[[Tensor], np.ndarray]
    scale: np.ndarray
    real: np.ndarray
    upper: np.ndarray
    unit: float

    def __call__(self, images: Tensor) -> np.ndarray:
        return self.see(images) / self.scale


@dataclass(frozen=True)
class Beginning:
    """Where all series in one space begin: the inverted images [N, C, H, W], what they measure [N, M] in standard
    deviations, their features [N, F], and of what real and inverted images each other classifier predicts, both [N].
    """

    images: Tensor
    measured: np.ndarray
    features: np.ndarray
    others: dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class Inquiry:
    """Of which images it is asked why, and how.

    real: [N, C, H, W] in [-1, 1], the images explained; noise [N, ...] that belongs to them, where inversion keeps it;
    predictions [N] of them. reference_predictions: [R] of training images.
    """

    context: Context
    spec: ImageSpec
    measurements: MeasurementSet
    device: torch.device
    model: LatentModel  # that decodes: the tuned generator where there is one
    untuned: LatentModel  # that directions were found in
    target: Target
    asked: TargetRange
    real: Tensor
    noise: Tensor | None
    predictions: Tensor
    reference_predictions: Tensor
    others: dict[str, Target]  # the same number of other classifiers, by their names

    @property
    def steps(self) -> list[float]:
        return [float(step) for step in self.context.config.explain.steps]


@dataclass
class Subject(Inquiry):
    """What the explanations of all methods share, of held-out images that are scored.

    groups [N]: whose the images are. reference: measurements [R, M] of training images in standard deviations.
    """

    label: Label | None
    rows: np.ndarray  # of the images in the image store
    groups: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    reference: np.ndarray
    features: FeatureSpace
    invert: Invert | None  # images -> codes of the space that images are inverted into; None where each is optimised

    def beginning(self, traversal: Traversal) -> Beginning:
        """Of the space that the traversal is in."""

        def make() -> Beginning:
            images, seen = traversal.images(torch.zeros(len(traversal.codes))), {}
            for name, other in self.others.items():
                first, then = (predict(other, x, self.device).numpy() for x in (self.real, images))
                seen[name] = (first, then)
            return Beginning(images, self.measured(images), self.features(images), seen)

        return self.context.kept(f"beginning of series in {traversal.space}", make)

    def measured(self, images: Tensor) -> np.ndarray:
        """Measurements of network images in standard deviations over real ones, [N, M]."""
        return (self.measurements.of(images, self.spec) - self.centre) / self.scale


@dataclass
class Explained:
    """By one method: for each of its directions that are followed a traversal, its predictions [N, S] and
    counterfactuals, and all that the classifier predicts [N, S, K].
    """

    traversals: list[Traversal]
    predictions: list[Tensor]
    found: list[Counterfactuals]
    names: list[str]  # of the directions
    seconds: float
    outputs: Sequence[Tensor] = ()


def save_series(subject: Subject, explained: Explained, out: Path) -> None:
    """Of all explained images, those with the lowest predictions first; figures show some, spread evenly over them."""
    order, label = np.argsort(subject.predictions.numpy(), kind="stable"), subject.label
    labels = None if label is None else label.values[subject.rows[order]]
    count = min(subject.context.config.explain.shown, len(order))
    shown = np.linspace(0, len(order) - 1, count).round().astype(int)
    np.savez(out / "series.npz", **series_of(subject, explained, order, labels, shown))  # type: ignore[arg-type]


def series_of(
    subject: Inquiry, explained: Explained, chosen: np.ndarray, labels: np.ndarray | None, shown: np.ndarray
) -> dict[str, np.ndarray]:
    """What figures and cards show of some images, by their numbers: `report.explanation.Series`. labels: of these, if
    known; shown: which of these figures show, with their saliency.
    """
    found, some = explained.found[0], explained.traversals[0].of(torch.from_numpy(chosen))
    images = [subject.spec.pictures(some.images(torch.full((len(chosen),), step))) for step in subject.steps]
    arrays = {
        "images": np.stack(images, axis=1),
        "steps": np.array(subject.steps),
        "predictions": explained.predictions[0][chosen].numpy(),
        "real": subject.spec.pictures(subject.real[chosen]),
        "real_prediction": subject.predictions[chosen].numpy(),
        "label": np.full(len(chosen), np.nan) if labels is None else labels,
        "counterfactual": subject.spec.pictures(some.images(found.step[chosen])),
        "counterfactual_step": found.step[chosen].numpy(),
        "counterfactual_prediction": found.prediction[chosen].numpy(),
        "reached": found.reached[chosen].numpy(),
        "shown": shown,
    }
    maps = saliency(subject.target, subject.real[chosen[shown]].to(subject.device), subject.context.config)
    return arrays | {f"saliency_{name}": found for name, found in maps.items()}


def saliency(target: Target, images: Tensor, config: DictConfig) -> dict[str, np.ndarray]:
    """Maps of images [N, C, H, W] on the target's device, each [N, H, W], as far as the classifier allows: Grad-CAM
    looks into it, occlusion does not.
    """
    maps = {"occlusion": occlusion(target, images).numpy()}
    if config.explain.integrated_gradients:
        maps["integrated_gradients"] = integrated_gradients(target, images).numpy()
    own = target.black_box.black_box if isinstance(target.black_box, Asked) else target.black_box
    if isinstance(own, Own) and own.watched is not None:
        for name, plus in (("gradcam", False), ("gradcampp", True)):
            maps[name] = grad_cam_of_own(target, *own.watched, images, plus).numpy()
    if isinstance(target.black_box, Trained) and target.column is not None and not target.or_more:
        network, layer = target.black_box.network, target.black_box.cam_layer
        for name, plus in (("gradcam", False), ("gradcampp", True)):
            if target.first:  # what speaks for it speaks against the only output
                maps[name] = grad_cam_of_own(target, network, layer, images, plus).numpy()
            else:
                maps[name] = grad_cam(network, layer, images, target.column, plus).numpy()
    return maps


def save_mean_effect(subject: Subject, traversal: Traversal, out: Path) -> None:
    look = Look(builders.modality(subject.context.config), (subject.spec.low, subject.spec.high))
    base = look.scalar(subject.spec.pictures(subject.beginning(traversal).images))
    images, change = [], []
    for step in subject.steps:
        moved = subject.spec.pictures(traversal.images(torch.full((len(traversal.codes),), step)))
        images.append(moved.mean(axis=0))
        change.append((look.scalar(moved) - base).mean(axis=0))
    np.savez(out / "mean_effect.npz", images=np.stack(images), difference=np.stack(change))


def save_inversion(subject: Subject, explained: Explained, out: Path) -> None:
    """The table of inversion methods, with the drift of the one in use, and what it gave."""
    traversal, folder = explained.traversals[0], subject.context.folder("inversion")
    arrays = load_codes(subject.context.artifacts["inversion"])[1]
    decoded = subject.beginning(traversal).images
    inverted = predict(subject.target, decoded, subject.device)
    drift = float((inverted - subject.predictions).abs().mean())
    with open(folder / "methods.csv", newline="") as file:
        table: Sequence[dict[str, Any]] = list(csv.DictReader(file))
    write_table(out / "inversion.csv", [row | {"drift": drift if i == 0 else ""} for i, row in enumerate(table)])
    np.savez(
        out / "inversion.npz",
        real=subject.spec.pictures(subject.real),
        decoded=subject.spec.pictures(decoded),
        psnr=arrays["psnr"],
        ms_ssim=arrays["ms_ssim"],
        prediction_real=subject.predictions.numpy(),
        prediction_decoded=inverted.numpy(),
        groups=subject.groups,
    )


def others_of(
    subject: Subject, method: Method, explained: Explained, ranges: Mapping[str, float], name: str
) -> list[Moved]:
    """What the classifier says of the other findings along the method's directions; [] where it has one question."""
    target = subject.target
    if target.black_box.task != "multilabel":
        return []
    assert target.column is not None
    logits = [target.linear(each).double().numpy() for each in explained.outputs]
    found = [
        slopes(each, subject.steps, ranges.get(direction))
        for each, direction in zip(logits, explained.names, strict=True)
    ]
    control, seed = method.role == "control", subject.context.config.seed
    return by_catch(name, control, found, target.black_box.outputs, target.column, subject.groups, seed)


def read_others(folder: Path) -> list[Moved]:
    """What an explanation left of them; [] where it left nothing."""
    path = folder / BY_CATCH
    return [Moved.of(row) for row in read_table(path, Moved)] if path.exists() else []
