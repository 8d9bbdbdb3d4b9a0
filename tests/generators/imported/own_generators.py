"""Functions that make generators, as `generator.function=` names them."""

import torch
from generators.imported.brought_files import Halves
from torch import nn

from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.vae.networks import VAE


def halves(gain: float = 0.25) -> nn.Module:
    made = Halves()
    nn.init.constant_(made.gain, gain)
    return made


def own_vae(image: ImageSpec, latent_dim: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return VAE(image, latent_dim, capacity=4, stem_stride=2)


def drawn_anew() -> nn.Module:
    made = Halves()
    nn.init.normal_(made.gain)
    return made


def no_network() -> int:
    return 3


def fails() -> nn.Module:
    raise KeyError("settings")


class NoSample(LatentModel, nn.Module):
    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.spaces = image, {"z": LatentSpace("z", (2,))}


class Cut(Halves):
    """Its images have no gradient in the codes."""

    @torch.no_grad()
    def forward(self, codes):
        return super().forward(codes)


class Grown(Halves):
    """Its images are twice as large."""

    def forward(self, codes):
        return super().forward(codes).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Clipped(Halves):
    """It knows images in [0, 1] only."""

    def encode(self, images):
        return super().encode(images.clamp(0.0, 1.0))


class Volumes(nn.Module):
    """A weight of five dimensions, and a layer that asks for the memory as it lies."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(1, 3, 3, 3, 3) * 0.1)
        self.head = nn.Conv2d(3, 4, 3, padding=1)

    def decode(self, codes):
        maps = torch.nn.functional.conv2d(codes, self.kernel[0])
        return torch.sigmoid(self.head(maps)).view(len(codes), -1)[:, :256].view(-1, 1, 16, 16)
