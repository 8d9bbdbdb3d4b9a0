"""How far sampled images are from real ones, and how much they differ among themselves.

Over pixels, with nothing downloaded: the patch distance, sliced Wasserstein over patches of a Laplacian pyramid, a true
distance between the distributions of patches at each scale; it rises with blur, noise, shifted values and missing
modes. It is after the SWD of Karras et al. 2018 (arXiv 1710.10196, section 5), and no SWD: that one filters with
[1, 4, 6, 4, 1], takes 128 patches of an image and 512 projections, and brings each set to its own mean and deviation,
so that a shift of all values costs nothing. And MS-SSIM of random pairs, which rises where a generator repeats itself
(Odena et al. 2017, arXiv 1610.09585, section 4.2).

Over features [N, D], which may be measurements of this program (each divided by its standard deviation in real images)
or the output of a network (see `features`): Fréchet distance (Heusel et al. 2017), kernel distance (Bińkowski et al.
2018), precision and recall (Kynkäänniemi et al. 2019). Each is given beside its floor, the distance between two halves
of the real images (by patient) at the same number of images, which an ideal generator would reach. Rows with a NaN are
left out, and a distance that too few rows are left for is NaN.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medlat.core.randomness import derive_seed, generator_for
from medlat.core.similarity import ms_ssim

PATCH = 7
PATCHES_PER_IMAGE = 64
PROJECTIONS = 256
SMALLEST_SIDE = 16
ROWS_PER_DIMENSION = 10  # below it the Fréchet distance is largely bias: see `enough`


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int, generator: torch.Generator) -> float:
    """Mean over random unit projections of the 1-Wasserstein distance: a [N, D], b [N, D] (Rabin et al. 2011)."""
    assert a.shape == b.shape, (a.shape, b.shape)
    rays = F.normalize(torch.randn(a.shape[1], projections, generator=generator), dim=0)
    ours, theirs = (np.sort((x @ rays).T.numpy(), axis=1) for x in (a, b))  # 8 times as fast as torch's, of columns
    return float(np.abs(ours - theirs).mean())


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
    a, b = _finite(a), _finite(b)
    if min(len(a), len(b)) <= a.shape[1]:
        return float("nan")
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # tr (Σ_a Σ_b)^½ = sum of the roots of the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which is symmetric: no complex numbers.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0.0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross)


def enough(n: int, dimensions: int) -> str | None:
    """A warning where n samples a side are too few for the Fréchet distance of features of D dimensions, else None.

    The distance between two samples of one Gaussian is not 0 but, on Gaussians with equal variances, (D + 5) / (2n) of
    the total variance tr Σ; measured at D = 16, 64, 256 and n = 2 D to 50 D, all within 6%. At n = 10 D, the bound
    here, it is 5% of tr Σ (D = 256) to 6.6% (D = 16), as much as a shift of every feature by 0.23 to 0.26 standard
    deviations. With variances that fall as 1/i it is less: 5.2% at D = 16, 3.2% at D = 64, 2.3% at D = 256. The bias
    goes as 1/n: distances at different n do not compare, and the floor at the same n tells how much of one is bias.
    """
    if n >= ROWS_PER_DIMENSION * dimensions:
        return None
    if n <= dimensions:
        effect = f"its covariance cannot be estimated from {dimensions} samples or fewer"
    else:
        effect = f"about {(dimensions + 5) / (2 * n):.0%} of the total variance in it is bias"
    return (
        f"{n} samples are few for a Fréchet distance over {dimensions} features: {effect}; "
        f"take at least {ROWS_PER_DIMENSION * dimensions}, or the kernel distance, which has no bias"
    )


def kernel_distance(
    a: np.ndarray, b: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Kernel distance (KID; Bińkowski et al. 2018, arXiv 1801.01401) of features [N, D] and [M, D], and its deviation.

    The mean of `mmd2` over random subsets of `size` rows of each, drawn without replacement, and the standard deviation
    over the subsets (of one subset, not of the mean). The estimate has no bias at any size, so it may be below 0.
    size is at most half of the smaller set: subsets that are all of it would have no deviation.
    NaN where fewer than two rows are left.
    """
    assert subsets >= 1, subsets
    assert size >= 2, size
    a, b = _finite(a), _finite(b)
    least = min(len(a), len(b))
    if least < 2:
        return float("nan"), float("nan")
    size = max(2, min(size, least // 2))
    rng = np.random.default_rng(derive_seed(seed, "kernel distance"))
    values = [
        mmd2(a[rng.choice(len(a), size, replace=False)], b[rng.choice(len(b), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def mmd2(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of [n, D] and [m, D], n and m at least 2: the unbiased estimate (Gretton et al.
    2012, eq. 3), with the cubic kernel (x · y / D + 1)³.
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        base = x @ y.T / x.shape[1] + 1.0
        return base * base * base  # three times as fast as ** 3

    def off_diagonal_mean(k: np.ndarray) -> float:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return float(off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b)) - 2.0 * kernel(a, b).mean())


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3, block: int = 1000) -> tuple[float, float]:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 2) of features [N, D] and [M, D].

    Precision is the share of generated rows that lie in the real manifold, recall that of real rows in the generated
    one; a manifold is the union of balls about each row that reach its k-th nearest neighbour.
    block: rows of a set held against all of the other at a time; memory is some 3 x block x max(N, M) float64 numbers.
    NaN where no more than k rows of either are left.
    """
    assert k >= 1, k
    real, generated = _finite(real), _finite(generated)
    if min(len(real), len(generated)) <= k:
        return float("nan"), float("nan")
    centre = real.mean(axis=0)  # large common offsets would cancel badly
    real, generated = real - centre, generated - centre
    precision = _covered(generated, real, _radii(real, k, block), block)
    recall = _covered(real, generated, _radii(generated, k, block), block)
    return precision, recall


def _radii(x: np.ndarray, k: int, block: int) -> np.ndarray:
    """Squared distance of each row of [N, D] to its k-th nearest other row, [N]."""
    radii = np.empty(len(x))
    for start in range(0, len(x), block):
        squares = squared_distances(x[start : start + block], x)
        rows = np.arange(len(squares))
        squares[rows, start + rows] = np.inf  # not its own neighbour
        radii[start : start + block] = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return radii


def _covered(x: np.ndarray, centres: np.ndarray, radii: np.ndarray, block: int) -> float:
    """Share of the rows of x that lie in some ball; radii: squared."""
    inside = [
        (squared_distances(x[start : start + block], centres) <= radii).any(axis=1) for start in range(0, len(x), block)
    ]
    return float(np.concatenate(inside).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[n, D], [m, D] -> [n, m]. What the rounding of |a|² + |b|² - 2 a·b could have made is 0, so that equal rows are
    at distance 0 and lie in balls of radius 0.
    """
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    rounding = 1e-12 * squares
    cross = a @ b.T
    cross *= 2.0
    squares -= cross
    squares[squares <= rounding] = 0.0
    return squares


def diversity(images: Tensor, pairs: int, seed: int, batch: int = 64) -> float:
    """Mean MS-SSIM of random pairs of different images [N, C, H, W] in [-1, 1] (Odena et al. 2017, section 4.2).

    1 where all are the same image, near 0 where they share nothing; so less is more diverse, and the value of real
    images is what to reach. Images of fewer than 161 pixels a side take fewer scales: see `ms_ssim`.
    NaN where there are fewer than two images.
    """
    assert pairs >= 1, pairs
    n = len(images)
    if n < 2:
        return float("nan")
    generator = generator_for(seed, "pairs")
    first = torch.randint(n, (pairs,), generator=generator)
    second = (first + torch.randint(1, n, (pairs,), generator=generator)) % n
    with torch.inference_mode():
        parts = [ms_ssim(images[i], images[j]) for i, j in zip(first.split(batch), second.split(batch), strict=True)]
    return float(torch.cat(parts).double().mean())


def _finite(x: np.ndarray) -> np.ndarray:
    """The rows without a NaN, float64."""
    return x[np.isfinite(x).all(axis=1)].astype(np.float64)
