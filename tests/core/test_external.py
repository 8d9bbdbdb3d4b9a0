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
from medlat.core.external import Culprit, Fitting, ONNXFile, TorchScriptFile, first_line, last_line
from medlat.core.trial import tried

CULPRIT = Culprit(SimpleNamespace(config_keys=Keys("some")), "path", "net.pt")


def fitting(size=None, channels=None, low=-1.0, high=1.0, batch=2):
    return Fitting(CULPRIT, size, channels, low, high, batch)


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


def test_range_channels_and_size():
    images = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    fitted = fitting(size=2, channels=3, low=0.0, high=255.0)(images)
    assert fitted.shape == (3, 3, 2, 2)
    assert torch.allclose(fitted[:, :, 0, 0], torch.tensor([[0.0], [127.5], [255.0]]).expand(3, 3), atol=1e-4)
    assert torch.equal(fitting()(images), images)


def test_parts_are_in_order_and_no_larger_than_the_batch():
    images = torch.arange(5.0).reshape(5, 1, 1, 1)
    parts = list(fitting().batches(images))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat(parts), images)


def test_gradients_pass_the_fitting():
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    fitting(size=2, channels=3, low=0.0, high=10.0)(images).sum().backward()
    assert images.grad.sum() == pytest.approx(3 * 4 * 5.0), "three channels, 2x2 pixels, half the range"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"some\.size: 0, expected a whole number of at least 1"),
        ({"channels": -1}, r"some\.channels: -1, expected"),
        ({"batch": 0}, r"some\.batch: 0, expected"),
        ({"low": 1.0}, r"some\.low: 1, high: 1, expected low below high"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(UserError, match=f"^{message}"):
        fitting(**arguments)


@pytest.mark.parametrize(("channels", "expected"), [(1, "1"), (4, "1 or 4")])
def test_channels_that_do_not_fit(channels, expected):
    message = rf"^some\.channels: {channels}, but the images have 3; expected {expected}$"
    with pytest.raises(UserError, match=message):
        fitting(channels=channels)(torch.zeros(1, 3, 4, 4))


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
        (lambda path: torch.save(Mean().state_dict(), path), r"a zip without constants\.pkl, code/\); expected what"),
        (lambda path: torch.save(Mean(), path), r"a zip without constants\.pkl, code/\)"),
        (
            lambda path: zip_of(path, "../../x", "\x1b[2J/code"),
            r"a zip without version, constants\.pkl, data\.pkl, code/",
        ),
        (lambda path: zip_of(path), "a zip without version"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "File is not a zip file"),
        (lambda path: path.write_text("not a network"), "File is not a zip file"),
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
