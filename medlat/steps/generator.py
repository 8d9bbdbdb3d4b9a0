"""The generator: trained here, or brought from elsewhere; and how it is loaded again."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.asking import Asked
from medlat.config import build
from medlat.core import machine
from medlat.core.checkpoints import save_generator, weights_digest
from medlat.core.randomness import generator_for
from medlat.core.records import read_records
from medlat.core.spaces import LatentModel, decode_in_parts
from medlat.core.store import Artifact
from medlat.data.batches import in_batches
from medlat.report.rendering import windowed
from medlat.steps import builders
from medlat.steps.classifier import load_black_box
from medlat.steps.step import Context, Step, trained

log = logging.getLogger(__name__)

BATCH = 256  # images at once where nothing is learnt
SAID = "said.json"  # what a reader must know of a generator from elsewhere
FITTED = 2048  # training images whose codes say how codes of a generator from elsewhere are spread


class Generator(Step):
    """Leaves the generator: trained here, with the curves of its training and what it made on the way; or brought from
    elsewhere, with the prior of its codes.
    """

    name = "generator"
    resumable = True
    version = 3

    def __init__(self, config: DictConfig) -> None:
        self.imported = builders.is_imported(config)
        asks = builders.asks_classifier(config)
        fitted = not self.imported or builders.imported(config).fits
        self.needs = ("images", *(["split"] if fitted else []), *(["classifier"] if asks else []))

    def settings(self, config: DictConfig) -> dict[str, Any]:
        section = build.plain(config.generator)
        if not self.imported:
            return trained(config, section)
        section |= builders.imported(config).fingerprints()
        return {"imported": section, "intensity_range": builders.intensity_range(config)}

    def run(self, context: Context, out: Path) -> None:
        if self.imported:
            found = builders.imported(context.config)
            images = training_images(context, FITTED) if found.fits else ()
            said = found.convert(context.spec, out / "generator.safetensors", images, context.device)
            (out / SAID).write_text(json.dumps(said, indent=2) + "\n")
            for sentence in said:
                log.warning("generator: %s", sentence)
        else:
            train_generator(context, out)


def train_generator(context: Context, out: Path) -> None:
    """Train it, or, on a node beside the first, help to."""
    from medlat.data.module import SliceData
    from medlat.training.loop import FixedGrid, train

    config, spec, tracker = context.config, context.spec, context.tracker
    network = builders.network(config, spec)
    schedule, hardware = builders.schedule(config), builders.hardware(config)
    asks = builders.asks_classifier(config)
    classifier = load_black_box(config, context.artifacts["classifier"], spec) if asks else None
    if isinstance(classifier, Asked):  # the images of a training are new each time: no answer is worth keeping
        classifier = classifier.black_box
    module = builders.module(config, network, schedule.steps, classifier)
    augment, steps = builders.augment(config), schedule.steps
    data = SliceData(context.images, context.split, spec, schedule.batch_size, steps, config.seed, augment)

    window = builders.display_window(config)

    def show(so_far: int, images: Tensor) -> None:
        if tracker is None:
            return
        rows = [torch.cat(list(row), dim=1) for row in spec.to_physical(images[:, 0]).split(FixedGrid.SIDE)]
        tracker.image("training/fixed_codes", windowed(torch.cat(rows).numpy(), window), so_far)

    report = tracker.replay if tracker else lambda records: None
    train(module, data, schedule, hardware, out, report, show)
    if hardware.nodes > 1:
        log.info("node %d: trained to weights %s", machine.node(), weights_digest(module.result))
    if machine.node() > 0:
        return  # the first node leaves the result
    recipe = build.plain(config.generator.network)
    save_generator(out / "generator.safetensors", module.result, recipe, spec)


def training_images(context: Context, count: int) -> Iterator[Tensor]:
    """Batches [N, C, H, W] in [-1, 1] of evenly spaced training images, on the CPU."""
    rows = context.split.train
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int))]
    return (context.images.fetch(part, context.spec) for part in in_batches(rows, BATCH))


def curves(generator: Artifact) -> Path:
    """The curves of a generator's training; a pretrained one has none."""
    return generator.path / "metrics.jsonl"


def replay_curves(generator: Artifact, tracker: Any) -> None:
    """The curves of a generator that this run did not train itself, or that several processes trained."""
    if curves(generator).exists() and not tracker.has("train/"):
        tracker.replay(read_records(curves(generator)))


def sample_images(model: LatentModel, n: int, seed: int) -> Tensor:
    """n images from the prior of the default space, [n, C, H, W] in [-1, 1], on the CPU; each with noise of its own
    where the generator has such.
    """
    space, generator = next(iter(model.spaces)), generator_for(seed, "samples")
    codes = model.sample(n, space, generator)
    noise = model.sample_noise(n, generator) if model.can("sample_noise") else None
    return decode_in_parts(model, codes, space, noise)


def said_of(generator: Artifact) -> list[str]:
    """What a reader must know of a generator from elsewhere, in sentences."""
    return json.loads((generator.path / SAID).read_text()) if (generator.path / SAID).exists() else []


def grids(generator: Artifact) -> dict[int, Tensor]:
    """Images of fixed codes as the training went on: images shown -> [N, C, H, W] in [-1, 1]."""
    return {int(path.stem): torch.from_numpy(np.load(path)) for path in sorted(generator.path.glob("grid/*.npy"))}
