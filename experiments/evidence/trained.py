"""What the studies of this folder share: the sets of images, generators that one half of the patients trained, and what
every axis of their codes does.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from medlat.config.build import plain
from medlat.config.locate import config_dir
from medlat.core.spaces import Directions
from medlat.core.statistics import nan_mean
from medlat.core.store import Artifact
from medlat.core.tables import read_table, write_table
from medlat.data.duplicates import without_copies
from medlat.data.splits import Split
from medlat.evaluation.readout import centre_and_scale
from medlat.evaluation.traversal import traverse
from medlat.steps import builders
from medlat.steps.base_codes import encoded, one_of_each, principal_axes
from medlat.steps.data import Images
from medlat.steps.directions import FoundDirections
from medlat.steps.generator import Generator
from medlat.steps.step import Context, Step
from medlat.study.pipeline import plan

SETS = {
    "lungs": "data=ct_dicom data.source._target_=sources.Tagged data.root={data}/ct_tcga_luad",
    "tiles": "data=image_folder data.root={data}/histology_lc25000 measure=[colour,stain,texture]",
    "knees": "data=radiographs data.root={data}/knee_oa measure=[knee,grey]",
}
METHODS = ("ica", "pca", "sefa", "measured", "coordinate", "random")
CODES = 48  # held-out images that are moved
REAL = 512  # held-out images that say how measurements vary


def parser(doc: str | None, images: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the real images")
    parser.add_argument("--store", default="outputs/store")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--images", type=int, default=images, help="shown while a generator is trained")
    parser.add_argument("--threads", type=int)
    return parser


def composed(name: str, asked: argparse.Namespace, seed: int, further: str = "") -> Any:
    """The configuration of one training."""
    overrides = ["+experiment=ct_vae_sefa", *SETS[name].format(data=Path(asked.data).resolve()).split()]
    overrides += [f"+directions@compared.{m}={m}" for m in METHODS if m not in ("sefa", "coordinate", "random")]
    overrides += [f"compared.{m}.samples=1024" for m in ("pca", "measured")]
    overrides += [f"generator.training.images={asked.images}", f"store={Path(asked.store).resolve()}", f"seed={seed}"]
    overrides += [f"trainer.threads={asked.threads or 'null'}", "logger=none", *further.split()]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("config", overrides=overrides)


class Nobody:
    """Whom the curves are told to, which the store keeps too."""

    def replay(self, records: list) -> None: ...

    def image(self, *_: Any) -> None: ...

    def result(self, *_: Any) -> None: ...

    def has(self, *_: Any) -> bool:
        return True


class Half(Step):
    """Leaves a split: the same patients are held out always, the others are cut in two; one half trains, the other is
    what `validation` holds. half: 0 or 1.
    """

    name = "split"
    needs = ("images",)

    def __init__(self, half: int) -> None:
        self.half = half

    def settings(self, config: Any) -> dict[str, Any]:
        return plain(config.data.split) | {"half": self.half}

    def identity(self, artifact: Artifact) -> str:
        return hashlib.sha256((artifact.path / "split.json").read_bytes()).hexdigest()[:16]

    def run(self, context: Context, out: Path) -> None:
        asked, patient = context.config.data.split, context.images.patient
        people = np.random.default_rng(asked.seed).permutation(np.unique(patient))
        held_out, others = np.split(people, [round(asked.test * len(people))])
        train, rest = others[self.half :: 2], others[1 - self.half :: 2]
        parts = Split(*(np.flatnonzero(np.isin(patient, part)) for part in (train, rest, held_out)))
        without_copies(context.images.images, parts).save(out / "split.json")


def trained(config: Any, half: int) -> tuple[Context, dict[str, Directions]]:
    """A context with a generator that one half of the patients trained, and the directions of every method."""
    builders.hardware(config).limit_threads()
    context = plan(config).context
    context.tracker = Nobody()
    for step in (Images(), Half(half), Generator(config)):
        context.made(step)
    for method in context.methods:
        context.made(FoundDirections(method))
    return context, {method.name: context.directions(method) for method in context.methods}


@dataclass(frozen=True)
class Axes:
    """What a generator's codes do along their principal axes, from the same held-out images for all.

    axes: [A, D], spread: [A] of training images' codes. seen: [A, pixels of all images], how the images differ between
    a step up and one down; measured: [A, Q], how measurements do, mean over patients, in standard deviations over real
    images.
    """

    axes: np.ndarray
    spread: np.ndarray
    seen: np.ndarray
    measured: np.ndarray

    def parts(self, directions: Directions) -> np.ndarray:
        """[K, A]: how many steps along each axis a unit of each direction is."""
        return directions.vectors.flatten(1).double().numpy() @ self.axes.T / self.spread


def axes_of(context: Context) -> Axes:
    """Effects of a step (one standard deviation of training images' codes to either side) along each principal axis."""
    model, parts, spec = context.generator(), context.split, context.spec
    space = next(iter(model.spaces.values()))
    rows = one_of_each(parts.test, context.images.patient[parts.test], CODES, seed=0)
    found, known = (encoded(context, model, space.name, which) for which in (rows, parts.train))
    assert found is not None, "a generator without an encoder"
    assert known is not None
    axes, spread = principal_axes(known.flatten(1).double().numpy())
    measurements = builders.measurements(context.config)
    spaced = parts.test[np.unique(np.linspace(0, len(parts.test) - 1, REAL).astype(int))]
    scale = centre_and_scale(measurements.measure(context.images.physical(spaced, spec), spec.spacing_mm))[1]
    vectors = torch.from_numpy(axes).float().reshape(len(axes), *space.shape)
    along = Directions(vectors, torch.zeros(len(axes)), [""] * len(axes), "axes", space)
    seen, measured = [], []
    for images in traverse(model, along, found, [-1.0, 1.0], torch.from_numpy(spread).float()):
        values = measurements.of(images.flatten(0, 1), spec).reshape(len(rows), 2, -1)
        slopes = (values[:, 1] - values[:, 0]) / 2.0 / scale
        seen.append((images[:, 1] - images[:, 0]).flatten().numpy())
        measured.append(nan_mean(slopes))
    return Axes(axes, spread, np.stack(seen), np.stack(measured))


def put(path: Path, rows: list[dict[str, Any]], key: str) -> None:
    """Rows into a CSV, in the place of those that have the same value in the column `key`."""
    old = read_table(path) if path.exists() else []
    fresh = {row[key] for row in rows}
    write_table(path, [row for row in old if row[key] not in fresh] + rows)
