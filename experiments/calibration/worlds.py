"""Worlds whose every image is known: a source that draws them, and a generator that moves one factor and no other."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.special import ndtr
from torch import Tensor

from medlat.core.ranges import Count, Seed
from medlat.core.spaces import Directions, ImageSpec, LatentModel, LatentSpace
from medlat.data.image_store import ImageStore
from medlat.data.modality import CT, HISTOLOGY, Modality
from medlat.data.source import Chunk, ParallelMap, Scan, Slice
from medlat.phantoms.ct import source as thorax
from medlat.phantoms.ct.person import Person
from medlat.phantoms.factors import SIGMAS, Draws, Factor, Margin
from medlat.phantoms.histology import source as tissue

SIDE = 64
MIXED = 0.95  # of a direction that moves two factors, the part of the stronger; of the other 0.31


class World(NamedTuple):
    """paint: values of the factors and the number of an individual -> pixels of SIDE²."""

    modality: Modality
    factors: tuple[Factor, ...]
    spacing_mm: float
    paint: Callable[[Mapping[str, float], int], np.ndarray]

    def values(self, codes: np.ndarray, margin: Margin) -> np.ndarray:
        """Standard normal numbers [..., F] -> values of the factors."""
        low, high = np.array([[f.low, f.high] for f in self.factors]).T
        if margin == "gaussian":
            return (low + high) / 2.0 + codes.clip(-SIGMAS, SIGMAS) * (high - low) / (2.0 * SIGMAS)
        return low + (high - low) * ndtr(codes)


def paint_thorax(values: Mapping[str, float], number: int) -> np.ndarray:
    person = Person.draw(np.random.default_rng(number))
    return thorax.render(values, SIDE, person=person, noise_seed=number).hu


def paint_tissue(values: Mapping[str, float], number: int) -> np.ndarray:
    known = {name: value for name, value in values.items() if name != "blur"}
    rgb = tissue.render(known, SIDE, seed=number).rgb
    return ndimage.gaussian_filter(rgb, (values["blur"], values["blur"], 0.0))


BLUR = Factor("blur", "px", 0.0, 1.6, "standard deviation of a Gaussian blur: texture alone")
WORLDS = {
    "thorax": World(CT, thorax.FACTORS, 400.0 / SIDE, paint_thorax),
    "tissue": World(HISTOLOGY, (*tissue.FACTORS, BLUR), 0.001, paint_tissue),
}


class Planted:
    """One image each of `people`, of a world; columns `factor.NAME`, and in `position_mm` whose number it is.

    margin, correlation: see `medlat.phantoms.factors.Draws`.
    """

    def __init__(self, world: str, people: Count, margin: Margin, correlation: float, seed: Seed) -> None:
        self.world, self.people, self.draws, self.seed = WORLDS[world], people, Draws(margin, correlation), seed

    @property
    def modality(self) -> Modality:
        return self.world.modality

    @cached_property
    def codes(self) -> np.ndarray:
        """[people, F] standard normal, correlated as the factors are."""
        rng, rho = np.random.default_rng(self.seed), self.draws.correlation
        own, shared = rng.standard_normal((self.people, len(self.world.factors))), rng.standard_normal(self.people)
        return np.sqrt(1.0 - rho) * own + np.sqrt(rho) * shared[:, None]

    def fingerprint(self) -> str:
        return f"planted-{thorax.VERSION}-{tissue.VERSION}"

    def expected(self) -> int:
        return self.people

    def scan(self, parallel_map: ParallelMap) -> Scan:
        names = [factor.name for factor in self.world.factors]
        chunks = []
        for number, row in enumerate(self.world.values(self.codes, self.draws.margin)):
            columns = {f"factor.{name}": np.array([value]) for name, value in zip(names, row, strict=True)}
            item = (number, dict(zip(names, row.tolist(), strict=True)))
            chunks.append(Chunk(f"planted-{number:05d}", (item,), columns | {"position_mm": np.array([float(number)])}))
        return Scan(chunks, units={factor.name: factor.unit for factor in self.world.factors})

    def read(self, chunk: Chunk) -> Iterator[Slice]:
        for number, values in chunk.items:
            yield Slice(self.world.paint(values, number), (self.world.spacing_mm, self.world.spacing_mm))


class Known(LatentModel):
    """A generator that is the world itself. A code is the factors as standard normal numbers, turned by a random
    rotation so that no axis is a factor; the noise that belongs to an image is its individual's number.
    """

    def __init__(self, source: Planted, store: ImageStore, image: ImageSpec) -> None:
        self.source, self.image = source, image
        count = len(source.world.factors)
        self.spaces = {"z": LatentSpace("z", (count,))}
        turn = np.linalg.qr(np.random.default_rng([source.seed, 1]).standard_normal((count, count)))[0]
        self.turn = torch.from_numpy(turn).float()
        rows = np.arange(len(store))
        numbers = store.columns["position_mm"].astype(int)
        self.number = {key(one): int(n) for one, n in zip(store.fetch(rows, image), numbers, strict=True)}

    def sample(self, n: int, space: str, generator: torch.Generator | None = None) -> Tensor:
        rows = torch.randint(self.source.people, (n,), generator=generator)
        return torch.from_numpy(self.source.codes).float()[rows] @ self.turn.T

    def encode(self, images: Tensor, space: str) -> Tensor:
        return torch.from_numpy(self.source.codes).float()[self._numbers(images)] @ self.turn.T

    def invert(self, images: Tensor, codes: Tensor, space: str) -> Tensor:
        return torch.tensor(self._numbers(images), dtype=torch.float32)[:, None]

    def decode(self, codes: Tensor, space: str) -> Tensor:
        return self.decode_with(codes, torch.zeros(len(codes), 1), space)

    def decode_with(self, codes: Tensor, noise: Tensor, space: str) -> Tensor:
        world = self.source.world
        values = world.values((codes @ self.turn).double().numpy(), self.source.draws.margin)
        names = [factor.name for factor in world.factors]
        painted = [
            world.paint(dict(zip(names, row, strict=True)), int(number))
            for row, number in zip(values.tolist(), noise[:, 0].tolist(), strict=True)
        ]
        stack = np.stack(painted)
        channels = stack[:, None] if stack.ndim == 3 else stack.transpose(0, 3, 1, 2)
        return self.image.to_network(torch.from_numpy(channels))

    def _numbers(self, images: Tensor) -> list[int]:
        return [self.number[key(one)] for one in images]


def key(image: Tensor) -> bytes:
    return image.contiguous().numpy().tobytes()


def planted_directions(model: Known, kind: str, seed: int) -> tuple[Directions, list[list[str]]]:
    """Directions of a kind, and the factors that each moves, the strongest first: "single", one factor each; "mixed",
    two each, of which one is the stronger; "equal", two alike; "nothing", random ones, which move all.
    """
    rng, count = np.random.default_rng([seed, 2]), len(model.source.world.factors)
    names, one = [factor.name for factor in model.source.world.factors], np.eye(count)
    if kind == "single":
        weights, moved = one, [[name] for name in names]
    elif kind == "nothing":
        weights, moved = rng.standard_normal((16, count)), [names for _ in range(16)]
    else:
        by, part = int(rng.integers(1, count)), MIXED if kind == "mixed" else 0.5**0.5
        sign = rng.choice([-1.0, 1.0], size=(count, 1))
        weights = part * one + sign * np.sqrt(1.0 - part**2) * np.roll(one, by, axis=1)
        moved = [[name, names[(i + by) % count]] for i, name in enumerate(names)]
    vectors = torch.from_numpy(weights).float() @ model.turn.T
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    labels = [f"{kind} {i:02d}" for i in range(len(vectors))]
    return Directions(vectors, torch.zeros(len(vectors)), labels, kind, model.spaces["z"]), moved
