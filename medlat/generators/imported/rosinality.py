"""Generators of github.com/rosinality/stylegan2-pytorch: a `torch.save` of state dicts, of which `g_ema` is used."""

import math

import torch
from torch import Tensor

from medlat.core.randomness import generator_for
from medlat.generators.imported.layout import Foreign, is_blur
from medlat.generators.imported.restricted import Refused
from medlat.generators.stylegan2.networks import Mapping

LR_MULTIPLIER = 0.01  # not in the file; the repository has no option for it
MEAN_OF = 16384  # codes whose mean stands in for one that a file does not hold
MOST_CONVS = 16  # 1024 pixels
NOT_OURS = "its weights are not those of a StyleGAN2"


def from_rosinality(content: object) -> Foreign:
    """The generator of a file's content.

    Files of its training hold no mean w: it is the mean over codes from a fixed seed. Older ones hold no noise maps:
    they are drawn from a fixed seed.
    """
    if not isinstance(content, dict) or not isinstance(content.get("g_ema"), dict):
        raise Refused("holds no g_ema; expected a file of rosinality's stylegan2-pytorch")
    state: dict[str, Tensor] = {name: t.float() for name, t in content["g_ema"].items() if isinstance(t, Tensor)}
    for name, tensor in state.items():
        if name.endswith(".kernel") and not is_blur(tensor, gain=4.0):
            raise Refused(f"{NOT_OURS}: {name} is another kernel than [1, 3, 3, 1]")
    weights = _mapping(state) | {"synthesis.constant": _get(state, "input.input")[0]}
    for i in range(1 + _count(state, "convs.")):
        weights |= {f"synthesis.convs.{i}.{key}": value for key, value in _conv(state, i).items()}
    for i in range(1 + _count(state, "to_rgbs.")):
        weights |= {f"synthesis.to_image.{i}.{key}": value for key, value in _to_image(state, i).items()}
    mean = content.get("latent_avg")
    weights["w_mean"] = mean.float().flatten() if isinstance(mean, Tensor) else _mean_w(weights)
    return Foreign(weights, LR_MULTIPLIER, None)


def _count(state: dict[str, Tensor], prefix: str) -> int:
    count = sum(name.startswith(prefix) and name.endswith(".conv.weight") for name in state)
    if count > MOST_CONVS:
        raise Refused(f"{NOT_OURS}: {count} layers {prefix}*")
    return count


def _mapping(state: dict[str, Tensor]) -> dict[str, Tensor]:
    count = sum(name.startswith("style.") and name.endswith(".weight") for name in state)
    names = [(i, name) for i in range(max(count, 1)) for name in ("weight", "bias")]
    return {f"mapping.layers.{i}.{name}": _get(state, f"style.{i + 1}.{name}") for i, name in names}


def _conv(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    layer = "conv1" if i == 0 else f"convs.{i - 1}"
    weight = _get(state, f"{layer}.conv.weight", 5)[0]
    if i % 2:  # applied transposed; ours is correlated with the enlarged map
        weight = weight.flip(2, 3)
    side = 4 * 2 ** ((i + 1) // 2)
    noise = state.get(f"noises.noise_{i}")
    if noise is None:
        noise = torch.randn(1, 1, side, side, generator=generator_for("noise", i))
    return {
        # Demodulation adds its epsilon to scaled weights there.
        "weight": weight / math.sqrt(weight[0].numel()),
        "bias": _get(state, f"{layer}.activate.bias"),
        "noise_strength": _get(state, f"{layer}.noise.weight").reshape(()),
        "noise": noise,
    } | _affine(state, layer)


def _to_image(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    layer = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
    weight = _get(state, f"{layer}.conv.weight", 5)[0]
    return {"weight": weight, "bias": _get(state, f"{layer}.bias").flatten()} | _affine(state, layer)


def _affine(state: dict[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {f"affine.{name}": _get(state, f"{layer}.conv.modulation.{name}") for name in ("weight", "bias")}


def _get(state: dict[str, Tensor], name: str, dimensions: int | None = None) -> Tensor:
    if name not in state or dimensions not in (None, state[name].dim()):
        raise Refused(f"{NOT_OURS}: {name} is missing or of another shape")
    return state[name]


@torch.no_grad()
def _mean_w(weights: dict[str, Tensor]) -> Tensor:
    own = {name.removeprefix("mapping."): value for name, value in weights.items() if name.startswith("mapping.")}
    width, length = own["layers.0.weight"].shape
    with torch.device("meta"):  # memory only for what the file holds
        mapping = Mapping(length, width, len(own) // 2, LR_MULTIPLIER)
    mapping.load_state_dict(own, assign=True)
    z = torch.randn(MEAN_OF, length, generator=generator_for("mean w"))
    return torch.cat([mapping(part) for part in z.split(1024)]).mean(dim=0)
