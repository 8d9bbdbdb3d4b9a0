"""What medlat says of every file that `tests/generators/imported/files.py` makes, at each door: `files.csv`.

    python experiments/brought/files.py

Each file is made in a folder of its own and named on a command line, as a generator and as a classifier in ONNX and in
TorchScript; nothing is trained (dry_run=true, which runs no TorchScript program). A program that a file holds would
leave a trace beside it. Exits with 1 where one did, a message is not one line, or an answer takes 10 s.
"""

import contextlib
import csv
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

from medlat.run import run

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from generators.imported.files import FILES, FUNCTIONS

OUT = Path(__file__).with_name("files.csv")
TOLD = ("classifier.task=binary", "classifier.classes=[a,b]")
DOORS = {
    "generator": ("+experiment=ct_vae_sefa", "generator=pretrained", "generator.weights="),
    "classifier, ONNX": ("+experiment=ct_vae_nodule", "classifier=onnx", *TOLD, "classifier.path="),
    "classifier, TorchScript": ("+experiment=ct_vae_nodule", "classifier=torchscript", *TOLD, "classifier.path="),
}
PYTHON = {
    "generator, Python": ("+experiment=ct_vae_sefa", "generator=python", "generator.function="),
    "classifier, Python": ("+experiment=ct_vae_nodule", "classifier=python", *TOLD, "classifier.function="),
}
LONGEST = 10.0  # seconds


def answers(folder: Path) -> Iterator[dict]:
    """Rows of the table."""
    for name, (make, _, _) in FILES.items():
        for door, arguments in DOORS.items():
            yield {"file": name, "door": door} | answer(folder, arguments, make)
    for name in FUNCTIONS:
        for door, arguments in PYTHON.items():
            yield {"file": name, "door": door} | answer(folder, arguments, lambda _, name=name: name)


def answer(above: Path, arguments: tuple[str, ...], make: Callable) -> dict:
    """Exit code, seconds and what is said of one file at one door."""
    with tempfile.TemporaryDirectory(dir=above) as name:
        folder = Path(name)
        brought = str(make(folder))
        settings = ("scale=tiny", "logger=none", "dry_run=true", f"store={folder}/store", f"hydra.run.dir={folder}/run")
        sys.argv = ["medlat", *arguments[:-1], f"{arguments[-1]}'{brought}'", *settings]
        GlobalHydra.instance().clear()
        said, start = io.StringIO(), time.monotonic()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = run(sys.argv[1:])
        seconds = round(time.monotonic() - start, 1)
        lines = [line.strip() for line in said.getvalue().splitlines() if not line.endswith("in the configuration:")]
        text = " ".join(lines).replace(brought, "FILE").replace(name, "DIR")
        ran = (folder / "trace").exists()
        return {"exit": code, "seconds": seconds, "lines": len(lines), "run": int(ran), "said": text or "taken"}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = list(answers(Path(name)))
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
