"""The generator: trained here, or converted from a file; and how it is loaded again."""

import hashlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.config import build
from medlat.core import machine
from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.randomness import generator_for
from medlat.core.records import read_records
from medlat.core.spaces import LatentModel, decode_in_parts
from medlat.core.store import Artifact
from medlat.data.batches import SliceData
from medlat.report.rendering import windowed
from medlat.steps import builders
from medlat.steps.classifier import load_black_box
from medlat.steps.data import Made, load_data

log = logging.getLogger(__name__)

BATCH = 256  # images at once where nothing is learnt


def generator(config: DictConfig, made: Made, tracker: Any, out: Path) -> None:
    """Reads slices and split, and the classifier where the training asks one; leaves the trained generator, the curves
    of its training, and what it made on the way.

    tracker: None on a node beside the first, which only helps to train.
    """
    from medlat.training.loop import FixedGrid, train

    opened, parts, spec = load_data(config, made)
    network = builders.network(config, spec)
    schedule, hardware = builders.schedule(config), builders.hardware(config)
    classifier = load_black_box(config, made["classifier"], spec) if builders.asks_classifier(config) else None
    module = builders.module(config, network, schedule.steps, classifier)
    data = SliceData(opened, parts, spec, schedule.batch_size, schedule.steps, config.seed, builders.augment(config))

    def show(so_far: int, images: Tensor) -> None:
        rows = [torch.cat(list(row), dim=1) for row in spec.to_physical(images[:, 0]).split(FixedGrid.SIDE)]
        tracker.image("training/fixed_codes", windowed(torch.cat(rows).numpy(), tuple(config.report.window)), so_far)

    report = tracker.replay if tracker else lambda records: None
    train(module, data, schedule, hardware, out, report, show)
    if hardware.nodes > 1:
        log.info("node %d: trained to weights %s", machine.node(), _digest(module.result))
    if machine.node() > 0:
        return  # the first node leaves the result
    recipe = build.plain(config.generator.network)
    save_generator(out / "generator.safetensors", module.result, recipe, spec)


def _digest(network: torch.nn.Module) -> str:
    """12 hex digits of all weights and buffers, bit for bit."""
    found = hashlib.sha256()
    for _, tensor in sorted(network.state_dict().items()):
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def pretrained(config: DictConfig, made: Made, out: Path) -> None:
    """Reads a file of weights; leaves the generator in medlat's own format."""
    _, _, spec = load_data(config, made)
    builders.pretrained(config).convert(spec, out / "generator.safetensors")


def curves(generator: Artifact) -> Path:
    """The curves of a generator's training; a pretrained one has none."""
    return generator.path / "metrics.jsonl"


def replay_curves(generator: Artifact, tracker: Any) -> None:
    """The curves of a generator that this run did not train itself, or that several processes trained."""
    if curves(generator).exists() and not tracker.has("train/"):
        tracker.replay(read_records(curves(generator)))


def load_generator(artifact: Artifact, device: torch.device, allowed: Collection[str]) -> Any:
    """The trained network, ready to decode. allowed: classes outside medlat that the file may name."""
    recipe, image, weights = read_generator(artifact.path / "generator.safetensors", allowed)
    network: Any = builders.network_from(recipe, image)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    network.deterministic()
    return network.to(device).to(memory_format=torch.channels_last)


def sample_images(model: LatentModel, n: int, seed: int) -> Tensor:
    """n images from the prior of the default space, [n, C, H, W] in [-1, 1], on the CPU."""
    space = next(iter(model.spaces))
    return decode_in_parts(model, model.sample(n, space, generator_for(seed, "samples")), space)


def grids(generator: Artifact) -> dict[int, Tensor]:
    """Images of fixed codes as the training went on: images shown -> [N, C, H, W] in [-1, 1]."""
    return {int(path.stem): torch.from_numpy(np.load(path)) for path in sorted(generator.path.glob("grid/*.npy"))}
