"""How well a generator with an encoder gives back held-out images, and which latent dimensions it uses."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medlat.core.similarity import ms_ssim, psnr
from medlat.core.spaces import LatentModel, kl_per_dimension


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
