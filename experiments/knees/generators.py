"""The same question asked with every generator: why does the classifier say osteoarthritis?

    python experiments/knees/generators.py NAME=RUN [NAME=RUN ...]

of finished runs of `knee_dae_linear` that differ in their generator. Prints the table of README.md and writes
generators.csv beside this file.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import medlat
from medlat.core.tables import write_table

METHODS = {"linear": "linear", "permuted": "permuted labels", "random": "random directions", "coordinate": "axes"}
SCORES = {
    "flips_in_range": "prediction flips inside the range of the data",
    "reach_rate": "reaches 0.1 or 0.9",
    "randomisation": "what changes, beside a classifier with random weights",
}


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__)
    table = [row for name, _, folder in (one.partition("=") for one in arguments) for row in rows_of(name, folder)]
    write_table(Path(__file__).with_suffix(".csv"), table)
    names = list(dict.fromkeys(row["generator"] for row in table))
    print(f"| | {' | '.join(names)} |\n| --- |{' ---: |' * len(names)}")
    for what, method in dict.fromkeys((row["what"], row["method"]) for row in table):
        own = {row["generator"]: row for row in table if (row["what"], row["method"]) == (what, method)}
        cells = [shown(own[name]) if name in own else "" for name in names]
        print(f"| {what}{', ' + METHODS[method] if method else ''} | {' | '.join(cells)} |")


def rows_of(name: str, folder: str) -> Iterator[dict[str, Any]]:
    """A row for each number of a run."""
    run = medlat.load(folder)
    numbers = {key.rpartition("/")[2]: value for key, value in run.metrics.items() if key.startswith("inversion/")}
    for key, what in (("psnr", "PSNR of inverted knees, dB"), ("ms_ssim", "MS-SSIM")):
        yield {"generator": name, "what": what, "method": "", "value": numbers[key]}
    scores = run.table("scorecard")
    agreement = {
        row["score"]: "another classifier believes it" for row in scores if row["score"].startswith("agreement")
    }
    known = {"inversion_drift": "the prediction moves by inversion alone", **SCORES, **agreement}
    for score, what in known.items():
        for method in METHODS if score in SCORES or score in agreement else ("linear",):
            for row in scores:
                if (row["score"], row["method"]) == (score, method):
                    ends = {key: row[key] for key in ("value", "low", "high", "images")}
                    yield {"generator": name, "what": what, "method": method} | ends


def shown(row: dict[str, Any]) -> str:
    """A number with its interval, and n where that is not all."""
    if row["value"] != row["value"]:
        return f"n = {row['images']:.0f}"
    if "images" not in row:
        return f"{row['value']:.3g}"
    interval = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] == row["low"] else ""
    return f"{row['value']:.2f}{interval}, n = {row['images']:.0f}"


if __name__ == "__main__":
    main(sys.argv[1:])
