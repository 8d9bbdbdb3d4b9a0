"""Sizes that GANs and VAEs are made of, and what is said where they do not fit."""

import math

from medlat.core.errors import ArgumentError
from medlat.core.spaces import ImageSpec


def check_positive(**arguments: int) -> None:
    """Raises UserError for an argument below 1."""
    for name, value in arguments.items():
        if value < 1:
            raise ArgumentError(name, "expected a whole number of at least 1", value)


def doublings(image: ImageSpec, base: tuple[int, int]) -> int:
    """How often a map of the base's [height, width] doubles to the image's. Raises UserError where none fits."""
    levels = round(math.log2(max(image.height / base[0], 1.0)))
    if levels >= 1 and (image.height, image.width) == (base[0] * 2**levels, base[1] * 2**levels):
        return levels
    both = [(base[0] * 2**n, base[1] * 2**n) for n in range(1, 9)]
    sizes = [f"{height}" if height == width else f"{height}x{width}" for height, width in both]
    best = min(range(8), key=lambda n: abs(both[n][0] - image.height))
    raise ArgumentError(
        "image_size",
        f"this network doubles a map of {base[0]}x{base[1]} and needs one of {', '.join(sizes)}; "
        f"nearest: {sizes[best]}",
        image.height,
    )
