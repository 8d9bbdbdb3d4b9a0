"""The classifier that is explained: trained here on the data's labels, or the user's own; and how good it is."""

import copy
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import PIXELS_AT_ONCE, BlackBox, Target, target_of, targets
from medlat.classifiers.quality import quality, reliability
from medlat.classifiers.trained import Trained, fit_temperature, load
from medlat.config import build
from medlat.config.build import naming
from medlat.core.checkpoints import save_generator
from medlat.core.errors import UserError, did_you_mean
from medlat.core.randomness import derive_seed
from medlat.core.spaces import ImageSpec
from medlat.core.store import Artifact
from medlat.core.tables import write_table
from medlat.data.batches import in_batches
from medlat.data.image_store import ImageStore
from medlat.steps import builders
from medlat.steps.labels import Label, label_of
from medlat.steps.methods import PERMUTED
from medlat.steps.own_classifier import compared, foretell, own_classifier, own_settings
from medlat.steps.step import Context, Step, trained

log = logging.getLogger(__name__)

FILE = "classifier.safetensors"
OWN_VERSION = 3  # of what is measured of the user's own: no training is to be done again for it
SAID = {PERMUTED: "classifier (permuted labels)"}


class Classifier(Step):
    """Leaves the trained classifier, the curves of its training, and its quality on held-out patients. Of the user's
    own only the quality.

    role: "classifier"; "permuted": several, each trained on labels in another random order, which know nothing (the
    data randomisation of Adebayo et al. 2018); "classifier/NAME": one that is compared with the first.
    """

    needs = ("images", "split")
    folder = "classifier"
    version = 2
    resumable = True

    def __init__(self, role: str = "classifier") -> None:
        self.name = role

    def _config(self, config: DictConfig) -> DictConfig:
        return config_of(config, self.name)

    def settings(self, config: DictConfig) -> dict[str, Any]:
        config = self._config(config)
        if builders.is_own_classifier(config):
            found = own_settings(config) | {"seed": config.seed, "version": OWN_VERSION}
            found["target"] = config.explain.target
        else:
            section = build.plain(config.classifier)
            found = trained(config, section) | {name: section[name] for name in ("task", "bias")}
            found["permuted"] = config.explain.permuted if self.name == PERMUTED else 0
        return found | {"label": config.explain.label, "positive": build.plain(config.explain)["positive"]}

    def run(self, context: Context, out: Path) -> None:
        config, opened, spec = self._config(context.config), context.images, context.spec
        label = label_of(config, opened)
        if builders.is_own_classifier(config):
            found: list[BlackBox] = [own_classifier(config, spec, context.store.root)]
            if "range" in config.classifier:
                key = f"{self.name.replace('classifier/', 'compared.')}.range"
                log.info("%s: it is given images from %g to %g (%s)", self.name, *config.classifier.range, key)
        else:
            found = [self._train(context, config, label, (out / file).parent) for file in files_of(config, self.name)]
        if "classifier" in context.artifacts and self.name.startswith("classifier/"):  # before a generator is trained
            with naming(config.explain):
                self._refuse_other(context, target_of(found[0], config.explain.target))
        numbers = {} if label is None else self._quality(context, config, found, label, out)
        if builders.is_own_classifier(config):
            numbers |= foretell(config, found[0])
        (out / "quality.json").write_text(json.dumps(numbers, indent=2) + "\n")
        if numbers:
            log.info("%s, on held-out images: %s", SAID.get(self.name, self.name), in_words(numbers))

    def _refuse_other(self, context: Context, target: Target) -> None:
        """Raises UserError where a compared classifier predicts something else than the one that is explained."""
        main = load_target(context.config, context.artifacts["classifier"], context.spec)
        if (target.name, target.is_probability) != (main.name, main.is_probability):
            key = self.name.replace("classifier/", "compared.")
            raise UserError(f"{key}: it predicts {target.name}, expected {main.name}, which is explained")

    def _quality(
        self, context: Context, config: DictConfig, found: Sequence[BlackBox], label: Label, out: Path
    ) -> dict[str, float]:
        opened, rows, own, several = context.images, context.split.test, builders.is_own_classifier(config), []
        for black_box in found:
            task, truth = black_box.task, label.values[rows]
            predictions = _predictions(black_box, opened, rows, context.spec, context.device)
            if own:
                task, truth, predictions = compared(config, black_box, label, rows, predictions, opened.patient[rows])
            several.append(quality(task, truth, predictions, opened.patient[rows], seed=config.seed))
        if self.name == PERMUTED:
            return _means(several)
        if task == "binary":
            write_table(out / "reliability.csv", reliability(truth, predictions[:, 0]))
        return several[0]

    def _train(self, context: Context, config: DictConfig, label: Label | None, out: Path) -> Trained:
        from medlat.data.module import SliceData
        from medlat.training.loop import train

        opened, parts, spec = context.images, context.split, context.spec
        if label is None:
            raise UserError(
                "classifier: the data have no labels to train on; expected a column of labels, or a classifier"
            )
        if (out / FILE).exists():  # of several, one was finished before an interruption
            return load(out / FILE, builders.named_classes(config))
        out.mkdir(exist_ok=True)
        task, values = label.task(config.classifier.task), label.values
        if self.name == PERMUTED:
            values = permuted(values, opened.patient, derive_seed(config.seed, f"permuted labels {out.name}"))
        rows = _biased(config, opened, label, parts.train) if config.classifier.bias else parts.train
        seen = np.unique(values[rows])
        if len(seen) < 2:
            raise UserError(
                f"explain.label={label.name}: all training images have the same label; expected at least two"
            )
        network = builders.classifier_network(config, spec, task, label.classes or [label.name])
        with naming(config.explain):  # before an hour of training
            target_of(Trained(copy.deepcopy(network)), config.explain.target)  # which freezes it
        if task == "regression":
            network.set_target_scale(float(values[rows].mean()), float(values[rows].std()))
        schedule, hardware = builders.schedule(config, "classifier"), builders.hardware(config).alone()
        module = builders.classifier_module(config, network, schedule.steps)
        augment, steps = builders.augment(config), schedule.steps
        data = SliceData(
            opened,
            replace(parts, train=rows),
            spec,
            schedule.batch_size,
            steps,
            config.seed,
            augment,
            values.astype(float),
        )
        train(module, data, schedule, hardware, out, partial(_forward, context.tracker, self.name))
        result = Trained(module.result.to(hardware.device))
        if task != "regression" and len(parts.validation):
            logits = _predictions(result.logits, opened, parts.validation, spec, hardware.device)
            fit_temperature(result.network, torch.from_numpy(logits), torch.from_numpy(values[parts.validation]))
        recipe = build.plain(config.classifier.network) | {"task": task, "classes": label.classes or [label.name]}
        save_generator(out / FILE, result.network, recipe, spec)
        return result


