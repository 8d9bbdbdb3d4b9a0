"""The account of a data set: what is not among its images, or is with a remark, a line each with its count.

It is kept in the store and shown at the end of preparation and in the report. Counts and reasons alone: paths hold
patients' names, so they go to the terminal and, where the user asks for it, to a file (`data.damaged_list`).
"""

import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from medlat.core.errors import ArgumentError
from medlat.core.machine import logged_to_a_file
from medlat.core.terminal import printable
from medlat.data.patterns import pattern_for
from medlat.data.source import Damaged, Remark, Scan

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


def add(scan: Scan, said: Iterable[Damaged | Remark]) -> None:
    """What was met while images were read: every image that cannot be, and a remark on a file once."""
    said = list(said)
    scan.damaged += [one for one in said if isinstance(one, Damaged)]
    remarks = [one for one in said if isinstance(one, Remark)]
    scan.remarks = list(dict.fromkeys([*scan.remarks, *remarks]))


def account(scan: Scan) -> list[Line]:
    """The lines of what a source found and what became of it."""
    left = Counter(scan.skipped) + Counter(one.reason for one in scan.remarks if not one.kept)
    read = Counter(one.reason for one in scan.remarks if one.kept)
    return [
        *_lines("damaged", Counter(one.reason for one in scan.damaged)),
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


def warn(scan: Scan) -> None:
    """A warning for each remark that there is something to be done about, or whose values were measured."""
    files = {item.path for chunk in scan.chunks for item in chunk.items if hasattr(item, "path")}
    files |= {one.path for one in scan.remarks}
    kinds: defaultdict[tuple, list[Remark]] = defaultdict(list)
    for one in scan.remarks:
        if one.advice or one.values:
            kinds[one.kept, one.reason, one.advice].append(one)
    for (kept, reason, advice), found in kinds.items():
        values = [value for one in found for value in one.values or ()]
        measured = f" (found {min(values):g} to {max(values):g})" if values else ""
        said = reason if kept else f"left out: {reason}"
        then = f"; {advice}" if advice else ""
        log.warning("%d of %d files%s%s%s%s", len(found), len(files), ": " if kept else " ", said, measured, then)


def show_paths(scan: Scan, listing: str | None, folder: str | os.PathLike[str] | None, of: Any) -> None:
    """The files that are damaged, left out or read with a remark: the first of them on the terminal, all in the file
    `listing`. Raises UserError, about an argument of `of`, where that cannot be written.

    folder: the root, where there is one: a pattern that fits just the files left out is offered too.
    """
    damaged = sorted({f"{one.path}: {one.reason}" for one in scan.damaged})  # a volume is named once
    left = sorted({f"{one.path}: {one.reason}" for one in scan.remarks if not one.kept})
    read = sorted({f"{one.path}: {one.reason}" for one in scan.remarks if one.kept})
    for lines, what in ((damaged, "damaged file{}"), (left, "file{} left out"), (read, "file{} read with a remark")):
        _show(lines, what.format("s" * (len(lines) > 1)))
    if folder is not None and not logged_to_a_file():
        for line in _patterns(scan, folder):
            print(f"  {printable(line)}", file=sys.stderr)
    if listing and (found := [*damaged, *left, *read]):
        try:
            with open(os.path.expanduser(listing), "w", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(f"{line}\n" for line in found)
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


def _patterns(scan: Scan, folder: str | os.PathLike[str]) -> list[str]:
    """For each reason that `exclude` could settle before files are read, the pattern, where there is a plain one."""
    files = {item.path for chunk in scan.chunks for item in chunk.items if hasattr(item, "path")}
    reasons: defaultdict[str, set[str]] = defaultdict(set)
    for one in scan.remarks:
        if one.advice and not one.kept:
            reasons[one.reason].add(one.path)
    kept = files - {one.path for one in scan.remarks if not one.kept}
    found = []
    for paths in reasons.values():
        below = [
            [os.path.relpath(path, folder).replace(os.sep, "/") for path in sorted(some)] for some in (paths, kept)
        ]
        if kept and (pattern := pattern_for(*below)) is not None:
            found.append(f"data.source.exclude='{pattern}' fits {len(paths)} of these and no file that is read")
    return found


def refuse_damage(scan: Scan, images: int, most: float, of: Any) -> None:
    """Raises UserError, about the argument `max_damaged` of `of`, where more than that share of so many images cannot
    be read.
    """
    if is_too_damaged(scan, images, most):
        reasons = ", ".join(f"{n} x {reason}" for reason, n in Counter(d.reason for d in scan.damaged).most_common(3))
        raise ArgumentError(
            "max_damaged",
            f"{len(scan.damaged)} of {images} slices cannot be read ({reasons}); mend or remove the files, or allow "
            f"more",
            most,
            of=of,
        )


def is_too_damaged(scan: Scan, images: int, most: float) -> bool:
    """Whether more than that share of so many images cannot be read."""
    return len(scan.damaged) > most * images
