import pickle
import sys

import numpy as np
import pytest
import torch

from medlat.core.errors import UserError
from medlat.evaluation.features import ONNX, Features, Inception, RegressorFeatures, TorchScript, check
from medlat.evaluation.regressor import FactorRegressor

VALUES = (-1.0, 0.0, 1.0)


class Means(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


class Maps(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 4)


class Pair(torch.nn.Module):
    def forward(self, x):
        return x, x


class OneRow(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(0, 2, 3))[None]


class Root(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3)).sqrt()


class Colour(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))


def greys(side=8):
    """[3, 1, side, side] of the values -1, 0, 1."""
    return torch.stack([torch.full((1, side, side), v) for v in VALUES])


def scripted(tmp_path, module):
    path = tmp_path / "net.pt"
    torch.jit.script(module).save(str(path))
    return path


def test_range_and_channels(tmp_path):
    extractor = TorchScript("mine", scripted(tmp_path, Means()), channels=3, range=(0.0, 10.0))
    assert isinstance(extractor, Features)
    assert extractor.name == "mine"
    found = extractor(greys())
    assert found.dtype == np.float32
    assert np.allclose(found, [[0.0] * 3, [5.0] * 3, [10.0] * 3])
    assert np.allclose(TorchScript("mine", scripted(tmp_path, Means()))(greys()), np.array(VALUES)[:, None])


def test_size_is_met_by_an_antialiased_resize(tmp_path):
    """A chequerboard of single pixels becomes even grey; without antialias it would not."""
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1.0
    found = TorchScript("maps", scripted(tmp_path, Maps()), size=8)(board[None, None])
    assert found.shape == (1, 4), "a map [1, 1, 2, 2] is flattened"
    assert np.abs(found).max() < 0.1


def test_batches_change_nothing(tmp_path):
    images = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    path = scripted(tmp_path, Maps())
    assert np.array_equal(TorchScript("a", path, batch=3)(images), TorchScript("a", path, batch=100)(images))


def test_inception_takes_rgb_up_to_255(tmp_path):
    class Sides(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x.mean(dim=(2, 3)), torch.full((x.shape[0], 1), float(x.shape[3]))], dim=1)

    found = Inception(scripted(tmp_path, Sides()))(greys())
    assert np.allclose(found, [[v, v, v, 299.0] for v in (0.0, 127.5, 255.0)], atol=1e-3)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Pair(), "returns a tuple; expected one tensor"),
        (OneRow(), r"returns \[1, 1\] for 3 images; expected \[3, D\]"),
        (Root(), "NaN or infinite features for 1 of 3 images"),
        (Colour(), r"fails on images \[3, 1, 8, 8\]"),
    ],
)
def test_output_that_is_no_features(tmp_path, module, message):
    path = scripted(tmp_path, module)
    with pytest.raises(UserError, match=rf"^path={path}: .*{message}"):
        TorchScript("mine", path)(greys())


@pytest.mark.parametrize("kind", [TorchScript, ONNX])
def test_arguments_are_checked(tmp_path, kind):
    with pytest.raises(UserError, match=r"^path=/nowhere\.x: no such file"):
        kind("mine", "/nowhere.x")
    path = scripted(tmp_path, Means())
    for bad in ({"size": 0}, {"channels": 0}, {"batch": 0}, {"range": (1.0, 1.0)}):
        with pytest.raises(UserError, match=f"{next(iter(bad))}: "):
            kind("mine", path, **bad)


def test_images_with_other_channels(tmp_path):
    extractor = TorchScript("mine", scripted(tmp_path, Means()), channels=3)
    with pytest.raises(UserError, match="the images have 2; expected 1 or 3"):
        extractor(torch.zeros(1, 2, 8, 8))


def test_check_runs_it_on_images_of_the_data(tmp_path, spec):
    check(TorchScript("mine", scripted(tmp_path, Means())), spec)
    for module, message in ((Colour(), r"fails on images \[2, 1, 32, 32\]"), (OneRow(), r"expected \[2, D\]")):
        with pytest.raises(UserError, match=message):
            check(TorchScript("mine", scripted(tmp_path, module)), spec)


class Bomb:
    """What a hostile file holds: it would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["nonsense", "pickle", "zip"])
def test_other_files_are_refused_and_not_run(tmp_path, kind):
    path, trace = tmp_path / "x.pt", tmp_path / "ran"
    if kind == "zip":
        torch.save({"x": Bomb(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace)) if kind == "pickle" else b"nonsense")
    with pytest.raises(UserError, match=r"^path=.*x\.pt: not a TorchScript file"):
        Inception(path)
    assert not trace.exists()


def onnx_file(tmp_path, n="N", element="FLOAT", root=False):
    """The mean over each image's pixels, or its root."""
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx.helper")
    onnx = pytest.importorskip("onnx")
    dtype = getattr(onnx.TensorProto, element)
    x = helper.make_tensor_value_info("x", dtype, [n, "C", "H", "W"])
    y = helper.make_tensor_value_info("y", dtype, [n, "C", 1, 1])
    nodes = [helper.make_node("ReduceMean", ["x"], ["m" if root else "y"], axes=[2, 3])]
    nodes += [helper.make_node("Sqrt", ["m"], ["y"])] if root else []
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[opset], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("n", ["N", 1, 2])
def test_onnx(tmp_path, n):
    """n: what the file has for the number of images; a fixed one is the batch, the last batch filled up."""
    extractor = ONNX("mine", onnx_file(tmp_path, n), size=4, channels=3, range=(0.0, 1.0))
    assert isinstance(extractor, Features)
    found = extractor(greys())
    assert found.dtype == np.float32
    assert np.allclose(found, [[0.0] * 3, [0.5] * 3, [1.0] * 3])


def test_onnx_says_what_is_wrong(tmp_path):
    path = onnx_file(tmp_path, root=True)
    with pytest.raises(UserError, match="NaN or infinite features for 1 of 3 images"):
        ONNX("mine", path)(greys())
    with pytest.raises(UserError, match=r"inputs are x tensor\(double\) .*; expected one of float32"):
        ONNX("mine", onnx_file(tmp_path, element="DOUBLE"))
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=rf"^path={path}: not an ONNX file"):
        ONNX("mine", path)


def test_onnx_without_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="pip install onnxruntime"):
        ONNX("mine", tmp_path / "net.onnx")


def test_regressor_features(spec):
    torch.manual_seed(0)
    network = FactorRegressor(spec, ["a", "b"], width=4)
    images = torch.rand(5, *spec.shape) * 2 - 1
    extractor = RegressorFeatures(network, "labels", batch=2)
    assert isinstance(extractor, Features)
    found = extractor(images)
    assert found.shape == (5, 64)
    with torch.no_grad():
        assert np.allclose(found, network.features(images).numpy(), atol=1e-6)
        assert np.allclose(network(images)[:, 0], network.head(torch.tensor(found))[:, 0], atol=1e-6)
