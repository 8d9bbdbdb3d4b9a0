"""Labels as tables write them: from texts to classes and numbers, and what is doubtful about them."""

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from medlat.core.errors import nearest
from medlat.data.pictures.files import MISSING, number, some

log = logging.getLogger(__name__)

MOST_CLASSES = 100
PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
TRUTHS = {"true", "false", "yes", "no"}
Kind = Literal["class", "quantity"]


def is_blank(cell: str) -> bool:
    """Whether a cell says nothing."""
    return cell.lower() in MISSING


def plain(text: str) -> str:
    """A number in its shortest form, so that 1, 1.0 and 01 are one class; other text as it is."""
    value = number(text)
    return text if value is None else f"{value:.12g}"


def whole(text: str) -> str:
    """The name of a group without the `.0` that a table program puts behind whole numbers; 007 and 7 stay two."""
    return text[: text.index(".")] if re.fullmatch(r"\d+\.0+", text) else text


def quantities(texts: Collection[str], kind_key: str, problems: list[str]) -> dict[str, float]:
    """The number that each text stands for. What is wrong is added to the problems."""
    if words := [text for text in texts if number(text) is None]:
        problems.append(f"{len(words)} labels that are no numbers: {some(words)}; {kind_key}=class takes names")
    return {text: number(text) or 0.0 for text in texts}


def classes_of(
    texts: Collection[str], asked: Sequence[str] | None, keys: tuple[str, str], problems: list[str]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """The names of the classes in their order, and the number of the class that each text stands for.

    asked: the classes in their order; None: all that occur, sorted, numbers as numbers. keys: what `classes` and `kind`
    are called in the configuration. What is wrong is added to the problems; what is doubtful is logged.
    """
    are_numbers = all(number(text) is not None for text in texts)
    name_of = {text: plain(text) if are_numbers else text for text in texts}
    occurring = sorted(set(name_of.values()), key=lambda name: (number(name) is None, number(name) or 0.0, name))
    names = occurring if asked is None else list(asked)
    if unknown := [name for name in occurring if name not in names]:
        near = nearest(unknown[0], names)
        hint = f"; did you mean '{near}'?" if near else ""
        problems.append(f"labels that are not among {keys[0]} {names}: {some(unknown)}{hint}")
    if len(names) > MOST_CLASSES:
        problems.append(
            f"{len(names)} different labels, expected at most {MOST_CLASSES} classes; a number is read by "
            f"{keys[1]}=quantity"
        )
    _say_doubts(occurring)
    return tuple(names), {text: float(names.index(name)) for text, name in name_of.items() if name in names}


def below_zero(counts: Mapping[str, int], classes_key: str, without: str) -> str | None:
    """What to decide where some of the labels are numbers below 0 beside others that are not: tables write -1 where
    somebody was not sure (CheXpert), or did not look. None of other labels.

    counts: text of a label -> images with it. classes_key: what `classes` is called. without: what leaves such images
    out, with {} for the labels.
    """
    classes = {text: plain(text) for text in counts if number(text) is not None}
    below = sorted({name for name in classes.values() if float(name) < 0})
    if not below or len(below) == len(set(classes.values())):
        return None
    count = sum(counts[text] for text, name in classes.items() if name in below)
    every = sorted(set(classes.values()), key=float) + sorted(set(counts) - set(classes))
    return (
        f"{count} labels are {', '.join(below)} beside {', '.join(name for name in every if name not in below)}; "
        f"{without.format(','.join(below))} leaves those images out, {classes_key}=[{','.join(every)}] takes them as "
        f"they are"
    )


def _say_doubts(names: Sequence[str]) -> None:
    """Classes that may have been meant to be one."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[" ".join(name.casefold().split())].append(name)
    for same in alike.values():
        if len(same) > 1:
            log.warning("labels that differ in case or blanks only are classes of their own: %s", some(same))
    truths = [name for name in names if name.lower() in TRUTHS]
    if truths and any(number(name) is not None for name in names):
        log.warning("labels are numbers and words of truth, each a class of its own: %s", some(names, 6))
