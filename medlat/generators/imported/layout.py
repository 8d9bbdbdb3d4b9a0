"""What the readers of foreign files hand on, and the recipe of the `StyleGAN2` that has such weights."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.generators.imported.restricted import Refused
from medlat.generators.stylegan2.networks import Architecture, StyleGAN2

STYLEGAN2 = "medlat.generators.stylegan2.networks.StyleGAN2"
LABELS = "mapping.labels"
FILTER = (1.0, 3.0, 3.0, 1.0)


@dataclass(frozen=True)
class Foreign:
    """A generator from elsewhere.

    weights:       by the names of `StyleGAN2`, float32; of a conditional one all of its labels.
    lr_multiplier: of the mapping network, which scales its weights.
    clamp:         largest magnitude of features, or None.
    architecture:  of the synthesis.
    """

    weights: dict[str, Tensor]
    lr_multiplier: float
    clamp: float | None
    architecture: Architecture = "skip"

    @property
    def channels(self) -> int:
        """Of its images."""
        return self.weights["synthesis.to_image.0.weight"].shape[0]

    @property
    def labels(self) -> int:
        """How many it knows; 0 of an unconditional network."""
        return len(self.weights.get(LABELS, ()))

    def of_label(self, label: int) -> "Foreign":
        """The network that makes images of one label alone."""
        return replace(self, weights=self.weights | {LABELS: self.weights[LABELS][label : label + 1]})

    def grey(self) -> "Foreign":
        """The network whose images are the mean over the channels of this one's: the layers that make images are linear
        but for the clamp, which a network within its training's range does not meet.
        """
        last = {name: x.mean(dim=0, keepdim=True) for name, x in self.weights.items() if _is_of_channels(name)}
        return replace(self, weights=self.weights | last)


def recipe_of(foreign: Foreign) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """The recipe of the network, and the shape [C, H, W] of its images.

    Raises Refused where `StyleGAN2` does not have exactly these weights.
    """
    weights = foreign.weights
    first, labels = weights["mapping.layers.0.weight"], weights.get(LABELS)
    convs = next(i for i in range(len(weights)) if f"synthesis.convs.{i}.weight" not in weights)
    widths = [weights[f"synthesis.convs.{i}.weight"].shape[0] for i in range(0, convs, 2)]
    side = 4 * 2 ** (len(widths) - 1)
    shape = (foreign.channels, side, side)
    base, most = _width_rule(widths)
    recipe: dict[str, Any] = {
        "_target_": STYLEGAN2,
        "z_dim": first.shape[1] - (0 if labels is None else labels.shape[1]),
        "w_dim": first.shape[0],
        "mapping_layers": sum(name.startswith("mapping.layers.") for name in weights) // 2,
        "mapping_lr_multiplier": foreign.lr_multiplier,
        "channel_base": base,
        "channel_max": most,
        "base": [4, 4],
        "clamp": foreign.clamp,
        "architecture": foreign.architecture,
        "labels": None if labels is None else list(labels.shape),
    }
    _compare(recipe, shape, weights)
    return recipe, shape


def empty_network(recipe: dict[str, Any], image: ImageSpec) -> StyleGAN2:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return StyleGAN2(image, **{name: value for name, value in recipe.items() if name != "_target_"})


def is_blur(kernel: Tensor, gain: float = 1.0) -> bool:
    """Whether a filter [4, 4] is the one of `stylegan2.ops`, times gain."""
    taps = torch.tensor(FILTER, dtype=torch.float32) / sum(FILTER)
    return kernel.shape == (4, 4) and torch.allclose(kernel.float(), gain * torch.outer(taps, taps), atol=1e-6)


def _is_of_channels(name: str) -> bool:
    return name.startswith("synthesis.to_image.") and ".affine." not in name


def _width_rule(widths: list[int]) -> tuple[int, int]:
    """channel_base and channel_max with widths = min(channel_base // side, channel_max) at the sides 4, 8, 16, ..."""
    most = max(widths)
    sides = [4 * 2**i for i in range(len(widths))]
    base = max(width * side for width, side in zip(widths, sides, strict=True))
    if [min(base // side, most) for side in sides] != widths:
        raise Refused(
            f"its feature maps have {', '.join(map(str, widths))} channels; expected min(channel_base / side, "
            "channel_max) at the sides 4, 8, 16, ..."
        )
    return base, most


def _compare(recipe: dict[str, Any], shape: tuple[int, int, int], weights: dict[str, Tensor]) -> None:
    try:
        network = empty_network(recipe, ImageSpec(*shape, low=-1.0, high=1.0, unit="", spacing_mm=1.0))
    except UserError as error:
        raise Refused(f"its weights are not those of a StyleGAN2 ({error})") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise Refused(
                f"its weights are not those of a StyleGAN2: {name} is {found.get(name, 'missing')}, "
                f"expected {expected.get(name, 'none')}"
            )
    broken = next((name for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise Refused(f"damaged: {broken} holds numbers that are not finite")
