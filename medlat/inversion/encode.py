"""Inversion in one pass of an encoder: the generator's own, or one trained for it; alone, or with the image's noise."""

import torch
from torch import Tensor

from medlat.core.spaces import LatentModel, chosen_space
from medlat.inversion.inverter import Encoder


class Encode:
    """What the encoder says.

    space: name of the latent space; null: `w+` where the generator has one, else its default.
    """

    needs_encoder = True
    tunes = False
    keeps_noise = False
    one_pass = True

    def __init__(self, space: str | None = None) -> None:
        self.space = space

    @torch.no_grad()
    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        assert encoder is not None
        codes = encoder(images).float()
        assert codes.shape[1:] == chosen_space(model, self.space, for_images=True).shape, codes.shape
        return codes


class Exact(Encode):
    """What the encoder says, and the noise that belongs to the image: together they give it back. A moved code keeps
    the noise. Of a generator that can `invert`.

    space: as above.
    """

    keeps_noise = True


def own_encoder(model: LatentModel, space: str) -> Encoder | None:
    """The generator's own encoder to a space; None where it has none."""
    if model.can("encode"):
        return lambda images: model.encode(images, space)
    return None
