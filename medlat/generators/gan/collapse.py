"""Whether a generator still makes different images."""

import torch.nn.functional as F
from torch import Tensor

COLLAPSED = 0.3  # relative spread below which a warning is given


def relative_spread(images: Tensor, reference: Tensor) -> float:
    """Standard deviation between images at each place of an 8x8 grid, over that of the reference: about 1 where they
    vary alike, 0 where all images are one. images [N, C, H, W], reference [M, C, H, W].
    """

    def spread(x: Tensor) -> float:
        return float(F.adaptive_avg_pool2d(x.float(), 8).var(dim=0).mean().sqrt())

    return spread(images) / max(spread(reference), 1e-8)
