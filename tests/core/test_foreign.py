"""What files are that were taken for networks."""

import pickle
import zipfile

import pytest
import torch

from medlat.core.foreign import what_it_is

JIT = "torch.jit.script"


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.layer(x)


class Opens:
    """It would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def lightning(path):
    """As Lightning writes it, its callbacks' states and hyper-parameters among it."""
    content = {"epoch": 3, "pytorch-lightning_version": "2.5.0", "state_dict": Net().state_dict(), "callbacks": {}}
    torch.save(content | {"hyper_parameters": {"loss": torch.nn.BCELoss()}}, path)


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


def onnx_file(path):
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph), path)


def safetensors(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize(
    ("write", "what", "right"),
    [
        (lambda p: torch.save(Net().state_dict(), p), "a state dict: weights without their network", JIT),
        (lambda p: torch.save({"model": Net().state_dict(), "epoch": 3}, p), "a state dict", JIT),
        (lambda p: torch.save(Net(), p), "a pickled object (", JIT),
        (lambda p: torch.save(Net(), p, pickle_protocol=4), "a pickled object (", JIT),
        (lambda p: torch.save(Net(), p, _use_new_zipfile_serialization=False), "a pickle, which could", JIT),
        (lambda p: p.write_bytes(pickle.dumps(Opens(p.with_name("ran")))), "a pickle, which could run", JIT),
        (lambda p: torch.save({"x": Opens(p.with_name("ran"))}, p), "a pickled object (", JIT),
        (lightning, "a Lightning checkpoint: weights without their network", "to_torchscript(FILE)"),
        (lambda p: torch.jit.script(Net()).save(str(p)), "a TorchScript file", "`torchscript` in the place of `onnx`"),
        (onnx_file, "an ONNX file", "`onnx` in the place of `torchscript`"),
        (safetensors, "safetensors: weights without their network", JIT),
        (lambda p: zipped(p, "net/models/model.json", "net/version"), "a program of torch.export", JIT),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "an HDF5 file, as Keras saves", "ONNX"),
        (lambda p: p.write_bytes(b""), "an empty file", "download"),
        (lambda p: p.write_text("not a network"), "text", JIT),
        (lambda p: p.write_bytes(b"\x89PNG\r\n"), "a PNG image", "data=image_folder"),
        (lambda p: p.write_bytes(bytes(128) + b"DICM"), "a DICOM file", "data=radiographs"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(9)), "a damaged or truncated zip", "download"),
        (lambda p: zipped(p, "a/b.txt"), "a zip archive of 1 file", "unpack it"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid"), "a pointer of", "git lfs pull"),
    ],
)  # fmt: skip
def test_files_are_named_for_what_they_are(tmp_path, write, what, right):
    path = tmp_path / "net"
    write(path)
    found = what_it_is(path)
    assert found is not None
    assert found[0].startswith(what)
    assert right in found[1]
    assert not (tmp_path / "ran").exists(), "nothing in it is called"


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.write_bytes(bytes(9)),
        lambda p: zipped(p, "net/data.pkl"),  # that is no pickle
        lambda p: p.mkdir(),
    ],
)
def test_nothing_is_known_of_other_files(tmp_path, write):
    write(tmp_path / "net")
    assert what_it_is(tmp_path / "net") is None
    assert what_it_is(tmp_path / "absent") is None
