"""Jacobian SVD: where an infinitely small step changes the image most (Ramesh et al. 2018, arXiv 1812.01161)."""

import torch
from torch import Tensor
from torch.func import jvp, vjp

from medlat.directions.finder import check_count, chosen_space
from medlat.errors import UserError
from medlat.randomness import generator_for
from medlat.spaces import Directions, LatentModel


class Jacobian:
    """The leading right singular vectors of the Jacobians of the decoder at sampled codes, stacked: the eigenvectors of
    the mean of JᵀJ. They are found by randomised subspace iteration (Halko et al. 2011, arXiv 0909.4061), JᵀJ being a
    Jacobian-vector product, forward, and a vector-Jacobian product back; no Jacobian is ever stored. The score is the
    root mean squared singular value.

    count:      directions wanted; at most the dimensions of the space.
    codes:      at which the Jacobian is taken. iterations: of the subspace; oversampling: further vectors in it. Where
                count + oversampling reach the dimensions of the space, the result is exact and one iteration enough.
    space:      null for the generator's default. seed: of codes and first vectors.
    """

    def __init__(
        self,
        count: int = 16,
        codes: int = 32,
        iterations: int = 3,
        oversampling: int = 8,
        space: str | None = None,
        seed: int = 0,
    ) -> None:
        check_count(count)
        for name, value in {"codes": codes, "iterations": iterations}.items():
            if value < 1:
                raise UserError(f"directions.{name}={value}: expected a whole number of at least 1")
        self.count, self.codes, self.iterations, self.oversampling = count, codes, iterations, oversampling
        self.space, self.seed = space, seed

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        generator = generator_for(self.seed, "jacobian")
        codes = model.sample(self.codes, space.name, generator)
        rank = min(space.size, self.count + self.oversampling)
        exact = rank == space.size
        basis = torch.eye(rank) if exact else torch.randn(space.size, rank, generator=generator)
        basis = basis.to(codes.device)
        for _ in range(1 if exact else self.iterations):
            basis = torch.linalg.qr(self.gram_times(model, space.name, codes, basis))[0]
        small = basis.T @ self.gram_times(model, space.name, codes, basis)
        values, vectors = torch.linalg.eigh((small + small.T).double() / 2.0)  # ascending
        best = (basis.double() @ vectors).T.flip(0)[: self.count]
        return Directions.ranked(
            best.cpu(), values.flip(0)[: self.count].clamp_min(0.0).sqrt().cpu(), "jacobian", space
        )

    def gram_times(self, model: LatentModel, space: str, codes: Tensor, basis: Tensor) -> Tensor:
        """Mean over codes [N, *shape] of JᵀJ, times a basis [D, R]: [D, R]."""
        result = torch.zeros_like(basis)
        for code in codes:
            many = code.repeat(basis.shape[1], *[1] * code.dim())  # one row for each vector of the basis

            def decode(x: Tensor) -> Tensor:
                return model.decode(x, space)

            forward = jvp(decode, (many,), (basis.T.reshape(many.shape).contiguous(),))[1]
            result += vjp(decode, many)[1](forward)[0].flatten(1).T
        return result / len(codes)
