"""Values of the pixels: colours as affine maps, Hounsfield units, stains of histology. Differentiable twice."""

import math

import torch
from torch import Tensor

from medlat.core.linear_map import linear_map
from medlat.core.spaces import ImageSpec
from medlat.core.stains import DARKEST, stain_vectors


def brightness(shift: Tensor) -> Tensor:
    """Adds shift [B] to every channel. Like all below: matrices [B, 4, 4] for (R, G, B, 1)."""
    return _homogeneous(torch.eye(3).expand(len(shift), 3, 3), shift[:, None].expand(-1, 3))


def contrast(factor: Tensor) -> Tensor:
    """Multiplies every channel by factor [B]; zero, the middle of the range, stays."""
    return _homogeneous(torch.eye(3) * factor[:, None, None])


def luma_flip(flips: Tensor) -> Tensor:
    """Exchanges light and dark where flips [B], and keeps hue and saturation."""
    return _homogeneous(torch.eye(3) - 2.0 * _grey() * flips.float()[:, None, None])


def hue(angle: Tensor) -> Tensor:
    """Turns the colour by angle [B] in radians about the grey axis (Rodrigues' formula)."""
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return _homogeneous(cos * torch.eye(3) + sin * cross + (1.0 - cos) * _grey())


def saturation(factor: Tensor) -> Tensor:
    """Multiplies the distance from grey by factor [B]."""
    return _homogeneous(torch.eye(3) + (factor[:, None, None] - 1.0) * (torch.eye(3) - _grey()))


def _grey() -> Tensor:
    """The projection onto the grey axis."""
    return torch.full((3, 3), 1.0 / 3.0)


def _homogeneous(linear: Tensor, shift: Tensor | None = None) -> Tensor:
    matrices = torch.eye(4).repeat(len(linear), 1, 1)
    matrices[:, :3, :3] = linear
    if shift is not None:
        matrices[:, :3, 3] = shift
    return matrices


def recolour(images: Tensor, matrices: Tensor) -> Tensor:
    """Images [B, 1 or 3, H, W] under colour matrices [B, 4, 4]. One channel is taken for grey, and stays grey."""
    matrices = matrices.to(device=images.device, dtype=images.dtype)
    linear, shift = matrices[:, :3, :3], matrices[:, :3, 3:]
    if images.shape[1] == 1:
        gain = linear.sum(2, keepdim=True).mean(1, keepdim=True)
        return gain[..., None] * images + shift.mean(1, keepdim=True)[..., None]
    return _mixed(images, linear) + shift[..., None]


def rescale_hu(images: Tensor, gain: Tensor, offset_hu: Tensor, image: ImageSpec) -> Tensor:
    """HU -> (HU + 1000) · gain - 1000 + offset, for images in network units; gain, offset_hu [B].

    Gain is a wrong calibration of the attenuation: air, which attenuates nothing, keeps its -1000 HU. Nothing is
    clamped: the distribution of what went in could otherwise not be recovered from that of what comes out.
    """
    air = 2.0 * (-1000.0 - image.low) / image.range - 1.0
    shift = (1.0 - gain) * air + offset_hu * 2.0 / image.range
    gain, shift = (v.to(device=images.device, dtype=images.dtype)[:, None, None, None] for v in (gain, shift))
    return gain * images + shift


def concentrations(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1] -> concentrations of haematoxylin, eosin and the rest, [B, 3, H, W].

    Beer-Lambert: the optical density -log10((x + 1) / 2) is the concentrations times the stain vectors.
    """
    density = -_light(images).log10()
    unmix = torch.linalg.inv(_vectors(images)).mT.contiguous()
    return _mixed(density, unmix)


def restain(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Images [B, 3, H, W] with the concentrations of haematoxylin and eosin times scale [B, 2] plus shift [B, 2], or of
    these and the rest, [B, 3].

    What lies outside the range of densities (fakes may) is passed on, so that it keeps a gradient.
    """
    scale, shift = (v.to(device=images.device, dtype=images.dtype)[..., None, None] for v in (scale, shift))
    found, own = concentrations(images), scale.shape[1]
    changed = torch.cat([scale * found[:, :own] + shift, found[:, own:]], dim=1)
    density = _mixed(changed, _vectors(images).mT)
    return images + 2.0 * (10.0**-density - _light(images))


def _mixed(images: Tensor, matrices: Tensor) -> Tensor:
    """Images [B, 3, H, W] with their channels mixed by matrices [B, 3, 3] or [3, 3]."""

    def mix(images: Tensor, matrices: Tensor) -> Tensor:
        return (matrices @ images.flatten(2)).reshape(images.shape)

    return linear_map(images, lambda x: mix(x, matrices), lambda x: mix(x, matrices.mT))


def _light(images: Tensor) -> Tensor:
    """The share of light that passes, from `DARKEST`."""
    return ((images + 1.0) / 2.0).clamp(min=DARKEST)


def _vectors(like: Tensor) -> Tensor:
    """The stain vectors as a tensor [3, 3] beside another."""
    return torch.from_numpy(stain_vectors()).to(device=like.device, dtype=like.dtype)
