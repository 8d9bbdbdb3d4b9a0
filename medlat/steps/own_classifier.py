"""The user's own classifier: asked no more than needed, said what it costs, and set beside the data's labels."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from medlat.classifiers.adapters import ROUNDING, Own
from medlat.classifiers.asking import Answers, Asked
from medlat.classifiers.black_box import BlackBox, Task, target_of
from medlat.classifiers.names import truth_of
from medlat.classifiers.quality import below_chance
from medlat.config import build
from medlat.config.build import key_of, naming
from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.core.store import hash_of
from medlat.explain.alignment import DRAWN
from medlat.explain.counterfactuals import BISECTIONS
from medlat.explain.scores import FURTHER, PARTS
from medlat.steps import builders
from medlat.steps.labels import Label
from medlat.steps.methods import methods
from medlat.steps.step import file_hash, sources

log = logging.getLogger(__name__)

ANSWERS = "answers"  # folder of the store
ANSWERS_VERSION = 1
LIKE_PROBABILITIES = (0.1, 0.9)  # which what lies between 0 and 1 reaches beyond


def own_settings(config: DictConfig) -> dict[str, Any]:
    """What the answers of the user's classifier depend on beside the images: plain values, the program by its hash."""
    section = build.plain(config.classifier)
    if "path" in section:
        section["path"] = file_hash(section["path"], f"{key_of(config.classifier)}.path")
    return {"own": section, "intensity_range": builders.intensity_range(config)}


def own_classifier(config: DictConfig, image: ImageSpec, store: Path) -> BlackBox:
    """The user's classifier, checked, with the answers that the store knows already. Raises UserError where it does not
    take such images, or returns what it should not.
    """
    black_box = builders.own_classifier(config, image)
    if not isinstance(black_box, Own):  # one of medlat's own is fast
        return black_box
    settings = own_settings(config)
    sides = [image.channels, image.height, image.width]
    known_by = hash_of([ANSWERS_VERSION, settings, dict(sources(settings)), sides])
    answers = _answers(len(black_box.outputs), store / ANSWERS / f"{known_by}.bin")
    return Asked(black_box, answers, black_box.fitting.batch)


@cache
def _answers(outputs: int, path: Path) -> Answers:
    return Answers(outputs, path)


def foretell(config: DictConfig, black_box: BlackBox) -> dict[str, float]:
    """Say what asking will cost, by how long it has taken so far, and where answers differ: that as numbers, too."""
    if not isinstance(black_box, Asked) or not isinstance(own := black_box.black_box, Own):
        return {}
    answers, count, key = black_box.answers, expected_images(config), key_of(config.classifier)
    if answers.asked:
        each, answers.expected = answers.seconds / answers.asked, answers.asked + count
        log.info(
            "%s: %.3g ms an image in batches of at most %d; the run asks for up to %s more, %s at that pace",
            key, 1e3 * each, black_box.batch, f"{count:,}", _told(each * count),
        )  # fmt: skip
    if own.repeats is None or own.repeats == 1:
        return {}
    log.warning("%s: %s", key, stochastic(own.differs, own.repeats))
    return {"differs": own.differs, "repeats": float(own.repeats)}


def stochastic(differs: float, repeats: int) -> str:
    return (
        f"asked twice for the same image it answers differently, by up to {differs:.2g}, as with dropout left on; all "
        f"that is said is of the mean of {repeats} answers (repeats), and the rest of that noise is in every number"
    )


def expected_images(config: DictConfig) -> int:
    """About how many images a run asks a classifier for at most, beside the held-out ones: as if every image had its
    counterfactual along every direction.
    """
    asked = config.explain
    series = asked.images * (len(asked.steps) + BISECTIONS)
    along = series + asked.images * (PARTS + 1)  # COUT
    count = asked.images * 2 + asked.codes * 3  # real and inverted; training images, their decoding and samples
    for method in methods(config):
        control = method.role == "control"
        count += along * asked.control_directions if control else along + FURTHER * series
    if others := len(builders.compared_classifiers(config)):
        count += (1 + others) * (series + asked.images * (DRAWN + 2)) + asked.codes  # alignment
    return count + 2 * config.evaluation.base_codes * config.scale.latent_dim  # the audit


def _told(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def compared(
    config: DictConfig,
    black_box: BlackBox,
    label: Label,
    rows: np.ndarray,
    predictions: np.ndarray,
    groups: np.ndarray,
) -> tuple[Task, np.ndarray, np.ndarray]:
    """The task that the label asks of it, what is true of rows of the store, and the predictions [N, K] that go with
    it, of all predictions [N, K] of these rows. groups: [N] of the rows.

    `explain.positive` says which of the label's classes mean the output that is explained; else the label's classes are
    found among the classifier's, by name. Raises UserError where they are not, and where it says the opposite.
    """
    with naming(config.explain):
        target = target_of(black_box, config.explain.target)
    _refuse_probabilities_as_logits(config, black_box, predictions)
    one, values = target.of(torch.from_numpy(predictions))[:, None].numpy(), label.values[rows]
    if config.explain.positive is not None:
        task: Task = "binary" if target.is_probability else "regression"
        truth, told = values, one
    else:
        with naming(config.classifier):
            truth = truth_of(black_box, target.name, label.name, values, label.classes)
        several = black_box.task != "multilabel"
        task, told = (black_box.task, predictions) if several else ("binary", one)
    if (said := below_chance(task, truth, told, groups, config.seed)) is not None:
        raise UserError(f"{_names(config)}: {said}. {OPPOSITE}")
    return task, truth, told


OPPOSITE = (
    "Either these are not the names of its outputs in their order, or it is given images as it does not take them "
    "(range, mean, std, channels)"
)


def _refuse_probabilities_as_logits(config: DictConfig, black_box: BlackBox, predictions: np.ndarray) -> None:
    """Raises UserError where a sigmoid was taken of what looks like probabilities: all values lie between 0 and 1, and
    reach from below 0.1 to above 0.9. Of two images that is no evidence, of all held-out ones it is.
    """
    if config.classifier.get("output") != "logits" or black_box.task not in ("binary", "multilabel"):
        return
    values = torch.from_numpy(predictions).double().logit()
    low, high = float(values.min()), float(values.max())
    if -ROUNDING < low < LIKE_PROBABILITIES[0] and LIKE_PROBABILITIES[1] < high < 1.0 + ROUNDING:
        raise UserError(
            f"{key_of(config.classifier)}.output: logits, but for {len(values):,} held-out images it returns values "
            f"from {low:.3f} to {high:.3f} alone, as probabilities are; expected probabilities"
        )


def _names(config: DictConfig) -> str:
    """The key that says which output means what, with its value."""
    if config.explain.positive is not None:
        return f"explain.positive=[{', '.join(map(str, config.explain.positive))}]"
    section = config.classifier
    key = key_of(section)
    return f"{key}.classes=[{', '.join(section.classes)}]" if "classes" in section else f"{key}.path={section.path}"
