"""How far sampled images are from real ones, by distances that need nothing downloaded.

Sliced Wasserstein distance over patches of a Laplacian pyramid (Karras et al. 2018, arXiv 1710.10196, section 5): a
true distance between the distributions of patches at each scale; it rises with blur, noise, shifted values and
missing modes. Fréchet distance over measurements: that of two Gaussians (as FID, Heusel et al. 2017), with the image
measurements of this program in the place of Inception's features, each divided by its standard deviation in real
images. Both are given beside their floor, the distance between two halves of the real images (by patient) at the same
number of images, which an ideal generator would reach.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.errors import UserError

PATCH = 7
PATCHES_PER_IMAGE = 64
PROJECTIONS = 256
SMALLEST_SIDE = 16


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int, generator: torch.Generator) -> float:
    """Mean over random unit projections of the 1-Wasserstein distance: a [N, D], b [N, D] (Rabin et al. 2011)."""
    assert a.shape == b.shape, (a.shape, b.shape)
    rays = F.normalize(torch.randn(a.shape[1], projections, generator=generator), dim=0)
    return float(((a @ rays).sort(dim=0).values - (b @ rays).sort(dim=0).values).abs().mean())


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Detail at full, half, quarter, ... resolution and the last coarse image: [N, C, H, W] -> list, sides >= 16."""
    levels = []
    while min(images.shape[-2:]) >= 2 * SMALLEST_SIDE:
        coarse = F.avg_pool2d(images, 2)
        levels.append(images - F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False))
        images = coarse
    return [*levels, images]


def patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random patches of PATCH² pixels, the same number from each image: [N, C, H, W] -> [N · PATCHES_PER_IMAGE, C ·
    PATCH²].
    """
    windows = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # [N, C, H', W', PATCH, PATCH]
    n, _, height, width = windows.shape[:4]
    row = torch.randint(height, (n, PATCHES_PER_IMAGE), generator=generator)
    column = torch.randint(width, (n, PATCHES_PER_IMAGE), generator=generator)
    return windows[torch.arange(n)[:, None], :, row, column].flatten(2).flatten(0, 1)


def patch_distance(a: Tensor, b: Tensor, seed: int = 0) -> dict[int, float]:
    """Sliced Wasserstein distance at each pyramid level, by its side in pixels; times 1000, in units of b's standard
    deviation.

    a, b: [N, C, H, W] in [-1, 1], N the same. b is the reference: its patches' mean and deviation normalise both.
    """
    result = {}
    for level, (x, y) in enumerate(zip(laplacian_pyramid(a), laplacian_pyramid(b), strict=True)):
        generator = torch.Generator().manual_seed(seed + level)
        ours, theirs = (patches(z, torch.Generator().manual_seed(seed + level)) for z in (x, y))  # at the same places
        centre, scale = theirs.mean(), theirs.std().clamp_min(1e-6)
        distance = sliced_wasserstein((ours - centre) / scale, (theirs - centre) / scale, PROJECTIONS, generator)
        result[x.shape[-1]] = 1000.0 * distance
    return result


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½) of features [N, D] and [M, D].

    Rows with a NaN are left out; NaN where fewer rows than features are left.
    """
    a, b = (x[np.isfinite(x).all(axis=1)].astype(np.float64) for x in (a, b))
    if min(len(a), len(b)) <= a.shape[1]:
        return float("nan")
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # tr (Σ_a Σ_b)^½ = sum of the roots of the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which is symmetric: no complex numbers.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0.0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross)


@torch.inference_mode()
def inception_features(images: Tensor, weights: Path, batch: int = 32) -> np.ndarray:
    """Features [N, D] of a TorchScript network that takes RGB [N, 3, 299, 299] in [0, 255]; images [N, C, H, W] in
    [-1, 1].
    """
    if not weights.expanduser().is_file():
        raise UserError(
            f"evaluation.inception={weights}: no such file; expected a TorchScript file of an Inception network"
        )
    try:
        network = torch.jit.load(weights.expanduser(), map_location="cpu").eval()
    except RuntimeError as error:
        raise UserError(
            f"evaluation.inception={weights}: not a TorchScript file ({str(error).splitlines()[0]})"
        ) from error
    features = []
    for part in images.split(batch):
        rgb = part[:, :1].expand(-1, 3, -1, -1) if part.shape[1] == 1 else part[:, :3]
        large = F.interpolate(
            (rgb + 1.0) * 127.5, size=(299, 299), mode="bilinear", antialias=True, align_corners=False
        )
        features.append(network(large).flatten(1).float())
    return torch.cat(features).numpy()
