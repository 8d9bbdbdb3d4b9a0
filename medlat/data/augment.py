"""What training images pass through: whole batches at once, in plain torch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Angle, Shift, Span


class RandomAffine:
    """A small random rotation about the centre, scaling and shift of each image; what comes in repeats the edge.

    rotation_deg: at most, either way. scale: smallest and largest magnification. shift: at most, as a share of the
    image's side, either way in both directions. mirror: whether each second image is mirrored, left to right, where
    left and right mean nothing. Schön et al. 2022 take 1 degree, [1.0, 1.1] and neither.
    """

    def __init__(
        self, rotation_deg: Angle = 1.0, scale: Span | None = None, shift: Shift = 0.0, mirror: bool = False
    ) -> None:
        low, high = scale or (1.0, 1.1)
        if not 0.0 < low <= high:
            raise ArgumentError("scale", "expected two rising numbers above 0", [low, high])
        if not 0.0 <= shift < 0.5:
            raise ArgumentError("shift", "expected a share from 0 to below 0.5", shift)
        self.rotation, self.low, self.high, self.shift = math.radians(rotation_deg), low, high, shift
        self.mirror = mirror

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Images [B, C, H, W]; the same seed gives the same result."""
        draws = torch.rand(5 if self.mirror else 4, len(images), generator=generator_for(seed))
        angle = (2.0 * draws[0] - 1.0) * self.rotation
        shrink = 1.0 / (self.low + (self.high - self.low) * draws[1])  # the grid maps output to input
        x, y = (2.0 * draws[2:4] - 1.0) * 2.0 * self.shift  # the grid's side is 2
        cos, sin = shrink * torch.cos(angle), shrink * torch.sin(angle)
        maps = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)  # [B, 2, 3]
        if self.mirror:
            maps[draws[4] < 0.5, 0] *= -1.0
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class FlipsAndTurns:
    """One of the eight symmetries of the square for each image, all as likely: tissue has no up or down."""

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Images [B, C, S, S]; the same seed gives the same result."""
        which = torch.randint(8, (len(images),), generator=generator_for(seed)).to(images.device)
        turned = images.clone()
        for symmetry in range(1, 8):
            of = which == symmetry
            flipped = images[of].flip(-1) if symmetry >= 4 else images[of]
            turned[of] = torch.rot90(flipped, symmetry % 4, (-2, -1))
        return turned
