"""The way back: from images to the codes of StyleGAN2's w."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medlat.core.spaces import ImageSpec
from medlat.generators.stylegan2.discriminator import Block
from medlat.generators.stylegan2.ops import Conv, Linear, at_least_float32


class Encoder(nn.Module):
    """The discriminator's blocks with a code at their end, as in StylEx (Lang et al. 2021, arXiv 2104.13369).

    Images [N, C, H, W] in [-1, 1] -> w [N, w_dim] float32. widths: channels from the image's resolution down to `base`.
    """

    def __init__(
        self, image: ImageSpec, widths: Sequence[int], base: tuple[int, int], w_dim: int, clamp: float | None
    ) -> None:
        super().__init__()
        self.from_image = Conv(image.channels, widths[0], 1, clamp=clamp)
        self.blocks = nn.Sequential(*(Block(a, b, clamp) for a, b in pairwise(widths)))
        self.conv = Conv(widths[-1], widths[-1], 3, clamp=clamp)
        self.hidden = Linear(widths[-1] * math.prod(base), widths[-1], lrelu=True)
        self.output = Linear(widths[-1], w_dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.from_image(images))
        with torch.autocast(x.device.type, enabled=False):  # the last, cheap layers at full precision
            x = self.conv(at_least_float32(x))
            return self.output(self.hidden(x.flatten(1)))
