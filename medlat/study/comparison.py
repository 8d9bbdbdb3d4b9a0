"""What the folders of finished runs say, for a page that shows them side by side."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from medlat.core.statistics import t_interval
from medlat.core.tables import read_table
from medlat.report.card import opening
from medlat.report.comparison import Column, Told, write_comparison
from medlat.report.page import Cell, Picture, Table
from medlat.report.style import number, without_folders
from medlat.study.collect import SEEDS, Run, varying

NUMBERS = {  # of metrics.json, {}: of the main method, and beside it of each control -> what it is called
    "semantics/{}/named": "directions with a name",
    "semantics/{}/factor_purity": "mean purity, known factors",
    "semantics/{}/factor_coverage": "coverage, known factors",
    "semantics/{}/measurement_purity": "mean purity, measurements",
    "semantics/{}/measurement_coverage": "coverage, measurements",
    "reconstruction/psnr": "PSNR (dB)",
    "classifier/auc": "AUC of the classifier",
    "explanation/{}/flips_in_range": "images that flip near the data",
    "explanation/{}/flip_area": "flip area",
    "explanation/{}/realism": "realism, real: 1",
    "explanation/{}/inversion_drift": "inversion drift",
}
OF_CHANCE = {"classifier/auc": ("permuted labels", "permuted/auc")}  # what stands beside a number of no method

FEWEST_SEEDS = 3  # for an interval over trainings


def leave_comparison(runs: Sequence[Run], folder: Path) -> None:
    """Write index.html: the finished runs below the folder, and where there are several seeds the means over them."""
    keys = varying(runs)
    finished = [run for run in runs if run.numbers is not None]
    columns = [_column(run, folder, keys) for run in finished]
    png = folder / "atlas.png"
    atlas = Picture(png, "Atlas of all runs", "Below the diagonal by what they do to images, above it by angle.")
    seeds = _over_seeds(finished, columns, [key for key in keys if key not in SEEDS])
    missing = len(runs) - len(finished)
    write_comparison(folder / "index.html", columns, seeds, missing, atlas if png.exists() else None)


def _column(run: Run, folder: Path, keys: Sequence[str]) -> Column:
    card = run.folder / "model_card.md"
    finding, warnings = opening(card.read_text(encoding="utf-8")) if card.exists() else ("", [])
    picture = run.folder / "figures" / "first_look.png"
    name = run.folder.relative_to(folder).as_posix()
    settings = {key: without_folders(run.settings[key]) for key in keys if key in run.settings}
    page = (run.folder / "report" / "index.html").exists()
    return Column(name, settings, finding, warnings, numbers_of(run), picture if picture.exists() else None, page)


def numbers_of(run: Run) -> dict[str, Told]:
    """What of `NUMBERS` a finished run has, by what it is called."""
    numbers = {} if run.numbers is None else {k: v for k, v in run.numbers.items() if math.isfinite(v)}
    main, controls = _methods(run.folder)
    path, images = run.folder / "scorecard.csv", dict[str, int]()
    for row in read_table(path) if path.exists() else []:
        key = f"explanation/{row['method']}/{row['score']}"
        images[key] = int(row["images"])
        numbers |= {f"{key}_{end}": row[end] for end in ("low", "high") if row[end] is not None}
    others = {k: f"{k.rpartition('/')[2]} agrees" for k in numbers if k.startswith(f"explanation/{main}/agreement/")}
    others = {k: text for k, text in others.items() if not k.endswith(("_low", "_high"))}
    found = {}
    for pattern, text in (NUMBERS | others).items():
        key = pattern.format(main)
        if key not in numbers:
            continue
        known = {control: pattern.format(control) for control in controls} if "{}" in pattern else {}
        known |= [OF_CHANCE[key]] if key in OF_CHANCE else []
        beside = {name: numbers[k] for name, k in known.items() if k in numbers}
        low, high = (numbers.get(f"{key}_{end}", math.nan) for end in ("low", "high"))
        found[text] = Told(numbers[key], low, high, images.get(key), beside)
    return found


def _methods(folder: Path) -> tuple[str, list[str]]:
    """The names of a run's main method and of its controls; "" where that is not known."""
    path = folder / "artifacts.json"
    made: Mapping[str, Mapping[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    told = [(of["method"], of["role"]) for of in made.values() if "role" in of]
    return next((name for name, role in told if role == "main"), ""), [n for n, role in told if role == "control"]


def _over_seeds(runs: Sequence[Run], columns: Sequence[Column], keys: Sequence[str]) -> Table | None:
    """Mean and 95% interval (Student's t) over the seeds of each setting; None where each has but one."""
    groups: dict[tuple[str, ...], list[Column]] = {}
    for run, column in zip(runs, columns, strict=True):
        groups.setdefault(tuple(run.settings.get(key, "") for key in keys), []).append(column)
    if all(len(own) < 2 for own in groups.values()):
        return None
    names = list(dict.fromkeys(name for column in columns for name in column.numbers))
    rows = [
        [" ".join(map(without_folders, setting)) or "all", len(own), *(_mean(own, name) for name in names)]
        for setting, own in groups.items()
    ]
    note = "Means over seeds, with their 95% interval (Student's t) where there are three seeds or more."
    return Table("Each setting", [" ".join(keys) or "setting", "seeds", *names], rows, note)


def _mean(columns: Sequence[Column], name: str) -> Cell | None:
    values = [column.numbers[name].value for column in columns if name in column.numbers]
    if not values:
        return None
    mean, low, high = t_interval(values)
    interval = f" [{number(low)}, {number(high)}]" if len(values) >= FEWEST_SEEDS and low < high else ""
    return Cell(number(mean) + interval, mean)
