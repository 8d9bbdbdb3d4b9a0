"""Tiny generators whose inversions are known, for the tests of inversion."""

import torch
from torch import nn

from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.stylegan2.networks import StyleGAN2

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 25.0)


class Linear(LatentModel, nn.Module):
    """A generator whose image is tanh(W z) or W z, of 256 pixels and 4 dimensions."""

    def __init__(self, saturates: bool = True, size: int = 4, strength: float = 0.4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(strength * torch.randn(256, size, generator=generator))
        self.image, self.spaces, self.saturates = SPEC, {"z": LatentSpace("z", (size,))}, saturates
        self.requires_grad_(False)

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(n, self.weight.shape[1], generator=generator)

    def decode(self, codes: torch.Tensor, space: str = "z") -> torch.Tensor:
        images = (codes.float() @ self.weight.T.float()).unflatten(1, SPEC.shape)
        return torch.tanh(images) if self.saturates else images

    def latent_affines(self, space: str = "z") -> list[torch.Tensor]:
        return [self.weight]


def solved(model: Linear):
    """The encoder of a linear generator: its pseudoinverse."""
    inverse = torch.linalg.pinv(model.weight)

    def encode(images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return (flat.clamp(-1 + 1e-6, 1 - 1e-6).atanh() if model.saturates else flat) @ inverse.T

    return encode


def stylegan2(encoder: bool = False) -> StyleGAN2:
    sizes = {"z_dim": 6, "w_dim": 4, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StyleGAN2(SPEC, mapping_lr_multiplier=0.1, encoder=encoder, **sizes)
    return network.eval().requires_grad_(False)
