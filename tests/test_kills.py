"""A run that is killed again and again ends with the bytes of one that nobody disturbed."""

import json
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import CHEAP, QUICK, finish, once, start
from safetensors import safe_open

KILLS, PARTS = 20, 2
RESULTS = ("directions.safetensors", "metrics.json")
SETTINGS = (
    *("+experiment=histology_vae_linear", "scale=tiny", "logger=none", "inversion=hybrid", *QUICK),
    *("classifier.training.images=640", "generator.training.images=1600", "generator.training.checkpoint_every_s=0.5"),
    *("scale.codes=48", "scale.explained=4", "evaluation.regressor_steps=20"),
)


def whole(store) -> set:
    """The artifacts of a store; each is whole at every moment, whatever is being made beside it."""
    found = {path for path in store.glob("*/*") if not path.name.startswith(".")}
    for path in found:
        json.loads((path / "artifact.json").read_text())
        for file in path.glob("*.safetensors"):
            with safe_open(file, framework="np") as tensors:
                assert all(tensors.get_slice(name).get_shape() is not None for name in tensors.keys())  # noqa: SIM118
    return found


def calm_run(folder: Path) -> None:
    """A run that nobody disturbs."""
    finish(start(folder, *SETTINGS))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_twenty_kills_leave_no_trace(tmp_path, tmp_path_factory, part):
    """While it trains, inverts, searches and draws; whenever all artifacts are there, they are compared, and the next
    run begins anew. The kills of each part are spread over the whole time.
    """
    calm, folder = once("undisturbed", calm_run, tmp_path_factory), tmp_path / "disturbed"
    artifacts = whole(calm / "store")
    rng, reached = random.Random(part), []  # how many artifacts were whole at each kill
    kills = KILLS // PARTS
    targets = [int(len(artifacts) * (kill + rng.random()) / kills) for kill in range(kills)]  # that many, and it ends
    while len(reached) < kills:
        folder.mkdir(exist_ok=True)
        process = start(folder, *SETTINGS)
        later = rng.uniform(0.0, 2.0) * (len(reached) % 2)  # every other at once: short steps come in a burst
        if not ended_after(process, targets[len(reached)], later, folder / "store"):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            reached.append(len(whole(folder / "store")))
        if len(whole(folder / "store")) == len(artifacts):
            assert found(folder) == found(calm)
            shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    finish(start(folder, *SETTINGS))
    for name in RESULTS:
        assert (folder / "run" / name).read_bytes() == (calm / "run" / name).read_bytes(), name
    assert len(set(reached)) >= 4, reached


def found(folder):
    """The results that lie in the store, by their places there."""
    files = [path for name in RESULTS for path in (folder / "store").glob(f"*/*/{name}")]
    assert len(files) >= 5
    return {path.relative_to(folder): path.read_bytes() for path in files}


def ended_after(process, count, seconds, store):
    """Watch a run until it has left so many artifacts, and some seconds more; whether it ended by itself."""
    moment = math.inf
    while time.monotonic() < moment:
        if len(whole(store)) >= count and moment == math.inf:
            moment = time.monotonic() + seconds
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()
            return True
        time.sleep(0.02)
    return False


TRAINED = ("classifier", "generator", "encoder", "directions")
STEPS = ("images", "split", *TRAINED[:3], "inversion", "directions", "regressor", "measurements", "fidelity",
         "semantics", "evaluation", "audit", "explanation_by", "explanation")  # fmt: skip
EVERY = (
    *("+experiment=audit_confounder", "scale=tiny", "logger=none", *CHEAP, "generator=stylegan2"),
    *("directions=shift_reconstruction", "directions.images=1200", "+directions@compared.linear=linear"),
    *("inversion=hybrid", "inversion.encoder.training.images=640", "generator.training.images=160"),
    *("classifier.training.images=640", "scale.codes=48", "scale.explained=4", "evaluation.regressor_steps=20"),
    *(f"{part}.training.checkpoint_every_s=0.1" for part in ("generator", "classifier", "inversion.encoder")),
    "directions.checkpoint_every_s=0.1",
)


@pytest.mark.slow
def test_a_kill_in_every_step(tmp_path, monkeypatch):
    """One after the other in one folder: each run goes on from what the one before it left."""
    monkeypatch.setenv("MEDLAT_SALT", "the same in both stores")
    calm, folder = tmp_path / "undisturbed", tmp_path / "disturbed"
    for place in (calm, folder):
        place.mkdir()
    finish(start(calm, *EVERY))
    for step in STEPS:
        command = [sys.executable, Path(__file__).with_name("killed.py"), step, f"store={folder / 'store'}"]
        command += [f"hydra.run.dir={folder / 'run'}", *EVERY]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, (step, done.stderr)
        partials = list((folder / "store").glob(f"{step}/.*.partial"))
        assert len(partials) == 1, step
        assert bool(list(partials[0].glob("progress/*.ckpt"))) == (step in TRAINED), step
        whole(folder / "store")
    finish(start(folder, *EVERY))
    assert whole_bytes(folder) == whole_bytes(calm)


def whole_bytes(folder):
    """All that a store and a run hold, but logs and tables of times."""
    kept = (".safetensors", ".npy", ".json", ".npz", ".html")
    files = [path for path in folder.rglob("*") if path.suffix in kept and "/." not in str(path.relative_to(folder))]
    names = ("environment.json", "explanation.json", "artifact.json", "index.html")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name not in names}
    assert len(found) > 20
    return found