def in_words(numbers: Mapping[str, float]) -> str:
    """Numbers of a classifier, each with its interval where it has one: `auc 0.86 [0.84, 0.88], accuracy 0.78`."""
    found = []
    for name, value in numbers.items():
        if not name.endswith(("_low", "_high")):
            ends = [numbers.get(f"{name}_{end}", math.nan) for end in ("low", "high")]
            interval = f" [{ends[0]:.2f}, {ends[1]:.2f}]" if all(map(math.isfinite, ends)) else ""
            found.append(f"{name.replace('_', ' ')} {value:.2f}{interval}")
    return ", ".join(found)


def _forward(tracker: Any, role: str, records: list) -> None:
    """The curves of the classifier under its own name; those of the others are in their artifacts."""
    if role == "classifier":
        tracker.replay([replace(record, name=f"classifier/{record.name}") for record in records])


def config_of(config: DictConfig, role: str) -> DictConfig:
    """The configuration with the classifier of a step in the classifier's place."""
    name = role.partition("/")[2]
    return builders.with_classifier(config, name) if name else config


def files_of(config: DictConfig, role: str) -> list[str]:
    """The files of the classifiers in the artifact of their step: of permuted labels several."""
    return [f"{i}/{FILE}" for i in range(config.explain.permuted)] if role == PERMUTED else [FILE]


