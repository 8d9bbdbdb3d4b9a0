"""Geometry of a batch: pixel moves that lose nothing, and affine warps without aliasing. Differentiable twice.

A map [B, 3, 3] takes the place of an output pixel to the place of its source, in pixels from the image's centre, x to
the right and y downwards. What is done to the image first stands leftmost in a product of maps. Maps are on the CPU.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.linear_map import linear_map

# What lies outside: the image mirrored at its edge, the outermost pixel twice; or the outermost pixel repeated.
Padding = Literal["reflection", "border"]

# Orthonormal scaling filter of the symlet with six vanishing moments (Daubechies 1992, "Ten lectures on wavelets").
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
REACH = len(SYM6) // 2 - 1  # taps before the middle pair
# The filter is not quite symmetric: its centre of mass lies this far (in samples of double density) off its middle.
LAG = sum(n * tap for n, tap in enumerate(SYM6)) / sum(SYM6) - (REACH + 0.5)


def affine(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Six tensors [B] -> maps [B, 3, 3] with rows (xx, xy, x), (yx, yy, y), (0, 0, 1)."""
    zero, one = torch.zeros_like(xx), torch.ones_like(xx)
    return torch.stack([xx, xy, x, yx, yy, y, zero, zero, one], dim=1).reshape(-1, 3, 3)


def rotation(angle: Tensor) -> Tensor:
    """The image turns anticlockwise by angle [B] in radians."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return affine(cos, -sin, sin, cos, zero, zero)


def magnification(x: Tensor, y: Tensor) -> Tensor:
    """The image grows by the factors x, y [B]."""
    zero = torch.zeros_like(x)
    return affine(1.0 / x, zero, zero, 1.0 / y, zero, zero)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """The image moves by x, y [B] pixels, to the right and downwards."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return affine(one, zero, zero, one, -x, -y)


def pixel_moves(flips: Tensor, turns: Tensor, shifts: Tensor) -> Tensor:
    """Maps [B, 3, 3], all entries exact, of: left and right exchanged where flips [B]; then turns [B] (0 to 3) quarter
    turns anticlockwise; then a move by shifts [B, 2] whole pixels to the right and downwards.
    """
    sign = 1.0 - 2.0 * flips.float()
    cos, sin = (torch.tensor(table)[turns] for table in ([1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]))
    zero = torch.zeros_like(sign)
    x, y = shifts.float().unbind(1)
    return affine(sign * cos, -sign * sin, sin, cos, zero, zero) @ translation(x, y)


def transform(images: Tensor, moves: Tensor, maps: Tensor, padding: Padding) -> Tensor:
    """Images [B, C, H, W] under pixel moves and then maps, both [B, 3, 3] on the CPU.

    An image that is only moved keeps its pixels' values; one that nothing happens to stays as it is. Only the others
    are resampled, once, by both together. Quarter turns need square images.
    """
    identity = torch.eye(3)
    warped = (maps != identity).flatten(1).any(1)
    moved = (moves != identity).flatten(1).any(1) & ~warped
    images = some(images, warped, lambda part: warp(part, (moves @ maps)[warped], padding))
    return some(images, moved, lambda part: move(part, moves[moved], padding))


def some(images: Tensor, which: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The images with those of `which` [B] (on the CPU) changed; nothing is copied where that is all or none."""
    if which.all() or not which.any():
        return change(images) if which.any() else images
    rows = which.nonzero()[:, 0].to(images.device)
    return images.index_copy(0, rows, change(images.index_select(0, rows)))


def move(images: Tensor, moves: Tensor, padding: Padding) -> Tensor:
    """Images [B, C, H, W] under pixel moves [B, 3, 3]; every output pixel is one of the image's pixels."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(n) - (n - 1) / 2.0 for n in (width, height))
    columns, rows = _sources(moves[:, :2], x, y).unbind(-1)
    columns, rows = columns + (width - 1) / 2.0, rows + (height - 1) / 2.0
    assert torch.equal(columns, columns.round()), "quarter turns of an image that is not square"
    index = fold(rows.long(), height, padding) * width + fold(columns.long(), width, padding)
    index = index.flatten(1)[:, None].to(images.device).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).reshape(images.shape)


