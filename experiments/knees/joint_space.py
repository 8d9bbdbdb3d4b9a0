"""Does the joint space move with the prediction as it does with the grade in real knees?

    python experiments/knees/joint_space.py NAME=RUN [NAME=RUN ...]

of finished runs of `knee_dae_linear` with any generator, and any names for them. Every held-out knee that a run
explains is moved along the main direction, and some along each of 200 random ones that are drawn as codes are (with the
sign that raises the prediction), each with its own noise where the generator has such. Joint spaces, in % of the tibia,
and how bright the bone under them is are measured at each step, and a line fitted: for each unit of the prediction (a
grade of an ordinal classifier, else a logit). Beside it the same slope over real held-out knees, by their prediction
and by their grade. Intervals resample people. Puts the rows of each name into joint_space.csv beside this file.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import medlat
from medlat.classifiers.black_box import Target, predict
from medlat.core.statistics import bootstrap
from medlat.core.tables import read_table, write_table
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.inversion.mapping import map_codes
from medlat.measure.knee import NAMES, measure
from medlat.steps.classifier import load_target

RESULTS = Path(__file__).with_suffix(".csv")
ALL = slice(None)
ASKED = ("minimum_width", "medial_width", "lateral_width", "subchondral")
STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)
RANDOM = 200  # directions
OF_EACH = 8  # knees that a random direction is tried on


def main(arguments: list[str]) -> None:
    if not arguments or not all("=" in one for one in arguments):
        sys.exit(__doc__)
    for name, _, folder in (one.partition("=") for one in arguments):
        rows = [{"generator": name} | row for row in rows_of(folder)]
        before = read_table(RESULTS) if RESULTS.exists() else []
        write_table(RESULTS, [row for row in before if row["generator"] != name] + rows)
        print(f"\n{name}\n\n| what | of | change | 95% | n |\n| --- | --- | ---: | --- | ---: |")
        for row in rows:
            value, low, high = (f"{row[key]:.3f}" for key in ("value", "low", "high"))
            print(f"| {row['what']} | {row['measurement']} | {value} | {low} to {high} | {row['n']} |")


def rows_of(folder: str) -> list[dict]:
    run = medlat.load(folder)
    store = ImageStore.open(run.artifacts["images"].path)
    target = load_target(run.config, run.artifacts["classifier"], run.image)
    with np.load(run.artifacts["inversion"].path / "inversion.npz") as arrays:
        rows = arrays["explained_rows"]
    unit = "logit" if target.is_probability else target.name
    return [*real(run, store, target, unit), *moved(run, store, target, rows, unit)]


def real(run: medlat.Run, store: ImageStore, target: Target, unit: str) -> list[dict]:
    """The slope of each measurement over held-out knees, by prediction and by grade."""
    rows = Split.load(run.artifacts["split"].path / "split.json").test
    values, people = measured(store.fetch(rows, run.image)), store.patient[rows]
    said = target.linear(predict(target, store.fetch(rows, run.image), run.device)).numpy()
    grade = next(iter(store.labels().values()))[rows]
    found = []
    for what, x in ((f"real knees, per {unit}", said), ("real knees, per grade", grade)):
        for number, name in enumerate(ASKED):
            known = np.isfinite(values[:, number])
            value = bootstrap(slope, x[known].astype(float), values[known, number], people[known])
            found.append(line(what, name, *value, int(known.sum())))
    return found


def slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1)[0])


def mean(x: np.ndarray, _: np.ndarray) -> float:
    return float(x.mean())


def ratio(x: np.ndarray, y: np.ndarray) -> float:
    return float(x.mean() / y.mean())


def moved(run: medlat.Run, store: ImageStore, target: Target, rows: np.ndarray, unit: str) -> list[dict]:
    """What happens along the main direction, and along random ones."""
    people = store.patient[rows]
    way = Way.of(run, store.fetch(rows, run.image))
    change, said = way.slopes(target, way.main, STEPS)
    found = []
    for number, name in enumerate(ASKED):
        known = np.isfinite(change[:, number])
        for what, metric in (("σ", mean), (unit, ratio)):
            value = bootstrap(metric, change[known, number], said[known], people[known])
            found.append(line(f"along the direction, per {what}", name, *value, int(known.sum())))
    found.append(
        line("along the direction, per σ", f"prediction, {unit}", *bootstrap(mean, said, said, people), len(said))
    )
    null = way.random_slopes(target)
    for number, name in enumerate(ASKED):
        low, middle, high = np.nanpercentile(null[:, number], [2.5, 50.0, 97.5])
        found.append(line("along random directions, per σ", name, middle, low, high, len(null)))
    return found


@dataclass(frozen=True)
class Way:
    """Codes [N, *shape] of knees, the noise that belongs to each, and the main direction in their space."""

    run: medlat.Run
    space: str
    codes: Tensor
    noise: Tensor | None
    main: Tensor  # [*shape]

    @classmethod
    def of(cls, run: medlat.Run, images: Tensor) -> "Way":
        """Images, put into the latent space as the run did it."""
        _, found = run.invert(images)
        way = run.way(run.directions["main"].names[0])
        codes = map_codes(run.generator, found.codes, run.space.name, way.space.name)
        return cls(run, way.space.name, codes, found.noise, way.vectors[0])

    @property
    def spread(self) -> Tensor:
        """[N, D] how far each code lies from their mean."""
        flat = self.codes.flatten(1)
        return flat - flat.mean(0)

    def slopes(self, target: Target, vector: Tensor, steps: tuple, some: Tensor | slice = ALL) -> tuple:
        """Of each knee the change per σ along a direction: of what is measured [N, 4], and of the prediction [N]."""
        vector = vector / vector.norm()
        sigma = (self.spread @ vector.flatten()).std()
        noise = None if self.noise is None else self.noise[some]
        moved = [self.run.decode(self.codes[some] + step * sigma * vector, self.space, noise) for step in steps]
        change = np.stack([measured(images) for images in moved])
        said = np.stack([target.linear(predict(target, images, self.run.device)).numpy() for images in moved])
        weights = np.array(steps) / np.square(steps).sum()
        return np.einsum("s,snm->nm", weights, change), weights @ said

    def random_slopes(self, target: Target) -> np.ndarray:
        """[RANDOM, 4]: the mean change per σ along directions with the codes' own covariance, each on a few knees, with
        the sign that raises the prediction.
        """
        generator, found = torch.Generator().manual_seed(0), []
        drawn = torch.randn(RANDOM, len(self.codes), generator=generator) @ self.spread
        for vector in drawn.reshape(RANDOM, *self.codes.shape[1:]):
            some = torch.randperm(len(self.codes), generator=generator)[:OF_EACH]
            change, said = self.slopes(target, vector, (-3.0, 3.0), some)
            found.append(np.sign(said.mean()) * np.nanmean(change, axis=0))
        return np.array(found)


def measured(images: Tensor) -> np.ndarray:
    """Images [N, 1, H, W] -> what is asked of them, [N, 4]."""
    return measure(images[:, 0].numpy())[:, [NAMES.index(name) for name in ASKED]]


def line(what: str, measurement: str, value: float, low: float, high: float, n: int) -> dict:
    return {"what": what, "measurement": measurement, "value": value, "low": low, "high": high, "n": n}


if __name__ == "__main__":
    main(sys.argv[1:])
