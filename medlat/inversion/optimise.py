"""Inversion by optimisation: codes are moved until their decodings resemble the images (the projector of Karras et al.
2020, arXiv 1912.04958, appendix D, with plain image distances).
"""

import math
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from medlat.errors import UserError
from medlat.inversion.carry import code_statistics
from medlat.inversion.inverter import Encoder, chosen_space
from medlat.inversion.likeness import pyramid_error
from medlat.randomness import generator_for
from medlat.spaces import LatentModel
from medlat.training.settings import cpu_has_bf16

SAMPLES = 4096  # codes that an empirical prior is estimated from
RISE = 0.05  # share of the steps over which the learning rate rises from 0


class Optimise:
    """Adam over the codes, from the mean code; all lengths are in standard deviations of each coordinate of the space.

    What is explained has to be a function of the code, so StyleGAN2's noise maps stay the network's own: they are not
    optimised, as the paper does.

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

    def __init__(
        self,
        space: str | None = None,
        steps: int = 500,
        learning_rate: float = 0.1,
        fall: float = 0.25,
        noise: float = 0.05,
        noise_ramp: float = 0.75,
        prior_weight: float = 1e-4,
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
        return self.descend(model, images, None)

    def descend(self, model: LatentModel, images: Tensor, start: Tensor | None) -> Tensor:
        """Images [N, C, H, W], codes to start from [N, *shape] (None: the mean code) -> the best codes that were seen.

        Every image has its own error and the same noise, so it ends as if it were alone.
        """
        space = chosen_space(model, self.space).name
        mean, sigma = code_statistics(model, space, SAMPLES, generator_for("inversion", "statistics"))
        mean, sigma = mean.to(images.device), sigma.to(images.device)
        u = torch.zeros(len(images), *mean.shape, device=images.device) if start is None else (start - mean) / sigma
        u = u.detach().clone().requires_grad_()
        images = images.to(memory_format=torch.channels_last)
        best, least = u.detach().clone(), torch.full([len(images)], torch.inf, device=images.device)
        adam = torch.optim.Adam([u], lr=self.learning_rate)
        for step in range(self.steps + 1):
            tried = u + self._noise(step) * self._draw(step, mean)
            with torch.enable_grad(), fast(images.device):
                error = pyramid_error(model.decode(mean + sigma * tried, space), images)
                error = error + self.prior_weight * tried.square().flatten(1).mean(1)
            better = error.detach() < least
            least[better], best[better] = error.detach()[better], tried.detach()[better]
            if step < self.steps:
                adam.param_groups[0]["lr"] = self.learning_rate * self._factor(step)
                (u.grad,) = torch.autograd.grad(error.sum(), u)
                adam.step()
        return mean + sigma * best

    def _factor(self, step: int) -> float:
        """Of the learning rate: a linear rise, and a cosine fall."""
        fall = min(1.0, (1.0 - step / self.steps) / self.fall)
        return min(1.0, (step + 1) / (RISE * self.steps)) * (0.5 - 0.5 * math.cos(math.pi * fall))

    def _noise(self, step: int) -> float:
        return self.noise * max(0.0, 1.0 - step / (self.noise_ramp * self.steps)) ** 2

    def _draw(self, step: int, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator_for("inversion", "noise", step)).to(like.device)


def fast(device: torch.device) -> AbstractContextManager:
    """bf16 where the hardware has it: codes move by far more than its rounding."""
    able = cpu_has_bf16() if device.type == "cpu" else torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=able)


def check_whole(name: str, value: int) -> None:
    """Raises UserError for a number below 1."""
    if value < 1:
        raise UserError(f"inversion.method.{name}={value}: expected a whole number of at least 1")


def check_number(name: str, value: float, good: bool, expected: str) -> None:
    """Raises UserError for a number that is not as expected."""
    if not good:
        raise UserError(f"inversion.method.{name}={value:g}: expected a number {expected}")
