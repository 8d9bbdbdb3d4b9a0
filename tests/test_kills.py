"""A run that is killed again and again ends with the bytes of one that nobody disturbed."""

import json
import random
import shutil
import signal
import time

import pytest
from safetensors import safe_open
from test_run import QUICK, finish, start

KILLS = 20
RESULTS = ("directions.safetensors", "metrics.json")
SETTINGS = (
    *("+experiment=histology_vae_linear", "scale=tiny", "logger=none", "inversion=hybrid", *QUICK),
    *("classifier.training.images=640", "generator.training.images=1600", "generator.training.checkpoint_every_s=0.5"),
    *("scale.codes=48", "scale.explained=4", "evaluation.regressor_steps=20"),
)


def whole(store) -> set:
    """The artefacts of a store; each is whole at every moment, whatever is being made beside it."""
    found = {path for path in store.glob("*/*") if not path.name.startswith(".")}
    for path in found:
        json.loads((path / "artifact.json").read_text())
        for file in path.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                assert all(tensors.get_slice(name).get_shape() is not None for name in tensors.keys())  # noqa: SIM118
    return found


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(tmp_path):
    """It trains, inverts and searches; a run that ends before its moment comes is compared, and the next one begins."""
    (tmp_path / "undisturbed").mkdir()
    began = time.monotonic()
    finish(start(tmp_path / "undisturbed", *SETTINGS))
    length = time.monotonic() - began
    expected = results(tmp_path / "undisturbed")

    rng, folder = random.Random(0), tmp_path / "disturbed"
    reached = []  # how many artefacts were whole at each kill
    while len(reached) < KILLS:
        folder.mkdir(exist_ok=True)
        process = start(folder, *SETTINGS)
        if ended_within(process, rng.uniform(0.0, length), folder / "store"):
            assert results(folder) == expected
            shutil.rmtree(folder)
            continue
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached.append(len(whole(folder / "store")))
    finish(start(folder, *SETTINGS))
    assert results(folder) == expected
    assert len(set(reached)) >= 3, reached


def results(folder):
    return [(folder / "run" / name).read_bytes() for name in RESULTS]


def ended_within(process, seconds, store):
    """Watch a run and what it leaves; whether it ended by itself."""
    moment = time.monotonic() + seconds
    while time.monotonic() < moment:
        whole(store)
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()
            return True
        time.sleep(0.02)
    return False
