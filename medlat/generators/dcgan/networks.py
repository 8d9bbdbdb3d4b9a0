"""DCGAN (Radford, Metz & Chintala 2016, arXiv 1511.06434).

At 128² with 32 latent dimensions and 128 channels it is the GAN of Schön et al. 2022 (arXiv 2207.09740).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from medlat.core.ranges import Width
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.sizes import check_positive, doublings

BASE = 4  # pixels: side of the smallest feature map
DEVIATION = 0.02  # of the first weights


class DCGAN(LatentModel, nn.Module):
    """The generator: transposed convolutions of stride 2 with batch normalisation; a `LatentModel` with the space `z`.

    image:      what the images are; both sides 4·2^n, with the same n.
    latent_dim: length of a code. capacity: channels at half the image's resolution, doubled at each halving.
    """

    def __init__(self, image: ImageSpec, latent_dim: Width = 32, capacity: Width = 128) -> None:
        super().__init__()
        check_positive(latent_dim=latent_dim, capacity=capacity)
        self.image = image
        self.spaces = {"z": LatentSpace("z", (latent_dim,))}
        widths = _widths(image, capacity)[::-1]
        self.entry = nn.ConvTranspose2d(latent_dim, widths[0], BASE, bias=False)
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, [*widths[1:], image.channels], strict=True):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        self.layers = nn.Sequential(*layers)
        self.apply(_first_weights)

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        """Codes [N, D] -> images [N, C, H, W] in [-1, 1] (tanh)."""
        # Maps of one pixel leave the memory format open, and the convolutions would choose the slow one.
        h = self.entry(codes[:, :, None, None]).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.layers(h).float())

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        """n codes from the prior N(0, 1), [n, D]."""
        return torch.randn(n, *self.spaces[space].shape, generator=generator).to(self.entry.weight.device)

    def latent_affines(self, space: str = "z") -> list[Tensor]:
        """The one weight matrix [C·16, D] that codes enter through."""
        return [self.entry.weight.flatten(1).T]


class DCGANDiscriminator(nn.Module):
    """Images [N, C, H, W] -> logits [N] float32: convolutions of stride 2 with batch normalisation but for the first.

    capacity: channels at half the image's resolution, doubled at each halving.
    """

    def __init__(self, image: ImageSpec, capacity: Width = 128) -> None:
        super().__init__()
        check_positive(capacity=capacity)
        widths = _widths(image, capacity)
        self.entry = nn.Conv2d(image.channels, widths[0], 4, 2, 1, bias=False)
        layers: list[nn.Module] = [nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, BASE, bias=False))
        self.apply(_first_weights)

    def forward(self, images: Tensor) -> Tensor:
        h = self.entry(images).contiguous(memory_format=torch.channels_last)  # as of the generator
        return self.layers(h).float().flatten()


def _widths(image: ImageSpec, capacity: int) -> list[int]:
    """Channels at half, a quarter, ... of the image's resolution, down to BASE."""
    return [capacity * 2**i for i in range(doublings(image, (BASE, BASE)))]


def _first_weights(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, DEVIATION)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, DEVIATION)
