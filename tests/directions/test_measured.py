"""The ceiling: directions of what is measured."""

import numpy as np
import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec, LatentModel, LatentSpace
from medlat.directions.measured import Measured
from medlat.measure.colour import colour


class Tiles(LatentModel):
    """RGB tiles: one axis of the latent space turns the colour, one makes it darker, the third does nothing."""

    def __init__(self):
        self.image = ImageSpec(3, 32, 32, 0.0, 255.0, "RGB", 0.002)
        self.spaces = {"z": LatentSpace("z", (3,))}

    def sample(self, n, space="z", generator=None):
        return torch.randn(n, 3, generator=generator)

    def decode(self, codes, space="z"):
        turned = torch.stack([0.1 * codes[:, 0], 0.0 * codes[:, 0], -0.1 * codes[:, 0]], dim=1)
        colour = torch.tensor([0.5, -0.3, 0.4]) + turned  # between red and magenta
        return (colour - 0.1 * codes[:, 1:2])[:, :, None, None].expand(-1, 3, 32, 32).clamp(-1.0, 1.0)

    def latent_affines(self, space="z"):
        return [torch.eye(3)]


def test_what_does_nothing_is_in_no_direction():
    found = Measured(samples=200).find(Tiles(), colour(["hue", "brightness"]))
    assert set(found.names) <= {f"measured {name}" for name in colour(["hue", "brightness"]).names}
    assert len(found) >= 1
    known = found.scores > 0.9
    assert known.any()
    assert (found.vectors[known, 2].abs() < 0.1).all()
    assert np.isfinite(found.vectors).all()


def test_images_without_variation_have_no_directions():
    model = Tiles()
    model.decode = lambda codes, space: torch.zeros(len(codes), 3, 32, 32)
    with pytest.raises(UserError, match=r"measured: no measurement varies"):
        Measured(samples=64).find(model, colour())


def test_bad_input():
    with pytest.raises(UserError, match=r"samples=3: expected at least 50"):
        Measured(samples=3)
    with pytest.raises(UserError, match="nothing is measured; expected measure=NAME"):
        Measured().check_measurements([])
