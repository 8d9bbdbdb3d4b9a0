"""The label of the data that a classifier is about."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig

from medlat.classifiers.black_box import Task
from medlat.classifiers.names import canonical
from medlat.core.errors import UserError, did_you_mean
from medlat.data.image_store import ImageStore


@dataclass(frozen=True)
class Label:
    """What the data say of every image. values: [N] class numbers, or a quantity; classes: their names, or None."""

    name: str
    values: np.ndarray
    classes: list[str] | None

    def task(self, wanted: Task | None) -> Task:
        """The task asked for, or the one that the classes suggest. Raises UserError where they do not go together."""
        if self.classes is None:
            found: Task = "regression"
        elif len(self.classes) == 2:
            found = "binary"
        else:
            found = "ordinal" if all(map(_is_number, self.classes)) else "multiclass"
        orders = {"ordinal", "multiclass"} if found in ("ordinal", "multiclass") else {"ordinal", found}
        if wanted is None or wanted == "regression" or (wanted in orders and found != "regression"):
            return wanted or found
        raise UserError(
            f"classifier.task={wanted}: the label '{self.name}' has "
            f"{'no classes' if self.classes is None else f'{len(self.classes)} classes'}; expected {found}"
        )

    def split_at(self, positive: Sequence[str]) -> "Label":
        """Two classes of it: the ones named, and all others. Raises UserError where they are not among its classes, or
        none is left.
        """
        if self.classes is None:
            raise UserError(f"explain.positive: the label '{self.name}' has no classes; expected null")
        for name in positive:
            if name not in self.classes:
                raise UserError(
                    f"explain.positive: the label '{self.name}' has no class '{name}'{did_you_mean(name, self.classes)}"
                )
        rest = [name for name in self.classes if name not in positive]
        if not rest or not positive:
            raise UserError(f"explain.positive: expected some, not all, of {', '.join(self.classes)}")
        chosen = [name for name in self.classes if name in positive]
        rises = all(map(_is_number, self.classes)) and chosen == self.classes[-len(chosen) :]
        names = [f"below {chosen[0]}", f"{chosen[0]} or more"] if rises else [" or ".join(rest), " or ".join(chosen)]
        numbers = [self.classes.index(name) for name in chosen]
        return Label(self.name, np.isin(self.values, numbers).astype(self.values.dtype), names)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def label_of(config: DictConfig, opened: ImageStore) -> Label | None:
    """The label that the classifier is about, of two classes where `explain.positive` names one; None where the data
    have none. Of several, that of the finding that is explained. Raises UserError for another name, and where there are
    several and none is chosen.
    """
    labels, name = opened.labels(), config.explain.label
    if name is None and len(labels) > 1:
        finding = canonical(config.explain.target or "")
        name = next((label for label in labels if canonical(label) == finding), None)
    if name is None and len(labels) > 1:
        raise UserError(f"explain.label: the data have several labels; choose from {', '.join(sorted(labels))}")
    if name is None:
        name = next(iter(labels), None)
    elif name not in labels:
        raise UserError(f"explain.label={name}: the data have no such label{did_you_mean(name, labels)}")
    if name is None:
        return None
    found, positive = Label(name, labels[name], opened.classes(name)), config.explain.positive
    return found if positive is None else found.split_at([str(named) for named in positive])
