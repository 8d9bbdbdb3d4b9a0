"""Inversion in one pass of an encoder: the generator's own, or one trained for it."""

import torch
from torch import Tensor

from medlat.core.spaces import LatentModel, chosen_space
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.generators.vae.networks import VAE
from medlat.inversion.carry import carry
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
    """The generator's own way from images to a space: the mean of a VAE's posterior, or what StyleGAN2's encoder says,
    carried on from w; None where it has none.
    """
    if isinstance(model, VAE):
        return lambda images: model.encode(images)[0]
    if isinstance(model, StyleGAN2) and model.encoder is not None:
        return lambda images: carry(model, model.infer(images), "w", space)
    return None
