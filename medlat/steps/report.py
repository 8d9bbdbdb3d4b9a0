"""The report: tables, figures and the page of a run."""

import csv
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medlat.core.files import copy_whole
from medlat.core.records import read_records
from medlat.generators.gan.collapse import COLLAPSED
from medlat.report.rendering import Look
from medlat.steps import builders
from medlat.steps.data import Made, load_data
from medlat.steps.generator import curves, grids
from medlat.study.places import ORACLE

log = logging.getLogger(__name__)

FEW_CODES = 20  # of an interval over base codes


def report(config: DictConfig, methods: Mapping[str, DictConfig], made: Made, tracker: Any, folder: Path) -> None:
    """Reads the evaluation; leaves tables, figures and the page in the run's folder, and mirrors them to W&B."""
    from medlat.report.compile import Inputs, compile_report

    found = made["evaluation"].path
    numbers = json.loads((found / "metrics.json").read_text())
    tracker.result({name: math.nan if value is None else value for name, value in numbers.items()})
    copy_whole(made["directions"].path / "directions.safetensors", folder)
    for table in ("semantics", "names"):
        copy_whole(found / f"{table}.csv", folder)
    environment = json.loads((folder / "environment.json").read_text())
    training = [vars(record) for record in read_records(curves(made["generator"]))]
    _, _, spec = load_data(config, made)
    info = json.loads((made["slices"].path / "slices.json").read_text())
    measurements = [(m.name, m.unit, m.factor) for m in builders.measurements(config).measurements]
    explained = made["explanation"].path if "explanation" in made else None
    if explained is not None:
        tracker.result(_explanation(made, folder))
    inputs = Inputs(
        evaluation=found,
        curves=training,
        grids={shown: spec.pictures(x) for shown, x in grids(made["generator"]).items()},
        controls=[place.removeprefix("controls/") for place in methods if place.startswith("controls/")],
        measurements=measurements,
        look=Look(builders.modality(config), builders.display_window(config)),
        directions=config.report.directions,
        gifs=config.report.gifs,
        active_kl=config.evaluation.active_kl,
        title=f"{config.name}: {'what the classifier looks at' if explained else 'what the latent directions mean'}",
        run=_run_facts(environment, info),
        warnings=_warnings(config, info) + _training_warnings(training),
        explanation=explained,
        classifier=made["classifier"].path if explained else None,
    )
    pictures = compile_report(inputs, folder)
    tracker.images("figures", pictures)
    for table in ("semantics", "names", "scorecard"):
        if (folder / f"{table}.csv").exists():
            tracker.table(table, _table(folder / f"{table}.csv"))
    tracker.artifact(f"{config.name}-directions", "directions", folder / "directions.safetensors")
    log.info("report: %s", folder / "report" / "index.html")


def _explanation(made: Made, folder: Path) -> dict[str, float]:
    """The scorecard goes to the run's folder. Returns its numbers, those of the classifier and of the inversion.

    Times stay in the tables: the same run again has the same numbers.
    """
    found = made["explanation"].path
    copy_whole(found / "scorecard.csv", folder)
    numbers = {f"explanation/{k}": v for k, v in _json(found / "metrics.json").items()}
    for place in ("classifier", "shuffled", ORACLE):
        if place in made:
            numbers |= {f"{place}/{k}": v for k, v in _json(made[place].path / "quality.json").items()}
    for row in _table(found / "scorecard.csv"):
        if row["score"] == "seconds":
            continue
        numbers[f"explanation/{row['method']}/{row['score']}"] = float(row["value"])
    for row in _table(made["inversion"].path / "methods.csv"):
        numbers |= {f"inversion/{row['method']}/{k}": float(row[k]) for k in ("psnr", "ms_ssim")}
    return numbers


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _run_facts(environment: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, str]:
    return {
        "command": environment["command"],
        "data": f"{info['slices']:,} {info['modality']['noun']}s of {len(info['patients']):,} patients",
        "seed": str(environment["seed"]),
        "device": f"{environment['device']}, {environment['cores']} cores, {environment['precision']}",
        "medlat": f"{environment['medlat']} ({(environment['commit'] or 'wheel')[:12]})",
        "torch": environment["libraries"]["torch"],
        "date": time.strftime("%Y-%m-%d"),
    }


def _warnings(config: DictConfig, info: Mapping[str, Any]) -> list[str]:
    found = []
    patients = len(info["patients"])
    if "phantom" in str(config.data.source["_target_"]):
        found.append("Phantom data: computed images stand in for patients.")
    elif patients < 20:
        found.append(
            f"Only {patients} patient{'s' * (patients > 1)}: numbers on held-out slices say little about others."
        )
    if config.evaluation.base_codes < FEW_CODES:
        found.append(f"Only {config.evaluation.base_codes} base codes: the intervals of effects are rough.")
    if config.data.split.by == "slab":
        found.append("Training and held-out slices are of the same patients: the results flatter.")
    if info["damaged"]:
        found.append(f"{info['damaged']} damaged files were left out.")
    return found


def _training_warnings(records: list[dict[str, Any]]) -> list[str]:
    spreads = [record["value"] for record in records if record["name"] == "validation/spread"]
    if not spreads or spreads[-1] >= COLLAPSED:
        return []
    return [f"The generator has collapsed: its images differ by {spreads[-1]:.2f} of what real ones do."]
