"""An encoder for a generator that has none: images -> codes of one of its spaces."""

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Width
from medlat.core.spaces import ImageSpec
from medlat.generators.vae.networks import BASE, Norm, ResidualBlock


class CodeEncoder(nn.Module):
    """A residual network that says by how many standard deviations a code differs from the mean code.

    image:       what the images are; each side at least 4·stem_stride pixels.
    shape:       of a code.
    capacity:    channels of the first feature map; doubled at each halving, up to `max_width` times.
    stem_stride: side of the pixel blocks that a feature stands for: 1, 2 or 4 (cheaper each time).
    norm:        "batch", or "none" (residual branches start at zero).
    """

    def __init__(
        self,
        image: ImageSpec,
        shape: list[int],
        capacity: Width = 32,
        max_width: Width = 8,
        stem_stride: Literal[1, 2, 4] = 2,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        for name, value in {"capacity": capacity, "max_width": max_width}.items():
            if value < 1:
                raise ArgumentError(name, "expected a whole number of at least 1", value)
        shorter = min(image.height, image.width)
        if stem_stride not in (1, 2, 4) or shorter < BASE * stem_stride:
            raise ArgumentError(
                "stem_stride",
                f"expected 1, 2 or 4, and at most a {BASE}th of the image's {shorter} pixels",
                stem_stride,
            )
        levels = int(math.log2(shorter // (BASE * stem_stride)))
        widths = [capacity * min(2**i, max_width) for i in range(levels + 1)]
        grid = [side // stem_stride // 2**levels for side in (image.height, image.width)]
        kernel = 3 if stem_stride == 1 else 2 * stem_stride
        padding = (kernel - stem_stride + 1) // 2
        self.stem = nn.Conv2d(image.channels, widths[0], kernel, stem_stride, padding)
        self.blocks = nn.Sequential(*[ResidualBlock(a, b, "down", norm) for a, b in pairwise(widths)])
        self.head = nn.Linear(widths[-1] * math.prod(grid), math.prod(shape))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.mean: Tensor
        self.scale: Tensor

    def calibrate(self, mean: Tensor, scale: Tensor) -> None:
        """Mean and standard deviation of the generator's codes, both of a code's shape."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> codes [N, *shape] float32."""
        h = self.blocks(F.leaky_relu(self.stem(images), 0.2))
        return self.mean + self.scale * self.head(h.flatten(1)).float().unflatten(1, self.mean.shape)
