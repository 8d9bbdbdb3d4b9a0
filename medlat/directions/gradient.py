"""Directions from the gradient of the prediction in the code, through classifier and generator."""

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count
from medlat.core.spaces import Directions, LatentModel
from medlat.directions.finder import Origin, Supervision

PIXELS_AT_ONCE = 2**18  # of images that are differentiated together


class MeanGradient:
    """The mean over codes of the gradient of the logit in the standardised code.

    The score is the share of codes whose own gradient agrees with the mean in sign (0.5 by chance).

    codes: at most how many are looked at. space, origin: as of `Linear`.
    """

    name = "mean_gradient"
    needs = frozenset({"supervision", "gradients"})

    def __init__(self, codes: Count = 256, space: str | None = None, origin: Origin = "real") -> None:
        if codes < 1:
            raise ArgumentError("codes", "expected a whole number of at least 1", codes)
        self.codes, self.space, self.origin = codes, space, origin

    def find(self, model: LatentModel, supervision: Supervision) -> Directions:
        supervision.need_gradients(self.name)
        slopes = gradients(model, supervision, supervision.codes[: self.codes]).flatten(1).double()
        mean = slopes.mean(dim=0)
        if not mean.any():
            raise ArgumentError("", "the prediction does not change with any of the codes", self.name, of=self)
        agreeing = (slopes @ mean > 0.0).float().mean()
        return supervision.directions(mean[None].numpy(), agreeing[None], self.name)


class LatentShift(MeanGradient):
    """For each image its own gradient (Cohen et al. 2021, arXiv 2102.09475); `find` gives their mean."""

    name = "latent_shift"
    per_image = True

    def directions_at(self, model: LatentModel, supervision: Supervision, codes: Tensor) -> Tensor:
        """Codes [N, *shape] -> unit directions of the same shape; the mean direction where a gradient is 0."""
        supervision.need_gradients(self.name)
        slopes = gradients(model, supervision, codes)
        moves = (slopes * supervision.sigma.cpu()).flatten(1)
        mean = self.find(model, supervision).vectors.flatten(1)
        moves = torch.where(moves.any(dim=1, keepdim=True), moves, mean)
        return (moves / moves.norm(dim=1, keepdim=True)).reshape(codes.shape)


def gradients(model: LatentModel, supervision: Supervision, codes: Tensor) -> Tensor:
    """Of each code's value in the standardised code: [N, *shape] -> [N, *shape] float32 on the CPU."""
    size = max(1, PIXELS_AT_ONCE // (model.image.height * model.image.width))
    device = supervision.codes.device
    sigma = supervision.sigma.to(device)
    parts = []
    for part in codes.to(device).split(size):
        leaf = part.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            values = supervision.score(model.decode(leaf, supervision.space.name))
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        parts.append((slope * sigma).float().cpu())
    return torch.cat(parts)
