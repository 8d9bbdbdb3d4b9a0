"""How well a generator with an encoder gives back held-out images, and which latent dimensions it uses."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medlat.core.spaces import LatentModel, kl_per_dimension

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003
MS_SSIM_WINDOW = 11


@dataclass
class Reconstruction:
    """Per held-out image: psnr [N] (dB, range 2), ms_ssim [N]; images [N, C, H, W] in [-1, 1]. kl: [D] mean nats per
    latent dimension; None of a generator without a posterior.
    """

    psnr: np.ndarray
    ms_ssim: np.ndarray
    kl: np.ndarray | None
    images: np.ndarray

    def summary(self, active_kl: float) -> dict[str, float]:
        """Means, and of a posterior the number of latent dimensions with more KL than `active_kl` nats (active
        units).
        """
        found = {"psnr": float(self.psnr.mean()), "ms_ssim": float(self.ms_ssim.mean())}
        if self.kl is not None:
            found |= {"kl_total": float(self.kl.sum()), "active_units": float((self.kl > active_kl).sum())}
        return found


@torch.inference_mode()
def reconstruct(model: LatentModel, batches: Iterable[Tensor], device: torch.device) -> Reconstruction:
    """Decode what the generator's own encoder says of every image: of a posterior the mean, in its default space.

    batches: [B, C, H, W] in [-1, 1].
    """
    assert model.can("encode")
    space, knows = next(iter(model.spaces)), model.can("posterior")
    psnrs, similarities, divergences, images = [], [], [], []
    for batch in batches:
        real = batch.to(device)
        if knows:
            codes, log_variance = model.posterior(real, space)
            divergences.append(kl_per_dimension(codes, log_variance).flatten(1))
        else:
            codes = model.encode(real, space)
        decoded = model.decode(codes, space)
        psnrs.append(psnr(decoded, real))
        similarities.append(ms_ssim(decoded, real))
        images.append(decoded.cpu())
    numbers = [torch.cat(parts).cpu().numpy() for parts in (psnrs, similarities, images)]
    kl = torch.cat(divergences).cpu().numpy().mean(0) if knows else None
    return Reconstruction(numbers[0], numbers[1], kl, numbers[2])


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
