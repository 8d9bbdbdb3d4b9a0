"""Networks from files; what extractors and classifiers make of them is tested there."""

import os
import pickle
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medlat.core import trial
from medlat.core.errors import Keys, UserError
from medlat.core.external import Culprit, ONNXFile, TorchScriptFile, first_line, last_line
from medlat.core.trial import tried

CULPRIT = Culprit(SimpleNamespace(config_keys=Keys("some")), "path", "net.pt")


class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.gain * x.mean(dim=(2, 3))


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "net.pt"
    torch.jit.script(Mean()).save(str(path))
    return path


@pytest.mark.parametrize("kind", [TorchScriptFile, ONNXFile])
def test_a_missing_file_and_the_nearest_one(script, kind):
    with pytest.raises(UserError, match=r"^some\.path=net\.pt: no such file; did you mean '.*/net\.pt'\?$"):
        kind(script.with_name("nett.pt"), CULPRIT)
    with pytest.raises(UserError, match=r"no such file$"):
        kind(Path("/nowhere/net.pt"), CULPRIT)


def test_gradients_of_a_script_are_in_the_images_only(script):
    network = TorchScriptFile(script, CULPRIT)
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    network(images).sum().backward()
    assert torch.equal(images.grad, torch.full((1, 1, 2, 2), 0.5))
    assert not network(images.detach()).requires_grad


def test_first_and_last_line():
    error = ValueError("\n one\ntwo \n\n")
    assert (first_line(error), last_line(error)) == ("one", "two")
    assert first_line(KeyError()) == last_line(KeyError()) == "KeyError"


def test_a_script_that_fails_says_on_what(script):
    with pytest.raises(UserError, match=r"^some\.path=net\.pt: the network fails on images \[2, 3\] \("):
        TorchScriptFile(script, CULPRIT)(torch.zeros(2, 3))
    assert np.allclose(TorchScriptFile(script, CULPRIT)(torch.ones(2, 3, 4, 4)), 2.0)


# --- files that are programs ------------------------------------------------------------------------------------------


def test_a_script_is_loaded_at_its_first_call(script, monkeypatch):
    network = TorchScriptFile(script, CULPRIT)
    with torch.inference_mode():  # as features do; gradients can be taken all the same
        network(torch.zeros(1, 1, 2, 2))
    elsewhere = pickle.loads(pickle.dumps(network))
    assert torch.equal(elsewhere(torch.ones(1, 1, 2, 2)), torch.tensor([[2.0]]))
    monkeypatch.setattr(torch.jit, "load", None)
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    network(images).sum().backward()
    assert images.grad.sum() == 2.0
    TorchScriptFile(script, CULPRIT)
    with pytest.raises(UserError, match="not a TorchScript file"):
        TorchScriptFile(script, CULPRIT)(images)


def zip_of(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (
            lambda path: torch.save(Mean().state_dict(), path),
            r"a state dict: .*\); expected what torch\.jit",
        ),
        (lambda path: torch.save(Mean(), path), r"a pickled object \(.*test_external\.Mean\), which could run code"),
        (
            lambda path: zip_of(path, "../../x", "\x1b[2J/code"),
            r"a zip archive of 2 files\); unpack it",
        ),
        (lambda path: zip_of(path), "a zip archive of 0 files"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), r"a damaged or truncated zip archive\); download"),
        (lambda path: path.write_text("not a network"), r"text\); expected what torch\.jit"),
    ],
)
def test_files_that_are_no_scripts_are_told_by_their_contents(script, monkeypatch, make, why):
    make(script)
    monkeypatch.setattr(torch.jit, "load", None)
    with pytest.raises(UserError, match=rf"^some\.path=net\.pt: not a TorchScript file \({why}") as caught:
        TorchScriptFile(script, CULPRIT)
    assert str(caught.value).isprintable()


def test_a_script_that_is_damaged_inside_fails_at_its_call(tmp_path):
    zip_of(tmp_path / "net.pt", "net/version", "net/constants.pkl", "net/data.pkl", "net/code/__torch__.py")
    network = TorchScriptFile(tmp_path / "net.pt", CULPRIT)
    with pytest.raises(UserError, match=r"^some\.path=net\.pt: not a TorchScript file \("):
        network(torch.zeros(1, 1, 2, 2))


class Bare(torch.nn.Module):
    def forward(self, x):
        return torch.sigmoid(x.mean(dim=(2, 3)) + torch.linspace(-1.0, 1.0, 14))


def test_a_script_without_a_single_weight(tmp_path):
    """Its archive has the version elsewhere."""
    torch.jit.script(Bare()).save(str(tmp_path / "net.pt"))
    assert TorchScriptFile(tmp_path / "net.pt", CULPRIT)(torch.zeros(2, 1, 2, 2)).shape == (2, 14)


class OfAGPU(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3)) + torch.zeros(1, device="cuda:0")


