"""The account of a data set: what is not among its images, or is with a remark, a line each with its count.

It is kept in the store and shown at the end of preparation and in the report. Counts and reasons alone: paths hold
patients' names, so they go to the terminal and, where the user asks for it, to a file (`data.damaged_list`).
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from medlat.core.errors import ArgumentError
from medlat.core.machine import logged_to_a_file
from medlat.core.terminal import printable
from medlat.data.source import Damaged, Scan

log = logging.getLogger(__name__)

SHOWN = 20  # paths on the terminal, of each kind
COPIES = "stands in a later part of the split too, pixel for pixel"

What = Literal["damaged", "left out", "copy", "read"]


class Line(NamedTuple):
    """what: "damaged", cannot be read; "left out", is not meant to be; "copy", is left out of the training; "read", is
    among the images, with a remark. reason: in fixed words.
    """

    what: What
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.what:<8} {self.number:>9,}  {self.reason}"


def account(scan: Scan, damaged: Sequence[Damaged]) -> list[Line]:
    """The lines of what a source found. damaged: all images that cannot be read, those of the scan among them."""
    left = Counter(scan.skipped) + Counter(one.reason for one in scan.remarks if not one.kept)
    read = Counter(one.reason for one in scan.remarks if one.kept)
    return [
        *_lines("damaged", Counter(one.reason for one in damaged)),
        *_lines("left out", left),
        *_lines("read", read),
    ]


def account_of(info: Mapping[str, Any], copies: int) -> list[Line]:
    """The lines that an image store has kept, and the copies that its split leaves out."""
    return [*(Line(*line) for line in info["account"]), *copy_lines(copies)]


def copy_lines(copies: int) -> list[Line]:
    """The line of so many images that a split leaves out; none of none."""
    return _lines("copy", Counter({COPIES: copies}))


def _lines(what: What, counts: Counter[str]) -> list[Line]:
    """Most first."""
    ordered = sorted((+counts).items(), key=lambda item: (-item[1], item[0]))
    return [Line(what, count, reason) for reason, count in ordered]


def show_paths(scan: Scan, damaged: Sequence[Damaged], listing: str | None, of: Any) -> None:
    """The files that are damaged, left out or read with a remark: the first of them on the terminal, all in the file
    `listing`. Raises UserError, about an argument of `of`, where that cannot be written.
    """
    remarked = [f"{one.path}: {one.reason}" for one in scan.remarks]
    lines = list(dict.fromkeys(f"{one.path}: {one.reason}" for one in damaged))  # a volume is named once
    _show(lines, f"damaged file{'s' * (len(lines) > 1)}")
    _show(remarked, f"file{'s' * (len(remarked) > 1)} left out or read with a remark")
    if listing and (lines or remarked):
        try:
            with open(os.path.expanduser(listing), "w", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(f"{line}\n" for line in [*lines, *remarked])
        except (OSError, ValueError) as error:
            problem = f"'{listing}' cannot be written ({type(error).__name__})"
            raise ArgumentError("damaged_list", problem, of=of) from error


def _show(lines: Sequence[str], what: str) -> None:
    if not lines:
        return
    shown = 0 if logged_to_a_file() else SHOWN  # never to a log
    said = [printable(line.replace("\n", "\\n")) for line in lines[:shown]]
    print(f"{len(lines)} {what}:", *said, sep="\n  ", file=sys.stderr)
    if len(lines) > shown:
        print(f"  ... {len(lines) - shown} not shown; data.damaged_list=FILE lists all", file=sys.stderr)


def refuse_damage(scan: Scan, damaged: Sequence[Damaged], most: float, of: Any) -> None:
    """Raises UserError, about the argument `max_damaged` of `of`, where more than that share cannot be read."""
    total = sum(len(chunk.items) for chunk in scan.chunks) + len(scan.damaged)
    if len(damaged) > most * total:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in Counter(d.reason for d in damaged).most_common(3))
        raise ArgumentError(
            "max_damaged",
            f"{len(damaged)} of {total} slices cannot be read ({reasons}); mend or remove the files, or allow more",
            most,
            of=of,
        )
