"""The report: tables, figures and the page of a run."""

import csv
import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from medlat.config.build import plain
from medlat.core.files import copy_whole, write_whole
from medlat.core.records import read_records
from medlat.core.statistics import FEWEST_GROUPS
from medlat.core.store import Recipe, hash_of
from medlat.core.tables import read_table
from medlat.core.version import PACKAGE
from medlat.data.account import Line, account_of
from medlat.data.image_store import groups_of
from medlat.evaluation import copying
from medlat.evaluation.naming import UNMEASURED, verdict
from medlat.generators.gan.collapse import COLLAPSED
from medlat.report.card import Card
from medlat.report.delivery import deliver, leave_no_page
from medlat.report.readers import read_kept
from medlat.report.rendering import Look
from medlat.steps import builders
from medlat.steps.generator import curves, grids, said_of
from medlat.steps.measurements import read_numbers
from medlat.steps.methods import PERMUTED, lacks_permuted
from medlat.steps.own_classifier import stochastic
from medlat.steps.step import Context, Step

log = logging.getLogger(__name__)

BECAME = {  # of the account's lines, what is said on top of the page
    "damaged": "files left out",
    "copy": "images left out of the training",
    "read": "images with a remark",
}
PHANTOM = "Phantom data: computed images stand in for patients."
BROUGHT = "The generator was brought: whether it has learnt from patients that are held out here is not known."
NOT_TRAINED_ANEW = "The classifier was brought, and cannot be trained anew: no control of permuted labels."


def report(context: Context, steps: Sequence[Step], folder: Path) -> None:
    """Reads what the steps left; leaves tables, figures and the page in the run's folder, and mirrors them to W&B."""
    config, tracker, spec, main = context.config, context.tracker, context.spec, context.main
    found = context.folder("evaluation")
    tracker.result(read_numbers(found / "metrics.json"))
    copy_whole(context.folder(main.step) / "directions.safetensors", folder)
    for table in ("semantics", "names"):
        copy_whole(found / f"{table}.csv", folder)
    environment = json.loads((folder / "environment.json").read_text())
    generator = context.artifacts["generator"]
    training = [vars(record) for record in read_records(curves(generator))]
    info = json.loads((context.folder("images") / "slices.json").read_text())
    lines = account_of(info, len(context.split.copies))
    measured = builders.measurements(config).measurements
    explained = context.folder("explanation") if "explanation" in context.artifacts else None
    if explained is not None:
        tracker.result(_explanation(context, folder))
    for step in steps:
        if step.section is not None and (own := context.folder(step.name) / "metrics.json").exists():
            tracker.result({f"{step.name}/{key}": value for key, value in read_numbers(own).items()})
    asked: dict[str, Any] = {
        "about": f"Run {config.name}; directions by {main.name}.",
        "warnings": warnings_of(context, config),
        "account": lines,
        "kept": read_kept(folder),
        "controls": [method.name for method in context.methods if method.role == "control"],
        "measurements": [(m.name, m.unit, m.factor) for m in measured],
        "described": {m.name: m.description for m in measured},
        **{name: config.report[name] for name in ("directions", "gifs", "pdf")},
        "active_kl": config.evaluation.active_kl,
    }
    window = builders.display_window(config)

    def draw(out: Path) -> None:
        from medlat.report.compile import Inputs, compile_report

        inputs = Inputs(
            evaluation=found,
            fidelity=context.folder("fidelity"),
            semantics={method.name: context.folder(f"semantics/{method.name}") for method in context.methods},
            curves=training,
            grids={shown: spec.pictures(x) for shown, x in grids(generator).items()},
            look=Look(builders.modality(config), window, config.report.dpi, info["groups"]),
            run={},
            explanation=explained,
            explained=context.folder(f"explanation/{main.name}") if explained else None,
            classifier=context.folder("classifier") if explained else None,
            **asked,
        )
        compile_report(inputs, out)

    write_whole(folder / "model_card.md", _card(context, folder, asked["warnings"], environment, info).text())
    if config.report.page:
        inputs = {name: artifact.key for name, artifact in context.artifacts.items()}
        recipe = Recipe("report", asked | {"window": list(window), "dpi": config.report.dpi}, inputs, {"code": code()})
        drawn = context.store.make(recipe, draw)
        tracker.images("figures", deliver(drawn.path, folder, run_facts(environment, info)))
        log.info("report: %s", folder / "report" / "index.html")
    else:
        leave_no_page(folder)
        log.info("report: tables only (report.page=false), in %s", folder)
    for table in ("semantics", "names", "scorecard", "alignment", "audit", "by_catch"):
        if (folder / f"{table}.csv").exists():
            tracker.table(table, _table(folder / f"{table}.csv"))
    tracker.artifact(f"{config.name}-directions", "directions", folder / "directions.safetensors")


def warnings_of(context: Context, config: DictConfig) -> list[str]:
    """What whoever reads of a run must know first. config: of the run, with its own data source."""
    generator = context.artifacts["generator"]
    info = _json(context.folder("images") / "slices.json")
    fidelity = read_numbers(context.folder("fidelity") / "metrics.json")
    return [
        *_warnings(config, info, account_of(info, len(context.split.copies))),
        *_small_numbers(read_numbers(context.folder("evaluation") / "metrics.json"), info["groups"]),
        *_training_warnings([vars(record) for record in read_records(curves(generator))]),
        *said_of(generator),
        *([BROUGHT] if builders.is_imported(config) else []),
        *filter(None, [copying.warning(fidelity, info["modality"]["noun"])]),
        *(_classifier_warnings(context.folder("classifier")) if "classifier" in context.artifacts else []),
        *([NOT_TRAINED_ANEW] if lacks_permuted(config) else []),
    ]


