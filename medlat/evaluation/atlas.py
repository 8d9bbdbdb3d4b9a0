"""Directions of all methods and seeds side by side: which are the same, by angle and by what they do to images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medlat.evaluation.semantics import Effect

SAME_ANGLE = 0.9  # |cosine| from which two directions are duplicates by angle
SAME_EFFECT = 0.8  # cosine of effects at which clusters are cut


@dataclass(frozen=True)
class Place:
    """A row of atlas.csv. cluster: from 0, the largest first. nearest: the other method's direction that is most alike,
    by angle and by effect; NaN and "" where there is none in the same space. duplicates: other directions with an
    |cosine| of at least 0.9.
    """

    method: str
    direction: str
    cluster: int
    nearest_by_angle: str
    angle_cosine: float
    nearest_by_effect: str
    effect_cosine: float
    duplicates: int


@dataclass(frozen=True)
class Atlas:
    """places: of D directions; angles, effects: [D, D] |cosine| of directions (NaN between spaces) and of their
    effects; order: [D] in which clusters stand together.
    """

    places: list[Place]
    angles: np.ndarray
    effects: np.ndarray
    order: np.ndarray


def atlas(vectors: Sequence[tuple[str, np.ndarray]], rows: Sequence[Effect], kind: str) -> Atlas:
    """vectors: for each direction, in the order of the rows, the name of its space and the unit vector [size]."""
    own = [row for row in rows if row.kind == kind]
    labels = list(dict.fromkeys((row.method, row.direction) for row in own))
    assert len(labels) == len(vectors), (len(labels), len(vectors))
    effects = _alike(_effects(own, labels))
    angles = _angles(vectors)
    cluster, order = _clusters(effects)
    places = []
    for i, (method, direction) in enumerate(labels):
        others = np.array([other != method for other, _ in labels])
        by_angle, by_effect = (_nearest(x[i], others) for x in (angles, effects))
        same = angles[i] >= SAME_ANGLE
        places.append(
            Place(
                method,
                direction,
                int(cluster[i]),
                "" if by_angle is None else labels[by_angle][1],
                float("nan") if by_angle is None else float(angles[i, by_angle]),
                "" if by_effect is None else labels[by_effect][1],
                float("nan") if by_effect is None else float(effects[i, by_effect]),
                int(same.sum()) - 1,
            )
        )
    return Atlas(places, angles, effects, order)


def agreement(found: Atlas) -> list[dict]:
    """For each pair of methods, how well the directions of the first are found again in the second: the mean over them
    of the largest |cosine|, by angle and by effect.
    """
    methods = np.array([place.method for place in found.places])
    table = []
    for first in dict.fromkeys(methods):
        for second in dict.fromkeys(methods):
            if first == second:
                continue
            part = np.ix_(methods == first, methods == second)
            angles = found.angles[part]
            shared = not np.isnan(angles).any()
            table.append(
                {
                    "method": first,
                    "found_in": second,
                    "by_angle": float(angles.max(axis=1).mean()) if shared else float("nan"),
                    "by_effect": float(found.effects[part].max(axis=1).mean()),
                }
            )
    return table


def _effects(rows: Sequence[Effect], labels: Sequence[tuple[str, str]]) -> np.ndarray:
    """Standardised effects, [D, M]."""
    columns = list(dict.fromkeys(row.measurement for row in rows))
    table = np.zeros((len(labels), len(columns)))
    for row in rows:
        if np.isfinite(row.standardised):
            table[labels.index((row.method, row.direction)), columns.index(row.measurement)] = row.standardised
    return table


def _alike(rows: np.ndarray) -> np.ndarray:
    """|cosine| of all pairs of rows, [D, D]."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.abs(unit @ unit.T).clip(0.0, 1.0)


def _angles(vectors: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    result = np.full((len(vectors), len(vectors)), np.nan)
    for space in dict.fromkeys(name for name, _ in vectors):
        inside = [i for i, (name, _) in enumerate(vectors) if name == space]
        result[np.ix_(inside, inside)] = _alike(np.stack([vectors[i][1] for i in inside]))
    return result


def _clusters(alike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average linkage: cluster [D], 0 the largest, and an order in which clusters stand together."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(alike) < 2:
        return np.zeros(len(alike), int), np.arange(len(alike))
    apart = 1.0 - (alike + alike.T) / 2.0
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), "average")
    raw = fcluster(tree, 1.0 - SAME_EFFECT, "distance")
    numbers, sizes = np.unique(raw, return_counts=True)
    rank = {number: i for i, number in enumerate(numbers[np.argsort(-sizes, kind="stable")])}
    cluster = np.array([rank[number] for number in raw])
    return cluster, np.argsort(cluster, kind="stable")


def _nearest(row: np.ndarray, others: np.ndarray) -> int | None:
    known = np.flatnonzero(others & ~np.isnan(row))
    return int(known[row[known].argmax()]) if len(known) else None
