"""How far images are from those that they should resemble."""

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_SIDE = 8  # pixels: of the coarsest level


def pyramid_error(images: Tensor, reference: Tensor, levels: int = 4) -> Tensor:
    """Mean squared error of images in [-1, 1], averaged over levels of half the size each: [N, C, H, W] -> [N].

    The coarse levels say where an organ should go that does not overlap with its own image yet, which the error of
    single pixels does not; a learnt perceptual distance would do that too, and bring the eyes of another data set.
    Levels end at 8 pixels.
    """
    errors = [level.square().mean(1) for level in _levels(images.float() - reference.float(), levels)]
    return sum(errors[1:], errors[0]) / len(errors)


def pyramid(images: Tensor, levels: int = 4) -> Tensor:
    """Images [N, C, H, W] -> [N, F]: the squared distance of two of them is their pyramid error."""
    found = _levels(images.float(), levels)
    return torch.cat([level / (level.shape[1] * len(found)) ** 0.5 for level in found], dim=1)


def _levels(images: Tensor, levels: int) -> list[Tensor]:
    """Each level's pixels, [N, pixels], finest first."""
    found = [images]
    while len(found) < levels and min(found[-1].shape[-2:]) >= 2 * SMALLEST_SIDE:
        found.append(F.avg_pool2d(found[-1], 2))
    return [level.flatten(1) for level in found]
