"""Directions from the gradient of the prediction in the code, through classifier and generator."""

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count
from medlat.core.spaces import Directions, LatentModel
from medlat.directions.finder import Evidence, Origin

PIXELS_AT_ONCE = 2**18  # of images that are differentiated together


class MeanGradient:
    """The mean over codes of the gradient of the logit in the standardised code.

    The score is the share of codes whose own gradient agrees with the mean in sign (0.5 by chance).

    codes: at most how many are looked at. space, origin: as of `Linear`.
    """

    method = "mean_gradient"
    needs_gradients = True

    def __init__(self, codes: Count = 256, space: str | None = None, origin: Origin = "real") -> None:
        if codes < 1:
            raise ArgumentError("codes", "expected a whole number of at least 1", codes)
        self.codes, self.space, self.origin = codes, space, origin

    def find(self, model: LatentModel, evidence: Evidence) -> Directions:
        evidence.need_gradients(self.method)
        slopes = gradients(model, evidence, evidence.codes[: self.codes]).flatten(1).double()
        mean = slopes.mean(dim=0)
        if not mean.any():
            raise ArgumentError("", "the prediction does not change with any of the codes", self.method, of=self)
        agreeing = (slopes @ mean > 0.0).float().mean()
        return evidence.directions(mean[None].numpy(), agreeing[None], self.method)


class LatentShift(MeanGradient):
    """For each image its own gradient (Cohen et al. 2021, arXiv 2102.09475); `find` gives their mean."""

    method = "latent_shift"

    def directions_at(self, model: LatentModel, evidence: Evidence, codes: Tensor) -> Tensor:
        """Codes [N, *shape] -> unit directions of the same shape; the mean direction where a gradient is 0."""
        evidence.need_gradients(self.method)
        slopes = gradients(model, evidence, codes)
        moves = (slopes * evidence.sigma.cpu()).flatten(1)
        mean = self.find(model, evidence).vectors.flatten(1)
        moves = torch.where(moves.any(dim=1, keepdim=True), moves, mean)
        return (moves / moves.norm(dim=1, keepdim=True)).reshape(codes.shape)


def gradients(model: LatentModel, evidence: Evidence, codes: Tensor) -> Tensor:
    """Of each code's value in the standardised code: [N, *shape] -> [N, *shape] float32 on the CPU."""
    size = max(1, PIXELS_AT_ONCE // (model.image.height * model.image.width))
    device = evidence.codes.device
    sigma = evidence.sigma.to(device)
    parts = []
    for part in codes.to(device).split(size):
        leaf = part.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            values = evidence.score(model.decode(leaf, evidence.space.name))
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        parts.append((slope * sigma).float().cpu())
    return torch.cat(parts)
