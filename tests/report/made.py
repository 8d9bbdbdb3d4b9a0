"""Folders as the stages leave them, with tiny images, for the tests of the report."""

import csv
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.stains import stained
from medlat.data.modality import CT, GREY, HISTOLOGY
from medlat.evaluation.atlas import agreement, atlas
from medlat.evaluation.naming import Named
from medlat.evaluation.semantics import Effect
from medlat.explain import scorecard
from medlat.explain.scorecard import ALONE, SCORES
from medlat.phantoms.ct.source import render
from medlat.report.compile import Inputs
from medlat.report.rendering import Look

STEPS = [-2.0, -1.0, 0.0, 1.0, 2.0]
METHODS = {"linear": 1.0, "svm": 0.8, "random": 0.0}  # how much a step moves the logit
LOOKS = {
    kind.unit: Look(kind, window)
    for kind, window in ((CT, (-1000.0, 400.0)), (GREY, (0.0, 255.0)), (HISTOLOGY, (0.0, 255.0)))
}


def picture(unit: str, step: float, seed: int, side: int = 16) -> np.ndarray:
    """[side, side(, 3)]: a chest whose heart, or tissue whose nuclei, grow with the step."""
    if unit == "HU":
        return render({"heart_size": 1.0 + 0.1 * step}, side, noise_hu=0.0, noise_seed=seed).hu
    rows, columns = np.mgrid[:side, :side]
    places = np.random.default_rng(seed).uniform(0, side, (4, 2))
    squared = np.min([(rows - y) ** 2 + (columns - x) ** 2 for y, x in places], axis=0)
    nuclei = 0.8 * np.exp(-squared / (3.0 + step))
    if unit == "grey":
        return (255.0 * nuclei).astype(np.float32)
    return stained(np.stack([nuclei + 0.05, np.full_like(nuclei, 0.3), np.zeros_like(nuclei)], axis=-1))


def pictures(unit: str, count: int, side: int = 16) -> np.ndarray:
    """[count, S, side, side(, 3)]."""
    return np.stack([[picture(unit, step, seed, side) for step in STEPS] for seed in range(count)]).astype(np.float32)


def logistic(values: Any) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.asarray(values)))


def explanation(folder: Path, unit: str = "HU", images: int = 4, saliency: bool = True, side: int = 16) -> Path:
    """All that the explanation stage leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    _series(folder, unit, images, saliency, side)
    start = np.linspace(-1.5, 1.5, 20)[:, None]
    responses = {method: logistic(start + pull * np.array(STEPS)) for method, pull in METHODS.items()}
    np.savez(folder / "responses.npz", steps=STEPS, **responses)
    curves = [row.row() for m, x in responses.items() for row in scorecard.responses(m, x, STEPS, np.arange(20))]
    table(folder / "response_curves.csv", curves)
    table(folder / "scorecard.csv", scores(unit))
    far = {method: np.linspace(0.0, 2.0 - pull, 20) for method, pull in METHODS.items()}
    table(
        folder / "flip_curves.csv", [r.row() for m, x in far.items() for r in scorecard.flip_curve(m, x, np.arange(20))]
    )
    methods = {"encoder": (24.0, 0.01), "hybrid": (30.0, 1.1)}
    rows = [{"method": m, "psnr": p, "ms_ssim": 0.9, "drift": 0.05, "seconds": s} for m, (p, s) in methods.items()]
    table(folder / "inversion.csv", rows)
    facts = {
        "method": "linear", "target": "nodule", "threshold": 0.5, "probability": True,
        "classes": ["healthy", "nodule"], "controls": ["random"],
        "exposed": {"moves_most": "table height", "share": 0.612, "named": True},
        "features": "factors",
        "followed": [{"method": m, "name": None if m == "random" else "heart +3 mm/σ", "range": 3.0} for m in METHODS],
        "links": [{"name": "the image comes back", "holds": 0.62, "told": "62% of 64 images keep their side"}],
        "sentence": "Nine of ten images change side.",
    }  # fmt: skip
    (folder / "explanation.json").write_text(json.dumps(facts))
    return folder


def _series(folder: Path, unit: str, images: int, saliency: bool, side: int) -> None:
    series = pictures(unit, images, side)
    start = np.linspace(-2.0, 2.0, images)
    rng = np.random.default_rng(0)
    last = {
        "counterfactual": np.where((start < 0).reshape(-1, *[1] * (series.ndim - 2)), series[:, -1], series[:, 0]),
        "counterfactual_step": np.where(start < 0, 2.0, -2.0),
        "counterfactual_prediction": logistic(start + np.where(start < 0, 2.0, -2.0)),
        "reached": np.arange(images) != 1,
        "shown": np.arange(images),
    }
    maps = {f"saliency_{name}": rng.random((images, side, side)) for name in ("gradcam", "gradcampp")}
    maps["saliency_occlusion"] = rng.normal(size=(images, side, side))
    labels = np.where(np.arange(images) == 2, math.nan, (start > 0).astype(float))
    predictions = logistic(start[:, None] + np.array(STEPS))
    np.savez(
        folder / "series.npz", images=series, steps=STEPS, predictions=predictions, real=series[:, 2],
        real_prediction=logistic(start), label=labels, **last, **(maps if saliency else {}),
    )  # fmt: skip
    values = LOOKS[unit].scalar(series).mean(axis=0)
    np.savez(folder / "mean_effect.npz", images=series.mean(axis=0), difference=values - values[2])
    np.savez(
        folder / "inversion.npz", real=series[:, 2], decoded=series[:, 3], psnr=np.linspace(20, 30, images),
        prediction_real=logistic(start), prediction_decoded=predictions[:, 2],
    )  # fmt: skip


def scores(unit: str = "HU") -> list[dict]:
    """Rows of scorecard.csv: 0.9 for the methods, 0.2 for the control."""
    rows = []
    for method in METHODS:
        value = 0.2 if method == "random" else 0.9
        shared = {"method": method, "value": value, "low": value - 0.05, "high": value + 0.05}
        for score in SCORES:
            key = f"{score.key}/second" if score.absent == ALONE else score.key
            named = {"score": key, "unit": unit if score.unit == "image" else score.unit}
            rows.append(shared | named | {"better": score.better, "control": method == "random", "images": 20})
    return rows


def classifier(folder: Path) -> Path:
    """All that the classifier's stage leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    quality = {"auc": 0.943, "auc_low": 0.911, "auc_high": 0.968, "accuracy": 0.9, "brier": 0.08, "ece": 0.031}
    (folder / "quality.json").write_text(json.dumps(quality))
    rows = [
        {"low": i / 10, "high": i / 10 + 0.1, "predicted": i / 10 + 0.05, "observed": i / 10, "count": i}
        for i in range(10)
    ]
    table(folder / "reliability.csv", rows)
    return folder


