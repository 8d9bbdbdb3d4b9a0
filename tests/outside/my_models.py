"""What a user brings: models outside medlat, which nothing in medlat knows, as small as they can be.

The configuration names them, as in `generator.network._target_=my_models.MyVAE`.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from medlat.classifiers.networks import ClassifierNetwork
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.generators.dcgan.networks import DCGAN
from medlat.generators.vae.networks import VAE


class MyVAE(VAE):
    """medlat's VAE under another name."""


class PlainAutoencoder(LatentModel, nn.Module):
    """Two layers to a code without any spread, two layers back."""

    def __init__(self, image: ImageSpec, latent_dim: int = 8, width: int = 64) -> None:
        super().__init__()
        self.image, self.spaces = image, {"z": LatentSpace("z", (latent_dim,))}
        pixels = image.channels * image.height * image.width
        sizes = [pixels, width, latent_dim]
        self.to_code = _layers(sizes)
        self.to_image = _layers(sizes[::-1])

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        return torch.randn(n, *self.spaces[space].shape, generator=generator).to(device)

    def encode(self, images: Tensor, space: str = "z") -> Tensor:
        return self.to_code(images.flatten(1)).float()

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        return torch.tanh(self.to_image(codes).float()).unflatten(1, self.image.shape)


class DecoderOnly(LatentModel, nn.Module):
    """A generator of images from codes, and nothing else."""

    def __init__(self, image: ImageSpec, latent_dim: int = 8, capacity: int = 16) -> None:
        super().__init__()
        self.image, self.spaces = image, {"z": LatentSpace("z", (latent_dim,))}
        self.inner = DCGAN(image, latent_dim, capacity)

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        return self.inner.sample(n, space, generator)

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        return self.inner.decode(codes, space)


class Trained(nn.Module):
    """A network as somebody trained it: no word of medlat, images in [0, 1], codes that are maps of features."""

    def __init__(self, channels: int = 1, width: int = 4, side: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        step = 32 // side
        self.down = nn.Conv2d(channels, width, step, step)
        self.up = nn.ConvTranspose2d(width, channels, step, step)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.min() >= 0.0 and x.max() <= 1.0  # noqa: PT018 (not a test)
        mean = self.down(x)
        return mean, torch.zeros_like(mean)

    def image(self, codes: Tensor) -> Tensor:
        return torch.sigmoid(self.up(codes))


def vector(channels: int = 1, latent_dim: int = 6, seed: int = 0) -> nn.Module:
    """A decoder of vectors to images of 32 pixels in [-1, 1], which is called itself."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(latent_dim, channels * 32 * 32), nn.Tanh(), nn.Unflatten(1, (channels, 32, 32)))


class MyClassifier(ClassifierNetwork):
    """Convolutions of stride 2 and the mean over places."""

    cam_layer = "body.0"

    def __init__(self, image: ImageSpec, task: str, classes: list[str], width: int = 8) -> None:
        super().__init__(image, task, classes)
        layers = [nn.Conv2d(image.channels, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU()]
        outputs = nn.Linear(2 * width, len(self.outputs))
        self.finish(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), outputs))


class NoGenerator(nn.Module):
    """A network that is no `LatentModel`."""

    def __init__(self, image: ImageSpec, latent_dim: int = 8) -> None:
        super().__init__()
        self.layer = nn.Linear(latent_dim, image.height)


class NoDecode(LatentModel, nn.Module):
    """It forgets `decode`, and a layer of it hides the method `encode`."""

    def __init__(self, image: ImageSpec, latent_dim: int = 8) -> None:
        super().__init__()
        self.image, self.spaces = image, {"z": LatentSpace("z", (latent_dim,))}
        self.encode = nn.Linear(image.height, latent_dim)

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, *self.spaces[space].shape, generator=generator)


def _layers(sizes: list[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in pairwise(sizes):
        parts += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts[:-1])