def test_a_script_that_names_a_gpu_is_told_where_there_is_none(tmp_path):
    """As where it was traced there. One that has the name of a GPU and does not need it answers."""
    if torch.cuda.is_available():
        pytest.skip("there is one")
    torch.jit.script(OfAGPU()).save(str(tmp_path / "net.pt"))
    with pytest.raises(UserError, match=r"names the device cuda:0, as after tracing there: trace it on the CPU\)$"):
        TorchScriptFile(tmp_path / "net.pt", CULPRIT)(torch.zeros(1, 1, 2, 2))


# --- what an ONNX file says of its input ------------------------------------------------------------------------------


def declared(tmp_path, shape, element="FLOAT"):
    """A file whose input has these axes, which it returns."""
    pytest.importorskip("onnxruntime")
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    x, y = (helper.make_tensor_value_info(name, getattr(onnx.TensorProto, element), shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "net.onnx")
    return ONNXFile(tmp_path / "net.onnx", CULPRIT)


@pytest.mark.parametrize(
    ("shape", "element", "given", "layout", "dtype", "expected"),
    [
        (["N", 3, 64, 64], "FLOAT", (3, 64, 64), "NCHW", "float32", None),
        (["N", "C", "H", "W"], "FLOAT", (1, 64, 64), "NCHW", "float32", None),
        (["N", 64, 64, 1], "FLOAT", (64, 64, 1), "NHWC", "float32", None),
        (["N", 3, 64, 64], "FLOAT", (1, 64, 64), "NCHW", "float32", "some.channels=3"),
        (["N", 1, 224, 224], "FLOAT", (1, 64, 64), "NCHW", "float32", "some.size=224"),
        (["N", 64, 64, 1], "FLOAT", (1, 64, 64), "NCHW", "float32", "some.layout=NHWC"),
        (["N", "H", "W", 3], "FLOAT", (3, 64, 64), "NCHW", "float32", "some.layout=NHWC"),
        (["N", 1, 64, 64], "FLOAT", (64, 64, 1), "NHWC", "float32", "some.layout=NCHW"),
        (["N", 3, 64, 64], "FLOAT16", (3, 64, 64), "NCHW", "float32", "some.dtype=float16"),
        ([8, 224, 224, 3], "UINT8", (1, 64, 64), "NCHW", "float32",
         "some.layout=NHWC, some.channels=3, some.size=224, some.dtype=uint8"),
    ],
)  # fmt: skip
def test_an_onnx_file_says_what_it_takes(tmp_path, shape, element, given, layout, dtype, expected):
    network = declared(tmp_path, shape, element)
    if expected is None:
        network.check_input(given, layout, dtype)
        return
    with pytest.raises(UserError, match=rf"^some\.path=net\.pt: it takes .*; expected {expected}$"):
        network.check_input(given, layout, dtype)


def test_an_onnx_file_of_other_inputs(tmp_path):
    with pytest.raises(UserError, match=r"it takes images of 224x320; expected a network of square ones$"):
        declared(tmp_path, ["N", 3, 224, 320]).check_input((3, 64, 64), "NCHW", "float32")
    with pytest.raises(UserError, match=r"inputs are x tensor\(double\) .*; expected one of float32"):
        declared(tmp_path, ["N", 3, 8, 8], "DOUBLE")
    with pytest.raises(UserError, match=r"inputs are x tensor\(float\) \['N', 3\]; expected one of"):
        declared(tmp_path, ["N", 3])


# --- their trial ------------------------------------------------------------------------------------------------------


def test_a_trial_is_a_call_in_another_process(tmp_path, script):
    tried(CULPRIT, os.mkdir, str(tmp_path / "made"))
    assert (tmp_path / "made").is_dir()
    with pytest.raises(UserError, match=r"^some\.path=net\.pt: the network fails on images \[2, 3\] \("):
        tried(CULPRIT, TorchScriptFile(script, CULPRIT), torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="FileExistsError"):  # of a check, that is a mistake of ours
        tried(CULPRIT, os.mkdir, str(tmp_path / "made"))


def test_a_trial_that_never_ends_is_killed_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "LIMIT_S", 1.0)
    told = tmp_path / "pids"
    with pytest.raises(UserError, match=r"^some\.path=net\.pt: the network did not answer within 1 s "):
        tried(CULPRIT, os.system, f"sleep 600 & echo $$ $! > {told}; wait")
    pids = told.read_text().split()
    assert len(pids) == 2
    deadline = time.monotonic() + 10.0  # orphans are reaped by another process, in its own time
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.05)


def _runs(pid: str) -> bool:
    stat = Path("/proc", pid, "stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("check", "arguments", "how"),
    [
        (os.abort, (), "SIGABRT"),
        pytest.param(os._exit, (3,), "exit code 3", marks=pytest.mark.slow),
        pytest.param(os._exit, (0,), "exit code 0", marks=pytest.mark.slow),
    ],
)
def test_a_trial_that_dies(check, arguments, how):
    message = rf"^some\.path=net\.pt: the network ended the process that tried it on two made-up images \({how}\)$"
    with pytest.raises(UserError, match=message):
        tried(CULPRIT, check, *arguments)
