"""The velocity field of a rectified flow, conditioned on time and on a code: a small U-Net on blocks of pixels.

Pixels of a block become channels (Shi et al. 2016, the inverse of sub-pixel convolution), so that the first and dearest
features stand at a half or a quarter of the resolution. Blocks are those of Dhariwal & Nichol 2021 (arXiv 2105.05233)
without attention: normalisation whose scale and shift time and code decide.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

GROUP = 16  # channels that are normalised together
FREQUENCIES = 32  # of the sines and cosines that tell the time
FASTEST = 1000.0  # radians per unit of time of the fastest of them


class GroupNorm(nn.GroupNorm):
    """torch's, whose forward derivative (torch 2.13) takes no tensor in channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if forward_ad.unpack_dual(x).tangent is None else x.contiguous())


class ConditionedBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the condition scales and shifts between them. It begins as the shortcut.

    x: [N, in_channels, H, W], condition: [N, E] -> [N, out_channels, H, W]
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(in_channels // GROUP or 1, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(out_channels // GROUP or 1, out_channels, affine=False)
        self.modulation = nn.Linear(embedding, 2 * out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1.0 + scale)
        return self.shortcut(x) + self.conv2(F.silu(h))


class VelocityUNet(nn.Module):
    """v(x, t, z): where a noisy image moves at time t, 0 the image and 1 the noise.

    channels: of an image. latent_dim: D. patch: side of the pixel blocks that a feature stands for. widths: channels at
    each resolution, halved from one to the next. depth: blocks at each resolution, on either side.
    """

    def __init__(self, channels: int, latent_dim: int, patch: int, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        self.patch, self.depth = patch, depth
        embedding = 4 * widths[0]
        self.of_time = nn.Sequential(nn.Linear(2 * FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.of_code = nn.Linear(latent_dim, embedding)
        frequencies = torch.exp(torch.linspace(0.0, math.log(FASTEST), FREQUENCIES))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

        self.entry = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.down, self.halve, kept, width = nn.ModuleList(), nn.ModuleList(), [widths[0]], widths[0]
        for level, wide in enumerate(widths):
            for _ in range(depth):
                self.down.append(ConditionedBlock(width, wide, embedding))
                kept.append(width := wide)
            if level < len(widths) - 1:
                self.halve.append(nn.Conv2d(wide, wide, 3, stride=2, padding=1))
                kept.append(wide)
        self.middle = ConditionedBlock(width, width, embedding)
        self.up, self.refine = nn.ModuleList(), nn.ModuleList()
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(depth + 1):
                self.up.append(ConditionedBlock(width + kept.pop(), wide, embedding))
                width = wide
            if level > 0:  # before the features are doubled: a quarter of the work
                self.refine.append(nn.Conv2d(wide, width := widths[level - 1], 3, padding=1))
        self.norm = GroupNorm(width // GROUP or 1, width)
        self.head = nn.Conv2d(width, channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor, codes: Tensor) -> Tensor:
        """x [N, C, H, W], time [N] from 0 to 1, codes [N, D] -> velocities [N, C, H, W] float32."""
        angles = time[:, None] * self.frequencies
        condition = F.silu(self.of_time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.of_code(codes))
        h = self.entry(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        kept, down, halve = [h], iter(self.down), iter(self.halve)
        for level in range(len(self.halve) + 1):
            for _ in range(self.depth):
                kept.append(h := next(down)(h, condition))
            if level < len(self.halve):
                kept.append(h := next(halve)(h))
        h, up, refine = self.middle(h, condition), iter(self.up), iter(self.refine)
        for level in reversed(range(len(self.halve) + 1)):
            for _ in range(self.depth + 1):
                h = next(up)(torch.cat([h, kept.pop()], dim=1), condition)
            if level > 0:
                h = F.interpolate(next(refine)(h), size=kept[-1].shape[-2:], mode="nearest")
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch).float()
