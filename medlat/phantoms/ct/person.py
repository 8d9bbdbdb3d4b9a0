"""What is individual in a phantom patient beside the factors: vessels of the lung, ribs, texture, nodules."""

import math
from dataclasses import dataclass

import numpy as np

LENGTH = 260.0  # millimetres from the apex (z = 0) to the liver (z = 1) for a body of size 1


@dataclass(frozen=True)
class Nodule:
    """A round lump of soft tissue in a lung.

    z:         level of its middle.
    radius_mm: 4 to 10 mm.
    place:     a number in [0, 1) that picks a point of the lungs at that level.
    """

    z: float
    radius_mm: float
    place: float


@dataclass(frozen=True)
class Person:
    """branches: [B, 7] start (u, v, depth), end (u, v, depth) and radius of each piece of vessel, body units."""

    branches: np.ndarray
    lung_hu: float
    rib_offset: float
    phase: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Person":
        lung_hu, rib_offset, phase = rng.uniform((-890.0, 0.0, 0.0), (-830.0, 26.0, 2 * math.pi))
        return cls(grow_vessels(rng), lung_hu, rib_offset, phase)


def grow_vessels(rng: np.random.Generator) -> np.ndarray:
    """Two trees from the hila that branch towards points spread over the lungs, [B, 7] float64."""
    pieces = []
    for side in (-1.0, 1.0):
        targets = _spread(rng, 12, side)
        nodes = np.tile([side * 34.0, 6.0, 0.44 * LENGTH], (len(targets), 1))
        for radius, reach, children in ((4.2, 0.35, 3), (2.8, 0.42, 3), (1.8, 0.5, 3), (1.0, 0.9, 1)):
            away = targets - nodes
            ends = nodes + reach * away + rng.normal(0, 1.5, nodes.shape)
            pieces.append(np.column_stack([nodes, ends, np.full(len(nodes), radius)]))
            spread = 0.3 * np.linalg.norm(away, axis=1)
            nodes = np.repeat(ends, children, axis=0)
            targets = (
                np.repeat(targets, children, axis=0)
                + rng.normal(size=nodes.shape) * np.repeat(spread, children)[:, None]
            )
    return np.concatenate(pieces)


def _spread(rng: np.random.Generator, count: int, side: float) -> np.ndarray:
    """Points over one lung: levels evenly, the rest at random, [count, 3]."""
    level = (np.arange(count) + rng.uniform(0, 1, count)) / count
    angle = rng.permutation((np.arange(count) + rng.uniform(0, 1, count)) / count) * 2 * math.pi
    reach = np.interp(level, [0, 0.4, 1], [0.45, 1.0, 1.0])
    u = side * (70 + 42 * np.cos(angle)) * np.sqrt(reach)
    return np.stack([u, 2 + 52 * np.sin(angle) * reach, (0.08 + 0.86 * level) * LENGTH], axis=1)
