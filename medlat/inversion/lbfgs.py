"""Limited-memory BFGS (Nocedal & Wright 2006, algorithms 7.4 and 3.1) for many small problems at once, each with its
own history and its own step length; torch's own would take them for a single one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Slopes = Callable[[Tensor], tuple[Tensor, Tensor]]  # u [N, D] -> values [N], gradients [N, D]
MEMORY = 30  # pairs of differences that curvature is known from; with 10, w+ lost 0.4 dB (before |s|/|y| below)
DECREASE = 1e-4  # share of the decrease that the slope promises which a step has to bring (Armijo)
SHORTER = 0.3  # of a step that does not
CURVED = 1e-10  # of y·y: less of s·y is no curvature


def minimise(function: Slopes, u: Tensor, evaluations: int, first_step: float | None) -> Tensor:
    """Start [N, D] -> the least that each problem comes to, [N, D], after so many evaluations behind the first.

    first_step: length of a step while a problem knows no curvature; None: that of the slope, where it is about 1. No
    value ever rises.
    """
    values, slopes = function(u)
    memory = _Memory(u)
    along = memory.descent(slopes, first_step)
    length = torch.ones_like(values)
    for _ in range(evaluations):
        tried = u + length[:, None] * along
        there, slopes_there = function(tried)
        # NaN is no decrease either.
        good = there <= values + DECREASE * length * (slopes * along).sum(1)
        memory.learn(tried - u, slopes_there - slopes, good)
        u, slopes = torch.where(good[:, None], tried, u), torch.where(good[:, None], slopes_there, slopes)
        values, length = torch.where(good, there, values), torch.where(good, 1.0, SHORTER * length)
        along = torch.where(good[:, None], memory.descent(slopes, first_step), along)
    return u


class _Memory:
    """The last steps s and changes of slope y of each problem, [MEMORY, N, D], newest last; 1/(s·y) is 0 where there is
    none yet.
    """

    def __init__(self, u: Tensor) -> None:
        self.s, self.y = u.new_zeros(2, MEMORY, *u.shape)
        self.inverse = u.new_zeros(MEMORY, len(u))

    def learn(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Remember the steps of the problems that took one and saw the slope rise along it."""
        curvature = (s * y).sum(1)
        keep = good & (curvature > CURVED * y.square().sum(1))
        self.s = torch.where(keep[None, :, None], torch.cat([self.s[1:], s[None]]), self.s)
        self.y = torch.where(keep[None, :, None], torch.cat([self.y[1:], y[None]]), self.y)
        inverse = 1.0 / curvature.where(keep, 1.0)
        self.inverse = torch.where(keep[None], torch.cat([self.inverse[1:], inverse[None]]), self.inverse)

    def descent(self, slopes: Tensor, first_step: float | None) -> Tensor:
        """-H·slopes [N, D], by the two-loop recursion; steepest descent where nothing is known yet.

        H begins with |s|/|y|, the geometric mean of Barzilai and Borwein's two step lengths (Dai, Al-Baali & Yang
        2015): the usual one, s·y/y·y, suits the stiffest coordinates alone.
        """
        q, shares = slopes, []
        for i in reversed(range(MEMORY)):
            shares.append(self.inverse[i] * (self.s[i] * q).sum(1))
            q = q - shares[-1][:, None] * self.y[i]
        newest = self.s[-1].norm(dim=1) / self.y[-1].norm(dim=1)
        norm = slopes.norm(dim=1)
        steepest = torch.ones_like(norm) if first_step is None else first_step / norm.clamp_min(1e-30)
        q = q * torch.where(self.inverse[-1] > 0.0, newest, steepest)[:, None]
        for i, share in enumerate(reversed(shares)):
            q = q + (share - self.inverse[i] * (self.y[i] * q).sum(1))[:, None] * self.s[i]
        return -q