def permuted(values: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Labels [N] in random order: whole groups [N] (patients) change places, and the labels of each are in random order
    too. Of groups of one size each has the labels of one other; of unequal sizes, of others that follow each other.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(groups == group)) for group in rng.permutation(np.unique(groups))]
    found = np.empty_like(values)
    found[np.argsort(groups, kind="stable")] = values[np.concatenate(rows)]
    return found


def _means(several: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean numbers of several classifiers; an interval over patients is none over classifiers, and left out."""
    names = [name for name in several[0] if not name.endswith(("_low", "_high"))]
    return {name: float(np.mean([found[name] for found in several if name in found])) for name in names}


def _biased(config: DictConfig, opened: ImageStore, label: Label, rows: np.ndarray) -> np.ndarray:
    """Training rows of which a share has a positive label exactly where a column is above its median."""
    bias = config.classifier.bias
    if bias.column not in opened.columns:
        near = did_you_mean(bias.column, opened.columns)
        raise UserError(f"{build.key_of(bias)}.column={bias.column}: no such column{near}")
    if not 0.5 <= bias.share <= 1.0:
        raise UserError(f"{build.key_of(bias)}.share={bias.share}: expected a share from 0.5 to 1")
    column = opened.columns[bias.column][rows]
    agree = (column > np.median(column)) == (label.values[rows] > 0.5)
    kept = round(agree.sum() * (1.0 - bias.share) / bias.share)
    rng = np.random.default_rng(derive_seed(config.seed, "bias"))
    others = rng.permutation(np.flatnonzero(~agree))[:kept]
    return rows[np.sort(np.concatenate([np.flatnonzero(agree), others]))]


def _predictions(
    black_box: Any, opened: ImageStore, rows: np.ndarray, spec: ImageSpec, device: torch.device
) -> np.ndarray:
    """What a function of images gives for rows of the store, [len(rows), T]."""
    size = max(1, PIXELS_AT_ONCE // (spec.height * spec.width))
    with torch.no_grad():
        parts = [black_box(opened.fetch(part, spec).to(device)).float().cpu() for part in in_batches(rows, size)]
    return torch.cat(parts).numpy()


def load_black_box(config: DictConfig, artifact: Artifact, spec: ImageSpec, file: str = FILE) -> BlackBox:
    """The classifier: trained here, or the user's own. file: one of `files_of`."""
    if not (artifact.path / file).exists():
        return own_classifier(config, spec, artifact.path.parents[1])
    return load(artifact.path / file, builders.named_classes(config))


def load_target(config: DictConfig, artifact: Artifact, spec: ImageSpec, file: str = FILE) -> Target:
    """The number of the classifier that is explained."""
    with naming(config.explain):
        return target_of(load_black_box(config, artifact, spec, file), config.explain.target)


def say_target(context: Context) -> None:
    """Which class is explained, and which others could be."""
    target = load_target(context.config, context.artifacts["classifier"], context.spec)
    others = [name for name in targets(target.black_box) if name != target.name]
    more = f" (explain.target={' or '.join(others)} explains another)" if others else ""
    log.info("explained: %s%s%s", "the probability of " * target.is_probability, target.name, more)


def target_among(context: Context, role: str) -> Target:
    """The same number of the classifier of a step."""
    return load_target(config_of(context.config, role), context.artifacts[role], context.spec)


def predicted(target: Target, opened: ImageStore, rows: np.ndarray, spec: ImageSpec, device: torch.device) -> Tensor:
    """The target's predictions for rows of the store, [len(rows)] float32 on the CPU."""
    return torch.from_numpy(_predictions(lambda x: target(x)[:, None], opened, rows, spec, device)[:, 0])
