"""Several processes that train one generator: equal at the end, and as one process would have done it."""

import json
import os
import select
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from generators.gan import tiny
from torch import nn
from torch.multiprocessing import start_processes
from torch.multiprocessing.spawn import ProcessException

from medlat.core.digests import DamagedFile
from medlat.core.errors import UserError
from medlat.training.processes import end_with_parent, share_buffers, share_gradients, share_mean, user_error
from medlat.training.settings import Hardware

TWO = Hardware(accelerator="cpu", precision="32-true", devices=2, threads=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the started processes: the order of sums is the threads'
    yield
    torch.set_num_threads(before)


def test_a_process_alone_shares_nothing():
    network = nn.BatchNorm1d(2)
    network.weight.grad = torch.tensor([1.0, 2.0])
    share_gradients(network)
    share_buffers(network)
    assert network.weight.grad.tolist() == [1.0, 2.0]
    assert network.running_var.tolist() == [1.0, 1.0]
    value = torch.ones(3)
    assert share_mean(value) is value


def test_a_started_process_ends_with_its_parent():
    read, write = os.pipe()
    if (parent := os.fork()) == 0:
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            end_with_parent()
            os.write(write, b"ready")
        time.sleep(60)
        os._exit(1)
    os.close(write)
    assert os.read(read, 5) == b"ready"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert select.select([read], [], [], 30)[0], "the child still holds the pipe"
    assert os.read(read, 1) == b"", "nobody is left to write"


def test_a_user_error_of_another_process_is_found():
    trace = 'Traceback (most recent call last):\n  File "x.py"\nmedlat.core.errors.UserError: a=1: too\n'
    assert str(user_error(ProcessException(f"\n-- Process 1 terminated:\n{trace}more\n", 1, 1))) == "a=1: too\nmore"
    assert user_error(ProcessException("ValueError: a=1", 0, 1)) is None
    trace = f"Traceback\nmedlat.core.digests.DamagedFile: {DamagedFile(Path('a: b.npy'))}\n"
    damaged = user_error(ProcessException(trace, 1, 1))
    assert isinstance(damaged, DamagedFile)
    assert damaged.path == Path("a: b.npy")


@pytest.mark.slow
def test_two_processes_share_by_hand(tmp_path):
    start_processes(tiny.exchange, (tmp_path,), nprocs=2, start_method="spawn")
    left, right = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for found in (left, right):
        assert list(found["gradients"]) == ["0.weight", "0.bias", "1.weight", "1.bias"]
        for number, gradient in enumerate(found["gradients"].values()):
            assert torch.equal(gradient, torch.full_like(gradient, number + 5.0)), "the mean of n and n + 10"
        assert found["gradients"]["0.weight"].shape == (2, 2, 3, 3)
        assert found["buffers"]["1.running_mean"].tolist() == [0.5, 0.5]
        assert torch.equal(found["buffers"]["1.running_var"], torch.full((2,), 1.1)), "equal ones stay, bit for bit"
        assert found["buffers"]["1.num_batches_tracked"] == 7
        assert found["mean"].tolist() == [1.5, 4.5]


def witnessed(module, folder):
    folder.mkdir()
    module.witness = folder
    return module


def states(folder):
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny.stylegan2, tiny.dcgan])
def test_two_processes_end_equal_also_when_interrupted(store, tmp_path, threads, make):
    whole = tiny.run(witnessed(make(6), tmp_path / "witness"), store, tmp_path / "whole", TWO)
    state = {"digest": tiny.digest(whole), "world": 2, "threads": 1, "connected": False}
    assert states(tmp_path / "witness") == [state, state], "both have the weights that came back, and hung up"
    assert state["digest"] != tiny.digest(make(6))
    values = tiny.curves(tmp_path / "whole")
    assert len(values) == len({(name, step) for name, step, _ in values}), "written once"
    assert {step for name, step, _ in values if name == "train/discriminator"} == {4, 8, 12, 16, 20, 24}
    assert all(0.1 < value < 5.0 for name, _, value in values if name in ("train/discriminator", "train/generator"))
    assert sorted(tiny.grids(tmp_path / "whole")) == ["0000000012.npy", "0000000024.npy"]

    broken = make(6)
    broken.diverge = (3, 1)  # in the second process only
    with pytest.raises(UserError, match=r"diverged at step 4 of 6 .*learning_rate=0\.002"):
        tiny.run(broken, store, tmp_path / "again", TWO)
    assert sorted(path.name for path in (tmp_path / "again" / "progress").iterdir()) == [
        "000000004.ckpt",
        "000000006.ckpt",
    ]
    again = tiny.run(make(6), store, tmp_path / "again", TWO)
    assert tiny.digest(again) == state["digest"]
    assert tiny.curves(tmp_path / "again") == values
    assert tiny.grids(tmp_path / "again") == tiny.grids(tmp_path / "whole")


@pytest.mark.slow
def test_an_autoencoder_in_two_processes_ends_equal_also_when_interrupted(store, tmp_path, threads):
    whole = tiny.run(witnessed(tiny.dae(6), tmp_path / "witness"), store, tmp_path / "whole", TWO)
    left, right = states(tmp_path / "witness")
    assert left["digest"] == right["digest"]
    assert tiny.digest(whole) != tiny.digest(tiny.dae(6))
    assert left["world"] == 2
    alone = tiny.run(tiny.dae(6), store, tmp_path / "alone", replace(TWO, devices=1))
    assert tiny.digest(alone) != tiny.digest(whole), "each process draws its own noise"

    broken = tiny.dae(6)
    broken.diverge = (3, 1)  # in the second process only
    with pytest.raises(UserError, match=r"diverged at step 3 of 6 .*learning_rate=0\.001"):
        tiny.run(broken, store, tmp_path / "again", TWO)
    again = tiny.run(tiny.dae(6), store, tmp_path / "again", TWO)
    assert tiny.digest(again) == tiny.digest(whole)
    assert tiny.curves(tmp_path / "again") == tiny.curves(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_do_what_one_does(store, tmp_path, threads):
    """Of a GAN that draws nothing by process: the same weights but for rounding."""
    one = tiny.run(tiny.ToyGAN(3), store, tmp_path / "one").state_dict()
    two = tiny.run(tiny.ToyGAN(3), store, tmp_path / "two", TWO).state_dict()
    assert one.keys() == two.keys()
    for name in ("signs", "augment_p"):  # sums of one process and of the average one
        del one[name], two[name]
    for name, weights in one.items():
        assert torch.allclose(weights, two[name], rtol=1e-4, atol=1e-5), name
    for (name, step, value), (other, at, found) in zip(
        *map(tiny.curves, (tmp_path / "one", tmp_path / "two")), strict=True
    ):
        assert (name, step) == (other, at)
        assert found == pytest.approx(value, rel=1e-3, abs=1e-5), name
