"""What an inverter is: from real images to codes whose decodings resemble them, for any generator.

Adding a method = one class here with explicit arguments and `invert`, one YAML in `conf/inversion/`, one test.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from medlat.core.errors import ArgumentError
from medlat.core.similarity import ms_ssim, psnr
from medlat.core.spaces import PIXELS_AT_ONCE, LatentModel, chosen_space, decode_in_parts, device_of

Encoder = Callable[[Tensor], Tensor]  # images [N, C, H, W] in [-1, 1] -> codes [N, *space.shape]


class Inverter(Protocol):
    """Puts real images into a latent space.

    space:         name of the space; None: `w+` where the generator has one, else its default.
    needs_encoder: whether `invert` wants an encoder.
    tunes:         whether it also has `tune`, which fits a copy of the generator to the images.
    keeps_noise:   whether the noise that belongs to an image is kept beside its code: of a generator that can `invert`.
    one_pass:      whether it costs no more than a pass of the networks, so that it may be done again and again.
    """

    space: str | None
    needs_encoder: bool
    tunes: bool
    keeps_noise: bool
    one_pass: bool

    def invert(self, model: LatentModel, images: Tensor, encoder: Encoder | None) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] -> codes [N, *space.shape] float32, on the images' device.

        The code of an image does not depend on the others. Raises UserError where the generator has no such space.
        """
        ...


def codes_and_noise(
    inverter: Inverter, model: LatentModel, images: Tensor, encoder: Encoder | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Codes [N, *shape] of images [N, C, H, W], and the noise that belongs to each where it is kept; on the CPU."""
    space, codes, noise = chosen_space(model, inverter.space, for_images=True).name, [], []
    for part in _divided([images], model):
        part = part.to(device)
        codes.append(inverter.invert(model, part, encoder))
        if inverter.keeps_noise:
            with torch.no_grad():
                noise.append(model.invert(part, codes[-1], space).cpu())
    return torch.cat([part.cpu() for part in codes]), torch.cat(noise) if noise else None


@dataclass(frozen=True)
class Inverted:
    """Inverted images, on the CPU.

    codes: [N, *space.shape]; noise: [N, ...] that belongs to each, where it is kept; images: what both are decoded to,
    [N, C, H, W] in [-1, 1]; psnr [N] in dB (range 2) and ms_ssim [N] against the real images; seconds: for an image.
    """

    codes: Tensor
    noise: Tensor | None
    images: Tensor
    psnr: Tensor
    ms_ssim: Tensor
    seconds: float


def check_inverter(inverter: Inverter, model: LatentModel) -> None:
    """Raises UserError where the generator cannot do what the inverter needs of it."""
    chosen_space(model, inverter.space, for_images=True)
    if inverter.keeps_noise and not model.can("invert"):
        lacks = f"{type(model).__name__} knows no noise that belongs to an image"
        raise ArgumentError("", f"{lacks}; expected encoder or hybrid", type(inverter).__name__, of=inverter)
    if inverter.tunes and isinstance(model, nn.Module) and next(model.parameters(), None) is None:
        lacks = f"{type(model).__name__} has no weights that can be tuned"
        raise ArgumentError("", f"{lacks}; expected encoder or hybrid", type(inverter).__name__, of=inverter)


def invert_all(
    inverter: Inverter, model: LatentModel, batches: Iterable[Tensor], encoder: Encoder | None, device: torch.device
) -> Inverted:
    """Invert every image. batches: at least one [B, C, H, W] in [-1, 1]; a large one is divided.

    Of a model that is tuned afterwards, `compare` says how well it decodes the same codes. Raises UserError where the
    generator cannot do what the inverter needs.
    """
    check_inverter(inverter, model)
    space = chosen_space(model, inverter.space, for_images=True).name
    real, codes, noise, seconds = [], [], [], 0.0
    for part in _divided(batches, model):
        began = time.perf_counter()
        found, own = codes_and_noise(inverter, model, part, encoder, device)
        seconds += time.perf_counter() - began
        codes.append(found)
        noise += [] if own is None else [own]
        real.append(part.cpu())
    images = torch.cat(real)
    kept = torch.cat(noise) if noise else None
    return compare(model, torch.cat(codes), space, images, seconds / len(images), kept)


def codes_of(
    inverter: Inverter, model: LatentModel, batches: Iterable[Tensor], encoder: Encoder | None, device: torch.device
) -> Tensor:
    """The codes [N, *shape] of every image, on the CPU, and nothing else. Arguments as of `invert_all`."""
    check_inverter(inverter, model)
    return torch.cat([inverter.invert(model, part.to(device), encoder).cpu() for part in _divided(batches, model)])


def _divided(batches: Iterable[Tensor], model: LatentModel) -> Iterator[Tensor]:
    size = max(1, PIXELS_AT_ONCE // (model.image.height * model.image.width))
    return (part for batch in batches for part in batch.split(size))


def compare(
    model: LatentModel, codes: Tensor, space: str, images: Tensor, seconds: float, noise: Tensor | None = None
) -> Inverted:
    """What the model makes of codes [N, *shape], with the noise [N, ...] that belongs to them if there is any, beside
    the images [N, C, H, W] that they stand for.
    """
    decoded = decode_in_parts(model, codes.to(device_of(model)), space, noise)
    return Inverted(codes, noise, decoded, psnr(decoded, images), ms_ssim(decoded, images), seconds)
