"""Generators and worlds whose answers are known in closed form."""

from collections.abc import Sequence

import numpy as np
import torch

from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.evaluation.chance import Answers, chance, evidence
from medlat.evaluation.naming import Candidate, Named, candidate, names
from medlat.evaluation.semantics import Quantity, common_slopes, effects, groups_of, per_person

STEPS = [-2.0, -1.0, 0.0, 1.0, 2.0]
SPACE = "z"


class Flat(LatentModel):
    """A generator without structure: every direction of its latent space does as much as any other, to all at once."""

    def __init__(self, size=8):
        generator = torch.Generator().manual_seed(2)
        self.pictures = torch.linalg.qr(torch.randn(64, size, generator=generator))[0].T
        self.mixtures = torch.randn(64, 6, generator=generator)  # what is measured are mixtures of all pixels
        self.image = ImageSpec(1, 8, 8, -1.0, 1.0, "1", 1.0)
        self.spaces = {"z": LatentSpace("z", (size,))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, self.spaces["z"].size, generator=generator)

    def decode(self, codes, space="z"):
        return (codes @ self.pictures).reshape(-1, 1, 8, 8)

    def latent_affines(self, space="z"):
        return [self.pictures.T]


class Structured(Flat):
    """The same with one measurement for each of six axes, which are of different strength."""

    def __init__(self):
        super().__init__()
        self.strength = torch.linspace(2.0, 0.5, 8)
        self.mixtures = self.pictures[:6].T

    def decode(self, codes, space="z"):
        return super().decode(codes * self.strength)

    def latent_affines(self, space="z"):
        return [self.pictures.T @ torch.diag(self.strength)]


class World:
    """Codes of people, and what is measured on their images: q(c) = q(0) + W c, W [Q, D] in standard deviations for a
    unit of the code, with a slope that differs from person to person by `apart` and measurements that err by `noise`.
    """

    def __init__(self, effect: np.ndarray, people=24, apart=0.3, noise=0.05, seed=0, drawn=4000, ceiling=None):
        self.rng = np.random.default_rng(seed)
        count, size = effect.shape
        self.owners, self.noise = np.arange(people), noise
        scale = np.abs(effect).max()
        self.slopes = effect + apart * scale * self.rng.standard_normal((people, count, size))
        ends = np.ones(count) if ceiling is None else ceiling
        self.quantities = [Quantity(f"q{i}", "mm", "measurement", 1.0, i, float(ends[i])) for i in range(count)]
        self.answers = Answers(
            self.slopes + noise * self.rng.standard_normal(self.slopes.shape), np.eye(size), np.ones(size)
        )
        self.ceiling, self.groups = ends, groups_of(self.quantities)
        self.chance = chance(self.answers, self.groups, ends, seed, drawn)

    def tried(self, vectors: np.ndarray, method: str, reach: float = 8.0) -> list[Candidate]:
        """Of unit directions [K, D]."""
        found = []
        clear = evidence(self.answers.along(vectors), self.groups, self.ceiling, self.chance.share)
        for number, vector in enumerate(vectors):
            base = self.rng.standard_normal((len(self.owners), 1, len(self.quantities)))
            values = base + np.array(STEPS)[:, None] * (self.slopes @ vector)[:, None]
            values = values + self.noise * self.rng.standard_normal(values.shape)
            slopes, r2 = common_slopes(values, np.array(STEPS))
            slopes = per_person(slopes, self.owners)
            rows = effects(slopes, r2, self.quantities, method, f"{method} {number:02d}")
            share, ends = self.chance.share, (reach, 2.0)
            found.append(candidate(rows, values, slopes, clear[number], self.quantities, share, SPACE, ends))
        return found

    def named(self, methods: dict[str, np.ndarray], controls: Sequence[str] = ()) -> list[Named]:
        """What one page says of methods and their directions."""
        found = [row for method, vectors in methods.items() for row in self.tried(vectors, method)]
        return names(found, {SPACE: self.chance.evidence}, controls)


def random_basis(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """[count, size] orthonormal."""
    return np.linalg.qr(rng.standard_normal((size, count)))[0].T
