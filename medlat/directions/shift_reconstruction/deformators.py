"""Deformators: what makes a move in the latent space of the number of a direction and a size (Voynov & Babenko 2020,
arXiv 2002.03754, section 3.2; the five kinds that Schön et al. 2022 try).
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Count, Width

FIRST_WEIGHTS = 0.1  # standard deviation of random first weights


class Deformator(nn.Module):
    """K learnt directions of a space with D numbers to a code.

    size: D. count: K; null: as many as the space has dimensions.
    """

    def __init__(self, size: Width, count: Count | None = None) -> None:
        super().__init__()
        if count is not None and count < 2:
            raise ArgumentError("count", "expected at least 2 directions to tell apart", count)
        self.size, self.count = size, count or size

    @abstractmethod
    def columns(self) -> Tensor:
        """The move of one step along each direction, [K, D] float32."""

    def forward(self, index: Tensor, shift: Tensor) -> Tensor:
        """Numbers of directions [N], steps [N] -> moves [N, D]."""
        return shift[:, None] * self.columns()[index]


class Linear(Deformator):
    """Any matrix: directions may become longer or shorter than a step."""

    def __init__(self, size: Width, count: Count | None = None) -> None:
        super().__init__(size, count)
        self.weight = nn.Parameter(FIRST_WEIGHTS * torch.randn(self.count, size))

    def columns(self) -> Tensor:
        return self.weight.float()


class UnitNorm(Linear):
    """Directions of length 1, at any angle to each other."""

    def columns(self) -> Tensor:
        return nn.functional.normalize(self.weight.float(), dim=1)


class Projective(Linear):
    """An affine map whose output is scaled to the length of the step: with its bias, small steps of all directions have
    a part in common. K may exceed D, as in the 100 directions of Schön et al.
    """

    def __init__(self, size: Width, count: Count | None = 100) -> None:
        super().__init__(size, count)
        self.bias = nn.Parameter(torch.zeros(size))

    def columns(self) -> Tensor:
        return nn.functional.normalize(self.weight.float(), dim=1)

    def forward(self, index: Tensor, shift: Tensor) -> Tensor:
        moved = shift[:, None] * self.weight.float()[index] + self.bias.float()
        return shift.abs()[:, None] * nn.functional.normalize(moved, dim=1)


class Orthonormal(Deformator):
    """A rotation of the axes, K = D: the matrix exponential of a skew-symmetric matrix, which stays orthonormal
    whatever the optimiser does.

    count: D or null; any other number of directions is refused.
    """

    def __init__(self, size: Width, count: Count | None = None) -> None:
        if count not in (None, size):
            raise ArgumentError(
                "count",
                f"an orthonormal deformator has as many directions as the space has dimensions; expected {size} or "
                f"null",
                count,
            )
        super().__init__(size, size)
        self.skew = nn.Parameter(torch.randn(size, size))

    def columns(self) -> Tensor:
        skew = self.skew.double()  # in float32 the exponential of a large matrix loses digits
        return torch.matrix_exp(skew - skew.T).float()


class Random(Deformator):
    """Orthonormal directions (unit ones where K > D) that are never trained: the control."""

    fixed: Tensor

    def __init__(self, size: Width, count: Count | None = None) -> None:
        super().__init__(size, count)
        drawn = torch.randn(self.count, size)
        if self.count <= size:
            drawn = torch.linalg.qr(drawn.double().T)[0].T.float()
        self.register_buffer("fixed", nn.functional.normalize(drawn, dim=1))

    def columns(self) -> Tensor:
        return self.fixed