def evaluation(folder: Path, unit: str = "HU", side: int = 16) -> Path:
    """All that the evaluation of two directions and a control leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    images = pictures(unit, 2, side)
    rows = []
    for method in ("linear", "random"):
        (folder / method).mkdir(exist_ok=True)
        np.savez(folder / method / "traversal.npz", images=images, steps=STEPS, values=np.ones((2, len(STEPS), 1)))
        effect = {"effect": 3.0, "effect_low": 2.0, "effect_high": 4.0, "standardised": 0.9, "share": 0.6, "r2": 0.9}
        shared = {"method": method, "measurement": "heart", "unit": "mm", "kind": "measurement"} | effect
        rows += [shared | {"direction": f"{method} {k:02d}"} for k in range(2)]
    table(folder / "semantics.csv", rows)
    np.savez(folder / "images.npz", real=images[:, 2], samples=images[:, 4])
    numbers = {f"semantics/{m}/measurement_{k}": 0.5 for m in ("linear", "random") for k in
               ("purity", "purity_low", "purity_high", "coverage", "gain", "gain_low", "gain_high")}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(numbers))
    discovered(folder, [Effect.from_row(row) for row in rows])
    return folder


def inputs(folder: Path, unit: str, **more: Any) -> Inputs:
    """Of a report of two directions and a control; more: of an explanation."""
    return Inputs(
        evaluation=(found := evaluation(folder / "evaluation", unit)), fidelity=found,
        semantics={name: found / name for name in ("linear", "random")},
        curves=[], grids={}, controls=["random"],
        measurements=[("heart", "mm", None)], described={"heart": "its width, <side to side>"},
        look=LOOKS[unit], directions=2, gifs=1, active_kl=0.1,
        about="Run x.", run={}, **more,
    )  # fmt: skip


def discovered(folder: Path, rows: list[Effect]) -> None:
    """What directions are: names, the atlas and the editing range, by what makes them in a run."""
    labels = list(dict.fromkeys((row.method, row.direction) for row in rows))
    axes = np.eye(len(labels))
    found = atlas([("z", axis) for axis in axes], rows, "measurement")
    named = [
        Named(
            row.method,
            row.direction,
            1,
            "heart +3 mm/σ",
            row.measurement,
            "",
            row.share,
            0.7,
            row.r2,
            0.6,
            0.01,
            3.0,
            1.0,
        )
        if row.method != "random"
        else Named(
            row.method, row.direction, 1, "unnamed", "heart", "no straight line", 0.4, 0.1, 0.2, 0.1, 1.0, 3.0, 0.0
        )
        for row in rows
    ]
    table(folder / "names.csv", [asdict(n) for n in named])
    table(folder / "atlas.csv", [asdict(place) for place in found.places])
    table(folder / "agreement.csv", agreement(found))
    np.savez(folder / "atlas.npz", angles=found.angles, effects=found.effects, order=found.order)
    steps = [{"step": s, "distance": 0.5 + abs(s), "range": 0.5} for s in (-1.0, 0.0, 1.0)]
    table(folder / "editing.csv", [{"method": m, "direction": d} | step for m, d in labels for step in steps])


def table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
