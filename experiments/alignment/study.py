"""Is a planted shortcut seen by which classifiers go along with whose counterfactuals?

    python experiments/alignment/study.py [--store outputs/store] [--seeds 15] [--table]

Slices of the CT phantom with large nodules, one VAE, one classifier of nodules that is explained; for each seed two
more beside it: one that learnt from the same images, and one from a choice of them in which a high table goes with a
nodule in 95%. Adds their rows to pairs.csv beside this file; seeds that are there are kept. Then writes summary.csv and
sentences.csv; --table alone does no more than that.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import nan
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from medlat.core.tables import read_table, write_table
from medlat.evaluation.chance import LEVEL
from medlat.explain.alignment import Cell, told
from medlat.run import run

HERE = Path(__file__).parent
KINDS = ("main", "clean", "shortcut")
SMALL = ["training.images=6400", "network.stem_stride=4"]
DATA = ["data=ct_phantom", "+data.source.levels=[0.14,0.82]", "data.source.nodule_radius_mm=[20,26]"]
DATA += ["data.source.seen_radius_mm=10", "scale=tiny", "scale.patients=300", "scale.slices_per_patient=6"]
ASKED = [*DATA, "name=alignment", "classifier=densenet", "directions=linear", "inversion=encoder", "logger=none"]
ASKED += ["generator.training.images=48000", "scale.capacity=24", "scale.latent_dim=32", "report=none"]
ASKED += ["explain.codes=800", "explain.images=60", "explain.target_range=[0.25,0.75]", "explain.permuted=0"]
ASKED += ["explain.control_directions=1", "evaluation.samples=16", "evaluation.base_codes=24"]
ASKED += ["evaluation.regressor_steps=20", *(f"classifier.{value}" for value in SMALL)]
BIAS = "{column: factor.table_height, share: 0.95}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="outputs/store")
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--table", action="store_true")
    asked, path = parser.parse_args(), HERE / "pairs.csv"
    rows = read_table(path) if path.exists() else []
    for seed in range(0 if asked.table else asked.seeds):
        if seed not in {row["seed"] for row in rows}:
            rows += measured(seed, asked.store)
            write_table(path, rows)
    write_table(HERE / "summary.csv", list(summary(rows)))
    write_table(HERE / "sentences.csv", list(sentences(rows)))


def measured(seed: int, store: str) -> list[dict[str, Any]]:
    """The cells of one run: main, a clean classifier and one with the shortcut."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        more = [f"store={Path(store).resolve()}", f"hydra.run.dir={folder}"]
        for kind in KINDS[1:]:
            more += [f"+classifier@compared.{kind}{seed}=densenet"]
            more += [f"compared.{kind}{seed}.{value}" for value in SMALL]
        code = run([*ASKED, *more, f"compared.shortcut{seed}.bias={BIAS}"])
        assert code == 0, seed
        cells = read_table(Path(folder) / "alignment.csv")
    took = {"seed": seed, "seconds": round(time.monotonic() - start)}
    plain = {"of", "asked"}
    return [took | {k: str(v).rstrip("0123456789") if k in plain else v for k, v in row.items()} for row in cells]


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each pair, over runs: the change, in how many it is above random directions, and surely less than half."""
    for of, asked in permutations(KINDS, 2):
        own = [row for row in rows if (row["of"], row["asked"]) == (of, asked)]
        known = sorted(row["change"] for row in own if row["images"])
        shown = {"of": of, "asked": asked, "runs": len(own), "least": known[0], "most": known[-1]}
        shown["mean"] = sum(known) / len(known)
        found = {"above random": [row["p"] <= LEVEL for row in own]}
        found["less than half"] = [row["p_half"] <= LEVEL for row in own]
        found["does not go along"] = [row["told"] == "does not go along" for row in own]
        for name, whether in found.items():
            shown |= counted(name, whether)
        yield shown


def sentences(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Over runs: how often a page says each sentence."""
    runs = [[row for row in rows if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in rows)]
    texts = [told([Cell.from_row({"false_alarms": nan} | row) for row in run]) for run in runs]
    said = [f"{a} and {b} share a reason" for a, b in combinations(KINDS, 2)]
    said += [f"{name} does not go by the reason of" for name in KINDS] + [
        f"What {name} goes by is its own" for name in KINDS
    ]
    for sentence in said:
        yield {"sentence": sentence, "runs": len(runs)} | counted("said", [sentence in text for text in texts])


def counted(name: str, whether: Sequence[bool]) -> dict[str, float]:
    """How many, with a binomial interval of their share (Clopper, Pearson)."""
    ends = binomtest(sum(whether), len(whether)).proportion_ci(method="exact")
    return {name: sum(whether), f"{name}, low": ends.low, f"{name}, high": ends.high}


if __name__ == "__main__":
    main()
