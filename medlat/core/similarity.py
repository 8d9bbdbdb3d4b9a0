"""How far images are from those that they should resemble."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_SIDE = 8  # pixels: of the coarsest level
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003
MS_SSIM_WINDOW = 11


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


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [-1, 1] (range 2): [N, C, H, W] -> [N]. Capped at 100 dB for equal
    images.
    """
    mse = (images.float() - reference.float()).square().flatten(1).mean(1)
    return 10.0 * torch.log10(4.0 / mse.clamp_min(4e-10))


def ms_ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Multi-scale structural similarity: [N, C, H, W] in [-1, 1] -> [N] in [0, 1].

    Wang, Simoncelli & Bovik 2003 halve five times and need 161 pixels; smaller images take as many scales as their
    window fits into, with the weights of those scales normalised to 1.
    """
    from monai.metrics.regression import compute_ms_ssim

    scales = ms_ssim_scales(min(images.shape[-2:]))
    window = min(MS_SSIM_WINDOW, min(images.shape[-2:]) - 1 | 1)
    weights = np.array(MS_SSIM_WEIGHTS[:scales])
    return compute_ms_ssim(
        (images.float() + 1.0) / 2.0,
        (reference.float() + 1.0) / 2.0,
        spatial_dims=2,
        data_range=1.0,
        kernel_size=window,
        weights=(weights / weights.sum()).tolist(),
    ).flatten()


def ms_ssim_scales(side: int) -> int:
    """Scales, 1 to 5, at which the window fits into an image of this side (and MONAI's own check lets it)."""

    def fits(n: int) -> bool:
        return min(side // 2 ** (n - 1), side // max(1, n - 1) ** 2) >= MS_SSIM_WINDOW

    return max((n for n in range(1, len(MS_SSIM_WEIGHTS) + 1) if fits(n)), default=1)
