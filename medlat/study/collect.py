"""A sweep in one table: its runs, what they were given, their numbers, means and intervals over seeds."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medlat.core.errors import UserError
from medlat.core.files import read_json
from medlat.core.statistics import t_interval
from medlat.report.delivery import NO_PAGE

SEEDS = ("seed", "data.source.seed")  # what is averaged over
ASIDE = ("store", "report", "logger", "workers")  # sections that say nothing of a result


JOBS = "jobs.json"  # what a sweep was to run
FAILURE = "failure.json"  # in the folder of a run that failed: in which stage, and why


@dataclass(frozen=True)
class Run:
    """A run of a sweep. folder: its name is the job's number; settings: what its command line gave it; numbers: None
    where it is not finished, and then fault says why.
    """

    folder: Path
    settings: dict[str, str]
    numbers: dict[str, float] | None
    fault: str | None = None


def collect(folder: Path) -> list[Run]:
    """The runs of a sweep by number, those that left nothing included. Raises UserError where there are none."""
    places = {path.parent for name in ("environment.json", FAILURE) for path in folder.glob(f"**/{name}")}
    runs = [_read(place) for place in places] + _missing(folder, places)
    if not runs:
        raise UserError(f"{folder}: no run below it; expected the folder of a sweep, e.g. outputs/NAME/sweep_1f2e3d4c")
    return sorted(runs, key=lambda run: (len(run.folder.name), run.folder.name, run.folder))


def varying(runs: Sequence[Run]) -> list[str]:
    """The settings that are not the same in all runs, as far as results depend on them."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key.partition(".")[0] not in ASIDE)
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
                mean, low, high = t_interval(values)
                row = dict(zip(keys, setting, strict=True)) | {"number": name, "seeds": len(values)}
                rows.append(row | {"mean": mean, "low": low, "high": high})
    return rows


def has_ended(folder: Path) -> bool:
    """Whether a run ended, and not with a failure."""
    reported = any((folder / "report" / name).exists() for name in ("index.html", NO_PAGE))
    return reported and (folder / "metrics.json").exists() and not (folder / FAILURE).exists()


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    return {key.lstrip("+~"): value for key, _, value in (text.partition("=") for text in overrides)}


def _read(folder: Path) -> Run:
    told, failure = read_json(folder / "environment.json") or {}, read_json(folder / FAILURE)
    settings = _settings((told or failure or {}).get("overrides", []))
    if failure:
        return Run(folder, settings, None, f"{failure['error']} {failure['where']}: {failure['reason']}")
    if not has_ended(folder):
        job = f" (SLURM job {told['job']})" if told.get("job") else ""
        return Run(folder, settings, None, f"killed, or still running{job}")
    numbers = json.loads((folder / "metrics.json").read_text())
    return Run(folder, settings, {k: float("nan") if v is None else float(v) for k, v in numbers.items()})


def _missing(folder: Path, places: Collection[Path]) -> list[Run]:
    """The jobs of a sweep that left nothing: none where it is not known what there was to be."""
    jobs = (read_json(folder / JOBS) or {}).get("jobs") or []
    found = [(folder / str(number), _settings(overrides)) for number, overrides in enumerate(jobs)]
    return [
        Run(place, given, None, "never began, or was killed before it could say so")
        for place, given in found
        if place not in places
    ]
