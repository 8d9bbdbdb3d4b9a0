"""What files are said to be, and the line that would use them."""

import io
import pickle

import numpy as np
import pytest
import torch
from generators.imported.brought_files import Halves, bundle, lightning, monai_network, zipped
from generators.imported.foreign_files import random_state, rosinality_state, write_nvidia, write_rosinality
from safetensors.torch import save_file
from torch import nn

from medlat.core.checkpoints import save_generator
from medlat.core.errors import UserError
from medlat.core.spaces import Directions, ImageSpec, LatentSpace
from medlat.generators.imported.convert import Pretrained
from medlat.generators.imported.identify import what_is
from medlat.generators.vae.networks import VAE

SPEC = ImageSpec(1, 16, 16, -1000.0, 2000.0, "HU", 1.0)
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


def onnx(folder):
    # ir_version 8, producer_name "pytorch": the first fields of a ModelProto
    return bytes_file(folder / "n.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.6.0" + bytes(40))


def pickled(folder, thing):
    return bytes_file(folder / "p.pkl", pickle.dumps(thing))


def nifti(folder):
    return bytes_file(folder / "v.nii", bytes(344) + b"n+1\x00" + bytes(200))


def array(folder, name="a.npy"):
    kept = io.BytesIO()
    (np.save if name.endswith("npy") else np.savez)(kept, np.zeros(3))
    return bytes_file(folder / name, kept.getvalue())


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
    "nvidia": (lambda f: write_nvidia(f / "n.pkl", random_state()), "nvidia", "use generator=pretrained"),
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
    "onnx": (onnx, "onnx", "a network in ONNX, which gives no gradients; no door for it; export"),
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
    "npy": (array, "other", "a NumPy array"),
    "bundle": (lambda f: bundle(f / "bundle"), "bundle", "use generator=monai generator.bundle="),
    "saved model": (saved_model, "folder", "a TensorFlow SavedModel"),
    "folder": (lambda f: (torch_file(f / "w.pt", STATE), f)[1], "folder", "w.pt'?"),
    "html": (lambda f: bytes_file(f / "w.pt", b"\n<!DOCTYPE html><html>"), "html", "a web page, as a download gives"),
    "lfs": (
        lambda f: bytes_file(f / "w.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "other",
        "a pointer of Git LFS, not the file itself; fetch the file: git lfs pull",
    ),
    "hdf5": (lambda f: bytes_file(f / "w.h5", b"\x89HDF\r\n\x1a\n" + bytes(9)), "other", "an HDF5 file, as Keras"),
    "png": (lambda f: bytes_file(f / "w.png", b"\x89PNG\r\n" + bytes(9)), "other", "a PNG image; images are data"),
    "dicom": (lambda f: bytes_file(f / "w", bytes(128) + b"DICM" + bytes(9)), "other", "a DICOM file"),
    "nifti": (nifti, "other", "a NIfTI volume"),
    "gzip": (lambda f: bytes_file(f / "w.gz", b"\x1f\x8b" + bytes(9)), "other", "a gzip archive; unpack"),
    "json": (lambda f: bytes_file(f / "c.json", b'{"a": 1}'), "other", "JSON text, without weights"),
    "code": (lambda f: bytes_file(f / "m.py", b"import torch\n"), "text", "a Python file is named generator=python"),
    "empty": (lambda f: bytes_file(f / "w.pt", b""), "empty", "an empty file; download the file again"),
    "noise": (lambda f: bytes_file(f / "w", bytes(range(7, 100)) + bytes(9)), "unknown", "not a file of weights"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_files_are(tmp_path, name):
    make, kind, sentence = FILES[name]
    path = make(tmp_path)
    found = what_is(path)
    assert found.name == kind
    assert sentence in found.sentence(path)
    if kind in ("medlat", "nvidia", "rosinality"):
        assert Pretrained(str(path)).kind == kind
    else:
        with pytest.raises(UserError) as caught:
            Pretrained(str(path))
        assert str(caught.value).startswith(f"generator.weights={path}: ")
        assert "g_ema" not in str(caught.value)


def test_nothing_is_imported_or_called(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trace"), "w"))

    for number, content in enumerate((Trap(), {"state_dict": STATE, "x": Trap()}, [Trap()])):
        path = torch_file(tmp_path / f"{number}.pt", content)
        what_is(path)
        what_is(pickled(tmp_path, content))
    assert not (tmp_path / "trace").exists()
