"""Radiographs of both polarities in one set: bright bone in most, dark bone in some.

Images of one view of one body part resemble each other, so that an inverted one resembles the negative of the others.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

Polarity = Literal["as_stored", "checked", "mended"]

GRID = 16  # pixels a side of what is compared
BLOCK = 1024  # images that are read together
ALIKE = 0.5  # median correlation above which images resemble each other enough
INVERTED = -0.3  # correlation below which one is inverted; of 6,604 knees none lies between -0.6 and 0.3
FEWEST = 20  # images


class Found(NamedTuple):
    """inverted: [N] bool; None where the images do not resemble each other enough, or are fewer than 20, so that
    nothing can be said. alike: the median correlation of an image with what they have in common.
    """

    inverted: np.ndarray | None
    alike: float


def inverted_among(images: Any, rows: np.ndarray) -> Found:
    """Which images are negatives of what most of them look like.

    images: [M, 1, S, S], memory-mapped: read once, in blocks; 0 is black, and where an image was padded.
    rows:   [N] of them, those that hold an image.

    Each image is reduced to 16² pixels and standardised; what they have in common, whatever the sign, is their first
    principal component about 0, and each image's sign in it is its polarity. The fewer are the inverted ones.
    """
    if len(rows) < FEWEST:
        return Found(None, 0.0)
    small = np.concatenate([_small(images[part]) for part in _blocks(rows)])
    alike = small @ np.linalg.eigh(small.T @ small)[1][:, -1]
    if (alike < 0).sum() > len(alike) / 2:
        alike = -alike
    inverted, middle = alike < INVERTED, float(np.median(np.abs(alike)))
    is_tail = inverted.any() and ((alike < 0) & ~inverted).sum() > inverted.sum()  # and no second kind
    return Found(inverted if middle >= ALIKE and not is_tail else None, middle)


def _blocks(rows: np.ndarray) -> Iterable[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // BLOCK))


def _small(images: np.ndarray) -> np.ndarray:
    """[B, 1, S, S] -> [B, 16 · 16] float32 of mean 0 and norm 1 (0 where an image is of one value)."""
    import torch

    whole = torch.from_numpy(images.astype(np.float32))
    grid = torch.nn.functional.adaptive_avg_pool2d(whole, min(GRID, whole.shape[-1]))[:, 0].numpy()
    filled = grid != 0
    inside = _between(filled.max(2))[:, :, None] & _between(filled.max(1))[:, None, :]
    count = np.maximum(inside.sum((1, 2), keepdims=True), 1)
    flat = np.where(inside, grid - (grid * inside).sum((1, 2), keepdims=True) / count, 0.0).reshape(len(grid), -1)
    return (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)).astype(np.float32)


def _between(filled: np.ndarray) -> np.ndarray:
    """[B, n] bool -> whether a row or column lies between the first and the last that is filled: the rest is padding,
    which has no polarity, and neither has a row of which a part may be padding.
    """
    forth = np.maximum.accumulate(filled, axis=1)
    back = np.maximum.accumulate(filled[:, ::-1], axis=1)[:, ::-1]
    inside = forth & back
    inner = inside.copy()
    inner[:, 1:] &= inside[:, :-1]
    inner[:, :-1] &= inside[:, 1:]
    return inner
