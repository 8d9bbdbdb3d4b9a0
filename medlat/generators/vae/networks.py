"""Residual variational autoencoders (Kingma & Welling 2014), one family from laptop to paper size.

Schön et al. 2022 (arXiv 2207.09740) use a residual VAE with batch normalisation and 32 latent dimensions, whose encoder
has 64 channels at half the resolution, doubled at each halving up to 512: `stem_stride=2, capacity=64` follows it, with
nothing learnt at the full resolution and 1x1 shortcuts for 3x3 ones. The fast member begins at a quarter of the
resolution: `stem_stride=4`. Without normalisation the residual branches start at zero (SkipInit, De & Smith 2020,
arXiv 2002.10444).
"""

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Width
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.sizes import check_positive

Norm = Literal["none", "batch"]
BASE = 4  # pixels: side of the smallest feature map
LOG_VARIANCE_RANGE = (-12.0, 6.0)  # keeps exp() finite in bf16 while the encoder is still wild


def _norm(kind: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, with the change of resolution between them.

    resample: "down" (2x2 mean), "up" (nearest neighbour) or "same".
    x: [N, in_channels, H, W] -> [N, out_channels, H', W']
    """

    def __init__(
        self, in_channels: int, out_channels: int, resample: Literal["down", "up", "same"], norm: Norm
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.resample_mode = resample
        self.norm1 = _norm(norm, middle)
        self.norm2 = _norm(norm, out_channels)
        self.conv1 = nn.Conv2d(in_channels, middle, 3, padding=1)
        self.conv2 = nn.Conv2d(middle, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.gain = nn.Parameter(torch.zeros(())) if norm == "none" else None

    def resample(self, x: Tensor) -> Tensor:
        if self.resample_mode == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resample_mode == "up" else x

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm1(self.conv1(x)), 0.2)
        h = self.norm2(self.conv2(self.resample(h)))
        # A 1x1 convolution and nearest or mean resampling commute: do the cheaper one first.
        skip = self.resample(self.shortcut(x)) if self.resample_mode == "up" else self.shortcut(self.resample(x))
        return F.leaky_relu(skip + h if self.gain is None else torch.addcmul(skip, h, self.gain.to(h.dtype)), 0.2)


class VAE(LatentModel, nn.Module):
    """Encoder q(z|x) = N(mean, diag exp log_variance), decoder p(x|z); a `LatentModel` with the one space `z`.

    image:        what the images are; sides must be 4·2^n times `stem_stride`.
    latent_dim:   D, length of a code.
    capacity:     channels of the first feature map; doubled at each halving, up to `max_width` times.
    stem_stride:  side of the pixel blocks that a feature stands for: 1 (full resolution), 2 or 4 (cheaper each time).
    norm:         "batch", or "none" (residual branches start at zero).
    """

    def __init__(
        self,
        image: ImageSpec,
        latent_dim: Width = 32,
        capacity: Width = 32,
        max_width: Width = 8,
        stem_stride: Literal[1, 2, 4] = 4,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_positive(latent_dim=latent_dim, capacity=capacity, max_width=max_width)
        if stem_stride not in (1, 2, 4):
            raise ArgumentError("stem_stride", "expected 1, 2 or 4", stem_stride)
        self.image = image
        self.spaces = {"z": LatentSpace("z", (latent_dim,))}
        levels = _levels(image, stem_stride)
        widths = [capacity * min(2**i, max_width) for i in range(levels + 1)]
        side = (image.height // (stem_stride * 2**levels), image.width // (stem_stride * 2**levels))

        kernel = 3 if stem_stride == 1 else 2 * stem_stride
        self.stem = nn.Conv2d(image.channels, widths[0], kernel, stem_stride, padding=(kernel - stem_stride + 1) // 2)
        down = [ResidualBlock(a, b, "down", norm) for a, b in pairwise(widths)]
        self.encoder = nn.Sequential(*down)
        self.statistics = nn.Linear(widths[-1] * side[0] * side[1], 2 * latent_dim)

        self.entry = nn.Linear(latent_dim, widths[-1] * side[0] * side[1])
        self.entry_shape = (widths[-1], *side)
        up = [ResidualBlock(b, a, "up", norm) for a, b in pairwise(widths)]
        self.decoder = nn.Sequential(*reversed(up))
        self.head = nn.Conv2d(widths[0], image.channels * stem_stride**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(stem_stride)

    def posterior(self, images: Tensor, space: str = "z") -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] in [-1, 1] -> mean and log variance of the posterior, both [N, D] float32."""
        h = self.encoder(F.leaky_relu(self.stem(images), 0.2))
        mean, log_variance = self.statistics(h.flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        """Codes [N, D] -> images [N, C, H, W] in [-1, 1] (tanh)."""
        h = F.leaky_relu(self.entry(codes), 0.2).unflatten(1, self.entry_shape)
        h = h.contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.shuffle(self.head(self.decoder(h))).float())

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images [N, C, H, W], noise [N, D] ~ N(0, 1) -> reconstruction, posterior mean, log variance."""
        mean, log_variance = self.posterior(images)
        return self.decode(mean + noise * torch.exp(0.5 * log_variance)), mean, log_variance

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        """n codes from the prior N(0, 1), [n, D]."""
        device = self.entry.weight.device
        return torch.randn(n, *self.spaces[space].shape, generator=generator).to(device)

    def latent_affines(self, space: str = "z") -> list[Tensor]:
        """The one weight matrix [C·h·w, D] that codes enter through."""
        return [self.entry.weight]


def _levels(image: ImageSpec, stem_stride: int) -> int:
    """How often the feature map can be halved until its shorter side is BASE pixels."""
    shorter = min(image.height, image.width) // stem_stride
    levels = int(math.log2(max(shorter // BASE, 1)))
    unit = stem_stride * 2**levels
    if levels < 1 or shorter != BASE * 2**levels or image.height % unit or image.width % unit:
        sizes = [BASE * stem_stride * 2**n for n in range(1, 9)]
        best = min(sizes, key=lambda s: abs(s - min(image.height, image.width)))
        raise ArgumentError(
            "image_size",
            f"this network halves the image down to {BASE} pixels and needs one of {', '.join(map(str, sizes))}; "
            f"nearest: {best}",
            image.height,
        )
    return levels