def warp(images: Tensor, maps: Tensor, padding: Padding) -> Tensor:
    """Images [B, C, H, W] resampled under maps [B, 3, 3] (Karras et al. 2020, arXiv 2006.06676, appendix B).

    The image is brought to double density by an orthonormal low-pass filter, sampled bilinearly at double density, and
    brought back by the same filter. Grey values that are an affine function of the place come out without error.
    """
    height, width = images.shape[-2:]
    up_y, up_x = (_matrix(_up_matrix(n, padding), images) for n in (height, width))
    down_y, down_x = (_matrix(_down_matrix(n), images) for n in (height, width))
    x, y = (_double_density(n, images) for n in (width, height))
    # To grid_sample's coordinates: -1 and 1 are the outer edges of the outermost pixels.
    sides = torch.tensor([[width], [height]], dtype=torch.float64)
    maps = maps[:, :2] * (2.0 / sides) + torch.tensor([0.0, 0.0, LAG], dtype=torch.float64) / sides
    grid = _sources(maps.to(device=images.device, dtype=images.dtype), x, y)
    dense_shape = (*images.shape[:2], 2 * height, 2 * width)

    def there(images: Tensor) -> Tensor:
        dense = up_y @ images @ up_x.mT
        sampled = F.grid_sample(dense, grid, mode="bilinear", padding_mode=padding, align_corners=False)
        return down_y @ sampled @ down_x.mT

    def back(gradients: Tensor) -> Tensor:
        sampled = (down_y.mT @ gradients @ down_x).contiguous()
        dense = sampled.new_zeros(dense_shape)  # only its shape counts: the grid's gradient is not asked for
        mode = {"border": 1, "reflection": 2}[padding]
        dense = torch.ops.aten.grid_sampler_2d_backward(sampled, dense, grid, 0, mode, False, [True, False])[0]
        return up_y.mT @ dense @ up_x

    return linear_map(images, there, back)


def fold(index: Tensor, n: int, padding: Padding) -> Tensor:
    """Whole places, any distance outside an axis of n pixels, -> the pixel 0..n-1 that stands there."""
    if padding == "border":
        return index.clamp(0, n - 1)
    index = index % (2 * n)
    return torch.minimum(index, 2 * n - 1 - index)


def _sources(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where maps [B, 2, 3] take the output places x [W], y [H]: [B, H, W, 2]. The grid has no gradient."""
    m = maps[..., None, None]
    sources = maps.new_empty(len(maps), len(y), len(x), 2)
    for i in (0, 1):
        torch.add(m[:, i, 0] * x, m[:, i, 1] * y[:, None] + m[:, i, 2], out=sources[..., i])
    return sources


def _double_density(n: int, like: Tensor) -> Tensor:
    """The places, in pixels from the centre, of the samples that the way back down reads: [2n + 2 * REACH]."""
    index = torch.arange(2 * n + 2 * REACH, device=like.device, dtype=like.dtype) - REACH
    return (index - (n - 0.5) - LAG) / 2.0


@lru_cache(maxsize=64)
def _up_matrix(n: int, padding: Padding) -> np.ndarray:
    """[2n, n]: an axis to double density; sample 2k + 0.5 + LAG stands where pixel k stands."""
    matrix = np.zeros((2 * n, n))
    for k in range(-REACH - 1, n + REACH + 1):
        source = int(fold(torch.tensor(k), n, padding))
        for tap, weight in enumerate(SYM6):
            if 0 <= (row := 2 * k + tap - REACH) < 2 * n:
                matrix[row, source] += math.sqrt(2.0) * weight
    return matrix


@lru_cache(maxsize=64)
def _down_matrix(n: int) -> np.ndarray:
    """[n, 2n + 2 * REACH]: back to single density; undoes the way up."""
    matrix = np.zeros((n, 2 * n + 2 * REACH))
    for k in range(n):
        matrix[k, 2 * k : 2 * k + len(SYM6)] = np.array(SYM6) / math.sqrt(2.0)
    return matrix


def _matrix(values: np.ndarray, like: Tensor) -> Tensor:
    """A fresh tensor: one kept from inference mode could not take part in training."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)
