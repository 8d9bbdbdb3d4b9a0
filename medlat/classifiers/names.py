"""Labels of the data in a classifier's own terms: classes go together by their names, never by their places."""

import logging
import math
from collections.abc import Sequence

import numpy as np

from medlat.classifiers.black_box import BlackBox
from medlat.core.errors import ArgumentError

log = logging.getLogger(__name__)

# What labels of yes and no are called; the first is the absence of what the label is named for.
YES_AND_NO = (("0", "1"), ("no", "yes"), ("false", "true"), ("negative", "positive"), ("absent", "present"))


def canonical(name: object) -> str:
    """A class's name as it is compared: case and space around it say nothing, and 2.0 is 2."""
    text = " ".join(str(name).replace("_", " ").split()).casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:g}" if math.isfinite(number) else text


def truth_of(
    black_box: BlackBox, target: str, label: str, values: np.ndarray, classes: Sequence[str] | None
) -> np.ndarray:
    """What is true of images, as the classifier says it: [N] class numbers in the order of its own classes; of a
    multilabel one 0 or 1, whether the finding `target` is there; of a regression values.

    label: the label's name; values: [N] class numbers, or a quantity; classes: their names, None of a quantity.

    Raises ArgumentError where the names do not go together.
    """
    if black_box.task == "regression":
        return _quantities(label, values, classes)
    if classes is None:
        said = f"the classifier says {_few(black_box.classes)}, and the label '{label}' of the data is a quantity"
        raise ArgumentError("classes", f"{said}; expected a label with such classes (explain.label)")
    if black_box.task == "multilabel":
        numbers: list[int] | None = _numbers_of_finding(target, label, classes)
    else:
        theirs, ours = ([canonical(name) for name in names] for names in (black_box.classes, classes))
        numbers = _numbers(theirs, label, ours)
    if numbers is None:
        raise ArgumentError("classes", _unmatched(black_box.classes, target, label, classes))
    if black_box.task != "multilabel":
        pairs = [(str(black_box.classes[number]), str(name)) for number, name in zip(numbers, classes, strict=True)]
        if renamed := [f"'{theirs}' for '{ours}'" for theirs, ours in pairs if canonical(theirs) != canonical(ours)]:
            log.info("the classifier's class %s of the data", ", ".join(renamed))
    return np.array(numbers)[values.astype(int)]


def _quantities(label: str, values: np.ndarray, classes: Sequence[str] | None) -> np.ndarray:
    try:
        return values if classes is None else np.array([float(name) for name in classes])[values.astype(int)]
    except ValueError:
        names = ", ".join(map(str, classes or []))
        problem = f"the classes of the label '{label}' are no numbers: {names}"
        raise ArgumentError("task", problem, "regression") from None


def _numbers(theirs: list[str], label: str, classes: list[str]) -> list[int] | None:
    """For each class of the label its number among the classifier's; None where one is not there. Of two that are all
    there are, one name tells the other.
    """
    if set(classes) <= set(theirs):
        return [theirs.index(name) for name in classes]
    if len(theirs) == len(classes) == 2:
        if len(shared := set(classes) & set(theirs)) == 1:
            name = shared.pop()
            return [0, 1] if theirs.index(name) == classes.index(name) else [1, 0]
        if canonical(label) in theirs and tuple(classes) in YES_AND_NO:
            there = theirs.index(canonical(label))
            return [1 - there, there]
    return None


def _numbers_of_finding(target: str, label: str, classes: Sequence[str]) -> list[int] | None:
    """For each class of the label whether the finding is there."""
    names, finding = [canonical(name) for name in classes], canonical(target)
    if finding in names:
        return [int(name == finding) for name in names]
    return [0, 1] if canonical(label) == finding and tuple(names) in YES_AND_NO else None


def _unmatched(theirs: Sequence[str], target: str, label: str, classes: Sequence[str]) -> str:
    known = {canonical(name) for name in theirs}
    lacking = [str(name) for name in classes if canonical(name) not in known]
    return (
        f"the classifier says {_few(theirs)}, and the label '{label}' of the data {_few(classes)}: there is no "
        f"{_few(lacking)} among the classifier's. Expected the data's names, in the order of the classifier's outputs, "
        f"or explain.positive=[...], the classes of the label that mean '{target}'"
    )


def _few(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(map(str, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
