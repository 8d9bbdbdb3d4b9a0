"""The user's own classifier beside the data's labels."""

import numpy as np
import torch
from omegaconf import DictConfig

from medlat.classifiers.black_box import BlackBox, Task, target_of
from medlat.classifiers.names import truth_of
from medlat.classifiers.quality import below_chance
from medlat.config.build import key_of, naming
from medlat.core.errors import UserError
from medlat.steps.labels import Label


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


def _names(config: DictConfig) -> str:
    """The key that says which output means what, with its value."""
    if config.explain.positive is not None:
        return f"explain.positive=[{', '.join(map(str, config.explain.positive))}]"
    section = config.classifier
    key = key_of(section)
    return f"{key}.classes=[{', '.join(section.classes)}]" if "classes" in section else f"{key}.path={section.path}"
