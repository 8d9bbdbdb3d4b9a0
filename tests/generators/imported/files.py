"""A small file of each kind that people bring for a generator, right, wrong, damaged or hostile; what is said of it."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import onnx
import torch
from generators.imported.brought_files import Halves, bundle, lightning, monai_network, zipped
from generators.imported.foreign_files import (
    random_state,
    rosinality_state,
    write_alias_free,
    write_nvidia,
    write_rosinality,
)
from onnx import helper
from safetensors.torch import save_file
from torch import nn

from medlat.core.checkpoints import save_generator
from medlat.core.spaces import Directions, ImageSpec, LatentSpace
from medlat.generators.vae.networks import VAE

SPEC = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 1.0)
LUCIDRAINS = {  # names of `StyleGAN2.state_dict()` of github.com/lucidrains/stylegan2-pytorch
    f"{part}.{name}": torch.zeros(2, 2)
    for average in ("", "E")
    for part, names in {
        f"S{average}": ["net.0.weight"],
        f"G{average}": ["initial_conv.weight", "initial_block"],
    }.items()
    for name in names
}
STATE = {"layer.weight": torch.zeros(2, 2)}


def torch_file(path, content, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def bytes_file(path, content):
    path.write_bytes(content)
    return path


def own(folder):
    recipe = {"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 3, "capacity": 4, "stem_stride": 2}
    save_generator(folder / "g.safetensors", VAE(SPEC, 3, 4, stem_stride=2), recipe, SPEC)
    return folder / "g.safetensors"


def directions(folder):
    space = LatentSpace("z", (2,))
    Directions.ranked(torch.eye(2), torch.ones(2), "x", space).save(folder / "d.safetensors")
    return folder / "d.safetensors"


def plain_safetensors(folder, state=STATE):
    save_file(state, folder / "w.safetensors")
    return folder / "w.safetensors"


def script(folder):
    torch.jit.script(Halves()).save(str(folder / "s.pt"))
    return folder / "s.pt"


def monai(folder, name, legacy=False, prefix=""):
    state = {prefix + key: value for key, value in monai_network(name).state_dict().items()}
    return torch_file(folder / "m.pt", state, legacy)


def wrapped(folder):
    state = {f"vae.{key}": value for key, value in monai_network("AutoencoderKL").state_dict().items()}
    return lightning(folder, state)


def damaged_onnx(folder):
    # ir_version 8, producer_name "pytorch": the first fields of a ModelProto
    return bytes_file(folder / "n.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.6.0" + bytes(40))


def classifier(folder):
    """How bright an image is, in ONNX."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1])
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 3, 1, 1], [0.3, 0.3, 0.3])
    steps = (("GlobalAveragePool", "z", "a"), ("Flatten", "a", "b"), ("Sigmoid", "b", "y"))
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"])]
    nodes += [helper.make_node(kind, [before], [after]) for kind, before, after in steps]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weight]), ir_version=8, producer_name="pytorch")
    onnx.save(model, folder / "c.onnx")
    return folder / "c.onnx"


def pickled(folder, thing):
    return bytes_file(folder / "p.pkl", pickle.dumps(thing))


def nifti(folder):
    return bytes_file(folder / "v.nii", bytes(344) + b"n+1\x00" + bytes(200))


def array(folder, name="a.npy"):
    kept = io.BytesIO()
    (np.save if name.endswith("npy") else np.savez)(kept, np.zeros(3))
    return bytes_file(folder / name, kept.getvalue())


def trap(folder):
    """It would leave a file beside it."""

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {folder / 'trace'}",)

    return Trap()


def of_tensorflow(folder):
    return bytes_file(folder / "s.pkl", b"\x80\x02cdnnlib.tflib.network\nNetwork\n)\x81.")


def header(folder, length, content):
    return bytes_file(folder / "w.safetensors", struct.pack("<Q", length) + content)


def link_to_itself(folder):
    (folder / "w.pt").symlink_to(folder / "w.pt")
    return folder / "w.pt"


def pipe(folder):
    os.mkfifo(folder / "w.pt")
    return folder / "w.pt"


def unknown_class(folder):
    path = write_nvidia(folder / "n.pkl", random_state(32))
    return bytes_file(path, path.read_bytes().replace(b"\x8c\x09Generator", b"\x8c\x09Generatur"))


def without_average(folder):
    return pickled(folder, {"G": None, "D": None, "training_set_kwargs": None})


