"""Inversion in one pass of an encoder: the generator's own, or one trained for it."""

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

    def __init__(self, space: str | None = None) -> None:
        self.space = space

    @torch.no_grad()
    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        assert encoder is not None
        codes = encoder(images).float()
        assert codes.shape[1:] == chosen_space(model, self.space, for_images=True).shape, codes.shape
        return codes


def own_encoder(model: LatentModel, space: str) -> Encoder | None:
    """The generator's own way from images to a space: the exact one where it has that, else its encoder; None where it
    has none.
    """
    if model.can("invert"):
        return lambda images: model.invert(images, space)
    if model.can("encode"):
        return lambda images: model.encode(images, space)
    return None
