"""Types of numbers with the range that they make sense in, for signatures and for the configuration's schema.

They are plain types to Python and to a type checker; `medlat.config` refuses values outside before anything is built.
NaN and infinity are refused for every number.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen
from pydantic import AfterValidator

LARGEST_SEED = 2**63 - 1  # what torch and NumPy both take

Seed = Annotated[int, Ge(0), Le(LARGEST_SEED)]
Count = Annotated[int, Ge(1), Le(10**9)]
Number = Annotated[int, Ge(0), Le(10**9)]  # of things that there may be none of
Width = Annotated[int, Ge(1), Le(65_536)]  # of layers, batches, latent spaces
Positive = Annotated[float, Gt(0.0), Le(1e9)]
Finite = Annotated[float, Ge(-1e12), Le(1e12)]
NotNegative = Annotated[float, Ge(0.0), Le(1e9)]
Share = Annotated[float, Ge(0.0), Le(1.0)]
ShareBelowOne = Annotated[float, Ge(0.0), Lt(1.0)]
Name = Annotated[str, MinLen(1)]
Patterns = list[Name] | Name | None  # of files


def low_below_high(pair: Sequence[float]) -> Sequence[float]:
    """Raises ValueError where the first of two numbers is not below the second."""
    if not pair[0] < pair[1]:
        raise ValueError("[low, high] with low below high")
    return pair


def steps_about_zero(steps: Sequence[float]) -> Sequence[float]:
    """Raises ValueError for what is no traversal: steps rise, some are below 0 and some above, and 0 is among them."""
    rising = all(a < b for a, b in itertools.pairwise(steps)) and all(map(math.isfinite, steps))
    if len(steps) < 3 or not rising or 0.0 not in steps:
        raise ValueError("at least three rising numbers, 0 among them")
    return steps


def rising(steps: Sequence[float]) -> Sequence[float]:
    """Raises ValueError for numbers of which one does not lie above the one before, and for none."""
    if not steps or any(not a < b for a, b in itertools.pairwise(steps)):
        raise ValueError("at least one number, each above the one before")
    return steps


Interval = Annotated[tuple[float, float], AfterValidator(low_below_high)]
Traversal = Annotated[list[float], AfterValidator(steps_about_zero)]
Rising = Annotated[list[float], AfterValidator(rising)]


def span(pair: Sequence[float]) -> Sequence[float]:
    """Raises ValueError for what is not the smallest and the largest of some positive numbers."""
    if len(pair) != 2 or not 0.0 < pair[0] <= pair[1] <= 1e6:
        raise ValueError("two rising numbers above 0")
    return pair


Span = Annotated[list[float], AfterValidator(span)]
Betas = Annotated[list[ShareBelowOne], Len(2, 2)]
Widths = Annotated[list[Width], MinLen(1)]
Sign = Annotated[float, Gt(-1.0), Lt(1.0)]
PositiveShare = Annotated[float, Gt(0.0), Le(1.0)]
Shift = Annotated[float, Ge(0.0), Lt(0.5)]  # as a share of an image's side
Angle = Annotated[float, Ge(0.0), Le(180.0)]  # degrees
Hue = Annotated[float, Ge(0.0), Lt(360.0)]  # degrees: red, green and blue are at 0, 120 and 240
Tilt = Annotated[float, Ge(0.0), Le(45.0)]  # degrees