def packed_zeros(folder):
    with zipfile.ZipFile(folder / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/data.pkl", bytes(2**27))
    return folder / "b.pt"


def tensorflow_checkpoint(folder):
    (folder / "model").mkdir()
    for name in ("checkpoint", "model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001"):
        (folder / "model" / name).write_bytes(b"x")
    return folder / "model"


def diffusers(folder):
    (folder / "model").mkdir()
    (folder / "model" / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    return folder / "model"


def saved_model(folder):
    (folder / "model").mkdir()
    (folder / "model" / "saved_model.pb").touch()
    return folder / "model"


def halved(folder):
    path = torch_file(folder / "h.pt", {"w": torch.zeros(5000)})
    return bytes_file(path, path.read_bytes()[:9000])


FILES = {
    "medlat": (own, "medlat", "medlat's checkpoint of a medlat.generators.vae.networks.VAE; use generator=pretrained"),
    "directions": (directions, "other", "holds no network, but directions"),
    "nvidia": (lambda f: write_nvidia(f / "n.pkl", random_state(32)), "nvidia", "use generator=pretrained"),
    "rosinality": (
        lambda f: write_rosinality(f / "n.pt", rosinality_state(random_state())),
        "rosinality",
        "use generator=pretrained generator.weights=",
    ),
    "lucidrains": (
        lambda f: torch_file(f / "model_1.pt", {"GAN": LUCIDRAINS, "version": "1.9.0"}),
        "lucidrains",
        "a checkpoint of lucidrains' stylegan2-pytorch, whose network is another than NVIDIA's; "
        "use generator=python generator.function=package.module:function, a function that loads its SE and GE from ",
    ),
    "conditional": (
        lambda f: write_nvidia(f / "n.pkl", random_state(32, labels=3)),
        "nvidia",
        "use generator=pretrained",
    ),
    "residual": (
        lambda f: write_nvidia(f / "n.pkl", random_state(32, architecture="resnet")),
        "nvidia",
        "use generator=pretrained",
    ),
    "half precision": (
        lambda f: write_nvidia(f / "n.pkl", {name: x.half() for name, x in random_state(32).items()}),
        "nvidia",
        "use generator=pretrained",
    ),
    "not finite": (
        lambda f: write_nvidia(
            f / "n.pkl", random_state(32) | {"synthesis.b4.const": torch.full((16, 4, 4), torch.nan)}
        ),
        "nvidia",
        "use generator=pretrained",
    ),
    "StyleGAN3": (lambda f: write_alias_free(f / "n.pkl"), "nvidia", "use generator=pretrained"),
    "StyleGAN2 of TensorFlow": (of_tensorflow, "nvidia", "use generator=pretrained"),
    "unknown class": (unknown_class, "nvidia", "use generator=pretrained"),
    "no average": (without_average, "nvidia", "use generator=pretrained"),
    "rosinality without average": (
        lambda f: torch_file(f / "n.pt", {"g": STATE, "d": STATE}),
        "state",
        "a state dict, without a recipe",
    ),
    "program in a pickle": (lambda f: pickled(f, trap(f)), "nvidia", "use generator=pretrained"),
    "program in torch.save": (lambda f: torch_file(f / "p.pt", trap(f)), "module", "posix.system"),
    "program beside weights": (
        lambda f: torch_file(f / "p.pt", {"state_dict": STATE, "x": trap(f)}),
        "state",
        "a state dict, without a recipe",
    ),
    "safetensors": (plain_safetensors, "safetensors", "without a recipe of their network; use generator=python"),
    "state": (
        lambda f: torch_file(f / "s.pt", STATE),
        "state",
        "a state dict, without a recipe of its network; use gene",
    ),
    "legacy state": (
        lambda f: torch_file(f / "s.pt", STATE, True),
        "state",
        "generator.function=package.module:function",
    ),
    "nested": (lambda f: torch_file(f / "s.pt", {"model": STATE, "epoch": 3}), "state", "a state dict"),
    "optimiser": (
        lambda f: torch_file(
            f / "o.pt",
            torch.optim.Adam([nn.Parameter(torch.zeros(1))]).state_dict() | {"state": {0: {"x": torch.ones(1)}}},
        ),
        "optimiser",
        "the state of an optimiser",
    ),
    "lightning": (
        lambda f: lightning(f, STATE),
        "lightning",
        "a checkpoint of Lightning, with weights of layer.; use generator",
    ),
    "lightning of MONAI": (
        wrapped,
        "lightning",
        "(the weights of a MONAI AutoencoderKL); use generator=monai generator.network=AutoencoderKL",
    ),
    "AutoencoderKL": (
        lambda f: monai(f, "AutoencoderKL"),
        "state",
        "the weights of a MONAI AutoencoderKL; use generator=monai",
    ),
    "VQVAE": (
        lambda f: monai(f, "VQVAE", legacy=True),
        "state",
        "generator=monai generator.network=VQVAE generator.weights=",
    ),
    "VarAutoEncoder": (
        lambda f: monai(f, "VarAutoEncoder", prefix="module."),
        "state",
        "m.pt generator.prefix=module.",
    ),
    "torchscript": (script, "torchscript", "a TorchScript program; use generator=torchscript generator.path="),
    "whole module": (
        lambda f: torch_file(f / "m.pt", Halves()),
        "module",
        "a whole object (generators.imported.brought_files.Halves) pickled by torch.save, which would be run; save its",
    ),
    "pickled module": (lambda f: pickled(f, nn.Linear(1, 1)), "module", "torch.nn.modules.linear.Linear"),
    "tensor": (lambda f: torch_file(f / "t.pt", torch.zeros(3)), "other", "a file of torch.save that holds one tensor"),
    "numbers": (lambda f: torch_file(f / "t.pt", [1, 2]), "other", "holds no tensors by name"),
    "truncated": (halved, "damaged", "a damaged or truncated zip archive"),
    "classifier in ONNX": (classifier, "onnx", "a network in ONNX"),
    "damaged ONNX": (damaged_onnx, "onnx", "a network in ONNX, which gives no gradients; no door for it; export"),
    "images": (
        lambda f: zipped(f / "i.zip", "a/1.png", "a/2.PNG"),
        "zip",
        "a zip archive of 2 images; unpack it; images are",
    ),
    "other zip": (lambda f: zipped(f / "i.zip", "a/1.csv", "b"), "zip", "a zip archive of 2 files; unpack it"),
    "packed bundle": (
        lambda f: zipped(f / "b.zip", "b/configs/metadata.json"),
        "zip",
        "a MONAI bundle, packed; unpack",
    ),
    "keras": (lambda f: zipped(f / "k.keras", "config.json", "model.weights.h5"), "keras", "a Keras model"),
    "exported": (lambda f: zipped(f / "e.pt2", "e/archive_format", "e/x"), "pt2", "a program of torch.export"),
    "npz": (lambda f: array(f, "a.npz"), "npz", "NumPy arrays"),
    "npy": (array, "array", "a NumPy array"),
    "bundle": (lambda f: bundle(f / "bundle"), "bundle", "use generator=monai generator.bundle="),
    "saved model": (saved_model, "folder", "a TensorFlow SavedModel"),
    "folder": (lambda f: (torch_file(f / "w.pt", STATE), f)[1], "folder", "w.pt'?"),
    "html": (lambda f: bytes_file(f / "w.pt", b"\n<!DOCTYPE html><html>"), "page", "a web page, as a download gives"),
    "lfs": (
        lambda f: bytes_file(f / "w.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "pointer",
        "a pointer of Git LFS, not the file itself; fetch the file: git lfs pull",
    ),
    "hdf5": (lambda f: bytes_file(f / "w.h5", b"\x89HDF\r\n\x1a\n" + bytes(9)), "network", "an HDF5 file, as Keras"),
    "png": (lambda f: bytes_file(f / "w.png", b"\x89PNG\r\n" + bytes(9)), "image", "a PNG image; images are data"),
    "dicom": (lambda f: bytes_file(f / "w", bytes(128) + b"DICM" + bytes(9)), "slice", "a DICOM file"),
    "nifti": (nifti, "volume", "a NIfTI volume"),
    "gzip": (lambda f: bytes_file(f / "w.gz", b"\x1f\x8b" + bytes(9)), "archive", "a gzip archive; unpack"),
    "json": (lambda f: bytes_file(f / "c.json", b'{"a": 1}'), "settings", "JSON text, without weights"),
    "code": (lambda f: bytes_file(f / "m.py", b"import torch\n"), "text", "a Python file is named generator=python"),
    "empty": (lambda f: bytes_file(f / "w.pt", b""), "empty", "an empty file; download the file again"),
    "one byte": (lambda f: bytes_file(f / "w.pt", b"P"), "text", "text"),
    "picture as weights": (lambda f: bytes_file(f / "w.pt", b"\x89PNG\r\n" + bytes(9)), "image", "a PNG image"),
    "header too long": (lambda f: header(f, 2**40, b"{}"), "damaged", "a damaged safetensors file"),
    "header of no JSON": (lambda f: header(f, 8, b'{"a": [[['), "damaged", "a damaged safetensors file"),
    "packed zeros": (packed_zeros, "torch", "cannot be read"),
    "scikit-learn": (
        lambda f: bytes_file(f / "m.pkl", b"\x80\x02csklearn.svm._classes\nSVC\n)\x81."),
        "pickle",
        "scikit",
    ),
    "checkpoint of TensorFlow": (tensorflow_checkpoint, "folder", "a checkpoint of TensorFlow; no door for it; export"),
    "diffusers": (diffusers, "folder", "a diffusers model; use generator=python"),
    "link to itself": (link_to_itself, "link", "a link that leads nowhere"),
    "pipe": (pipe, "device", "no file, but a device or a pipe"),
    "noise": (lambda f: bytes_file(f / "w", bytes(range(7, 100)) + bytes(9)), "unknown", "not a file of weights"),
}

FUNCTIONS = {  # names of Python functions, and what is said of them
    "nowhere:make": "no module 'nowhere'",
    "medlat.run": 'expected "package.module:function"',
    "medlat.run:mainn": "did you mean 'main'?",
    "generator.pt:make": "no module 'generator'",
}
