"""What training images pass through: whole batches at once, in plain torch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.errors import UserError
from medlat.randomness import generator_for


class RandomAffine:
    """A small random rotation about the centre and enlargement of each image; what comes in at the border repeats the
    edge.

    rotation_deg: at most, either way. scale: smallest and largest enlargement. Schön et al. 2022 take 1 degree and
                  [1.0, 1.1].
    """

    def __init__(self, rotation_deg: float = 1.0, scale: list[float] | None = None) -> None:
        low, high = scale or (1.0, 1.1)
        if not 0.0 < low <= high:
            raise UserError(f"generator.training.augment.scale=[{low}, {high}]: expected two rising numbers above 0")
        self.rotation, self.low, self.high = math.radians(rotation_deg), low, high

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Images [B, C, H, W]; the same seed gives the same result."""
        draws = torch.rand(2, len(images), generator=generator_for(seed))
        angle = (2.0 * draws[0] - 1.0) * self.rotation
        shrink = 1.0 / (self.low + (self.high - self.low) * draws[1])  # the grid maps output to input
        cos, sin, zero = shrink * torch.cos(angle), shrink * torch.sin(angle), torch.zeros(len(images))
        maps = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # [B, 2, 3]
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