def _card(
    context: Context, folder: Path, warnings: Sequence[str], environment: Mapping[str, Any], info: Mapping[str, Any]
) -> Card:
    """The model card, of what the steps left and the run's folder holds."""
    config, names, patient = context.config, read_table(folder / "names.csv"), context.images.patient
    own = [row for row in names if row["method"] == context.main.name]
    split = context.split
    parts = {"training": split.train, "validation": split.validation, "held out": split.test}
    numbers = {**read_numbers(context.folder("fidelity") / "metrics.json")}
    finding = UNMEASURED
    if builders.measurements(config).measurements:
        finding = verdict(names, context.main.name, [m.name for m in context.methods if m.role == "control"])
    if "explanation" in context.artifacts:
        finding = _json(context.folder("explanation") / "explanation.json")["sentence"]
        numbers |= {f"classifier/{k}": v for k, v in _json(context.folder("classifier") / "quality.json").items()}
    return Card(
        name=config.name,
        finding=finding,
        warnings=warnings,
        network=network if isinstance(network := plain(config.generator).get("network"), dict) else {},
        noun=info["modality"]["noun"],
        kind=info["modality"]["name"],
        size=context.spec.height,
        images=info["slices"],
        groups=len(info["patients"]),
        whose=info["groups"],
        parts={part: (len(rows), len(np.unique(patient[rows]))) for part, rows in parts.items()},
        directions=own,
        numbers=numbers,
        facts=run_facts(environment, info),
    )


@cache
def code() -> str:
    """A hash of all that may change how a report looks: medlat's own source, and what draws."""
    root = PACKAGE
    files = [path for path in sorted(root.rglob("*")) if path.suffix in (".py", ".j2", ".css", ".js")]
    libraries = [version(name) for name in ("matplotlib", "numpy", "pillow", "fonttools", "jinja2")]
    sources = [[path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    return hash_of([libraries, sources])


def _explanation(context: Context, folder: Path) -> dict[str, float]:
    """The scorecard, the audit and the by-catch go to the run's folder. Returns the numbers of the explanation, the
    classifiers and the inversion.

    Times stay in the tables: the same run again has the same numbers.
    """
    found = context.folder("explanation")
    for table in ("scorecard", "alignment", "audit", "by_catch"):
        if (found / f"{table}.csv").exists():
            copy_whole(found / f"{table}.csv", folder)
    numbers = {f"explanation/{k}": v for k, v in _json(found / "metrics.json").items()}
    for role in context.artifacts:
        if role in ("classifier", PERMUTED) or role.startswith("classifier/"):
            numbers |= {f"{role}/{k}": v for k, v in _json(context.folder(role) / "quality.json").items()}
    for row in _table(found / "scorecard.csv"):
        if row["score"] == "seconds":
            continue
        numbers[f"explanation/{row['method']}/{row['score']}"] = float(row["value"])
    for row in _table(context.folder("inversion") / "methods.csv"):
        numbers |= {f"inversion/{row['method']}/{k}": float(row[k]) for k in ("psnr", "ms_ssim")}
    return numbers


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run_facts(environment: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, str]:
    """What was run, as it stands below a page. environment: of environment.json; info: of slices.json."""
    return {
        "command": environment["command"],
        "data": f"{info['slices']:,} {info['modality']['noun']}s of {groups_of(info)}",
        "seed": str(environment["seed"]),
        "device": f"{environment['device']}, {environment['cores']} cores, {environment['precision']}",
        "medlat": f"{environment['medlat']} ({(environment['commit'] or 'wheel')[:12]})",
        "torch": environment["libraries"]["torch"],
        "date": time.strftime("%Y-%m-%d"),
    }


def _warnings(config: DictConfig, info: Mapping[str, Any], lines: Sequence[Line]) -> list[str]:
    found = []
    patients = len(info["patients"])
    if builders.is_phantom(config):
        found.append(PHANTOM)
    elif patients < 20:
        found.append(f"Only {groups_of(info)}: numbers on held-out images say little about others.")
    if config.data.split.by == "slab":
        found.append(f"Training and held-out images are of the same {info['groups']}: the results flatter.")
    found += [f"Data: {line.number:,} {BECAME[line.what]}: {line.reason}." for line in lines if line.what in BECAME]
    return found


def _small_numbers(numbers: Mapping[str, float], groups: str) -> list[str]:
    """What effects are measured from, where that is little or not real."""
    found = []
    for name, patients in numbers.items():
        if not name.startswith("base_codes/"):
            continue
        space = name.split("/")[1]
        if patients == 0.0:
            found.append(
                f"Directions in {space} are measured from samples of the generator, as no image can be encoded there."
            )
        elif patients < FEWEST_GROUPS:
            found.append(
                f"Directions (of the space {space}) are measured on {patients:.0f} held-out {groups}: too few for "
                f"intervals, and other {groups} may differ."
            )
    return found


def _classifier_warnings(folder: Path) -> list[str]:
    numbers = _json(folder / "quality.json")
    if "repeats" not in numbers:
        return []
    return [f"The classifier: {stochastic(numbers['differs'], int(numbers['repeats']))}."]


def _training_warnings(records: list[dict[str, Any]]) -> list[str]:
    spreads = [record["value"] for record in records if record["name"] == "validation/spread"]
    if not spreads or spreads[-1] >= COLLAPSED:
        return []
    return [f"The generator has collapsed: its images differ by {spreads[-1]:.2f} of what real ones do."]
