"""How fast DICOM files become images that a training reads: beside an earlier commit, and beside the authors' script.

    python experiments/throughput/preparing.py [--files DIR] [--before CHECKOUT] [--authors CHECKOUT] [--rounds 5]

DIR: slices in DICOM; without it, a phantom's of 512² are written. `--before`: a checkout of medlat at another commit;
`--authors`: a clone of julschoen/Latent-Space-Exploration-CT (Schön et al. 2022), whose `preprocess.py` is run as it is
(needs OpenCV: opencv-python-headless). Both take the same files in turns, each in one process, so that what else the
machine does meets both. Adds its rows to preparing.csv beside this file.
"""

import argparse
import ast
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medlat.core.tables import read_table, write_table
from medlat.data.ct.dicom import CTDicom
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom

TABLE = Path(__file__).with_name("preparing.csv")
HERE = Path(__file__).resolve().parents[2]
PREPARED = """
import sys, tempfile, time
from pathlib import Path
from medlat.data.ct.dicom import CTDicom
try:
    from medlat.data.image_store import Preparation, prepare
except ImportError:  # before 2026-11
    from medlat.data.slices import Preparation, prepare
root, side, field = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) or None
found = []
for name in ("few", "few", "many"):  # the first starts from a cold cache
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter(), time.process_time()
        prepare(CTDicom(f"{root}/{name}"), Preparation(side, field, 0.0, "salt", workers=1), Path(out))
        found.append((time.perf_counter() - began[0], time.process_time() - began[1]))
print(found[2][0] - found[1][0], found[2][1] - found[1][1])
"""


class Seconds(NamedTuple):
    """Of the clock on the wall, and of the processor."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, help="folder of DICOM slices")
    parser.add_argument("--before", type=Path, help="checkout of medlat at another commit")
    parser.add_argument("--authors", type=Path, help="clone of the authors' code")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = linked(asked.files or phantom(folder / "phantom"), folder)
        what = {"files": "real CT" if asked.files else "phantom, 512²", "slices": count}
        if before := asked.before:
            mine, other = (partial(ours, tree, folder, 64, 400.0) for tree in (HERE, before))
            add(what | {"part": "to 64²", "beside": "65f22da"} | in_turns(mine, other, asked.rounds, count))
        if asked.authors:
            mine, other = partial(ours, HERE, folder, 128, 0.0), partial(authors, preprocess(asked.authors), folder)
            add(what | {"part": "to 128²", "beside": "authors"} | in_turns(mine, other, asked.rounds, count))


def phantom(folder: Path) -> Path:
    """320 slices of 512² with pixels of 0.7 mm, as scanners make them."""
    write_dicom_series(folder, CTPhantom(patients=40, slices_per_patient=8, size=512, field_of_view_mm=358.4))
    return folder


def linked(files: Path, folder: Path) -> int:
    """Links to the slices that medlat reads: below `many` a flat folder a patient, as the authors' script expects them,
    and some again below `few`, to take off what starting costs. Returns how many `many` has more than `few`.
    """
    items = [(chunk.patient, item.path) for chunk in CTDicom(str(files)).scan(in_turn).chunks for item in chunk.items]
    few = items[:: max(2, len(items) // 8)]
    for name, some in (("many", items), ("few", few)):
        for number, (patient, path) in enumerate(some):
            place = folder / name / patient / f"{number}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    return len(items) - len(few)


def in_turn(function: Any, items: Any, _: str) -> Any:
    return map(function, items)


def in_turns(mine: Callable[[], Seconds], other: Callable[[], Seconds], rounds: int, count: int) -> dict[str, Any]:
    """Both, now this one first, now the other; speeds by the clock, and ratios of neighbours by both clocks."""
    pairs = []
    for turn in range(rounds):
        if turn % 2 == 0:
            pair = (mine(), other())
        else:
            later = other()
            pair = (mine(), later)
        pairs.append(pair)
        print(pair, flush=True)
    seconds = np.array(pairs)  # [round, mine and other, wall and processor]
    ratios = seconds[:, 1] / seconds[:, 0]
    speed, beside = count / np.median(seconds[:, :, 0], axis=0)
    found = {"rounds": rounds, "images_per_s": speed, "beside_images_per_s": beside}
    for name, of_rounds in zip(("wall", "processor"), ratios.T, strict=True):
        found |= {f"ratio_{name}": np.median(of_rounds), f"lowest_{name}": of_rounds.min()}
    return found


def ours(tree: Path, folder: Path, side: int, field_of_view_mm: float) -> Seconds:
    """A tree's preparation, its start taken off."""
    command = [sys.executable, "-c", PREPARED, str(folder), str(side), str(field_of_view_mm)]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return Seconds(*map(float, done.stdout.split()))


def preprocess(checkout: Path) -> dict[str, Any]:
    """The functions of the authors' `preprocess.py`, without the lines that run them on paths of theirs."""
    tree = ast.parse((checkout / "preprocess.py").read_text())
    tree.body = [part for part in tree.body if isinstance(part, ast.Import | ast.ImportFrom | ast.FunctionDef)]
    code: dict[str, Any] = {}
    exec(compile(tree, "preprocess.py", "exec"), code)
    return code


def authors(code: dict[str, Any], folder: Path) -> Seconds:
    """Their two passes: to clipped HU, then to 128² and [-1, 1]. As of `ours`, for what `many` has more."""
    found = []
    for name in ("few", "many"):
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            began = time.perf_counter(), time.process_time()
            code["make_set"](f"{folder / name}/", out)
            code["preprocess"](out)
            found.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return Seconds(*(many - few for few, many in zip(*found, strict=True)))


def add(row: dict[str, Any]) -> None:
    """To the table, in the place of one of the same."""
    print(row, flush=True)
    key = ("files", "part", "beside")
    kept = {tuple(one[name] for name in key): one for one in (read_table(TABLE) if TABLE.exists() else [])}
    write_table(TABLE, list((kept | {tuple(row[name] for name in key): row}).values()))


if __name__ == "__main__":
    main()
