"""What several tests need: tiny models, tiny data, and the command line in this process."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TINY, finish, once, start

from medlat.core.spaces import ImageSpec
from medlat.generators.vae.networks import VAE

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs, which stand beside this file, first: the short tests then fill up what each worker has left. Before
    all, what needs a run that tests share: when the other worker comes to it, it is there.
    """

    def place(item: pytest.Item) -> int:
        shared = [name in item.fixturenames for name in ("finished", "explained_once")]
        return shared.index(True) if any(shared) else 2 + (item.path.parent != Path(__file__).parent)

    items.sort(key=place)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the project; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(autouse=True)
def _on_a_terminal(monkeypatch):
    """pytest catches what is printed in files, and in files names of patients' files are left out."""
    monkeypatch.setattr("medlat.core.machine._is_file", lambda stream: False)


@pytest.fixture(autouse=True)
def _quiet_log():
    """A run in this process leaves the log telling more than it did, not to the tests after it; and never less."""
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("medlat").setLevel(logging.NOTSET)
    yield
    disabled, _ = logging.root.manager.disable, logging.disable(logging.NOTSET)
    assert disabled == logging.NOTSET, "the log was left disabled"


@pytest.fixture
def spec() -> ImageSpec:
    return ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)


@pytest.fixture
def vae(spec) -> VAE:
    torch.manual_seed(0)
    return VAE(spec, latent_dim=6, capacity=8).eval()


@pytest.fixture
def medlat(monkeypatch, tmp_path, capfd):
    """Run a command line in this process, store and runs below tmp_path: medlat("a=1", ...) -> (exit code, stdout,
    stderr).
    """

    def call(*arguments: str, store: str | None = None) -> tuple[int, str, str]:
        from hydra.core.global_hydra import GlobalHydra

        from medlat.run import run

        GlobalHydra.instance().clear()
        defaults = [f"store={store or tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}", "logger=none"]
        given = {argument.lstrip("+~").split("=")[0] for argument in arguments}
        full = [d for d in defaults if d.split("=")[0] not in given] + list(arguments)
        monkeypatch.setattr(sys, "argv", ["medlat", *full])
        code = run(full)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory) -> str:
    """A store that all tests of a session share: what several need (images, split, regressor) is made once.

    For tests that damage nothing in it, and do not ask what else is there.
    """
    return str(once("store", lambda folder: None, tmp_path_factory))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with the whole tiny run, made by a process of its own: `run/` and `store/`; nobody changes it."""
    return once("finished", lambda folder: finish(start(folder, *TINY)), tmp_path_factory)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
