"""How well generators hold images that they have not seen: real CT, histology, knees, pneumonia, and both phantoms.

    python experiments/real_images/study.py --data ../shared/data --store outputs/store [--sets knees tiles] \
        [--generators dae vae] [--images 65000]

Each generator is trained on the same split, and held-out images are put into its latent space in several ways: how like
themselves they come back, and whether a classifier that was trained on the labels says the same of them. Adds its rows
to results.csv beside this file; rows of the same set, generator and inversion are replaced. `--table` prints the tables
of README.md from it, and does no more.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from medlat.config import build
from medlat.config.locate import config_dir
from medlat.core.statistics import grouped_mean
from medlat.core.tables import read_table, write_table
from medlat.inversion.inverter import Inverted, compare, invert_all
from medlat.steps import builders
from medlat.steps.classifier import Classifier, load_target, predicted
from medlat.steps.data import Division, Images
from medlat.steps.fidelity import Fidelity
from medlat.steps.generator import Generator
from medlat.steps.inversion import TrainedEncoder, load_encoder
from medlat.steps.measurements import Measurements
from medlat.steps.regressor import Regressor
from medlat.steps.step import Context
from medlat.study.pipeline import plan

RESULTS = Path(__file__).with_name("results.csv")
SETS = {
    "knees": "+experiment=knee_dae_linear data.root={data}/knee_oa",
    "knees_128": "+experiment=knee_dae_linear data.root={data}/knee_oa data.image_size=128",
    "tiles": "+experiment=histology_dae_linear data=image_folder data.root={data}/histology_lc25000",
    "lungs": "+experiment=ct_dae_ica data=ct_dicom data.root={data}/ct_tcga_luad",
    "pneumonia": "+experiment=knee_dae_linear data=medmnist data.root={data}/medmnist/pneumoniamnist.npz measure=grey "
    "explain.positive=null data.image_size=28 data.duplicates=drop",
    "pneumonia_32": "+experiment=knee_dae_linear data=medmnist data.root={data}/medmnist/pneumoniamnist.npz "
    "measure=grey explain.positive=null data.image_size=32 data.duplicates=drop",
    "phantom_tiles": "+experiment=histology_dae_linear",
    "phantom_ct": "+experiment=ct_dae_ica",
}
INVERSIONS = {
    "dae": ("exact", "encoder"),
    "vae": ("encoder", "hybrid"),
    "stylegan2": ("encoder", "hybrid", "pivotal"),
    "dcgan": ("encoder", "hybrid"),
}
DISTANCES = (
    "patch_distance_64",
    "fd_measurements",
    "fid_features",
    "kid_features",
)  # of samples; features see `told(name)`
EXPLAINED = 128  # held-out images, spread over the groups
BATCH = 64


def main() -> None:
    asking = parser(__doc__)
    asking.add_argument("--table", action="store_true", help="print the tables of README.md, and do no more")
    asked = asking.parse_args()
    if asked.table:
        print(*tables(read_table(RESULTS)), sep="\n")
        return
    for name in asked.sets:
        for generator in asked.generators:
            add(list(measured(name, generator, asked_for(name, generator, asked))))


def told(name: str) -> str:
    """What the network was trained to tell whose features samples are compared by: a phantom's factors, else labels."""
    return "factors" if name.startswith("phantom") else "labels"


def parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data", help="folder of the real images")
    parser.add_argument("--store", default="outputs/store")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--generators", nargs="+", choices=INVERSIONS, default=list(INVERSIONS))
    parser.add_argument("--images", type=int, help="shown while each generator is trained; default: its own")
    parser.add_argument("--threads", type=int)
    return parser


def asked_for(name: str, generator: str, asked: argparse.Namespace) -> list[str]:
    """The overrides of one training."""
    overrides = [*SETS[name].format(data=Path(asked.data).resolve()).split(), f"generator={generator}"]
    overrides += [f"store={Path(asked.store).resolve()}", f"trainer.threads={asked.threads or 'null'}"]
    if (name, generator) == ("knees_128", "dae"):
        overrides.append("generator.network.widths=[48,96,96,96]")
    if asked.images:
        overrides.append(f"generator.training.images={asked.images}")
    return overrides


def composed(overrides: list[str]) -> Any:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("config", overrides=overrides)


