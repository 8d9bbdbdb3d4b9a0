"""Whole runs, small: their settings, processes of their own, and folders that all tests of a session share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

TINY = ("+experiment=ct_vae_sefa", "scale=tiny")
FEW_FIGURES = ("report.gifs=0", "report.directions=1", "report.pdf=false")
NO_FIGURES = ("report=none",)  # of runs whose figures and page nobody opens
SHORT = ("generator.training.images=64", "evaluation.base_codes=4", "evaluation.samples=8")
QUICK = (*SHORT, *FEW_FIGURES)
CHEAP = (*SHORT, *NO_FIGURES)


def start(folder: Path, *arguments: str, **keywords) -> subprocess.Popen:
    """A run in a process of its own, its record in `run/` and its artifacts in `store/` below the folder."""
    places = [f"hydra.run.dir={folder / 'run'}", f"store={folder / 'store'}"]
    command = [sys.executable, "-m", "medlat", "run", *places, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, **keywords)


def finish(process: subprocess.Popen) -> str:
    """What a run that ends well said."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out + err


def once(name: str, make: Callable[[Path], object], tmp_path_factory) -> Path:
    """A folder that one test process fills with make(folder), and that all others of the session find whole."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, ready = base / f"shared_{name}", base / f"shared_{name}.ready"
    with FileLock(base / f"shared_{name}.lock"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed: the next says why, too
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


def linked(source: Path, place: Path) -> Path:
    """A copy of a folder by hard links. A file of it is damaged by `spoil`, which leaves the source as it is."""
    return Path(shutil.copytree(source, place, copy_function=os.link, ignore=shutil.ignore_patterns("*.lock")))


def spoil(path: Path, content: bytes) -> None:
    """Give one name of a file another content."""
    path.unlink()
    path.write_bytes(content)
