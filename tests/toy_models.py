"""A generator and a black box whose every answer is known in closed form."""

import torch
from torch import Tensor

from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace

SPEC = ImageSpec(1, 4, 4, 0.0, 255.0, "grey", 1.0)


class Pixels(LatentModel):
    """A code of four numbers, each a tenth of the brightness of its quarter of the image."""

    def __init__(self) -> None:
        self.image, self.spaces = SPEC, {"z": LatentSpace("z", (4,))}

    def sample(self, n: int, space: str = "z", generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, 4, generator=generator)

    def decode(self, codes: Tensor, space: str = "z") -> Tensor:
        quarters = 0.1 * codes.reshape(-1, 1, 2, 2)
        return quarters.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).clamp(-1.0, 1.0)

    def latent_affines(self, space: str = "z") -> list[Tensor]:
        return [torch.eye(4)]


class Quarters:
    """The probability sigmoid(weights · code) of an image of `Pixels`, read off the image."""

    task = "binary"
    classes = ("dark", "bright")
    outputs = ("bright",)

    def __init__(self, *weights: float, differentiable: bool = True) -> None:
        self.weights, self.differentiable = torch.tensor(weights), differentiable

    def __call__(self, images: Tensor) -> Tensor:
        codes = torch.nn.functional.avg_pool2d(images, 2).flatten(1) * 10.0
        return torch.sigmoid(codes @ self.weights)[:, None]


def brightness(images: Tensor) -> Tensor:
    """A user's function: the mean of images in [-1, 1] as a probability, [N]."""
    return (images.mean(dim=(1, 2, 3)) + 1.0) / 2.0


def own_generator(image):
    """A generator of one's own, as the function that makes it."""
    from medlat.generators.vae.networks import VAE

    torch.manual_seed(0)
    return VAE(image, latent_dim=4, capacity=4)
