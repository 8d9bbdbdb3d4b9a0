"""The axes of the latent space: what one gets for nothing."""

import torch
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.ranges import Count
from medlat.core.spaces import Directions, LatentModel, LatentSpace, chosen_space, decode_in_parts
from medlat.directions.finder import check_count

CODES = 32  # that an axis is tried from, where the generator does not show its weights
STEP = 0.5  # of a standard deviation, to either side


class Coordinate:
    """The unit vectors of the space, ranked by how strongly each enters the network: the norm of its column of the
    first weights.

    Of a generator that does not show its weights (the capability `latent_affines`), by how much each changes the image
    instead: the root of the sum over pixels of the squared difference between a step up and one down, mean over
    sampled codes, for a unit of the code. As a control it has to work with every generator, and asks no more than
    `decode`; of a linear generator both are the same.

    count: directions wanted; at most the dimensions of the space. space: null for the generator's default.
    """

    name = "coordinate"

    def __init__(self, count: Count = 16, space: str | None = None) -> None:
        check_count(count)
        self.count, self.space = count, space

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        if model.can("latent_affines"):
            weights = torch.cat([w.detach().float().cpu() for w in model.latent_affines(space.name)])
            strength = weights.norm(dim=0)
        else:
            strength = image_changes(model, space)
        best = torch.argsort(strength, descending=True, stable=True)[: self.count]
        return Directions.ranked(torch.eye(space.size)[best], strength[best], self.name, space)


def image_changes(model: LatentModel, space: LatentSpace) -> Tensor:
    """[D]: how much the image changes with a unit of each coordinate, by central differences over half a standard
    deviation to either side, root mean square over sampled codes.
    """
    codes = model.sample(CODES, space.name, generator_for("coordinate"))
    flat = codes.flatten(1)
    sigma = torch.ones_like(flat[0]) if space.prior == "normal" else flat.std(dim=0)
    steps = STEP * sigma.clamp_min(1e-3 * float(sigma.max()))
    squared = torch.zeros(space.size)
    for axis, step in enumerate(steps):
        ends = flat.repeat(2, 1)
        ends[:CODES, axis] += step
        ends[CODES:, axis] -= step
        up, down = decode_in_parts(model, ends.reshape(-1, *space.shape), space.name).chunk(2)
        squared[axis] = ((up - down) / (2.0 * step.cpu())).square().flatten(1).sum(1).mean()
    return squared.sqrt()
