"""What an inverter is: from real images to codes whose decodings resemble them, for any generator.

Adding a method = one class here with explicit arguments and `invert`, one YAML in `conf/inversion/`, one test.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medlat.core.spaces import PIXELS_AT_ONCE, LatentModel, chosen_space, decode_in_parts, device_of
from medlat.evaluation.reconstruction import ms_ssim, psnr

Encoder = Callable[[Tensor], Tensor]  # images [N, C, H, W] in [-1, 1] -> codes [N, *space.shape]


class Inverter(Protocol):
    """Puts real images into a latent space.

    space:         name of the space; None: `w+` where the generator has one, else its default.
    needs_encoder: whether `invert` wants an encoder.
    tunes:         whether it also has `tune`, which fits a copy of the generator to the images.
    """

    space: str | None
    needs_encoder: bool
    tunes: bool

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> codes [N, *space.shape] float32, on the images' device.

        The code of an image does not depend on the others. Raises UserError where the generator has no such space.
        """
        ...


@dataclass(frozen=True)
class Inverted:
    """Inverted images, on the CPU.

    codes: [N, *space.shape]; images: their decodings [N, C, H, W] in [-1, 1]; psnr [N] in dB (range 2) and ms_ssim [N]
    against the real images; seconds: for an image.
    """

    codes: Tensor
    images: Tensor
    psnr: Tensor
    ms_ssim: Tensor
    seconds: float


def invert_all(
    inverter: Inverter, model: LatentModel, batches: Iterable[Tensor], encoder: Encoder | None, device: torch.device
) -> Inverted:
    """Invert every image. batches: at least one [B, C, H, W] in [-1, 1]; a large one is divided.

    Of a model that is tuned afterwards, `compare` says how well it decodes the same codes.
    """
    size = max(1, PIXELS_AT_ONCE // (model.image.height * model.image.width))
    real, codes, seconds = [], [], 0.0
    for part in (part for batch in batches for part in batch.split(size)):
        began = time.perf_counter()
        codes.append(inverter.invert(model, part.to(device), encoder).cpu())
        seconds += time.perf_counter() - began
        real.append(part.cpu())
    images = torch.cat(real)
    space = chosen_space(model, inverter.space, for_images=True).name
    return compare(model, torch.cat(codes), space, images, seconds / len(images))


def compare(model: LatentModel, codes: Tensor, space: str, images: Tensor, seconds: float) -> Inverted:
    """What the model makes of codes [N, *shape], beside the images [N, C, H, W] that they stand for."""
    decoded = decode_in_parts(model, codes.to(device_of(model)), space)
    return Inverted(codes, decoded, psnr(decoded, images), ms_ssim(decoded, images), seconds)
