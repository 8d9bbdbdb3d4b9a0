"""The known factors of a phantom, and how they are drawn: independent or correlated, uniform or Gaussian."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from medlat.core.errors import ArgumentError, did_you_mean
from medlat.core.ranges import ShareBelowOne

Margin = Literal["uniform", "gaussian"]
SIGMAS = 3.0  # standard deviations of a Gaussian margin from its middle to either bound, where it is cut off


class Factor(NamedTuple):
    """A known factor of variation; its values lie between `low` and `high`, but for a little jitter."""

    name: str
    unit: str
    low: float
    high: float
    description: str


@dataclass(frozen=True)
class Draws:
    """Factors between bounds from uniform random numbers.

    margin:      "uniform", or "gaussian": around the middle of the range, which is six standard deviations wide, and
                 cut off at its bounds.
    correlation: rho of a Gaussian copula, the same for each pair of factors that share a number: Spearman's correlation
                 is 6/π·asin(rho/2) (Kruskal 1958), whatever the margin. 0: independent.
    """

    margin: Margin = "uniform"
    correlation: ShareBelowOne = 0.0

    def __post_init__(self) -> None:
        if self.margin not in get_args(Margin):
            near = did_you_mean(self.margin, get_args(Margin))
            raise ArgumentError("margin", f"{self.margin}, expected {' or '.join(get_args(Margin))}{near}")
        if not 0.0 <= self.correlation < 1.0:
            raise ArgumentError("correlation", f"{self.correlation}, expected 0 to below 1")

    def correlated(self, uniform: np.ndarray, shared: float) -> np.ndarray:
        """Independent numbers in [0, 1) made to go together, uniform still. shared: a standard normal number that is
        the same for all which correlate.
        """
        from scipy.special import ndtr, ndtri

        if self.correlation == 0.0:
            return uniform
        own = np.sqrt(1.0 - self.correlation) * ndtri(uniform)
        return ndtr(np.sqrt(self.correlation) * shared + own)

    def between(self, low: np.ndarray | float, high: np.ndarray | float, uniform: np.ndarray) -> np.ndarray:
        """The margin's quantiles: uniform [...] in [0, 1) -> [...] from low to high."""
        from scipy.special import ndtr, ndtri

        if self.margin == "gaussian":
            tail = ndtr(-SIGMAS)
            uniform = 0.5 + ndtri(tail + (1.0 - 2.0 * tail) * uniform) / (2.0 * SIGMAS)
        return low + (high - low) * uniform
