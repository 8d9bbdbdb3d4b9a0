"""A sweep in one table: `python -m medlat.collect DIR [DIR ...]`.

Reads the run folders below each folder and writes there `runs.csv`, a row per run with what it was given and every
final number, and `summary.csv`, mean and 95% interval over seeds of each number for each setting. Ends with 1, naming
them, where runs are not finished, and with 2 where there are none.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medlat.errors import UserError
from medlat.report.style import write_table

SEEDS = ("seed", "data.source.seed")  # what is averaged over


@dataclass(frozen=True)
class Run:
    """A run folder. settings: what its command line gave it; numbers: None where it is not finished."""

    folder: Path
    settings: dict[str, str]
    numbers: dict[str, float] | None


def collect(folder: Path) -> list[Run]:
    """The runs of a sweep, in the order of their numbers. Raises UserError where there are none."""
    places = [path.parent for path in folder.glob("**/environment.json")]
    if not places:
        raise UserError(f"{folder}: no run below it; expected the folder of a sweep, e.g. outputs/NAME/DATE_TIME_sweep")
    ordered = sorted(places, key=lambda place: (len(place.name), place.name))
    return [_read(place) for place in ordered]


def varying(runs: Sequence[Run]) -> list[str]:
    """The settings that are not the same in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({run.settings.get(key) for run in runs}) > 1]


def table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row per finished run: its number, the settings that vary, and its numbers."""
    keys = varying(runs)
    return [
        {"run": run.folder.name} | {key: run.settings.get(key, "") for key in keys} | run.numbers
        for run in runs
        if run.numbers is not None
    ]


def summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each setting and number: n seeds, mean, and the 95% interval of the mean (Student's t; NaN for one seed)."""
    keys = [key for key in varying(runs) if key not in SEEDS]
    groups: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for run in runs:
        if run.numbers is not None:
            groups.setdefault(tuple(run.settings.get(key, "") for key in keys), []).append(run.numbers)
    rows = []
    for setting, found in groups.items():
        for name in dict.fromkeys(name for numbers in found for name in numbers):
            values = [numbers[name] for numbers in found if name in numbers and math.isfinite(numbers[name])]
            if values:
                mean, low, high = interval(values)
                row = dict(zip(keys, setting, strict=True)) | {"number": name, "seeds": len(values)}
                rows.append(row | {"mean": mean, "low": low, "high": high})
    return rows


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95% interval by Student's t."""
    from scipy.stats import t

    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return mean, math.nan, math.nan
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(t.ppf(0.975, n - 1)) * error
    return mean, mean - half, mean + half


def _read(folder: Path) -> Run:
    given = json.loads((folder / "environment.json").read_text()).get("overrides", [])
    settings = {key.lstrip("+~"): value for key, _, value in (text.partition("=") for text in given)}
    if not (folder / "report" / "index.html").exists():
        return Run(folder, settings, None)
    numbers = json.loads((folder / "metrics.json").read_text())
    return Run(folder, settings, {k: float("nan") if v is None else float(v) for k, v in numbers.items()})


def main(arguments: Sequence[str]) -> int:
    """Collect each folder; returns the exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return 0 if arguments else 2
    unfinished = []
    try:
        for folder in map(Path, arguments):
            runs = collect(folder)
            write_table(folder / "runs.csv", table(runs))
            write_table(folder / "summary.csv", summary(runs))
            lost = [run for run in runs if run.numbers is None]
            print(f"{folder}: {len(runs) - len(lost)} of {len(runs)} runs, in runs.csv and summary.csv")
            unfinished += lost
    except UserError as error:
        print(f"medlat: {error}", file=sys.stderr)
        return 2
    for run in unfinished:
        print(f"not finished: {run.folder} ({' '.join(f'{k}={v}' for k, v in run.settings.items())})", file=sys.stderr)
    return 1 if unfinished else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
