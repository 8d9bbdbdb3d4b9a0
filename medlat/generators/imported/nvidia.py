"""Networks of NVIDIA's StyleGAN2-ADA and StyleGAN3 repositories (Karras et al. 2020, arXiv 2006.06676): what their
pickles hold, by our names.

A file is a dict with G, D and G_ema (the running average of G, which is used). Each layer is a `Module`: the attributes
of a torch module of that class.
"""

from typing import Any, cast, get_args

import torch
from torch import Tensor

from medlat.generators.imported.layout import LABELS, Foreign, is_blur
from medlat.generators.imported.restricted import Module, Refused, printable
from medlat.generators.stylegan2.networks import Architecture

MOST_LEVELS = 10  # 2048 pixels
ALIAS_FREE = (
    "holds an alias-free StyleGAN3 network, which medlat does not have; with that repository on the PYTHONPATH, use "
    "generator=python generator.function=package.module:function"
)
NOT_OURS = "its weights are not those of a StyleGAN2"


def from_nvidia(content: object) -> Foreign:
    """The generator of a file's content; of a conditional one with the embedding of every label. Raises Refused for
    other networks and variants that medlat does not have.
    """
    if not isinstance(content, dict) or "G_ema" not in content:
        raise Refused("holds no G_ema; expected a network of the StyleGAN2-ADA or StyleGAN3 repository")
    generator = content["G_ema"]
    if not isinstance(generator, Module) or generator.class_name != "Generator":
        what = f"a {generator.class_name}" if isinstance(generator, Module) else "no network"
        raise Refused(f"its G_ema is {what}; expected a Generator of the StyleGAN2-ADA or StyleGAN3 repository")
    mapping, synthesis = _child(generator, "mapping"), _child(generator, "synthesis")
    if "input" in _modules(synthesis):
        raise Refused(ALIAS_FREE)
    blocks = _blocks(synthesis)
    architecture = _architecture(blocks)
    layers = _numbered(mapping, "fc")
    weights = {"w_mean": _tensor(mapping, "w_avg"), "synthesis.constant": _tensor(_child(synthesis, "b4"), "const")}
    for i, layer in enumerate(layers):
        _expect(layer, "activation", "lrelu")
        weights |= {f"mapping.layers.{i}.{name}": _tensor(layer, name) for name in ("weight", "bias")}
    if _plain(generator, "c_dim") != 0:
        weights[LABELS] = _labels(_child(mapping, "embed"))
    clamps = set()
    for level, block in enumerate(blocks):
        weights |= _block(block, level, 0 if architecture == "skip" else len(blocks) - 1, architecture == "resnet")
        parts = {name: layer for name, layer in _modules(block).items() if name != "skip"}
        clamps |= {_plain(layer, "conv_clamp") for layer in parts.values() if isinstance(layer, Module)}
    if len(clamps) != 1:
        raise Refused(f"{NOT_OURS}: its layers are clamped to different values")
    clamp = clamps.pop()
    rates = {_plain(layer, "bias_gain") for layer in layers}
    rate = rates.pop() if len(rates) == 1 else None
    if not isinstance(rate, int | float) or not isinstance(clamp, int | float | None):
        raise Refused(f"{NOT_OURS}: learning rate multiplier {rate}, clamp {clamp}")
    return Foreign(weights, float(rate), None if clamp is None else float(clamp), architecture)


def _architecture(blocks: list[Module]) -> Architecture:
    found = {_plain(block, "architecture") for block in blocks}
    if len(found) != 1 or not found <= set(get_args(Architecture)):
        raise Refused(f"{NOT_OURS}: its blocks are {', '.join(sorted(map(str, found)))}; expected skip, orig or resnet")
    return cast(Architecture, found.pop())


def _labels(embed: Module) -> Tensor:
    """What a layer gives for each label alone, [labels, length]."""
    _expect(embed, "activation", "linear")
    weight = _tensor(embed, "weight")
    if weight.dim() != 2:
        raise Refused(f"{NOT_OURS}: its labels are embedded by weights of {weight.dim()} dimensions")
    return weight.T / weight.shape[1] ** 0.5 + _tensor(embed, "bias")


