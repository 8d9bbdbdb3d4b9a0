"""StyleGAN2's residual discriminator (Karras et al. 2020, arXiv 1912.04958, figure 7c)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from medlat.core.ranges import Count, Positive, Width
from medlat.core.spaces import ImageSpec
from medlat.generators.sizes import check_positive
from medlat.generators.stylegan2.ops import Conv, Linear, at_least_float32, minibatch_deviation
from medlat.generators.stylegan2.sizes import channel_widths, smallest_map


class Block(nn.Module):
    """Two 3x3 convolutions, the second of stride 2, beside a 1x1 shortcut: [N, I, H, W] -> [N, O, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int, clamp: Positive | None) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Conv(inputs, outputs, 3, down=True, clamp=clamp)
        self.skip = Conv(inputs, outputs, 1, down=True, bias=False, lrelu=False)

    def forward(self, x: Tensor) -> Tensor:
        half = math.sqrt(0.5)  # keeps the variance of the sum
        return self.skip(x, half) + self.conv1(self.conv0(x), half)


class Discriminator(nn.Module):
    """Images [N, C, H, W] -> logits [N] float32, positive for real.

    channel_base, channel_max, base, clamp: as of the generator. group: images that share a standard deviation.
    """

    def __init__(
        self,
        image: ImageSpec,
        channel_base: Count = 32768,
        channel_max: Width = 512,
        base: tuple[int, int] | None = None,
        group: Width = 4,
        clamp: Positive | None = None,
    ) -> None:
        super().__init__()
        check_positive(channel_max=channel_max, group=group)
        base = smallest_map(base)
        widths = channel_widths(image, base, channel_base, channel_max)[::-1]
        self.group = group
        self.from_image = Conv(image.channels, widths[0], 1, clamp=clamp)
        self.blocks = nn.Sequential(*(Block(a, b, clamp) for a, b in pairwise(widths)))
        self.conv = Conv(widths[-1] + 1, widths[-1], 3, clamp=clamp)
        self.hidden = Linear(widths[-1] * base[0] * base[1], widths[-1], lrelu=True)
        self.output = Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.from_image(images))
        with torch.autocast(x.device.type, enabled=False):  # the last, cheap layers at full precision
            x = self.conv(minibatch_deviation(at_least_float32(x), self.group))
            return self.output(self.hidden(x.flatten(1)))[:, 0]
