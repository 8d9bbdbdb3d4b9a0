"""Pivotal tuning (Roich et al. 2021, arXiv 2106.05744): the generator is fitted to the images that are to be explained,
so that their codes, the pivots, reproduce them.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Positive, Width
from medlat.core.similarity import pyramid_error
from medlat.core.spaces import LatentModel, chosen_space
from medlat.inversion.inverter import Encoder, Inverter
from medlat.inversion.optimise import check_number, check_whole
from medlat.training.settings import fast

Model = TypeVar("Model", bound=nn.Module)


class Pivotal:
    """Inverts as `base` does; `tune` then moves the weights of a copy of the generator, for all images together.

    Edits of a tuned generator need to mean what they meant before: between a pivot and a sampled code, where the paper
    takes one distance and here any is drawn, the copy has to make the original's images ("locality", section 3.3).

    base:          finds the pivots.
    steps:         of Adam. learning_rate: of Adam. batch_size: images in a step.
    locality:      weight of the error between the two generators' images beside that of the pivots'.
    """

    tunes = True
    keeps_noise = False
    one_pass = False

    def __init__(
        self,
        base: Inverter,
        steps: Count = 100,
        learning_rate: Positive = 3e-4,
        batch_size: Width = 16,
        locality: NotNegative = 0.1,
    ) -> None:
        check_whole("steps", steps)
        check_whole("batch_size", batch_size)
        check_number("learning_rate", learning_rate, learning_rate > 0.0, "above 0")
        check_number("locality", locality, locality >= 0.0, "of at least 0")
        self.base, self.steps, self.learning_rate = base, steps, learning_rate
        self.batch_size, self.locality = batch_size, locality
        self.space, self.needs_encoder = base.space, base.needs_encoder

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        return self.base.invert(model, images, encoder)

    def tune(self, model: Model, images: Tensor, codes: Tensor) -> Model:
        """A copy of the generator that makes the images [N, C, H, W] of their codes [N, *shape], all on its device.

        The model itself stays what it is; the copy's weights are frozen again.
        """
        assert isinstance(model, LatentModel)
        space = chosen_space(model, self.space, for_images=True).name
        tuned = copy.deepcopy(model).eval().requires_grad_(True)
        adam = torch.optim.Adam(tuned.parameters(), lr=self.learning_rate)
        for step in range(self.steps):
            generator = generator_for("pivotal tuning", step)
            picked = torch.randperm(len(codes), generator=generator)[: self.batch_size].to(codes.device)
            pivots, wanted = codes[picked], images[picked]
            near = _near(model, pivots, space, generator)
            adam.zero_grad()
            with torch.enable_grad(), fast(images.device):
                error = pyramid_error(tuned.decode(pivots, space), wanted).mean()
                with torch.no_grad():
                    before = model.decode(near, space)
                error = error + self.locality * pyramid_error(tuned.decode(near, space), before).mean()
            error.backward()
            adam.step()
        return tuned.requires_grad_(False)


def _near(model: LatentModel, pivots: Tensor, space: str, generator: torch.Generator) -> Tensor:
    """Codes somewhere on the way from each pivot to a sampled code, [N, *shape]."""
    samples = model.sample(len(pivots), space, generator).to(pivots.device)
    share = torch.rand(len(pivots), *[1] * (pivots.dim() - 1), generator=generator).to(pivots.device)
    return torch.lerp(pivots, samples, share)