def _block(block: Module, level: int, first: int, residual: bool) -> dict[str, Tensor]:
    """Our weights of what stands at one resolution. first: the level that images are made from."""
    _check_filter(block)
    own: dict[str, Tensor] = {}
    for i, name in [(0, "conv1")] if level == 0 else [(2 * level - 1, "conv0"), (2 * level, "conv1")]:
        conv = _conv(_child(block, name), up=name == "conv0", side=4 * 2**level)
        own |= {f"synthesis.convs.{i}.{key}": value for key, value in conv.items()}
    if residual and level:
        _check_filter(past := _child(block, "skip"))
        _expect(past, "activation", "linear")
        own[f"synthesis.past.{level - 1}.weight"] = _tensor(past, "weight")
    if level < first:
        return own
    layer = _child(block, "torgb")
    to_image = {"weight": _tensor(layer, "weight"), "bias": _tensor(layer, "bias")} | _affine(layer)
    return own | {f"synthesis.to_image.{level - first}.{key}": value for key, value in to_image.items()}


def _conv(layer: Module, up: bool, side: int) -> dict[str, Tensor]:
    _check_filter(layer)
    _expect(layer, "activation", "lrelu")
    weight = _tensor(layer, "weight")
    noisy = _plain(layer, "use_noise") is not False
    return {
        # Where it enlarges, theirs is applied transposed; ours is correlated with the enlarged map.
        "weight": weight.flip(2, 3) if up else weight,
        "bias": _tensor(layer, "bias"),
        "noise_strength": _tensor(layer, "noise_strength") if noisy else torch.zeros(()),
        "noise": _tensor(layer, "noise_const")[None, None] if noisy else torch.zeros(1, 1, side, side),
    } | _affine(layer)


def _affine(layer: Module) -> dict[str, Tensor]:
    affine = _child(layer, "affine")
    _expect(affine, "activation", "linear")
    return {f"affine.{name}": _tensor(affine, name) for name in ("weight", "bias")}


def _blocks(synthesis: Module) -> list[Module]:
    names = [f"b{4 * 2**i}" for i in range(len(_modules(synthesis)))]
    if len(names) > MOST_LEVELS:
        raise Refused(f"{NOT_OURS}: {len(names)} resolutions")
    return [_child(synthesis, name) for name in names]


def _numbered(module: Module, prefix: str) -> list[Module]:
    count = sum(str(name).startswith(prefix) for name in _modules(module))
    return [_child(module, f"{prefix}{i}") for i in range(count)]


def _modules(module: Module) -> dict[str, Any]:
    found = module.state.get("_modules")
    return found if isinstance(found, dict) else {}


def _child(module: Module, name: str) -> Module:
    found = _modules(module).get(name)
    if not isinstance(found, Module):
        raise Refused(f"{NOT_OURS}: {module.class_name} has no {name}")
    return found


def _tensor(module: Module, name: str) -> Tensor:
    """A parameter or a buffer: frozen layers hold their weights as buffers."""
    for kind in ("_parameters", "_buffers"):
        held = module.state.get(kind)
        found = held.get(name) if isinstance(held, dict) else None
        if isinstance(found, Tensor):
            return found.float()
    raise Refused(f"{NOT_OURS}: {module.class_name} has no {name}")


def _plain(module: Module, name: str) -> str | int | float | None:
    """An attribute; nothing that could be nested is compared or shown."""
    found = module.state.get(name)
    if isinstance(found, str):
        return printable(found)
    if not isinstance(found, int | float | None):
        raise Refused(f"{NOT_OURS}: {module.class_name} has another kind of {name}")
    return found


def _expect(module: Module, name: str, value: str) -> None:
    found = _plain(module, name)
    if found != value:
        raise Refused(f"{NOT_OURS}: {module.class_name} has {name} {found}, expected {value}")


def _check_filter(module: Module) -> None:
    if not is_blur(_tensor(module, "resample_filter")):
        raise Refused(f"{NOT_OURS}: {module.class_name} filters with another kernel than [1, 3, 3, 1]")
