"""Files as other repositories write them, and what their generators compute, both made here from the papers and the
layout of the files; nothing in it uses medlat's networks or its reading of these files.
"""

import argparse
import io
import math
import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

W_DIM, LAYERS = 12, 3
EMBEDDED = 5  # length of an embedded label
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8.0


def random_state(
    side: int = 16,
    channels: int = 1,
    base: int = 128,
    most: int = 16,
    seed: int = 0,
    architecture: str = "skip",
    labels: int = 0,
) -> dict[str, Tensor]:
    """Weights by NVIDIA's names, none at its initial value; scaled so that images keep to about [-1, 1]."""
    make = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=make) * scale

    state = {"mapping.w_avg": normal(W_DIM)}
    for i in range(LAYERS):
        inputs = W_DIM + (EMBEDDED if labels and i == 0 else 0)
        state |= {f"mapping.fc{i}.weight": normal(W_DIM, inputs, scale=100.0)}
        state |= {f"mapping.fc{i}.bias": normal(W_DIM, scale=30.0)}
    if labels:
        state |= {"mapping.embed.weight": normal(EMBEDDED, labels), "mapping.embed.bias": normal(EMBEDDED)}
    before = min(base // 4, most)
    state["synthesis.b4.const"] = normal(before, 4, 4)
    for res in [4 * 2**i for i in range(int(math.log2(side)) - 1)]:
        width = min(base // res, most)
        layers = {"conv1": (width, width, 3)} | ({} if res == 4 else {"conv0": (width, before, 3)})
        if architecture == "skip" or res == side:
            layers["torgb"] = (channels, width, 1)
        if architecture == "resnet" and res > 4:
            state[f"synthesis.b{res}.skip.weight"] = normal(width, before, 1, 1)
        for name, (outputs, inputs, kernel) in layers.items():
            at = f"synthesis.b{res}.{name}."
            state |= {f"{at}affine.weight": normal(inputs, W_DIM), f"{at}affine.bias": 1.0 + normal(inputs, scale=0.3)}
            state |= {f"{at}weight": normal(outputs, inputs, kernel, kernel), f"{at}bias": normal(outputs, scale=0.3)}
            if name == "torgb":
                state |= {f"{at}{x}": state[f"{at}{x}"] * 0.1 for x in ("weight", "bias")}
            else:
                state |= {f"{at}noise_const": normal(res, res), f"{at}noise_strength": normal(scale=0.5)}
        before = width
    return state


def zero_insert(x: Tensor) -> Tensor:
    large = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    large[:, :, ::2, ::2] = x
    return large


def fir(x: Tensor, before: int, after: int) -> Tensor:
    """[1, 3, 3, 1] in both directions with gain 4 behind zero padding."""
    kernel = (4.0 * torch.outer(TAPS, TAPS)).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool = False) -> Tensor:
    """Equations 1 and 3 of arXiv 1912.04958 with weights for each sample, by grouped convolution; where the resolution
    doubles: zeros inserted, filtered, then convolved (the kernel turned: no correlation).
    """
    n, size = len(x), weight.shape[-1]
    w = weight[None] * style[:, None, :, None, None]
    if demodulate:
        w = w / (w.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if up:
        x, w = fir(zero_insert(x), 3, 2), w.flip(3, 4)
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), w.flatten(0, 1), groups=n, padding=0 if up else size // 2)
    return y.reshape(n, -1, *y.shape[2:])


def images_of(
    state: dict[str, Tensor],
    z: Tensor,
    psi: float = 1.0,
    noise: bool = False,
    clamp: float = math.inf,
    label: int | None = None,
) -> Tensor:
    """What the generator of `state` makes of z, not clamped to [-1, 1]. label: of all of them, of a conditional one."""

    def linear(x: Tensor, name: str, rate: float = 1.0) -> Tensor:
        weight = state[f"{name}.weight"]
        return x @ weight.T * (rate / math.sqrt(weight.shape[1])) + rate * state[f"{name}.bias"]

    def unit(x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    w = unit(z)
    if label is not None:
        one_hot = F.one_hot(torch.tensor(label), state["mapping.embed.weight"].shape[1]).float()
        w = torch.cat([w, unit(linear(one_hot.expand(len(z), -1), "mapping.embed"))], dim=1)
    for i in range(LAYERS):
        w = math.sqrt(2.0) * F.leaky_relu(linear(w, f"mapping.fc{i}", 0.01), 0.2)
    w = state["mapping.w_avg"] + psi * (w - state["mapping.w_avg"])
    x, image = state["synthesis.b4.const"].expand(len(z), -1, -1, -1), None
    res = 4
    while f"synthesis.b{res}.conv1.weight" in state:
        entered, past = x, state.get(f"synthesis.b{res}.skip.weight")
        for name in ["conv1"] if res == 4 else ["conv0", "conv1"]:
            at = f"synthesis.b{res}.{name}"
            x = modulated(x, state[f"{at}.weight"], linear(w, f"{at}.affine"), True, up=name == "conv0")
            x = x + noise * state[f"{at}.noise_strength"] * state[f"{at}.noise_const"]
            x = math.sqrt(2.0) * F.leaky_relu(x + state[f"{at}.bias"][:, None, None], 0.2)
            x = x.clamp(-clamp, clamp)
        if past is not None:
            x = math.sqrt(0.5) * (F.conv2d(fir(zero_insert(entered), 2, 1), past / math.sqrt(past.shape[1])) + x)
        at = f"synthesis.b{res}.torgb"
        if f"{at}.weight" in state:
            weight = state[f"{at}.weight"]
            y = modulated(x, weight / math.sqrt(weight.shape[1]), linear(w, f"{at}.affine"), False)
            y = (y + state[f"{at}.bias"][:, None, None]).clamp(-clamp, clamp)
            image = y if image is None else fir(zero_insert(image), 2, 1) + y
        res *= 2
    assert image is not None
    return image


class Layer:
    """Pickles as a layer of NVIDIA's repositories does: a call of `torch_utils.persistence` with the source code, the
    name of the class and the attributes.
    """

    source = "raise RuntimeError('this code is never to be run')"

    def __init__(self, class_name: str, **attributes: object) -> None:
        self.class_name = class_name
        self.state = dict(vars(nn.Module())) | {"_init_args": (), "_init_kwargs": easy(w_dim=W_DIM)} | attributes
        self.state["_non_persistent_buffers_set"] = {"nothing"}

    def __reduce__(self) -> tuple:
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.class_name}
        return persistence()._reconstruct_persistent_obj, (meta | {"state": self.state},)

    def hold(self, path: str, tensor: Tensor) -> None:
        """Put a tensor at its dotted path below this layer."""
        child, _, rest = path.partition(".")
        if rest:
            self.state["_modules"][child].hold(rest, tensor)
        else:
            buffer = child in ("w_avg", "noise_const", "resample_filter")
            held = self.state["_buffers" if buffer else "_parameters"]
            held[child] = tensor if buffer else nn.Parameter(tensor, requires_grad=False)


def easy(**items: object) -> dict:
    return sys.modules["dnnlib.util"].EasyDict(items)  # type: ignore[attr-defined]


def persistence() -> types.ModuleType:
    return sys.modules["torch_utils.persistence"]


@contextmanager
def their_modules():
    """Modules of the names that files mention, while files are written."""
    names = ("dnnlib", "dnnlib.util", "torch_utils", "torch_utils.persistence")
    made = {name: types.ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta: dict) -> None:
        raise AssertionError("never called")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    made["dnnlib.util"].EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})  # type: ignore[attr-defined]
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def generator_layer(state: dict[str, Tensor], clamp: float | None = None, **changes: object) -> Layer:
    """The tree of layers around the weights. changes: attributes of the generator (c_dim) and of every block."""
    kernel = torch.outer(TAPS, TAPS)
    residual = "synthesis.b8.skip.weight" in state
    kind = "skip" if "synthesis.b4.torgb.weight" in state else "resnet" if residual else "orig"
    labels = state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0
    mapping = {f"fc{i}": Layer("FullyConnectedLayer", activation="lrelu", bias_gain=0.01) for i in range(LAYERS)}
    if labels:
        mapping["embed"] = Layer("FullyConnectedLayer", activation="linear", bias_gain=1, weight_gain=labels**-0.5)
    blocks = {}
    for res in [4 * 2**i for i in range(9) if f"synthesis.b{4 * 2**i}.conv1.weight" in state]:
        layers = {}
        if f"synthesis.b{res}.skip.weight" in state:
            layers["skip"] = Layer("Conv2dLayer", activation="linear", conv_clamp=None)
            layers["skip"].hold("resample_filter", kernel)
        for name in [x for x in ("conv0", "conv1", "torgb") if f"synthesis.b{res}.{x}.weight" in state]:
            affine = Layer("FullyConnectedLayer", activation="linear", bias_gain=1, weight_gain=np.float64(0.25))
            extra = {} if name == "torgb" else {"activation": "lrelu", "use_noise": True, "act_gain": np.sqrt(2.0)}
            layer = "ToRGBLayer" if name == "torgb" else "SynthesisLayer"
            layers[name] = Layer(layer, conv_clamp=clamp, _modules=OrderedDict(affine=affine), **extra)
            if name != "torgb":
                layers[name].hold("resample_filter", kernel)
        block = {"architecture": kind} | {k: v for k, v in changes.items() if k != "c_dim"}
        blocks[f"b{res}"] = Layer("SynthesisBlock", _modules=layers, **block)
        blocks[f"b{res}"].hold("resample_filter", kernel)
    parts = {
        "synthesis": Layer("SynthesisNetwork", _modules=blocks),
        "mapping": Layer("MappingNetwork", _modules=mapping),
    }
    generator = Layer("Generator", c_dim=changes.get("c_dim", labels), _modules=parts)
    for name, tensor in state.items():
        generator.hold(name, tensor)
    return generator


