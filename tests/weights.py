"""A small file of every format that medlat reads networks and its own artifacts from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from damage import Format
from generators.imported.foreign_files import random_state, rosinality_state, write_nvidia, write_rosinality
from onnx import helper

from medlat.classifiers.networks import ResNet
from medlat.classifiers.trained import load
from medlat.core.checkpoints import save_generator
from medlat.core.external import Culprit, ONNXFile, TorchScriptFile
from medlat.core.spaces import ImageSpec
from medlat.core.store import Recipe, Store
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.generators.imported.convert import Pretrained
from medlat.generators.vae.networks import VAE
from medlat.phantoms.ct.source import CTPhantom
from medlat.training.checkpoints import AtomicCheckpoints, last_checkpoint

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 1.0)
LARGER = replace(SPEC, height=32, width=32)
CULPRIT = Culprit(None, "path", "bad")
SLICES = Recipe("images", {}, {})


def _nvidia(root: Path) -> Path:
    return write_nvidia(root / "bad.pkl", random_state())


def _rosinality(root: Path) -> Path:
    return write_rosinality(root / "bad.pt", rosinality_state(random_state(channels=3)))


def _vae(root: Path) -> Path:
    recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 2, "capacity": 4}
    save_generator(root / "bad.safetensors", VAE(LARGER, 2, 4), recipe, LARGER)
    return root / "bad.safetensors"


def _classifier(root: Path) -> Path:
    recipe = {"_target_": "medlat.classifiers.networks.ResNet", "task": "binary", "classes": ["a", "b"], "width": 8}
    network = ResNet(SPEC, "binary", ["a", "b"], width=8)
    save_generator(root / "bad.safetensors", network, recipe, SPEC)
    return root / "bad.safetensors"


def _onnx(root: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 16, 16]) for name in "xy")
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 1, 3, 3], np.ones(9, np.float32))
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"], pads=[1, 1, 1, 1]), helper.make_node("Sigmoid", ["z"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weight]), ir_version=8)
    onnx.save(model, root / "bad.onnx")
    return root / "bad.onnx"


def _torchscript(root: Path) -> Path:
    torch.jit.script(torch.nn.Conv2d(1, 1, 3)).save(str(root / "bad.pt"))
    return root / "bad.pt"


def _checkpoint(root: Path) -> Path:
    torch.save({"state_dict": {"a": torch.ones(20)}, "global_step": 3, "optimizer_states": [{"b": 1}]}, root / "3.ckpt")
    return root


def _store(root: Path) -> Path:
    Store(root).make(SLICES, _slices)
    return root


def _slices(folder: Path) -> None:
    prepare(CTPhantom(2, 2, 16), Preparation(16, None, 0.0, "salt", 1), folder)


def _convert(path: Path, out: Path) -> None:
    images = {".pkl": SPEC, ".pt": replace(SPEC, channels=3), ".safetensors": LARGER}[path.suffix]
    Pretrained(str(path)).convert(images, out / "generator")


def _continue(progress: Path, out: Path) -> None:
    if (path := last_checkpoint(progress)) is not None:
        AtomicCheckpoints().load_checkpoint(path)


def _reused(root: Path, out: Path) -> None:
    """What is damaged is made anew, or refused when it is read, and never believed."""
    opened = ImageStore.open(Store(root).make(SLICES, _slices).path)
    found = opened.images[np.arange(len(opened))]
    _slices(out)
    expected = ImageStore.open(out)
    assert np.array_equal(found, expected.images[np.arange(4)]), "damaged images are believed"
    assert (opened.patients, opened.columns.keys()) == (expected.patients, expected.columns.keys())


WEIGHTS = {
    "nvidia_pkl": Format(_convert, _nvidia, "bad.pkl", alone=True),
    "rosinality_pt": Format(_convert, _rosinality, "bad.pt", alone=True),
    "generator": Format(_convert, _vae, "bad.safetensors", alone=True),
    "classifier": Format(lambda path, out: load(path), _classifier, "bad.safetensors", alone=True),
    "onnx": Format(lambda path, out: ONNXFile(path, CULPRIT)(torch.zeros(2, 1, 16, 16)), _onnx, "bad.onnx", alone=True),
    "torchscript": Format(lambda path, out: TorchScriptFile(path, CULPRIT), _torchscript, "bad.pt", alone=True),
    "checkpoint": Format(_continue, _checkpoint, "3.ckpt", alone=True),
    **{
        f"store_{name.partition('.')[0]}": Format(_reused, _store, f"images/{SLICES.key}/{name}", alone=True)
        for name in ("images.npy", "index.npz", "slices.json", "artifact.json")
    },
}
