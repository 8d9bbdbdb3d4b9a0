"""Random orthonormal directions: the control that every method has to beat."""

import torch
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Seed
from medlat.core.spaces import Directions, LatentModel, LatentSpace, chosen_space
from medlat.directions.finder import check_count


class RandomDirections:
    """Orthonormal directions drawn from the uniform (Haar) distribution by a QR decomposition (Mezzadri 2007, arXiv
    math-ph/0609050); in a space that only samples are known of, as those differ from each other: where codes do not
    vary there is no direction to take.

    All score 0: no direction is better than another.

    count: directions wanted; at most the dimensions of the space. seed: of the draw. space: null for the generator's
           default.
    """

    name = "random"

    def __init__(self, count: Count = 16, seed: Seed = 0, space: str | None = None) -> None:
        check_count(count)
        self.count, self.seed, self.space = count, seed, space

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        count = min(self.count, space.size)
        generator = generator_for(self.seed, "random directions")
        q, r = torch.linalg.qr(self._drawn(model, space, count, generator).T)
        vectors = (q * torch.sign(torch.diagonal(r))).T  # the signs make the distribution uniform
        return Directions.ranked(vectors, torch.zeros(len(vectors)), self.name, space)

    def _drawn(self, model: LatentModel, space: LatentSpace, count: int, generator: torch.Generator) -> Tensor:
        """[count, D] float64, with the covariance of the space's codes."""
        if space.prior == "normal":
            return torch.randn(count, space.size, generator=generator, dtype=torch.float64)
        one, other = model.sample(2 * count, space.name, generator).flatten(1).double().cpu().chunk(2)
        return one - other
