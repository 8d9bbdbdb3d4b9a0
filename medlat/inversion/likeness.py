"""How far images are from those that they should resemble."""

import torch.nn.functional as F
from torch import Tensor

SMALLEST_SIDE = 8  # pixels: of the coarsest level


def pyramid_error(images: Tensor, reference: Tensor, levels: int = 4) -> Tensor:
    """Mean squared error of images in [-1, 1], averaged over levels of half the size each: [N, C, H, W] -> [N].

    The coarse levels say where an organ should go that does not overlap with its own image yet, which the error of
    single pixels does not; a learnt perceptual distance would do that too, and bring the eyes of another data set.
    Levels end at 8 pixels.
    """
    difference = images.float() - reference.float()
    errors = [difference.square().flatten(1).mean(1)]
    while len(errors) < levels and min(difference.shape[-2:]) >= 2 * SMALLEST_SIDE:
        difference = F.avg_pool2d(difference, 2)
        errors.append(difference.square().flatten(1).mean(1))
    return sum(errors[1:], errors[0]) / len(errors)
