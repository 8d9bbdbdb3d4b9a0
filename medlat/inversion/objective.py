"""What optimised codes are to achieve, in coordinates that fit every generator."""

import torch
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.similarity import pyramid, pyramid_error
from medlat.core.spaces import LatentModel, LatentSpace, decode_in_parts
from medlat.inversion.mapping import code_statistics

SAMPLES = 4096  # codes that an empirical prior is estimated from
DIFFERENCE = 1e-2  # σ: of finite differences


class Objective:
    """The error of each image, of coordinates u [N, *shape]: code = mean + σ·u, with the generator's own mean and σ.

    What is explained has to be a function of the code, so StyleGAN2's noise maps stay the network's own: they are not
    optimised, as Karras et al. do.

    images:       [N, C, H, W] in [-1, 1].
    prior_weight: of the mean of u² beside the error of the images: keeps codes where the generator knows its way.
    """

    def __init__(self, model: LatentModel, space: LatentSpace, images: Tensor, prior_weight: float) -> None:
        mean, sigma = code_statistics(model, space.name, SAMPLES, generator_for("inversion", "statistics"))
        self.model, self.space, self.prior_weight = model, space, prior_weight
        self.images = images.to(memory_format=torch.channels_last)
        self.mean, self.sigma = mean.to(images.device), sigma.to(images.device)

    def errors(self, u: Tensor) -> Tensor:
        """u [N, *shape] -> [N], each image's by itself: an image ends as if it were alone."""
        decoded = self.model.decode(self.codes(u), self.space.name)
        return pyramid_error(decoded, self.images) + self.prior_weight * u.square().flatten(1).mean(1)

    @torch.enable_grad()
    def errors_and_slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u [N, *shape] -> errors [N] and their gradients [N, *shape]."""
        u = u.detach().requires_grad_()
        errors = self.errors(u)
        (slopes,) = torch.autograd.grad(errors.sum(), u)
        return errors.detach(), slopes

    @torch.no_grad()
    def curvature(self, samples: int) -> Tensor:
        """[D, D]: the error's Gauss-Newton matrix (Nocedal & Wright 2006, equation 10.24), mean over sampled codes.

        Of the generator alone: the images have no part in it. It costs D decodings a sample, and their memory.
        """
        codes = self.model.sample(samples, self.space.name, generator_for("inversion", "curvature"))
        prior = 2.0 * self.prior_weight / self.space.size * torch.eye(self.space.size, device=self.mean.device)
        changes = (self._changes(u) for u in self.coordinates(codes.to(self.mean.device)))
        return sum((2.0 / samples * change @ change.T for change in changes), prior)

    def _changes(self, u: Tensor) -> Tensor:
        """u [*shape] -> how its pyramid changes with each coordinate, [D, F]."""
        moved = u + DIFFERENCE * torch.eye(self.space.size, device=u.device).unflatten(1, u.shape)
        images = decode_in_parts(self.model, self.codes(torch.cat([u[None], moved])), self.space.name)
        found = pyramid(images.to(u.device))
        return (found[1:] - found[0]) / DIFFERENCE

    def codes(self, u: Tensor) -> Tensor:
        """u [N, *shape] -> codes."""
        return self.mean + self.sigma * u

    def coordinates(self, codes: Tensor) -> Tensor:
        """Codes [N, *shape] -> u."""
        return (codes - self.mean) / self.sigma
