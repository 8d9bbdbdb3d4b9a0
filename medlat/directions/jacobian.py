"""Jacobian SVD: where an infinitely small step changes the image most (Ramesh et al. 2018, arXiv 1812.01161)."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from medlat.core.errors import ArgumentError
from medlat.core.randomness import generator_for
from medlat.core.ranges import Count, Number, Seed
from medlat.core.spaces import Directions, LatentModel, LatentSpace, chosen_space
from medlat.directions.finder import check_count

EXACT = 128  # dimensions up to which all are looked at


class Jacobian:
    """The leading right singular vectors of the Jacobians of the decoder at sampled codes, stacked: the eigenvectors of
    the mean of JᵀJ. The score is the root mean squared singular value.

    Up to 128 dimensions J is taken column by column, as Jacobian-vector products forward through the decoder, and JᵀJ
    is exact. Beyond, its range is found by randomised subspace iteration (Halko et al. 2011, arXiv 0909.4061): products
    with J, forward, and with Jᵀ, back; no Jacobian is ever stored.

    count:      directions wanted; at most the dimensions of the space.
    codes:      at which the Jacobian is taken. iterations: of the subspace; oversampling: further vectors in it.
    space:      null for the generator's default. seed: of codes and first vectors.
    """

    name = "jacobian"

    def __init__(
        self,
        count: Count = 16,
        codes: Count = 32,
        iterations: Count = 3,
        oversampling: Number = 8,
        space: str | None = None,
        seed: Seed = 0,
    ) -> None:
        check_count(count)
        for name, value in {"codes": codes, "iterations": iterations}.items():
            if value < 1:
                raise ArgumentError(name, "expected a whole number of at least 1", value)
        self.count, self.codes, self.iterations, self.oversampling = count, codes, iterations, oversampling
        self.space, self.seed = space, seed

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        generator = generator_for(self.seed, "jacobian")
        codes = model.sample(self.codes, space.name, generator)
        basis = self._basis(model, space, codes, generator)
        small = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64)
        for code in codes:
            moved = _forward(model, space.name, code, basis).double()
            small += (moved @ moved.T).cpu() / len(codes)
        values, vectors = torch.linalg.eigh(small)  # ascending
        best = (basis.cpu().double() @ vectors).T.flip(0)[: self.count]
        scores = values.flip(0)[: self.count].clamp_min(0.0).sqrt()
        return Directions.ranked(best, scores, self.name, space)

    def _basis(self, model: LatentModel, space: LatentSpace, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Orthonormal vectors [D, R] that hold the leading directions: all axes of a small space."""
        if space.size <= max(EXACT, self.count):
            return torch.eye(space.size, device=codes.device)
        rank = min(space.size, self.count + self.oversampling)
        basis = torch.randn(space.size, rank, generator=generator).to(codes.device)
        for _ in range(self.iterations):
            product = sum(_back(model, space.name, code, _forward(model, space.name, code, basis)) for code in codes)
            assert isinstance(product, Tensor)
            basis = torch.linalg.qr(product)[0]
        return basis


def _forward(model: LatentModel, space: str, code: Tensor, basis: Tensor) -> Tensor:
    """Change of the image for each vector of a basis [D, R]: J V, as rows [R, pixels]."""
    many = code.repeat(basis.shape[1], *[1] * code.dim())
    tangents = basis.T.reshape(many.shape).contiguous()
    with forward_ad.dual_level():  # not torch.func: programs in TorchScript know nothing of that
        images = model.decode(forward_ad.make_dual(many, tangents), space)
        return forward_ad.unpack_dual(images).tangent.flatten(1)


def _back(model: LatentModel, space: str, code: Tensor, changes: Tensor) -> Tensor:
    """Jᵀ times changes of the image [R, pixels]: [D, R]."""
    many = code.repeat(len(changes), *[1] * code.dim()).requires_grad_()
    with torch.enable_grad():
        images = model.decode(many, space)
        return torch.autograd.grad(images, many, changes.reshape(images.shape))[0].flatten(1).T
