"""The axes of a VAE that its encoder uses."""

from collections.abc import Iterable

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count
from medlat.core.spaces import Directions, LatentModel, chosen_space, kl_per_dimension
from medlat.directions.finder import check_count, need_capabilities, posteriors


class PosteriorAxes:
    """The axes of the latent space in the order of what the encoder tells by them: the mean over real images of the KL
    divergence of q(z|x) from the prior along each axis, in nats (Higgins et al. 2017). VAEs tend to align with their
    axes (Rolinek et al. 2019, arXiv 1812.06775). The score is the KL.

    count: directions wanted; at most the dimensions of the space. images: training images that are encoded.
    """

    name = "posterior_axes"
    needs = frozenset({"images", "posterior"})

    def __init__(self, count: Count = 16, images: Count = 2048) -> None:
        check_count(count)
        if images < 1:
            raise ArgumentError("images", "expected a whole number of at least 1", images)
        self.count, self.images = count, images

    def check(self, model: LatentModel) -> None:
        """Raises UserError where the generator has no posterior."""
        need_capabilities(self, model)

    def find(self, model: LatentModel, images: Iterable[Tensor]) -> Directions:
        self.check(model)
        space = chosen_space(model, None)
        kl = torch.cat([kl_per_dimension(*posterior) for posterior in posteriors(model, images, space.name)]).mean(
            dim=0
        )
        best = torch.argsort(kl, descending=True, stable=True)[: self.count]
        return Directions.ranked(torch.eye(space.size)[best], kl[best], self.name, space)
