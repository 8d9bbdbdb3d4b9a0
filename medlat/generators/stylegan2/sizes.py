"""Sizes that StyleGAN2's generator, discriminator and encoder share."""

from collections.abc import Sequence

from medlat.core.errors import ArgumentError
from medlat.core.spaces import ImageSpec
from medlat.generators.sizes import doublings


def channel_widths(image: ImageSpec, base: tuple[int, int], channel_base: int, channel_max: int) -> list[int]:
    """Channels at each resolution, from the base to the image's."""
    levels = doublings(image, base)
    longer = max(base)
    widths = [min(channel_base // (longer * 2**i), channel_max) for i in range(levels + 1)]
    if widths[-1] < 1:
        raise ArgumentError(
            "channel_base",
            f"no channels are left at the image's {longer * 2**levels} pixels; expected at least that",
            channel_base,
        )
    return widths


def smallest_map(base: Sequence[int] | None) -> tuple[int, int]:
    """The base grid, [4, 4] where none is given."""
    height, width = base or (4, 4)
    if min(height, width) < 1:
        raise ArgumentError("base", "expected two whole numbers of at least 1", [height, width])
    return int(height), int(width)
