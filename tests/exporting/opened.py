"""Runs to export, of generators that are made here."""

from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf

from medlat.core.spaces import ImageSpec
from medlat.data.modality import CT
from medlat.inversion.encode import own_encoder
from medlat.report.rendering import Look

SPEC = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)


SOURCE = {"_target_": "medlat.phantoms.ct.source.CTPhantom"}


def opened(generator, space="z", encoder=None, classifier=None):
    """What `medlat.load` would find of a run with this generator."""
    generator = generator.eval().requires_grad_(False)
    return SimpleNamespace(
        folder=Path("outputs/made"),
        generator=generator,
        image=generator.image,
        space=generator.spaces[space],
        encoder=encoder or own_encoder(generator, space),
        classifier=classifier,
        look=Look(CT, (-1000.0, 500.0)),
        metrics={"copying/pixels_copies": 0.0},
        config=OmegaConf.create(
            {"name": "made", "data": {"source": {"_target_": "medlat.phantoms.ct.source.CTPhantom"}}}
        ),
    )


def shaken(network):
    """With weights and running statistics as after a training, none of which is 0 or 1."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=draw) * 0.4 - 0.2)
    return network
