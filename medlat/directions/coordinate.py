"""The axes of the latent space: what one gets for nothing."""

import torch

from medlat.core.ranges import Count
from medlat.core.spaces import Directions, LatentModel
from medlat.directions.finder import check_count, chosen_space


class Coordinate:
    """The unit vectors of the space, ranked by how strongly each enters the network: the norm of its column of the
    first weights.

    count: directions wanted; at most the dimensions of the space. space: null for the generator's default.
    """

    def __init__(self, count: Count = 16, space: str | None = None) -> None:
        check_count(count)
        self.count, self.space = count, space

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        weights = torch.cat([w.detach().float().cpu() for w in model.latent_affines(space.name)])
        strength = weights.norm(dim=0)
        best = torch.argsort(strength, descending=True, stable=True)[: self.count]
        return Directions.ranked(torch.eye(space.size)[best], strength[best], "coordinate", space)
