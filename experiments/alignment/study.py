"""Is a planted shortcut seen by which classifiers go along with whose counterfactuals?

    python experiments/alignment/study.py [--store outputs/store] [--seeds 10] [--table]

Slices of the CT phantom with large nodules, one VAE, one classifier of nodules that is explained; for each seed two
more beside it: one that learnt from the same images, and one from a choice of them in which a high table goes with a
nodule in 95%. Adds their rows to pairs.csv beside this file; seeds that are there are kept. Then writes summary.csv;
--table alone does no more than that.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from medlat.core.tables import read_table, write_table
from medlat.evaluation.chance import LEVEL
from medlat.run import run

HERE = Path(__file__).parent
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
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--table", action="store_true")
    asked, path = parser.parse_args(), HERE / "pairs.csv"
    rows = read_table(path) if path.exists() else []
    for seed in range(0 if asked.table else asked.seeds):
        if seed not in {row["seed"] for row in rows}:
            rows += measured(seed, asked.store)
            write_table(path, rows)
    write_table(HERE / "summary.csv", list(summary(rows)))


def measured(seed: int, store: str) -> list[dict[str, Any]]:
    """The cells of one run: main, a clean classifier and one with the shortcut."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        more = [f"store={Path(store).resolve()}", f"hydra.run.dir={folder}"]
        for kind in ("clean", "shortcut"):
            more += [f"+classifier@compared.{kind}{seed}=densenet"]
            more += [f"compared.{kind}{seed}.{value}" for value in SMALL]
        code = run([*ASKED, *more, f"compared.shortcut{seed}.bias={BIAS}"])
        assert code == 0, seed
        cells = read_table(Path(folder) / "alignment.csv")
    took = {"seed": seed, "seconds": round(time.monotonic() - start)}
    plain = {"of", "asked"}
    return [took | {k: str(v).rstrip("0123456789") if k in plain else v for k, v in row.items()} for row in cells]


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each pair, over seeds: the change, and how often it is said that one goes along, or by less than half; with
    binomial intervals (Clopper, Pearson).
    """
    for of, asked in dict.fromkeys((row["of"], row["asked"]) for row in rows):
        own = [row for row in rows if (row["of"], row["asked"]) == (of, asked)]
        known = sorted(row["change"] for row in own if row["images"])
        if of == asked or not known:
            continue
        shown = {"of": of, "asked": asked, "runs": len(own), "with counterfactuals": len(known)}
        shown |= {"least": known[0], "median": known[len(known) // 2], "most": known[-1]}
        for name, count in (
            ("above random", sum(row["p"] is not None and row["p"] <= LEVEL for row in own)),
            ("less than half", sum(row["p_half"] is not None and row["p_half"] <= LEVEL for row in own)),
        ):
            ends = binomtest(count, len(own)).proportion_ci(method="exact")
            shown |= {name: count, f"{name}, low": ends.low, f"{name}, high": ends.high}
        yield shown


if __name__ == "__main__":
    main()
