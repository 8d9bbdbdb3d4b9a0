"""What may happen to the bytes of a file, and what a format is for the tests that do it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EXTREME = [
    b"\x00" * 8,
    b"\xff" * 8,
    b"\xff" * 3 + b"\x7f",
    b"\x7f" + b"\xff" * 7,
    b"\x80" + bytes(3),
    bytes(3) + b"\x80",
]


class Format(NamedTuple):
    """use:     what the program does with it, given what `make` returned and an empty folder.
    make:    write a small data set, or a file, below a folder; returns what `use` is given.
    damaged: the file that is damaged, below that folder.
    alone:   whether a UserError is a right answer: the run is nothing without that file, or (of a slide) the damage is
             that it no longer says its resolution, which only the user knows.
    """

    use: Callable[[Any, Path], None]
    make: Callable[[Path], Any]
    damaged: str
    alone: bool = False


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one change, most often near its beginning, where headers are."""

    def place() -> int:
        return int(len(content) * rng.random() ** 3)

    at, length = place(), int(1 + 64 * rng.random() ** 2)
    kind = rng.integers(8)
    if kind in (0, 1):
        changed = np.frombuffer(content, np.uint8).copy()
        where = [place() for _ in range(1 + int(len(content) * 0.05 * kind * rng.random()))]
        changed[where] ^= rng.integers(1, 256, len(where)).astype(np.uint8)
        return bytes(changed)
    if kind == 2:
        return content[: int(len(content) * rng.random())]
    if kind == 3:
        return content[:at] + content[at + length :]
    if kind == 4:  # a block twice, or a foreign one
        block = content[at : at + length] if rng.random() < 0.5 else rng.bytes(length)
        return content[:at] + block + content[at:]
    if kind == 5:
        return content[:at] + bytes([255 * rng.integers(2)]) * length + content[at + length :]
    if kind == 6:
        number = EXTREME[rng.integers(len(EXTREME))][: 1 << rng.integers(1, 4)]
        return content[:at] + number + content[at + len(number) :]
    return content[:at] + content[place() :]  # its beginning and an end from elsewhere
