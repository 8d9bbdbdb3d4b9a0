"""What is said of files that were read, or left out, with a reservation: how many in the log, which on the terminal.

Paths hold patients' names: they go to the terminal and never to a log.
"""

import logging
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medlat.core.machine import logged_to_a_file
from medlat.core.terminal import printable
from medlat.data.patterns import pattern_for
from medlat.data.source import Damaged, Doubt, LeftOut, Scan, Slice

log = logging.getLogger(__name__)

SHOWN = 5


@dataclass
class Remarks:
    """What was met while images were read, file by file.

    doubts: path -> what is odd about a file that was read.
    """

    damaged: list[Damaged] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    doubts: dict[str, Doubt] = field(default_factory=dict)

    def note(self, one: Damaged | LeftOut) -> None:
        """An item of which there is no image."""
        if isinstance(one, Damaged):
            self.damaged.append(one)
        else:
            self.left_out.append(one)

    def doubt(self, item: Any, image: Slice) -> None:
        """An item of which there is one."""
        if image.doubt is not None:
            self.doubts[getattr(item, "path", "an image without a file")] = image.doubt

    def add(self, others: "Remarks") -> None:
        self.damaged += others.damaged
        self.left_out += others.left_out
        self.doubts |= others.doubts

    def say(self, scan: Scan, folder: str | os.PathLike[str] | None) -> None:
        """A warning for each reason to leave files out, which are counted in the scan too, and for each doubt.

        scan: what was found; folder: the root, where there is one.
        """
        files = {item.path for chunk in scan.chunks for item in chunk.items if hasattr(item, "path")}
        without = {one.path for one in self.left_out}
        for reason, paths in _by(lambda path, reason: reason, dict.fromkeys(self.left_out)).items():
            scan.skipped[reason] = scan.skipped.get(reason, 0) + len(paths)
            log.warning(
                "%d of %d files left out: %s; data.source.exclude=PATTERN leaves such files out before they are read, "
                "data.source.include=PATTERN says which are images",
                *(len(paths), len(files), reason),
            )
            _on_the_terminal([*_some(paths), *_advice(paths, files - without, folder)])
        for (problem, advice), paths in _by(
            lambda path, doubt: (doubt.problem, doubt.advice), self.doubts.items()
        ).items():
            low, high = min(self.doubts[path].low for path in paths), max(self.doubts[path].high for path in paths)
            found = f" (found {low:g} to {high:g})" if math.isfinite(low) else ""
            count = len(files - without)
            log.warning("%d of %d files: %s%s%s", len(paths), count, problem, found, f"; {advice}" if advice else "")
            _on_the_terminal(_some(paths))


def _by(key: Callable[[str, Any], Any], pairs: Iterable[tuple[str, Any]]) -> dict[Any, list[str]]:
    """The paths by what is said of them."""
    found: defaultdict[Any, list[str]] = defaultdict(list)
    for path, value in pairs:
        found[key(path, value)].append(path)
    return {said: sorted(paths) for said, paths in found.items()}


def _some(paths: Sequence[str]) -> list[str]:
    return [*paths[:SHOWN], *([f"and {len(paths) - SHOWN} more"] if len(paths) > SHOWN else [])]


def _advice(left: Sequence[str], kept: set[str], folder: str | os.PathLike[str] | None) -> list[str]:
    """The pattern that would leave files out before they are read, where there is a plain one."""
    if folder is None or not kept:
        return []
    below = ([os.path.relpath(path, folder).replace(os.sep, "/") for path in paths] for paths in (left, kept))
    pattern = pattern_for(*below)
    return [] if pattern is None else [f"data.source.exclude='{pattern}' fits these and no other file"]


def _on_the_terminal(lines: Sequence[str]) -> None:
    if not logged_to_a_file():
        print(*(f"  {printable(line)}" for line in lines), sep="\n", file=sys.stderr)
