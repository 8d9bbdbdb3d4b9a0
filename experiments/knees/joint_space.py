"""Does the joint space move with the prediction as it does with the grade in real knees?
`python experiments/knees/joint_space.py RUN`, of a finished run of `knee_dae_linear`.

Every held-out knee that the run explains is moved along the main direction, and some along each of 200 random ones that
are drawn as codes are (with the sign that raises the prediction), all with their own noise. Joint spaces are measured
at each step, and a line fitted: widths, in % of the tibia, for each unit of the prediction (a grade of an ordinal
classifier, else a logit). Beside it the same slope over real held-out knees, by their prediction and by their grade.
Intervals resample people. Writes joint_space.csv beside this file.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import medlat
from medlat.classifiers.black_box import Target, predict
from medlat.core.statistics import bootstrap
from medlat.core.tables import write_table
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.measure.knee import NAMES, measure
from medlat.steps.classifier import load_target

WIDTHS = ("minimum_width", "medial_width", "lateral_width")
STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)
RANDOM = 200  # directions
OF_EACH = 8  # knees that a random direction is tried on


def main(folder: str) -> None:
    run = medlat.load(folder)
    store = ImageStore.open(run.artifacts["images"].path)
    target = load_target(run.config, run.artifacts["classifier"], run.image)
    with np.load(run.artifacts["inversion"].path / "inversion.npz") as arrays:
        rows = arrays["explained_rows"]
    unit = "logit" if target.is_probability else target.name
    table = [*real(run, store, target, unit), *moved(run, store, target, rows, unit)]
    write_table(Path(__file__).with_suffix(".csv"), table)
    print("| what | width | % of the tibia | 95% | n |\n| --- | --- | ---: | --- | ---: |")
    for row in table:
        value, low, high = (f"{row[name]:.3f}" for name in ("value", "low", "high"))
        print(f"| {row['what']} | {row['width']} | {value} | {low} to {high} | {row['n']} |")


def real(run: medlat.Run, store: ImageStore, target: Target, unit: str) -> list[dict]:
    """The slope of each width over held-out knees, by prediction and by grade."""
    rows = Split.load(run.artifacts["split"].path / "split.json").test
    widths, people = measured(store.fetch(rows, run.image)), store.patient[rows]
    said = target.linear(predict(target, store.fetch(rows, run.image), run.device)).numpy()
    grade = next(iter(store.labels().values()))[rows]
    found = []
    for what, x in ((f"real knees, per {unit}", said), ("real knees, per grade", grade)):
        for number, width in enumerate(WIDTHS):
            known = np.isfinite(widths[:, number])
            value = bootstrap(slope, x[known].astype(float), widths[known, number], people[known])
            found.append(line(what, width, *value, int(known.sum())))
    return found


def slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1)[0])


def mean(x: np.ndarray, _: np.ndarray) -> float:
    return float(x.mean())


def ratio(x: np.ndarray, y: np.ndarray) -> float:
    return float(x.mean() / y.mean())


def moved(run: medlat.Run, store: ImageStore, target: Target, rows: np.ndarray, unit: str) -> list[dict]:
    """What happens along the main direction, and along random ones."""
    images, people = store.fetch(rows, run.image), store.patient[rows]
    codes = run.encode(images)
    noise, along = run.noise(images, codes), run.directions["main"].vectors[0]
    spread = run.generator.sample(4096, run.space.name, torch.Generator().manual_seed(0)).cpu()
    width, said = slopes(run, target, codes, noise, along, spread, STEPS)
    found = []
    for number, name in enumerate(WIDTHS):
        known = np.isfinite(width[:, number])
        for what, metric in (("σ", mean), (unit, ratio)):
            value = bootstrap(metric, width[known, number], said[known], people[known])
            found.append(line(f"along the direction, per {what}", name, *value, int(known.sum())))
    print(f"the prediction rises by {said.mean():.2f} {unit} per σ\n")
    null = random_slopes(run, target, codes, noise, spread)
    for number, name in enumerate(WIDTHS):
        low, middle, high = np.nanpercentile(null[:, number], [2.5, 50.0, 97.5])
        found.append(line("along random directions, per σ", name, middle, low, high, len(null)))
    return found


def slopes(
    run: medlat.Run, target: Target, codes: Tensor, noise: Tensor, vector: Tensor, spread: Tensor, steps: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Of each knee the change per σ along a direction: of widths [N, 3], and of the prediction [N]."""
    far = torch.tensor(steps)[:, None, None] * vector * (spread @ vector).std()
    images = torch.stack([run.decode(codes + move, noise=noise) for move in far])  # [S, N, C, H, W]
    widths = np.stack([measured(part) for part in images])
    said = np.stack([target.linear(predict(target, part, run.device)).numpy() for part in images])
    weights = np.array(steps) / np.square(steps).sum()
    return np.einsum("s,snm->nm", weights, widths), weights @ said


def random_slopes(run: medlat.Run, target: Target, codes: Tensor, noise: Tensor, spread: Tensor) -> np.ndarray:
    """[RANDOM, 3]: the mean change of widths per σ along directions that are drawn as codes are, each on a few knees,
    with the sign that raises the prediction.
    """
    generator, found = torch.Generator().manual_seed(0), []
    for vector in run.generator.sample(RANDOM, run.space.name, generator).cpu():
        some = torch.randperm(len(codes), generator=generator)[:OF_EACH]
        vector = vector / vector.norm()
        widths, said = slopes(run, target, codes[some], noise[some], vector, spread, (-3.0, 3.0))
        found.append(np.sign(said.mean()) * np.nanmean(widths, axis=0))
    return np.array(found)


def measured(images: Tensor) -> np.ndarray:
    """Images [N, 1, H, W] -> the widths, [N, 3] in % of the tibia."""
    return measure(images[:, 0].numpy())[:, [NAMES.index(name) for name in WIDTHS]]


def line(what: str, width: str, value: float, low: float, high: float, n: int) -> dict:
    return {"what": what, "width": width, "value": value, "low": low, "high": high, "n": n}


if __name__ == "__main__":
    main(sys.argv[1])
