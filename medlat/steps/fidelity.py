"""How near the generator's images are to those of held-out patients."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from medlat.config import build
from medlat.core.progress import track
from medlat.core.spaces import ImageSpec
from medlat.core.tables import write_table
from medlat.data.batches import in_batches
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.evaluation.copying import Copying, copying, whitening
from medlat.evaluation.features import Features, RegressorFeatures
from medlat.evaluation.readout import centre_and_scale
from medlat.evaluation.reconstruction import Reconstruction, reconstruct
from medlat.steps import builders, distances
from medlat.steps.generator import BATCH, sample_images
from medlat.steps.measurements import Measured, load_measurements, write_numbers
from medlat.steps.regressor import load_regressor
from medlat.steps.step import Context, Step, file_hash

SHOWN = 24  # held-out images in the figure
POOLED = 16  # pixels a side that images are averaged to before they are looked for among training images


class Fidelity(Step):
    """How near the generator's images are to held-out patients': reconstructions where it has an encoder, distances of
    samples, and whether these are copies of training images. Leaves numbers, the table of distances, and images for
    figures. It knows nothing of directions.
    """

    name = "fidelity"
    version = 3
    needs = ("images", "split", "generator", "regressor", "measurements")

    def settings(self, config: DictConfig) -> dict[str, Any]:
        asked = config.evaluation
        found = {"samples": asked.samples, "active_kl": asked.active_kl, "seed": config.seed}
        return found | {"features": feature_settings(config)}

    def run(self, context: Context, out: Path) -> None:
        opened, parts, spec = context.images, context.split, context.spec
        seed, model = context.config.seed, context.generator()
        measured = load_measurements(context.folder("measurements"))
        numbers: dict[str, float] = {}
        if model.can("encode"):
            active = context.config.evaluation.active_kl
            numbers |= _reconstruction(opened, parts, spec, model, context.device, active, out)
        samples = sample_images(model, context.config.evaluation.samples, seed)
        sampled = builders.measurements(context.config).of(samples, spec)
        compared = distances.compare(opened, parts, spec, samples, sampled, measured.test)
        if compared is not None:
            rows = distances.all_distances(compared, model, extractors(context), seed)
            write_table(out / "distances.csv", distances.table(rows))
            numbers |= distances.numbers(rows)
        for name, found in _copying(opened, parts, spec, samples, sampled, measured, seed).items():
            numbers |= {} if found is None else found.numbers(name)
        spread = parts.test[np.linspace(0, len(parts.test) - 1, min(len(parts.test), SHOWN)).astype(int)]
        real = opened.physical(spread, spec)
        np.savez(out / "images.npz", real=real, samples=spec.pictures(samples[: len(real)]))
        write_numbers(out / "metrics.json", numbers)


def _copying(
    opened: ImageStore,
    parts: Split,
    spec: ImageSpec,
    samples: torch.Tensor,
    sampled: np.ndarray,
    measured: Measured,
    seed: int,
) -> dict[str, Copying | None]:
    """By feature space: images averaged to 16 x 16 pixels, against all training images; and whitened measurements,
    against those training images that are measured.
    """
    groups, whose = opened.patient[parts.test], opened.patient

    def pooled(images: torch.Tensor) -> np.ndarray:
        return torch.nn.functional.adaptive_avg_pool2d(images, POOLED).flatten(1).numpy()

    train, held_out = (
        np.concatenate([pooled(opened.fetch(some, spec)) for some in in_batches(rows, BATCH)])
        for rows in (parts.train, parts.test)
    )
    found = {"pixels": copying(pooled(samples), held_out, groups, train, whose[parts.train], seed)}
    if sampled.shape[1]:
        centre, scale = centre_and_scale(measured.train)
        table = [np.nan_to_num((x - centre) / scale) for x in (sampled, measured.test, measured.train)]
        middle, matrix = whitening(table[2])
        ours, theirs, learnt = ((x - middle) @ matrix for x in table)
        found["measurements"] = copying(ours, theirs, groups, learnt, whose[measured.train_rows], seed)
    return found


def extractors(context: Context) -> list[Features]:
    """What distances are taken over: the data's own regressor where factors or labels are known, then the user's."""
    regressor = load_regressor(context.artifacts["regressor"], context.device)
    name = "factors" if context.images.factors() else "labels"
    return [*([RegressorFeatures(regressor, name)] if regressor else []), *builders.features(context.config)]


def feature_settings(config: DictConfig) -> dict[str, Any]:
    """The user's extractors, their files by content."""
    found = build.plain(config.evaluation.features)
    for name, section in found.items():
        if "path" in section:
            section["path"] = file_hash(section["path"], f"evaluation.features.{name}.path")
    return found


def _reconstruction(
    opened: ImageStore, parts: Split, spec: ImageSpec, model: Any, device: torch.device, active_kl: float, out: Path
) -> dict[str, float]:
    batches = (opened.fetch(rows, spec) for rows in in_batches(parts.test, BATCH))
    result: Reconstruction = reconstruct(
        model, track(batches, "reconstructing held-out images", -(-len(parts.test) // BATCH)), device
    )
    decoded = spec.pictures(torch.from_numpy(result.images))
    order = np.argsort(result.psnr)
    shown = np.unique(np.concatenate([order[:2], order[len(order) // 2 - 1 : len(order) // 2 + 1], order[-2:]]))
    np.savez(
        out / "reconstruction.npz",
        psnr=result.psnr,
        ms_ssim=result.ms_ssim,
        real=opened.physical(parts.test[shown], spec),
        decoded=decoded[shown],
        shown=shown,
        **({} if result.kl is None else {"kl": result.kl}),  # type: ignore[arg-type]
    )
    return {f"reconstruction/{name}": value for name, value in result.summary(active_kl).items()}
