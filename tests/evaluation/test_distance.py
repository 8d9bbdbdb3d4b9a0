from pathlib import Path

import numpy as np
import pytest
import torch

from medlat.errors import UserError
from medlat.evaluation.distance import (
    frechet,
    inception_features,
    laplacian_pyramid,
    patch_distance,
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


class Means(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def test_inception_takes_a_torchscript_file(tmp_path):
    path = tmp_path / "net.pt"
    torch.jit.script(Means()).save(str(path))
    images = torch.stack([torch.full((1, 32, 32), v) for v in (-1.0, 0.0, 1.0)])
    features = inception_features(images, path)
    assert np.allclose(features, [[0.0] * 3, [127.5] * 3, [255.0] * 3], atol=1e-3)


def test_inception_refuses_other_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        inception_features(torch.zeros(1, 1, 8, 8), Path("/nowhere.pt"))
    (tmp_path / "x.pt").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a TorchScript file"):
        inception_features(torch.zeros(1, 1, 8, 8), tmp_path / "x.pt")
