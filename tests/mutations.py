"""Damaged copies of one file of every format that medlat reads, and the program run on each of them.

A copy is a function of format and number, so that a fault can be had again:
`python -c "from mutations import write; print(write('png', 17, Path('/tmp/there')))"` in the folder `tests`.
"""

import json
import os
import resource
import shutil
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from damage import Format, mutated
from data.formats import IMAGES
from weights import WEIGHTS

from medlat.core.errors import UserError

SECONDS = 10  # that a file may take
BYTES = 1 << 30  # of memory that it may take
FORMATS: dict[str, Format] = IMAGES | WEIGHTS
WHOLE = b"whole" * 20


def _faulty(fail: Callable[[], Any]) -> Format:
    """A format whose damaged files are a fault: for a test of the tests."""

    def make(root: Path) -> Path:
        (root / "bad").write_bytes(WHOLE)
        return root / "bad"

    return Format(lambda path, out: None if path.read_bytes() == WHOLE else fail(), make, "bad")


def _raise() -> None:
    raise RuntimeError("damaged")


FAULTY = {"raises": _faulty(_raise), "ends": _faulty(lambda: os._exit(3)), "well": _faulty(lambda: None)}


def write(name: str, number: int, folder: Path) -> Any:
    """What is made for a format, with its `number`-th damage, below an empty folder; what the program is given."""
    folder.mkdir(parents=True, exist_ok=True)
    given = FORMATS[name].make(folder)
    damage(folder / FORMATS[name].damaged, (folder / FORMATS[name].damaged).read_bytes(), name, number)
    return given


def damage(path: Path, content: bytes, name: str, number: int) -> None:
    path.write_bytes(mutated(content, np.random.default_rng([zlib.crc32(name.encode()), number])))


def run_each(names: list[str], first: int, count: int, folder: Path) -> None:
    """`run` of several formats one after the other; of the first of them, files from the `first` on."""
    for name in names:
        run(name, range(first if name == names[0] else 0, count), folder)


def run(name: str, numbers: range, folder: Path) -> None:
    """Run the program on the damaged files, in a process of its own: it ends by SIGALRM where one takes too long.

    Writes beside each other which format and number is at work, and a line for each fault.
    """
    (folder / "at").write_text(json.dumps([name, -1]))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries and the list of damaged files
    kind, root, out = (FORMATS | FAULTY)[name], folder / "data", folder / "out"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    given = kind.make(root)
    whole = (root / kind.damaged).read_bytes()
    assert outcome(kind, given, out) == ""  # and all is imported before memory is looked at
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        (folder / "at").write_text(json.dumps([name, number]))
        damage(root / kind.damaged, whole, name, number)
        signal.alarm(SECONDS)
        said = outcome(kind, given, out)
        signal.alarm(0)
        if said in ("", "UserError") and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base > BYTES >> 10:
            said = "more than 1 GB"
            base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if said and not (said == "UserError" and kind.alone):
            with open(folder / "faults", "a") as file:
                file.write(json.dumps([name, number, said]) + "\n")


def outcome(kind: Format, given: Any, out: Path) -> str:
    """What the program made of it: "" where all is well, else the name of what was raised."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        kind.use(given, out)
    except UserError:
        return "UserError"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return ""
