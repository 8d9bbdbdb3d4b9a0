"""What medlat says of every file that `tests/generators/imported/files.py` makes, at each door: `files.csv`.

    python experiments/brought/files.py

Each file is made in a folder of its own and named on a command line, as a generator and as a classifier in ONNX and in
TorchScript; nothing is trained (dry_run=true, which runs no TorchScript program). A program that a file holds would
leave a trace beside it. Exits with 1 where one did, a message is not one line, or an answer takes 10 s.
"""

import contextlib
import csv
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

from medlat.run import run

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from generators.imported.files import FILES, FUNCTIONS

OUT = Path(__file__).with_name("files.csv")
EXPLAINED = "+experiment=histology_vae_linear"
TOLD = ("classifier.task=binary", "classifier.classes=[a,b]")
DOORS = {
    "generator": ("+experiment=ct_vae_sefa", "generator=pretrained", "generator.weights="),
    "classifier, ONNX": (EXPLAINED, "classifier=onnx", *TOLD, "classifier.path="),
    "classifier, TorchScript": (EXPLAINED, "classifier=torchscript", *TOLD, "classifier.path="),
    "generator, Python": ("+experiment=ct_vae_sefa", "generator=python", "generator.function="),
    "classifier, Python": (EXPLAINED, "classifier=python", *TOLD, "classifier.function="),
}
LONGEST = 10.0  # seconds


def questions() -> Iterator[tuple[str, str]]:
    """Every file, or function, and door."""
    for door in DOORS:
        yield from ((name, door) for name in (FUNCTIONS if door.endswith("Python") else FILES))


def answer(question: tuple[str, str]) -> dict:
    """A row of the table: exit code, seconds of computing, and what is said."""
    name, door = question
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above)
        brought = name if name in FUNCTIONS else str(FILES[name][0](folder))
        settings = ("scale=tiny", "logger=none", "dry_run=true", f"store={folder}/store", f"hydra.run.dir={folder}/run")
        *others, last = DOORS[door]
        sys.argv = ["medlat", *others, f"{last}'{brought}'", *settings]
        GlobalHydra.instance().clear()
        said, start = io.StringIO(), time.process_time()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = run(sys.argv[1:])
        seconds = round(time.process_time() - start, 1)
        lines = [line.strip() for line in said.getvalue().splitlines() if not line.endswith("in the configuration:")]
        text = " ".join(lines).replace(str(folder / Path(brought).name), "FILE").replace(above, "DIR") or "taken"
        ran = int((folder / "trace").exists())
    return {"file": name, "door": door, "exit": code, "seconds": seconds, "lines": len(lines), "run": ran, "said": text}


def main() -> None:
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        rows = list(pool.map(answer, questions()))
    with open(OUT, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    wrong = [r for r in rows if r["run"] or r["lines"] > 1 or r["seconds"] > LONGEST or r["exit"] not in (0, 2)]
    taken, longest = sum(r["exit"] == 0 for r in rows), max(r["seconds"] for r in rows)
    print(f"{len(FILES)} files, {len(rows)} answers: {taken} taken, {len(rows) - taken} refused, at most {longest} s")
    for row in wrong:
        print(f"{row['file']}, {row['door']}: {row}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
