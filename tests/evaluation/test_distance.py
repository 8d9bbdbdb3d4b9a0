import numpy as np
import pytest
import torch

from medlat.evaluation.distance import (
    diversity,
    enough,
    frechet,
    kernel_distance,
    laplacian_pyramid,
    mmd2,
    patch_distance,
    precision_recall,
    sliced_wasserstein,
)


def blobs(n, seed, shift=0.0, side=32):
    """Smooth discs of random place and size, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx, r = (rng.uniform(a, b, (n, 1, 1)) for a, b in ((10, 22), (10, 22), (4, 8)))
    disc = 1 / (1 + np.exp(np.hypot(y - cy, x - cx) - r))
    noise = rng.normal(0, 0.02, disc.shape)
    return torch.tensor(2 * disc - 1 + noise + shift, dtype=torch.float32)[:, None]


def test_sliced_wasserstein_of_a_shift():
    """For a shift by v the distance along a ray is |v · ray|; its mean over unit rays in D = 2 is |v| · 2/π."""
    a = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    found = sliced_wasserstein(a + torch.tensor([3.0, 0.0]), a, 2000, torch.Generator().manual_seed(1))
    assert found == pytest.approx(3.0 * 2 / np.pi, rel=0.03)
    assert sliced_wasserstein(a, a, 10, torch.Generator().manual_seed(1)) == 0.0


def test_pyramid_adds_up():
    images = torch.randn(2, 1, 64, 64)
    levels = laplacian_pyramid(images)
    assert [level.shape[-1] for level in levels] == [64, 32, 16]
    rebuilt = levels[-1]
    for detail in reversed(levels[:-1]):
        rebuilt = detail + torch.nn.functional.interpolate(
            rebuilt, scale_factor=2, mode="bilinear", align_corners=False
        )
    assert torch.allclose(rebuilt, images, atol=1e-5)


def test_patch_distance_knows_better_from_worse():
    real, other = blobs(200, 0), blobs(200, 1)
    floor = patch_distance(other, real)
    assert set(floor) == {32, 16}
    blurred = torch.nn.functional.avg_pool2d(other, 5, 1, 2)
    for worse in (other + 0.3, blurred, other + 0.2 * torch.randn(other.shape), other[:1].expand_as(other)):
        found = patch_distance(worse, real)
        assert max(found[side] / floor[side] for side in floor) > 2.0
    assert patch_distance(blurred, real)[32] > 3 * floor[32], "blur shows at the finest level"
    assert patch_distance(real, real)[32] == 0.0


def test_frechet_closed_form(rng):
    """Two normal distributions: |μ₁ - μ₂|² + Σ (σ₁ - σ₂)² for diagonal covariances."""
    a = rng.normal([0.0, 0.0], [1.0, 2.0], (200_000, 2))
    b = rng.normal([1.0, 0.0], [3.0, 2.0], (200_000, 2))
    assert frechet(a, b) == pytest.approx(1.0 + 4.0, rel=0.02)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-9)


def test_frechet_against_monai(rng):
    from monai.metrics import FIDMetric

    a, b = rng.normal(size=(300, 5)), rng.normal(0.3, 1.5, size=(200, 5))
    assert frechet(a, b) == pytest.approx(float(FIDMetric()(torch.tensor(a), torch.tensor(b))), rel=1e-4)


@pytest.mark.filterwarnings("error")
def test_frechet_without_enough_numbers(rng):
    a = rng.normal(size=(10, 3))
    gone = a.copy()
    gone[2:] = np.nan
    assert np.isnan(frechet(gone, a))
    assert np.isfinite(frechet(np.ones((10, 1)), np.ones((10, 1))))


@pytest.mark.parametrize("dimensions", [16, 64])
def test_the_bias_that_enough_speaks_of(rng, dimensions):
    """Two samples of one Gaussian: the distance is (D + 5) / (2n) of the variance, as its docstring says."""
    n = 10 * dimensions
    found = [frechet(*rng.normal(size=(2, n, dimensions))) / dimensions for _ in range(10)]
    assert np.mean(found) == pytest.approx((dimensions + 5) / (2 * n), rel=0.06)
    assert enough(n, dimensions) is None
    assert f"at least {n}" in (enough(n - 1, dimensions) or "")
    assert "cannot be estimated" in (enough(dimensions, dimensions) or "")


def test_mmd_by_hand():
    """D = 1, a = 0, 1, 2, b = 1, 1, 2: k(x, y) = (xy + 1)³.

    Pairs of a: k(0,1) = k(0,2) = 1, k(1,2) = 27, mean 29/3; of b: 8, 27, 27, mean 62/3; across: 1, 1, 1, 8, 8, 27, 27,
    27, 125, mean 25.
    """
    a, b = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [1.0], [2.0]])
    assert mmd2(a, b) == pytest.approx(29 / 3 + 62 / 3 - 2 * 25)
    # D = 2: the product is divided by D. Pairs of a and of b: (1/2 + 1)³; across: (0/2 + 1)³.
    assert mmd2(np.array([[1.0, 0.0]] * 2), np.array([[0.0, 1.0]] * 2)) == pytest.approx(2 * 3.375 - 2)


def test_kernel_distance(rng):
    a, b = rng.normal(size=(2, 600, 8))
    same, deviation = kernel_distance(a, b)
    assert abs(same) < deviation
    shifted, _ = kernel_distance(a, b + 1.0)
    assert shifted > 10 * deviation
    assert kernel_distance(a, b + 1.0, seed=3)[0] == pytest.approx(shifted, rel=0.05)
    assert kernel_distance(a, b) == (same, deviation)
    assert kernel_distance(a, b, seed=1) != (same, deviation)


def test_kernel_distance_has_no_bias(rng):
    """Where the Fréchet distance of so few is far from 0, the mean over many draws is 0 within its standard error."""
    found = [mmd2(*rng.normal(size=(2, 10, 4))) for _ in range(2000)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_kernel_distance_of_few(rng):
    a = rng.normal(size=(4, 3))
    gone = a.copy()
    gone[1:] = np.nan
    assert np.isnan(kernel_distance(gone, a)).all()
    value, deviation = kernel_distance(a, a + 1.0, size=1000)
    assert np.isfinite(value)
    assert deviation > 0.0, "subsets are smaller than the set"


@pytest.mark.parametrize("block", [7, 1000])
def test_precision_recall(rng, block):
    real = rng.normal(size=(300, 4))
    assert precision_recall(real, real, block=block) == (1.0, 1.0)
    assert precision_recall(real, real + 100.0, block=block) == (0.0, 0.0)


def test_precision_recall_by_hand():
    """On a line, k = 1: real balls 0±1, 1±1, 5±4, generated balls 1.5±0.5, 2±0.5, 20±18: a ball reaches the nearest
    neighbour. Of the generated, 1.5 and 2 lie in real balls; of the real, 5 lies in that of 20 alone.
    """
    real, generated = np.array([[0.0], [1.0], [5.0]]), np.array([[1.5], [2.0], [20.0]])
    assert precision_recall(real, generated, k=1) == pytest.approx((2 / 3, 2 / 3))


def test_half_the_modes_and_outliers(rng):
    modes = rng.normal(size=(2, 500, 4)) + np.array([-50.0, 50.0])[:, None, None]
    real = modes.reshape(-1, 4)
    precision, recall = precision_recall(real, modes[0])
    assert precision == 1.0
    assert recall == pytest.approx(0.5)
    outliers = modes[0].copy()
    outliers[:100] += rng.normal(0, 500.0, (100, 4))
    assert precision_recall(real, outliers)[0] == pytest.approx(0.8, abs=0.02)


def test_one_image_again_and_again(rng):
    """A ball of radius 0: precise where the image is real, and it recalls that one only; offsets must not blur it."""
    real = rng.normal(size=(200, 32)) + 1e3
    repeated = np.repeat(real[:1], 200, axis=0)
    assert precision_recall(real, repeated) == (1.0, 1 / 200)
    elsewhere = np.repeat(real[:1] + 1e-3, 200, axis=0)
    assert precision_recall(real, elsewhere) == (1.0, 0.0)
    assert np.isnan(precision_recall(real[:3], real, k=3)).all()


def test_diversity():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(20, 1, 64, 64, generator=generator) * 2 - 1
    assert diversity(noise[:1].expand(20, -1, -1, -1), 30, seed=0) == pytest.approx(1.0)
    assert abs(diversity(noise, 100, seed=0)) < 0.05
    half = torch.cat([noise[:1].expand(20, -1, -1, -1), noise])
    assert 0.1 < diversity(half, 200, seed=0) < 0.5  # one pair in four is of equals
    assert diversity(noise, 50, seed=1) == diversity(noise, 50, seed=1)
    assert np.isnan(diversity(noise[:1], 5, seed=0))
