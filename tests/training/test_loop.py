"""Training with Lightning: what it leaves, and that an interruption leaves no trace."""

import json
import os
import pickle
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from generators.gan import tiny

from medlat.classifiers.networks import ResNet
from medlat.classifiers.trained import Trained
from medlat.core.errors import UserError
from medlat.core.randomness import generator_for
from medlat.core.records import read_records
from medlat.generators.dae.module import DiffusionAutoencoderModule
from medlat.generators.dae.networks import DiffusionAutoencoder
from medlat.generators.gan.augmentation import CT, Adaptive
from medlat.generators.vae.module import ClassifierGuidedVAEModule, VAEModule
from medlat.generators.vae.networks import VAE
from medlat.generators.vae.objective import ClassifierGuidedObjective, VAEObjective
from medlat.training.interruption import SIGNALS
from medlat.training.loop import train
from medlat.training.optimisation import Optimisation
from medlat.training.settings import Hardware, Schedule, cpu_has_bf16

STEPS = 7  # validated after 3 and 6
MIXED = pytest.param("bf16-mixed", marks=pytest.mark.skipif(not cpu_has_bf16(), reason="the CPU has no bf16"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.store(tmp_path_factory.mktemp("store"))


def vae(steps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VAE(tiny.SPEC, latent_dim=4, capacity=4, stem_stride=1)
    return VAEModule(network, 5, steps, VAEObjective(), Optimisation())


# --- interruptions ----------------------------------------------------------------------------------------------------


def interrupted(module, store, folder, hardware, **where):
    for name, value in where.items():
        setattr(module, name, value)
    with pytest.raises(tiny.Stopped):
        tiny.run(module, store, folder, hardware, validations=2)
    assert (folder / "progress").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", MIXED])
@pytest.mark.parametrize("make", [tiny.stylegan2, tiny.dcgan, tiny.explaining])
def test_an_interrupted_training_ends_as_if_it_never_had_been(store, tmp_path, make, precision):
    hardware = Hardware(accelerator="cpu", precision=precision)
    whole = tiny.run(make(STEPS), store, tmp_path / "whole", hardware, validations=2)
    assert tiny.digest(whole) != tiny.digest(make(STEPS))
    places = [{"stop_at": step} for step in range(1, STEPS)] + [{"stop_validation": step} for step in (3, 6)]
    for number, where in enumerate(places):
        folder = tmp_path / str(number)
        interrupted(make(STEPS), store, folder, hardware, **where)
        module = tiny.run(make(STEPS), store, folder, hardware, validations=2)
        assert tiny.digest(module) == tiny.digest(whole), where
        assert tiny.curves(folder) == tiny.curves(tmp_path / "whole"), where
        assert tiny.grids(folder) == tiny.grids(tmp_path / "whole"), where


class Stopping:
    stop_at = None

    def training_step(self, images, batch_idx):
        if self.global_step == self.stop_at:
            raise tiny.Stopped
        return super().training_step(images, batch_idx)


class StoppingGuided(Stopping, ClassifierGuidedVAEModule):
    pass


def explaining(steps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VAE(tiny.SPEC, latent_dim=4, capacity=4, stem_stride=1)
        classifier = Trained(ResNet(tiny.SPEC, "binary", ["no", "yes"], width=8))
    return StoppingGuided(network, classifier, 5, steps, ClassifierGuidedObjective, Optimisation())


class StoppingAutoencoder(Stopping, DiffusionAutoencoderModule):
    pass


def autoencoding(steps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DiffusionAutoencoder(tiny.SPEC, latent_dim=4, widths=[16], encoder_capacity=4, steps=1)
    return StoppingAutoencoder(network, 5, steps, Optimisation())


@pytest.mark.parametrize(
    ("make", "term"), [(explaining, "train/prediction"), (autoencoding, "validation/psnr")], ids=["guided", "dae"]
)
def test_an_interrupted_training_of_an_autoencoder_ends_as_if_it_never_had_been(store, tmp_path, make, term):
    whole = tiny.run(make(STEPS), store, tmp_path / "whole", tiny.CPU, validations=2)
    assert {term, "train/loss"} <= {name for name, _, _ in tiny.curves(tmp_path / "whole")}
    interrupted(make(STEPS), store, tmp_path / "again", tiny.CPU, stop_at=4)
    module = tiny.run(make(STEPS), store, tmp_path / "again", tiny.CPU, validations=2)
    assert tiny.digest(module) == tiny.digest(whole)
    assert tiny.curves(tmp_path / "again") == tiny.curves(tmp_path / "whole")
    assert tiny.grids(tmp_path / "again") == tiny.grids(tmp_path / "whole")


@pytest.mark.parametrize(
    ("make", "precision"),
    [
        (tiny.stylegan2, "32-true"),
        (tiny.dcgan, "32-true"),
        pytest.param(tiny.explaining, *MIXED.values, marks=MIXED.marks),
    ],
)
def test_interrupted_three_times_and_killed_while_writing(store, tmp_path, make, precision):
    hardware = Hardware(accelerator="cpu", precision=precision)
    whole = tiny.run(make(STEPS), store, tmp_path / "whole", hardware, validations=2)
    assert tiny.digest(whole) != tiny.digest(make(STEPS))
    for where in ({"stop_at": 2}, {"stop_validation": 3}, {"stop_at": 5}):
        interrupted(make(STEPS), store, tmp_path / "again", hardware, **where)
    (tmp_path / "again" / "progress" / ".000000012.ckpt.new").write_bytes(b"half")
    with open(tmp_path / "again" / "metrics.jsonl", "a") as file:
        file.write('{"name": "train/genera')
    module = tiny.run(make(STEPS), store, tmp_path / "again", hardware, validations=2)
    assert tiny.digest(module) == tiny.digest(whole)
    assert tiny.curves(tmp_path / "again") == tiny.curves(tmp_path / "whole")
    assert tiny.grids(tmp_path / "again") == tiny.grids(tmp_path / "whole")


def test_everything_that_moves_is_resumed(store, tmp_path):
    """The tests above compare something: every state differs from its beginning when the training is interrupted."""
    module = tiny.stylegan2(STEPS)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    interrupted(module, store, tmp_path, tiny.CPU, stop_at=3)
    checkpoint = torch.load(tmp_path / "progress" / "000000006.ckpt", weights_only=True)
    state = checkpoint["state_dict"]
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, before[name])}
    assert {"augment_p", "signs", "path_mean", "network.w_mean", "averaged.w_mean"} <= moved
    assert {n for n in set(state) - moved if not n.endswith("noise")} == set(), "all but the fixed noise"
    assert set(checkpoint["latest"]) == {"discriminator", "generator", "r1", "path_length", "augment_p"}
    weights = [len(list(network.parameters())) for network in (module.network, module.discriminator)]
    assert [len(s["state"]) for s in checkpoint["optimizer_states"]] == weights


# --- what it leaves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny.stylegan2, tiny.dcgan, vae])
def test_a_grid_is_what_the_result_makes_of_fixed_codes(store, tmp_path, make):
    module = tiny.run(make(4), store, tmp_path, validations=2)
    grids = {path.name: np.load(path) for path in (tmp_path / "grid").iterdir()}
    assert sorted(grids) == ["0000000008.npy", "0000000016.npy"]
    model = module.result.eval()
    space = next(iter(model.spaces))
    with torch.no_grad():
        expected = model.decode(model.sample(36, space, generator_for("fixed grid")), space)
    assert np.array_equal(grids["0000000016.npy"], expected.half().numpy())
    assert not np.array_equal(grids["0000000008.npy"], grids["0000000016.npy"])


def test_every_value_is_recorded_and_reported(store, tmp_path):
    reported = []
    tiny.run(tiny.stylegan2(4), store, tmp_path, validations=1, report=reported.extend)
    written = read_records(tmp_path / "metrics.jsonl")
    assert [(r.name, r.step, r.value) for r in reported] == [(r.name, r.step, r.value) for r in written]
    steps = {name: [r.step for r in written if r.name == name] for name in {r.name for r in written}}
    assert steps.pop("validation/patch_distance") == steps.pop("validation/spread") == [16]
    assert steps.pop("validation/discriminator_real") == [16]
    assert set(steps) == {f"train/{n}" for n in ("discriminator", "generator", "r1", "path_length", "augment_p")}
    assert all(found == [4, 8, 12, 16] for found in steps.values())


def test_checkpoints_come_by_the_clock(store, tmp_path):
    for every_s, names in ((0.0, ["000000006.ckpt", "000000008.ckpt"]), (1000.0, [])):
        module = tiny.dcgan(6)
        module.stop_at = 4
        with pytest.raises(tiny.Stopped):
            tiny.run(module, store, tmp_path / str(every_s), every_s=every_s)
        assert sorted(p.name for p in (tmp_path / str(every_s)).glob("progress/*")) == names


def test_without_held_out_images_there_is_no_validation(store, tmp_path):
    data = tiny.slices(store, 4)
    data.split = type(data.split)(data.split.train, data.split.validation[:0], data.split.test)
    train(tiny.dcgan(4), data, Schedule(16, 4, 0.0, 2), tiny.CPU, tmp_path, lambda records: None)
    assert {name for name, _, _ in tiny.curves(tmp_path)} == {"train/discriminator", "train/generator"}


def cut(content):
    return content[:1000]


def flipped(content):
    """One bit of a weight, which torch.load would not see."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def blank(content):
    """A page that never reached the disk."""
    return content[:4096] + bytes(4096) + content[8192:]


@pytest.mark.parametrize("damage", [cut, flipped, blank])
@pytest.mark.parametrize("damaged", [("000000008.ckpt",), ("000000008.ckpt", "000000006.ckpt")])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(store, tmp_path, caplog, damaged, damage):
    whole = tiny.run(tiny.dcgan(6), store, tmp_path / "whole", validations=2)
    interrupted(tiny.dcgan(6), store, tmp_path / "again", tiny.CPU, stop_at=4)
    for name in damaged:
        path = tmp_path / "again" / "progress" / name
        path.write_bytes(damage(path.read_bytes()))
    module = tiny.run(tiny.dcgan(6), store, tmp_path / "again", validations=2)
    assert [name for name in damaged if f"{name} is damaged" in caplog.text] == list(damaged)
    assert tiny.digest(module) == tiny.digest(whole)
    assert tiny.curves(tmp_path / "again") == tiny.curves(tmp_path / "whole")


def test_a_checkpoint_that_cannot_be_read_now_is_kept(store, tmp_path):
    """A disk that does not answer says nothing about what is on it."""
    interrupted(tiny.dcgan(6), store, tmp_path, tiny.CPU, stop_at=4)
    path = tmp_path / "progress" / "000000008.ckpt"
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        tiny.run(tiny.dcgan(6), store, tmp_path)
    path.rmdir()
    path.write_bytes(content)
    tiny.run(tiny.dcgan(6), store, tmp_path, validations=2)


def test_a_checkpoint_that_holds_code_is_refused(store, tmp_path):
    interrupted(tiny.dcgan(6), store, tmp_path, tiny.CPU, stop_at=4)
    torch.save({"state_dict": Path}, tmp_path / "progress" / "000000008.ckpt")
    with pytest.raises(UserError, match=r"000000008\.ckpt: damaged checkpoint, or one that holds more than tensors"):
        tiny.run(tiny.dcgan(6), store, tmp_path)


# --- signals ----------------------------------------------------------------------------------------------------------


def signalled(module, step, number):
    """The module, which sends this process a signal in the middle of a step."""
    inner = module.training_step

    def training_step(batch, batch_idx):
        if module.steps_done == step:
            os.kill(os.getpid(), number)
        return inner(batch, batch_idx)

    module.training_step = training_step
    return module


@pytest.fixture
def handler():
    """What a launcher does at a signal; the test sets `handler.does`."""
    seen = SimpleNamespace(numbers=[], does=lambda: None)

    def handle(number, frame):
        seen.numbers.append(number)
        seen.does()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    yield seen
    for number, old in before.items():
        assert signal.getsignal(number) is handle, "as it was before the training"
        signal.signal(number, old)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_training_once_it_is_saved(store, tmp_path, handler, number):
    whole = tiny.run(tiny.dcgan(6), store, tmp_path / "whole", validations=2)
    handler.does = partial(sys.exit, -1)  # as submitit does when the job is queued again
    with pytest.raises(SystemExit, match="-1"):
        tiny.run(signalled(tiny.dcgan(6), 3, number), store, tmp_path / "again", validations=2, every_s=1000.0)
    assert handler.numbers == [number]
    names = [path.name for path in (tmp_path / "again" / "progress").iterdir()]
    assert names == ["000000008.ckpt"], "at the end of the fourth step, of two optimisers"
    module = tiny.run(tiny.dcgan(6), store, tmp_path / "again", validations=2)
    assert tiny.digest(module) == tiny.digest(whole)
    assert tiny.curves(tmp_path / "again") == tiny.curves(tmp_path / "whole")


def test_a_signal_that_nobody_minds_changes_nothing(store, tmp_path, handler):
    whole = tiny.run(tiny.dcgan(6), store, tmp_path / "whole", validations=2)
    module = signalled(tiny.dcgan(6), 3, signal.SIGTERM)
    again = tiny.run(module, store, tmp_path / "again", validations=2, every_s=1000.0)
    assert handler.numbers == [signal.SIGTERM]
    assert tiny.digest(again) == tiny.digest(whole)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_refused(store, tmp_path):
    two = Hardware(accelerator="cpu", precision="32-true", devices=2)
    with pytest.raises(UserError, match=r"devices=2: VAEModule trains in one process"):
        tiny.run(vae(2), store, tmp_path, two)
    with pytest.raises(UserError, match=r"batch_size=5: expected a multiple of devices=2"):
        tiny.run(tiny.dcgan(2), store, tmp_path, two, batch=5)
    with pytest.raises(UserError, match=r"compile=true: VAEModule does not use torch\.compile"):
        tiny.run(vae(2), store, tmp_path, Hardware(accelerator="cpu", compile=True))
    module = tiny.dcgan(2, augmentation=Adaptive(CT(), initial=0.5))
    module.network.image = type(tiny.SPEC)(1, 16, 16, 0.0, 1.0, "1", 1.0)
    with pytest.raises(UserError, match=r"CT: expected images in HU"):
        tiny.run(module, store, tmp_path)
    assert not list(tmp_path.glob("progress/*"))


def test_a_store_is_sent_to_another_process_by_its_place(store):
    sent = pickle.dumps(store)
    assert len(sent) < 500
    received = pickle.loads(sent)
    assert isinstance(received.images, np.memmap)
    assert np.array_equal(received.images, store.images)
    assert received.columns.keys() == store.columns.keys()


def test_a_cluster_s_environment_is_left_alone(store, tmp_path, monkeypatch):
    """A batch job of one task may start several processes itself."""
    for name, value in {"SLURM_NTASKS": "3", "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert tiny.run(tiny.dcgan(1), store, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_train_alike(store, tmp_path):
    """Three steps with both penalties, whose second derivatives torch.compile does not have."""
    plain, compiled = (tiny.stylegan2(3, base=(8, 8), augmentation=None) for _ in range(2))
    names = list(plain.state_dict())
    tiny.run(plain, store, tmp_path / "plain", validations=1)
    tiny.run(compiled, store, tmp_path / "compiled", Hardware("cpu", "32-true", compile=True), validations=1)
    assert list(compiled.state_dict()) == names
    assert compiled.discriminator._compiled_call_impl is not None
    a, b = ({name: value for name, _, value in tiny.curves(tmp_path / k)} for k in ("plain", "compiled"))
    assert a.keys() == b.keys()
    assert {"train/r1", "train/path_length", "validation/patch_distance"} <= a.keys()
    assert all(b[name] == pytest.approx(value, rel=1e-3, abs=1e-5) for name, value in a.items())
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(compiled.state_dict()[name], tensor, atol=2e-3), name  # Adam turns rounding into steps


def test_records_are_json_lines(store, tmp_path):
    tiny.run(tiny.dcgan(2), store, tmp_path)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == {"name", "step", "value", "time"}


class Greedy(tiny.ToyGAN):
    def generate(self, n, generator):
        return super().generate(n, generator) + torch.empty(2**50)[0]


def test_a_batch_too_large_for_memory_says_what_to_lower(store, tmp_path):
    with pytest.raises(UserError, match=r"out of memory: lower batch_size=4, or raise .*accumulate=1"):
        tiny.run(Greedy(2), store, tmp_path / "run")
