"""What a black box that takes its time costs, with and without its answers kept.

    python experiments/brought/asking.py [--threads N]

A classifier that sleeps for 50 ms at every call is explained at `scale=tiny`, and then again with another threshold in
the same store: as medlat does it, and with every image asked for each time. Writes asking.csv beside this file.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medlat.classifiers.asking import Asked
from medlat.core.tables import write_table
from medlat.run import run
from medlat.steps import own_classifier

SLEEP_S = 0.05
ASKED = ["+experiment=histology_vae_linear", "scale=tiny", "inversion=encoder", "logger=none", "report=none"]
ASKED += ["classifier=python", "classifier.function=asking:slow", "classifier.task=binary"]
ASKED += ["classifier.classes=[normal,tumour]", "generator.training.images=640", "evaluation.regressor_steps=5"]
RUNS = {"first": [], "another threshold": ["explain.threshold=0.6"]}


class Forgetful(Asked):
    """Asks for every image, each time."""

    def _answers(self, images: Tensor) -> Tensor:
        self.answers.known.clear()
        return super()._answers(images)


def slow(images: Tensor) -> Tensor:
    """Bluer tiles are tumours, after a while."""
    slow.calls += 1
    time.sleep(SLEEP_S)
    return (8.0 * (images[:, 2] - images[:, 1]).mean(dim=(1, 2)) - 1.0).sigmoid()


slow.calls = 0


def explained(name: str, folder: str, more: list[str]) -> dict[str, Any]:
    """A run, and what it asked."""
    from asking import slow  # the one that the run imports: this file is another module when it is started

    before, start = slow.calls, time.monotonic()
    code = run([*ASKED, *more, f"store={folder}/store", f"hydra.run.dir={folder}/{name.replace(' ', '_')}"])
    assert code == 0, name
    calls = slow.calls - before
    return {"run": name, "calls": calls, "asking_s": calls * SLEEP_S, "all_s": round(time.monotonic() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    threads, rows = f"trainer.threads={parser.parse_args().threads}", []
    for kept, kind in {True: Asked, False: Forgetful}.items():
        own_classifier.Asked = kind
        with tempfile.TemporaryDirectory() as folder:
            rows += [{"kept": kept} | explained(name, folder, [*more, threads]) for name, more in RUNS.items()]
    write_table(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    main()
