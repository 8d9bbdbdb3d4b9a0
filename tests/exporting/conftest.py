"""Runs to export, of every kind of generator that can be."""

import pytest
import torch
from exporting.opened import SPEC, opened, shaken

from medlat.classifiers.networks import ResNet
from medlat.classifiers.trained import Trained
from medlat.generators.dcgan.networks import DCGAN
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.generators.vae.networks import VAE
from medlat.inversion.network import CodeEncoder


@pytest.fixture(params=["vae", "dcgan", "stylegan2"])
def made(request):
    """A run of each kind that can be exported: the last with a mapping, the second with a trained encoder."""
    torch.manual_seed(0)
    if request.param == "vae":
        classifier = Trained(shaken(ResNet(SPEC, "multiclass", ["a", "b", "c"], width=8)).eval())
        return opened(shaken(VAE(SPEC, 6, 8)), classifier=classifier)
    if request.param == "dcgan":
        encoder = shaken(CodeEncoder(SPEC, [6], 8)).eval().requires_grad_(False)
        return opened(shaken(DCGAN(SPEC, 6, 8)), encoder=encoder)
    network = StyleGAN2(SPEC, 16, 16, 2, channel_base=256, channel_max=16, encoder=True)
    return opened(shaken(network), "w+")
