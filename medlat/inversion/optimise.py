"""Inversion by optimisation: codes are moved until their decodings resemble the images (the projector of Karras et al.
2020, arXiv 1912.04958, appendix D, with plain image distances).
"""

import math

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, NotNegative, Positive, PositiveShare
from medlat.core.spaces import LatentModel, chosen_space
from medlat.inversion.inverter import Encoder
from medlat.inversion.objective import Objective
from medlat.training.settings import fast

RISE = 0.05  # share of the steps over which the learning rate rises from 0


class Optimise:
    """Adam over the codes, from the mean code; all lengths are in standard deviations of each coordinate of the space.

    All images of a batch are moved at once and end as if alone: each has its own error, and all the same noise. The
    best code that an image has come by is the result.

    space:         name of the latent space; null: `w+` where the generator has one, else its default.
    steps:         of Adam.
    learning_rate: of Adam, in σ; it rises over the first 5% of the steps and falls to 0 over the last share `fall`.
    noise:         σ of what is added to the codes at first, to look around; it falls as a square until the share
                   `noise_ramp` of the steps, and is 0 after it.
    prior_weight:  of the mean squared distance from the mean code, in σ², beside the mean squared error of the images
                   (range 2): keeps codes where the generator knows its way.
    """

    needs_encoder = False
    tunes = False
    keeps_noise = False
    one_pass = False

    def __init__(
        self,
        space: str | None = None,
        steps: Count = 500,
        learning_rate: Positive = 0.1,
        fall: PositiveShare = 0.25,
        noise: NotNegative = 0.05,
        noise_ramp: PositiveShare = 0.75,
        prior_weight: NotNegative = 1e-4,
    ) -> None:
        check_whole("steps", steps)
        check_number("learning_rate", learning_rate, learning_rate > 0.0, "above 0")
        check_number("fall", fall, 0.0 < fall <= 1.0, "above 0, up to 1")
        check_number("noise", noise, noise >= 0.0, "of at least 0")
        check_number("noise_ramp", noise_ramp, 0.0 < noise_ramp <= 1.0, "above 0, up to 1")
        check_number("prior_weight", prior_weight, prior_weight >= 0.0, "of at least 0")
        self.space, self.steps, self.learning_rate, self.fall = space, steps, learning_rate, fall
        self.noise, self.noise_ramp, self.prior_weight = noise, noise_ramp, prior_weight

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        objective = Objective(model, chosen_space(model, self.space, for_images=True), images, self.prior_weight)
        u = torch.zeros(len(images), *objective.mean.shape, device=images.device)
        best, least = u.clone(), torch.full([len(u)], torch.inf, device=u.device)
        adam = torch.optim.Adam([u], lr=self.learning_rate)
        for step in range(self.steps + 1):
            tried = u + self._noise(step) * self._draw(step, objective.mean)
            with fast(images.device):
                errors, u.grad = objective.errors_and_slopes(tried)
            better = errors < least
            least[better], best[better] = errors[better], tried[better]
            adam.param_groups[0]["lr"] = self.learning_rate * self._factor(step)
            adam.step()
        return objective.codes(best)

    def _factor(self, step: int) -> float:
        """Of the learning rate: a linear rise, and a cosine fall to 0 at the last step."""
        fall = min(1.0, (1.0 - step / self.steps) / self.fall)
        return min(1.0, (step + 1) / (RISE * self.steps)) * (0.5 - 0.5 * math.cos(math.pi * fall))

    def _noise(self, step: int) -> float:
        return self.noise * max(0.0, 1.0 - step / (self.noise_ramp * self.steps)) ** 2

    def _draw(self, step: int, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator_for("inversion", "noise", step)).to(like.device)


def check_whole(name: str, value: int) -> None:
    """Raises UserError for a number below 1."""
    if value < 1:
        raise ArgumentError(name, "expected a whole number of at least 1", value)


def check_number(name: str, value: float, good: bool, expected: str) -> None:
    """Raises UserError for a number that is not as expected."""
    if not good:
        raise ArgumentError(name, f"expected a number {expected}", value)
