"""Counterfactual alignment: of each classifier counterfactuals by the main method, and all are asked about them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import PIXELS_AT_ONCE, Target, predict
from medlat.config.build import plain
from medlat.core.progress import track
from medlat.core.randomness import derive_seed
from medlat.core.tables import write_table
from medlat.explain.alignment import DRAWN, FILE, Shown, matrix
from medlat.explain.counterfactuals import Traversal
from medlat.inversion.mapping import map_directions
from medlat.steps import builders
from medlat.steps.base_codes import Base, base_codes
from medlat.steps.classifier import predicted
from medlat.steps.directions import target_range
from medlat.steps.explained import Subject
from medlat.steps.explanation import explained_by, signs_of, subject_of
from medlat.steps.inversion import load_codes
from medlat.steps.methods import MAIN, Method
from medlat.steps.step import Context, Step


class Alignment(Step):
    """Leaves alignment.csv: a row for each classifier's counterfactuals and each classifier that is asked."""

    name = "alignment"

    def __init__(self, asked: Mapping[str, Method]) -> None:
        self.asked = asked
        self.needs = ("images", "split", "generator", "encoder", "inversion", "regressor", "measurements")
        self.needs += tuple(dict.fromkeys(m.step for m in asked.values()))
        self.needs += tuple(m.classifier for m in asked.values())

    def settings(self, config: DictConfig) -> dict[str, Any]:
        found = {"seed": config.seed, "classifiers": list(self.asked), "measure": builders.measured_by(config)}
        return plain(config.explain) | found

    def run(self, context: Context, out: Path) -> None:
        subject: Subject = context.kept("subject of explanations", lambda: subject_of(context))
        targets = {MAIN: subject.target} | subject.others
        seed = derive_seed(context.config.seed, "alignment")
        shown = {name: _shown(subject, targets, name, method, seed) for name, method in self.asked.items()}
        write_table(out / FILE, [cell.row() for cell in matrix(shown, context.config.seed)])


def _shown(subject: Subject, targets: Mapping[str, Target], name: str, method: Method, seed: int) -> Shown:
    """Counterfactuals of one of the targets, by a method that asks its classifier, and random moves as far."""
    context, own = subject.context, asking(subject, targets[name])
    directions = context.directions(method)
    inverted = builders.inversion_space(context.config, subject.untuned)
    found, _ = map_directions(subject.untuned, directions, inverted)
    explained = explained_by(own, found, method)
    traversal, moved = explained.traversals[0], explained.found[0]
    rows = moved.reached.nonzero()[:, 0]
    if not len(rows):
        nothing = {other: np.zeros((DRAWN, 0)) for other in targets}
        return Shown({other: np.zeros(0) for other in targets}, nothing, subject.groups[:0])
    some, step, base = traversal.of(rows), moved.step[rows], base_codes(context, found.space.name)
    before = subject.beginning(traversal).images[rows]
    start = {other: predict(target, before, subject.device) for other, target in targets.items()}

    def change(images: Tensor) -> dict[str, np.ndarray]:
        """Of all predictions, at any number of images for each row, [M * N, C, H, W] -> [M, N]."""
        after = {other: predict(target, images, subject.device) for other, target in targets.items()}
        return {other: (after[other].reshape(-1, len(rows)) - start[other]).double().numpy() for other in targets}

    random = [change(images) for images in _random(own, some, step, base, seed, f"random moves as far as {name}'s")]
    return Shown(
        {other: values[0] for other, values in change(some.images(step)).items()},
        {other: np.concatenate([part[other] for part in random]) for other in targets},
        subject.groups[rows.numpy()],
    )


def asking(subject: Subject, target: Target) -> Subject:
    """The same images and codes, and another classifier that is asked and decides what they are to become."""
    context = subject.context
    rows = load_codes(context.artifacts["inversion"])[1]["fit_rows"]
    reference = predicted(target, context.images, rows, subject.spec, subject.device)
    return replace(
        subject,
        target=target,
        asked=target_range(context.config, target, reference),
        predictions=predict(target, subject.real, subject.device),
        reference_predictions=reference,
    )


def _random(subject: Subject, traversal: Traversal, step: Tensor, base: Base, seed: int, what: str) -> Iterator[Tensor]:
    """Images moved by as many σ, `step` [N], along random directions, several directions at once, [M * N, C, H, W]:
    drawn with the covariance of real images' codes, signed as those of any control.
    """
    draws = np.random.default_rng(seed).standard_normal((DRAWN, len(base.spread)))
    flat = torch.from_numpy((draws * base.spread) @ base.axes).float()
    vectors = torch.nn.functional.normalize(flat, dim=1).reshape(DRAWN, *traversal.codes.shape[1:])
    signs = signs_of(subject, traversal.space, vectors)[0]
    lengths = signs * base.sigma(vectors)
    pixels = len(step) * subject.spec.height * subject.spec.width
    together = max(1, PIXELS_AT_ONCE // pixels)
    for part in track(torch.arange(DRAWN).split(together), what, -(-DRAWN // together)):
        images = [
            replace(traversal, moves=(lengths[i] * vectors[i]).expand_as(traversal.codes)).images(step) for i in part
        ]
        yield torch.cat(images)
