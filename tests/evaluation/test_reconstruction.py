import numpy as np
import pytest
import torch

from medlat.core.similarity import ms_ssim, ms_ssim_scales, psnr
from medlat.core.spaces import LatentModel, LatentSpace
from medlat.evaluation.reconstruction import reconstruct


def test_psnr_by_hand():
    real = torch.zeros(3, 1, 8, 8)
    images = torch.stack([torch.full((1, 8, 8), v) for v in (0.2, 0.02, 0.0)])
    assert psnr(images, real).tolist() == pytest.approx([20.0, 40.0, 100.0], abs=1e-4)


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (32, 2), (64, 3), (128, 4), (256, 5)])
def test_ms_ssim(side, scales):
    assert ms_ssim_scales(side) == scales
    generator = torch.Generator().manual_seed(0)
    real = (
        torch.nn.functional.interpolate(torch.rand(2, 1, 8, 8, generator=generator), size=side, mode="bilinear") * 2 - 1
    )
    assert ms_ssim(real, real).tolist() == pytest.approx([1.0, 1.0])
    noisy = real + 0.3 * torch.randn(real.shape, generator=generator)
    noisier = real + 0.9 * torch.randn(real.shape, generator=generator)
    assert (ms_ssim(noisier, real) < ms_ssim(noisy, real)).all()
    assert (ms_ssim(noisy, real) < 0.99).all()


def test_reconstruct_a_perfect_and_a_useless_model():
    class Perfect(LatentModel):
        def __init__(self):
            self.spaces = {"z": LatentSpace("z", (256,))}

        def posterior(self, images, space):
            flat = images.flatten(1)
            return flat, torch.full_like(flat, 0.0)

        def decode(self, codes, space):
            return codes.unflatten(1, (1, 16, 16))

    class Useless(Perfect):
        def posterior(self, images, space):
            return torch.zeros(len(images), 256), torch.zeros(len(images), 256)

    images = torch.rand(10, 1, 16, 16) * 2 - 1
    found = reconstruct(Perfect(), images.split(4), torch.device("cpu"))
    assert found.psnr.tolist() == pytest.approx([100.0] * 10)
    assert np.allclose(found.kl, 0.5 * images.flatten(1).square().mean(0).numpy(), atol=1e-6)
    assert found.images.shape == (10, 1, 16, 16)
    useless = reconstruct(Useless(), images.split(4), torch.device("cpu"))
    summary = useless.summary(0.01)
    assert summary["psnr"] == pytest.approx(float(psnr(torch.zeros_like(images), images).mean()), abs=1e-4)
    assert (summary["kl_total"], summary["active_units"]) == (0.0, 0.0)


def test_reconstruct_without_a_posterior_says_nothing_of_kl():
    class Plain(LatentModel):
        def __init__(self):
            self.spaces = {"z": LatentSpace("z", (256,))}

        def encode(self, images, space):
            return images.flatten(1)

        def decode(self, codes, space):
            return codes.unflatten(1, (1, 16, 16))

    images = torch.rand(5, 1, 16, 16) * 2 - 1
    found = reconstruct(Plain(), images.split(2), torch.device("cpu"))
    assert found.kl is None
    assert found.summary(0.01) == pytest.approx({"psnr": 100.0, "ms_ssim": 1.0})