def measured(name: str, generator: str, overrides: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each inversion."""
    config = composed([*overrides, "inversion=hybrid"])
    builders.hardware(config).limit_threads()
    context, minutes = made(config)
    rows = context.split.test
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, EXPLAINED).astype(int))]
    real, groups = context.images.fetch(rows, context.spec), context.images.patient[rows]
    distances = json.loads((context.folder("fidelity") / "metrics.json").read_text())
    for inversion in INVERSIONS[generator]:
        found = inverted(context, composed([*overrides, f"inversion={inversion}"]), real)
        row: dict[str, Any] = {"set": name, "generator": generator, "inversion": inversion}
        row |= {"images": len(rows), "groups": len(np.unique(groups))}
        row |= {"training_images": config.generator.training.images, "training_minutes": minutes}
        row |= {"seconds": found.seconds}
        for score in ("psnr", "ms_ssim"):
            mean, low, high = grouped_mean(getattr(found, score).double().numpy(), groups)
            row |= {score: mean, f"{score}_low": low, f"{score}_high": high}
        row |= {"side_kept": "", "side_low": "", "side_high": ""} | side(context, real, found.images, rows)
        for key in DISTANCES:
            for part in (key, f"{key}_floor"):
                row[part] = distances.get(f"distance/{part.replace('features', told(name))}", "")
        print(row, flush=True)
        yield row


class Nobody:
    """Whom the curves are told to, which the store keeps too."""

    def replay(self, records: list) -> None: ...

    def image(self, *_: Any) -> None: ...

    def result(self, *_: Any) -> None: ...


def made(config: Any) -> tuple[Context, float]:
    """A context in which all is made that is measured, and how many minutes the generator's training took; NaN where it
    was in the store.
    """
    context, minutes = plan(config).context, float("nan")
    context.tracker = Nobody()
    labels = [Classifier("classifier")] if config.classifier is not None else []
    for step in (Images(), Division(), *labels, Generator(config), TrainedEncoder()):
        exists, began = context.store.find(step.recipe(context)) is not None, time.monotonic()
        context.made(step)
        if step.name == "generator" and not exists:
            minutes = (time.monotonic() - began) / 60.0
    for step in (Regressor(), Measurements(), Fidelity()):
        context.made(step)
    return context, minutes


def inverted(context: Context, config: Any, images: Tensor) -> Inverted:
    """Images put into the latent space as the configuration asks, and the images that this gives."""
    model, method = context.generator(), build.build(config.inversion.method)
    space = builders.inversion_space(config, model)
    encoder = load_encoder(context.artifacts["encoder"], model, space, context.device, context.named_classes)
    found = invert_all(method, model, images.split(BATCH), encoder, context.device)
    if not method.tunes:
        return found
    began = time.monotonic()
    tuned = method.tune(model, images.to(context.device), found.codes.to(context.device))
    return compare(tuned, found.codes, space, images, found.seconds + (time.monotonic() - began) / len(images))


def side(context: Context, real: Tensor, decoded: Tensor, rows: np.ndarray) -> dict[str, Any]:
    """The share of images of which the classifier says the same as of what they come back as; nothing without one."""
    if "classifier" not in context.artifacts:
        return {}
    target = load_target(context.config, context.artifacts["classifier"], context.spec)
    threshold = 0.5
    before = predicted(target, context.images, rows, context.spec, context.device)
    with torch.no_grad():
        after = torch.cat([target(part.to(context.device)).cpu() for part in decoded.split(BATCH)])
    same = ((before > threshold) == (after > threshold)).double().numpy()
    interval = grouped_mean(same, context.images.patient[rows])
    return dict(zip(("side_kept", "side_low", "side_high"), interval, strict=True))


NAMES = {
    "tiles": "H&E of the lung (LC25000)",
    "knees": "knees",
    "knees_128": "knees, 128²",
    "lungs": "CT (TCGA-LUAD)",
    "pneumonia": "PneumoniaMNIST, 28²",
    "pneumonia_32": "PneumoniaMNIST, 32²",
    "phantom_ct": "phantom of CT",
    "phantom_tiles": "phantom of H&E",
    "dae": "diffusion autoencoder",
    "vae": "VAE",
    "stylegan2": "StyleGAN2",
    "dcgan": "DCGAN",
    "exact": "code and own noise",
    "pivotal": "then weights tuned (pivotal)",
    "hybrid": "then optimised (hybrid)",
}


def tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How images come back, and how far samples are from real images, as Markdown."""
    rows = sorted(rows, key=lambda row: (list(NAMES).index(row["set"]), list(NAMES).index(row["generator"])))
    yield "| | images shown, minutes | PSNR, dB | MS-SSIM | side of the prediction kept | s an image |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        yield f"| **{NAMES[name]}**, {own[0]['images']} images of {own[0]['groups']} groups | | | | | |"
        for row in own:
            code = "the code alone" if row["generator"] == "dae" else "encoder"
            first = row["inversion"] in ("exact", "encoder") and row["inversion"] == INVERSIONS[row["generator"]][0]
            cost = f"{row['training_images']:,}, {row['training_minutes']:.0f}" if first else ""
            cells = [f"{NAMES[row['generator']]}, {NAMES.get(row['inversion'], code)}", cost]
            cells += [ranged(row, "psnr", "{:.1f}"), ranged(row, "ms_ssim", "{:.3f}"), ranged(row, "side", "{:.0%}")]
            yield f"| {' | '.join(cells)} | {row['seconds']:.2g} |"
    yield "\n| samples | FID | KID | Fréchet over measurements |\n| --- | ---: | ---: | ---: |"
    for row in rows:
        if row["inversion"] == "encoder" and any(number(row[key]) for key in DISTANCES[1:]):
            cells = [f"{NAMES[row['set']]}: {NAMES[row['generator']]}"]
            for key in ("fid_features", "kid_features", "fd_measurements"):
                value, floor = row[key], row[f"{key}_floor"]
                cells.append(f"{value:.3g} (floor {floor:.2g})" if number(value) else "none" if number(floor) else "")
            yield f"| {' | '.join(cells)} |"


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not np.isnan(value)


def ranged(row: dict[str, Any], key: str, how: str) -> str:
    """A number with its interval, where there are any."""
    value, low, high = row["side_kept" if key == "side" else key], row[f"{key}_low"], row[f"{key}_high"]
    if not number(value):
        return ""
    return how.format(value) + (f" [{how.format(low)}, {how.format(high)}]" if number(low) and low < high else "")


def add(rows: list[dict[str, Any]]) -> None:
    """To results.csv, in the place of rows of the same."""
    key = ("set", "generator", "inversion")
    new = {tuple(row[name] for name in key): row for row in rows}
    old = read_table(RESULTS) if RESULTS.exists() else []
    kept = {tuple(row[name] for name in key): row for row in old}
    for place, row in new.items():
        if np.isnan(row["training_minutes"]) and place in kept:
            row["training_minutes"] = kept[place]["training_minutes"]  # measured when it was trained
    write_table(RESULTS, list((kept | new).values()))


if __name__ == "__main__":
    main()
