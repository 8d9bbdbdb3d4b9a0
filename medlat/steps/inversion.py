"""Real images as latent codes: an encoder where the generator has none, then the codes that all else reads."""

import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from medlat.config import build
from medlat.core.checkpoints import read_generator, save_generator
from medlat.core.progress import track
from medlat.core.spaces import LatentModel
from medlat.core.store import Artifact
from medlat.core.tables import write_table
from medlat.data.batches import in_batches
from medlat.inversion.encode import own_encoder
from medlat.inversion.inverter import Encoder, Inverted, codes_of, compare, invert_all
from medlat.steps import builders
from medlat.steps.step import Context, Step, trained, without

log = logging.getLogger(__name__)

BATCH = 64
ENCODER, CODES, TUNED = "encoder.safetensors", "codes.safetensors", "generator.safetensors"


class TrainedEncoder(Step):
    """Leaves an encoder and its curves, or nothing where the generator has its own or no method needs one."""

    name = "encoder"
    needs = ("images", "split", "generator")
    resumable = True

    def settings(self, config: DictConfig) -> dict[str, Any]:
        if not builders.needs_encoder(config):
            return {"encoder": None}
        return trained(config, build.plain(config.inversion.encoder)) | {"space": builders.inverter_space(config)}

    def run(self, context: Context, out: Path) -> None:
        from medlat.data.module import SliceData
        from medlat.training.loop import train

        config, spec = context.config, context.spec
        hardware = builders.hardware(config).alone()
        model = builders.load_generator(context.artifacts["generator"], hardware.device, context.named_classes)
        space = builders.inversion_space(config, model)
        if own_encoder(model, space) is not None or not builders.needs_encoder(config):
            return
        network = builders.encoder_network(config, model, space)
        schedule = builders.schedule(config, "inversion.encoder")
        module = builders.encoder_module(config, network, model, space, schedule.steps)
        augment, steps = builders.augment(config), schedule.steps
        data = SliceData(context.images, context.split, spec, schedule.batch_size, steps, config.seed, augment)

        def report(records: list) -> None:
            context.tracker.replay([replace(record, name=f"encoder/{record.name}") for record in records])

        train(module, data, schedule, hardware, out, report)
        recipe = build.plain(config.inversion.encoder.network) | {"shape": list(model.spaces[space].shape)}
        save_generator(out / ENCODER, module.result, recipe, spec)


def load_encoder(
    artifact: Artifact, model: LatentModel, space: str, device: torch.device, allowed: Collection[str]
) -> Encoder | None:
    """What maps images to codes of the space: the generator's own encoder, the trained one, or None.

    allowed: classes outside medlat that the file may name.
    """
    if (own := own_encoder(model, space)) is not None:
        return own
    path = artifact.path / ENCODER
    if not path.exists():
        return None
    recipe, image, weights = read_generator(path, allowed)
    network = builders.network_from(recipe, image)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Inversion(Step):
    """Leaves the codes of training images and of the held-out images that are explained, how well each gives back its
    image, and the table of methods. A method that tunes the generator leaves that too.
    """

    name = "inversion"
    needs = ("images", "split", "generator", "encoder")

    def settings(self, config: DictConfig) -> dict[str, Any]:
        section = build.plain(config.inversion)
        found = without(section, "encoder") if section["compared"] else without(section, "encoder", "compared_images")
        return found | {name: config.explain[name] for name in ("images", "codes")}

    def run(self, context: Context, out: Path) -> None:
        config, opened, parts, spec = context.config, context.images, context.split, context.spec
        device, model = context.device, context.generator()
        space, named = builders.inversion_space(config, model), context.named_classes
        encoder = load_encoder(context.artifacts["encoder"], model, space, device, named)
        settings, method = config.inversion, build.build(config.inversion.method)
        fit_rows, rows = spread(parts.train, config.explain.codes), spread(parts.test, config.explain.images)

        def images(which: np.ndarray, name: str) -> Iterable[Tensor]:
            batches = (opened.fetch(part, spec) for part in in_batches(which, BATCH))
            return track(batches, f"inverting images ({name})", -(-len(which) // BATCH))

        explained = invert_all(method, model, images(rows, "explained"), encoder, device)
        fit = codes_of(builders.fitting_method(config), model, images(fit_rows, "training"), encoder, device)
        table = [_row("before tuning" if method.tunes else _name(settings.method), explained)]
        if method.tunes:
            model, explained = tune(config, method, model, opened.fetch(rows, spec), explained, device)
            recipe, image, _ = read_generator(context.folder("generator") / TUNED, named)
            save_generator(out / TUNED, model, recipe, image)
            table.append(_row(_name(settings.method), explained))
        for name, section in settings.compared.items():
            compared = images(rows[: settings.compared_images], name)
            table.append(_row(name, invert_all(build.build(section), model, compared, encoder, device)))
        write_table(out / "methods.csv", table)
        kept = {} if explained.noise is None else {"noise": explained.noise.contiguous()}
        codes = {"fit": fit.contiguous(), "explained": explained.codes.contiguous()}
        save_file(codes | kept, out / CODES)
        np.savez(
            out / "inversion.npz",
            fit_rows=fit_rows,
            explained_rows=rows,
            psnr=explained.psnr.numpy(),
            ms_ssim=explained.ms_ssim.numpy(),
        )
        log.info("inversion: PSNR %.1f dB, %.3f s per image", float(explained.psnr.mean()), explained.seconds)


def tune(
    config: DictConfig, method: Any, model: LatentModel, images: Tensor, before: Inverted, device: torch.device
) -> tuple[Any, Inverted]:
    """The tuned generator, and how well its images of the same codes are."""
    start = time.monotonic()
    tuned = method.tune(model, images.to(device), before.codes.to(device))
    seconds = before.seconds + (time.monotonic() - start) / len(images)
    return tuned, compare(tuned, before.codes, builders.inversion_space(config, model), images, seconds)


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, evenly spaced, so that many patients are among them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int))]


def _name(section: DictConfig) -> str:
    return str(section["_target_"]).rpartition(".")[2].lower()


def _row(method: str, found: Inverted) -> dict[str, Any]:
    return {
        "method": method,
        "images": len(found.psnr),
        "psnr": float(found.psnr.mean()),
        "ms_ssim": float(found.ms_ssim.mean()),
        "seconds": found.seconds,
    }


def load_codes(artifact: Artifact) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Codes of the images directions are fitted to and of the explained ones, and where it is kept the noise of these;
    rows, PSNR and MS-SSIM beside them.
    """
    with np.load(artifact.path / "inversion.npz") as arrays:
        return load_file(artifact.path / CODES), dict(arrays)


def explained_generator(context: Context) -> Any:
    """The generator that explained images are decoded by: the tuned one where there is one."""
    return context.generator("inversion" if (context.folder("inversion") / TUNED).exists() else "generator")
