"""The codes that directions of a space are measured from, and what random directions do from there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.core.progress import track
from medlat.core.randomness import derive_seed, generator_for
from medlat.core.spaces import Directions, LatentModel, device_of
from medlat.data.batches import in_batches
from medlat.evaluation.chance import Answers, Chance, chance
from medlat.evaluation.semantics import Quantity, groups_of, per_person
from medlat.evaluation.traversal import traverse
from medlat.inversion.mapping import map_codes
from medlat.steps import builders
from medlat.steps.generator import BATCH
from medlat.steps.inversion import load_encoder
from medlat.steps.measurements import load_measurements
from medlat.steps.step import Context, Step

FILE = "codes.npz"
KNOWN = 2048  # training images whose codes say how codes differ
MOST_AXES, MOST_ASKED = 512, 128  # principal axes that a step's length is known from, and that are moved along
FLAT = 1e-3  # of the largest standard deviation along an axis: codes that vary by less do not vary
TINY = 1e-12  # a move where all codes are the same
SHORTEST = 0.1  # of the same: a smaller move would measure rounding


class BaseCodes(Step):
    """Leaves codes of held-out images, one of each patient as far as there are enough, with the noise that belongs to
    each where the generator knows it; the principal axes of training images' codes; and for each kind of quantities
    what every axis does and what random directions give. Of a generator that no image can be encoded for, its samples
    stand for both.
    """

    folder = "base_codes"

    def __init__(self, space: str, needs: tuple[str, ...]) -> None:
        self.space, self.name, self.needs = space, f"base_codes/{space}", needs

    def settings(self, config: DictConfig) -> dict[str, Any]:
        return {"base_codes": config.evaluation.base_codes, "seed": config.seed, "space": self.space}

    def run(self, context: Context, out: Path) -> None:
        config, model, parts = context.config, context.generator(), context.split
        count, owner = config.evaluation.base_codes, context.images.patient
        rows = one_of_each(parts.test, owner[parts.test], count, config.seed)
        seen = parts.train[np.linspace(0, len(parts.train) - 1, min(len(parts.train), KNOWN)).astype(int)]
        found, known = (encoded(context, model, self.space, which) for which in (rows, seen))
        arrays: dict[str, np.ndarray] = {"people": np.array(found is not None)}
        if found is None or known is None:
            draw = generator_for(config.seed, "base codes", self.space)
            found, known = (model.sample(n, self.space, draw).cpu() for n in (count, KNOWN))
            owners, noise = np.arange(count), None
        else:
            owners, noise = owner[rows], noise_of(context, model, self.space, rows, found)
        axes, spread = principal_axes(known.flatten(1).double().numpy())
        arrays |= {"codes": found.numpy(), "owners": owners, "axes": axes, "spread": spread}
        if noise is not None:
            arrays["noise"] = noise.numpy()
        for kind, (answers, given) in self._chance(context, model, found, noise, owners, axes, spread).items():
            arrays |= {f"{kind}/slopes": answers.slopes, f"{kind}/share": np.array(given.share)}
            arrays[f"{kind}/evidence"] = given.evidence
        np.savez(out / FILE, **arrays)  # type: ignore[arg-type]

    def _chance(
        self,
        context: Context,
        model: LatentModel,
        codes: Tensor,
        noise: Tensor | None,
        owners: np.ndarray,
        axes: np.ndarray,
        spread: np.ndarray,
    ) -> dict[str, tuple[Answers, Chance]]:
        """By kind of quantities."""
        measured = load_measurements(context.folder("measurements"))
        if not measured.quantities:
            return {}
        measurements = builders.measurements(context.config)
        axes, spread = axes[:MOST_ASKED], spread[:MOST_ASKED]
        slopes: dict[str, list[np.ndarray]] = {kind: [] for kind in measured.quantities}
        for length, images in along_axes(model, self.space, codes, noise, axes, spread):
            values = measurements.of(images.flatten(0, 1), context.spec).reshape(len(codes), 2, -1)
            for kind, quantities in measured.quantities.items():
                ends = measured.read(kind, values)
                slope = (ends[:, 1] - ends[:, 0]) / (2.0 * length) / stds(quantities)
                slopes[kind].append(per_person(slope, owners))
        found = {}
        for kind, quantities in measured.quantities.items():
            answers = Answers(np.stack(slopes[kind], axis=-1), axes, spread)
            ceiling = np.array([q.ceiling for q in quantities])
            seed = derive_seed(context.config.seed, "random directions", kind)
            found[kind] = (answers, chance(answers, groups_of(quantities), ceiling, seed))
        return found


@dataclass(frozen=True)
class Base:
    """codes: [N, *shape] on the CPU; noise [N, ...] of each, where it is known; owners: [N]. people: whether they are
    held-out patients, else samples. axes [A, D], spread [A]: of training images' codes. answers, chance: by kind of
    quantities.
    """

    codes: Tensor
    noise: Tensor | None
    owners: np.ndarray
    people: bool
    axes: np.ndarray
    spread: np.ndarray
    answers: dict[str, Answers]
    chance: dict[str, Chance]

    def sigma(self, vectors: Tensor) -> Tensor:
        """Standard deviation of real images' codes along unit directions [K, *shape], [K]: the length of a step."""
        along = vectors.flatten(1).double().numpy() @ self.axes.T
        return torch.from_numpy(np.sqrt(np.square(along * self.spread).sum(axis=1))).float()