def write_nvidia(
    path: Path, state: dict[str, Tensor], protocol: int = 4, source: str = Layer.source, **options: object
) -> Path:
    """A snapshot as the StyleGAN2-ADA and StyleGAN3 repositories pickle it."""
    with their_modules():
        generator = generator_layer(state, **options)  # type: ignore[arg-type]
        Layer.source, before = source, Layer.source
        try:
            content = {"training_set_kwargs": easy(path="data.zip", max_size=None), "G": None, "G_ema": generator}
            path.write_bytes(pickle.dumps(content, protocol))
        finally:
            Layer.source = before
    return path


def write_alias_free(path: Path) -> Path:
    """A snapshot of a StyleGAN3: its synthesis begins with Fourier features."""
    with their_modules():
        synthesis = Layer("SynthesisNetwork", _modules={"input": Layer("SynthesisInput"), "L0_36_512": Layer("Layer")})
        parts = {"synthesis": synthesis, "mapping": Layer("MappingNetwork")}
        path.write_bytes(pickle.dumps({"G_ema": Layer("Generator", c_dim=0, _modules=parts)}))
    return path


def rosinality_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by the names of rosinality's repository (`Generator.state_dict()`)."""
    found = OrderedDict({"input.input": state["synthesis.b4.const"][None]})
    for i in range(LAYERS):
        found |= {f"style.{i + 1}.{x}": state[f"mapping.fc{i}.{x}"] for x in ("weight", "bias")}
    layers = {"b4.conv1": "conv1", "b4.torgb": "to_rgb1"}
    for level, res in enumerate((8, 16)):
        layers |= {f"b{res}.conv0": f"convs.{2 * level}", f"b{res}.conv1": f"convs.{2 * level + 1}"}
        layers |= {f"b{res}.torgb": f"to_rgbs.{level}"}
    for i, (theirs, name) in enumerate((a, b) for a, b in layers.items() if "conv" in a):
        at = f"synthesis.{theirs}."
        found |= {
            f"{name}.activate.bias": state[f"{at}bias"],
            f"{name}.noise.weight": state[f"{at}noise_strength"][None],
        }
        found |= {f"noises.noise_{i}": state[f"{at}noise_const"][None, None]}
    for theirs, name in layers.items():
        at = f"synthesis.{theirs}."
        found[f"{name}.conv.weight"] = state[f"{at}weight"][None]
        found |= {f"{name}.conv.modulation.{x}": state[f"{at}affine.{x}"] for x in ("weight", "bias")}
        if "torgb" in theirs:
            found[f"{name}.bias"] = state[f"{at}bias"][None, :, None, None]
        if theirs.endswith("conv0"):
            found[f"{name}.conv.blur.kernel"] = 4.0 * torch.outer(TAPS, TAPS)
    found._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return found


def write_rosinality(path: Path, state: dict[str, Tensor], legacy: bool = False, mean: Tensor | None = None) -> Path:
    """A checkpoint of rosinality's training, or with the mean w, as its converter writes it."""
    content: dict = {
        "g_ema": state,
        "g_optim": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": []},
    }
    content["args"] = argparse.Namespace(size=16, mixing=0.9, ckpt=None)
    if mean is not None:
        content["latent_avg"] = mean
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def storage_bytes(content: object) -> bytes:
    """What `torch.storage._load_from_bytes` is given."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()
