"""Independent components of the codes of real images."""

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count, PositiveShare, Seed
from medlat.core.spaces import Directions, LatentModel, chosen_space
from medlat.directions.finder import check_count, encoded, need_capabilities

ITERATIONS = 1000


class ICA:
    """What varies by itself in the data: the columns of the mixing matrix of FastICA (Hyvärinen & Oja 2000), fitted to
    the codes of real images by the generator's own encoder: the means of a posterior, or plain codes.

    A latent space with the same prior in all directions has no axes of its own, but what made the images has: factors
    that are independent and not Gaussian. As far as codes depend on them linearly, ICA finds them up to order and sign,
    where principal components need not (Hyvärinen et al. 2001, chapter 7). The score is the share of the codes'
    variance that a component makes.

    count:    directions wanted; at most as many as there are components. variance: share of the codes' variance that is
              kept before they are taken apart: what lies below is noise, in which FastICA finds components too.
    images:   training images that are encoded. seed: of the first estimate.
    """

    name = "ica"
    needs = frozenset({"images", "encode"})

    def __init__(self, count: Count = 16, variance: PositiveShare = 0.95, images: Count = 4096, seed: Seed = 0) -> None:
        check_count(count)
        if not 0.0 < variance <= 1.0:
            raise ArgumentError("variance", "expected a share above 0, at most 1", variance)
        if images < 10:
            raise ArgumentError("images", "expected at least 10", images)
        self.count, self.variance, self.images, self.seed = count, variance, images, seed

    def check(self, model: LatentModel) -> None:
        """Raises UserError where the generator has no encoder."""
        need_capabilities(self, model)

    def find(self, model: LatentModel, images: Iterable[Tensor]) -> Directions:
        self.check(model)
        space = chosen_space(model, None)
        codes = encoded(model, images, space.name)
        mixing = torch.from_numpy(independent_components(codes.numpy(), self.variance, self.seed))
        strength = mixing.square().sum(dim=0) / codes.var(dim=0).sum()
        best = torch.argsort(strength, descending=True, stable=True)[: self.count]
        return Directions.ranked(mixing.T[best], strength[best], self.name, space)


def independent_components(codes: np.ndarray, variance: float, seed: int) -> np.ndarray:
    """Codes [N, D] -> mixing matrix [D, K]: what one standard deviation of each component adds to a code. K is the
    smallest number of principal components with that share of the variance.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    kept = np.cumsum(np.linalg.eigvalsh(np.cov(codes.T))[::-1])
    components = min(int(np.searchsorted(kept, variance * kept[-1] * (1.0 - 1e-9))) + 1, *codes.shape)
    how = FastICA(components, whiten="unit-variance", fun="logcosh", max_iter=ITERATIONS, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # components that are Gaussian have no optimum to reach
        return np.asarray(how.fit(codes).mixing_)
