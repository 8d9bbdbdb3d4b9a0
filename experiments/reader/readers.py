"""A reader study with three simulated readers, over HTTP: one who sees, one who sees half, one who guesses.

    python experiments/reader/readers.py RUN

RUN: a finished run of +experiment=ct_vae_sefa. Starts `medlat explore RUN --study study.yaml`, has the readers answer
at the same time, kills the server when a third is answered, starts it again, and counts with `medlat study`. Leaves
answers.csv, answers.truth.json and answers.table.csv here.
"""

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from medlat.explore.reading.cases import order_of

HERE = Path(__file__).parent
ANSWERS = HERE / "answers.csv"
SEES = {"SEES": 1.0, "HALF": 0.5, "GUESSES": 0.0}  # reader -> share of the cases whose truth is seen


@contextmanager
def serving(run: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The server, and the address of its page."""
    command = [sys.executable, "-m", "medlat", "explore", run, "--study", "study.yaml", "--answers", ANSWERS.name]
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    try:
        yield process, next(line.strip() for line in process.stdout if line.startswith("http"))
    finally:
        process.kill()
        process.wait()


def read(address: str, reader: str, most: int) -> None:
    """Answer so many cases, or all that are left."""
    truth = json.loads((HERE / "answers.truth.json").read_text())
    order = order_of(truth["seed"], len(truth["cases"]), reader)
    found = ask(address, "case", {"reader": reader})
    for _ in range(most):
        if found["place"] is None:
            return
        number = order[found["place"] - 1]
        dice = random.Random(f"{reader} {number}")  # what a reader says of a case does not depend on when
        seen = truth["cases"][str(number)]["truth"] if dice.random() < SEES[reader] else {}
        said = {each["name"]: seen.get(each["name"]) or dice.choice(each["choices"]) for each in found["questions"]}
        found = ask(address, "answer", {"reader": reader, "place": found["place"], "said": said})


def ask(address: str, path: str, body: dict) -> dict:
    page, _, token = address.partition("?token=")
    headers = {"x-token": token, "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(page + path, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)


def main(run: str) -> None:
    for path in [*HERE.glob("answers.*"), *HERE.glob(".answers.*")]:
        path.unlink()
    for most in (50, 1000):  # killed in between, after which each goes on where they were
        with serving(run) as (_, address), ThreadPoolExecutor(len(SEES)) as readers:
            began = time.monotonic()
            list(readers.map(read, [address] * len(SEES), SEES, [most] * len(SEES)))
            lines = len(ANSWERS.read_text().splitlines()) - 1
            print(f"{lines} cases answered, after {time.monotonic() - began:.1f} s; the server is killed")
    (HERE / ".answers.csv.lock").unlink()  # which a server that is killed leaves
    sys.exit(subprocess.call([sys.executable, "-m", "medlat", "study", str(ANSWERS)]))


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