def base_codes(context: Context, space: str) -> Base:
    """The base codes of a space, made when directions of that space are first measured."""
    encoder = ("encoder",) if "encoder" in context.artifacts else ()
    step = BaseCodes(space, ("images", "split", "generator", "measurements", *encoder))
    with np.load(context.aside(step).path / FILE) as file:
        arrays = dict(file)
    kinds = [name.partition("/")[0] for name in arrays if name.endswith("/slopes")]
    axes, spread = arrays["axes"], arrays["spread"]
    asked = (axes[:MOST_ASKED], spread[:MOST_ASKED])
    return Base(
        torch.from_numpy(arrays["codes"]),
        torch.from_numpy(arrays["noise"]) if "noise" in arrays else None,
        arrays["owners"],
        bool(arrays["people"]),
        axes,
        spread,
        {kind: Answers(arrays[f"{kind}/slopes"], *asked) for kind in kinds},
        {kind: Chance(float(arrays[f"{kind}/share"]), arrays[f"{kind}/evidence"]) for kind in kinds},
    )


def along_axes(
    model: LatentModel, space: str, codes: Tensor, noise: Tensor | None, axes: np.ndarray, spread: np.ndarray
) -> Iterator[tuple[float, Tensor]]:
    """For each of `axes` [A, D]: how far codes [N, *shape] are moved along it to either side, a standard deviation of
    real images' codes `spread` [A] or a little more, and the images there, [N, 2, C, H, W] in [-1, 1].
    """
    lengths, of = np.maximum(spread, max(SHORTEST * spread.max(), TINY)), model.spaces[space]
    vectors = torch.from_numpy(axes).float().reshape(len(axes), *of.shape)
    moved = Directions(vectors, torch.zeros(len(axes)), [f"axis {i}" for i in range(len(axes))], "axes", of)
    series = traverse(model, moved, codes, [-1.0, 1.0], torch.from_numpy(lengths).float(), noise)
    yield from zip(lengths.tolist(), track(series, f"moving along axes of {space}", len(axes)), strict=True)


def stds(quantities: list[Quantity]) -> np.ndarray:
    """[Q] of real images; NaN for what does not vary."""
    std = np.array([q.std for q in quantities])
    return np.where(std > 0.0, std, np.nan)


def one_of_each(rows: np.ndarray, owners: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the rows [R], drawn so that nobody has two more than another who has one left; sorted.

    owners: [R].
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    turn = np.empty(len(rows), dtype=int)
    for owner in np.unique(owners):
        own = order[owners[order] == owner]
        turn[own] = np.arange(len(own))
    return np.sort(rows[order[np.argsort(turn[order], kind="stable")][:count]])


@torch.no_grad()
def encoded(context: Context, model: LatentModel, space: str, rows: np.ndarray) -> Tensor | None:
    """Codes [N, *shape] on the CPU of images, by the generator's own encoder or the one that was trained for it; None
    where no way leads from images to the space.
    """
    own = model.can("encode") and space in model.image_spaces
    source = space if own else builders.inversion_space(context.config, model)
    encoder: Any = lambda images: model.encode(images, space)  # noqa: E731
    if not own:
        if "encoder" not in context.artifacts or space not in (source, *model.reached(source)):
            return None
        encoder = load_encoder(context.artifacts["encoder"], model, source, context.device, context.named_classes)
        if encoder is None:
            return None
    device, found = device_of(model), []
    for part in in_batches(rows, BATCH):
        codes = encoder(context.images.fetch(part, context.spec).to(device)).float()
        found.append(map_codes(model, codes, source, space).cpu())
    return torch.cat(found)


@torch.no_grad()
def noise_of(context: Context, model: LatentModel, space: str, rows: np.ndarray, codes: Tensor) -> Tensor | None:
    """[N, ...] that belongs to the images of the codes, where the generator knows such a thing."""
    if not model.can("invert"):
        return None
    images, device = context.images.fetch(rows, context.spec), device_of(model)
    pairs = zip(images.split(BATCH), codes.split(BATCH), strict=True)
    return torch.cat([model.invert(a.to(device), b.to(device), space).float().cpu() for a, b in pairs])


def principal_axes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of codes [N, D]: axes [A, D], orthonormal, and the standard deviations along them [A], falling; without those
    along which codes do not vary.
    """
    _, lengths, axes = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    count = min(MOST_AXES, max(1, int((lengths > FLAT * lengths[0]).sum())))
    return axes[:count], lengths[:count] / np.sqrt(len(codes))
