"""What a run says about itself: config.yaml, environment.json, artifacts.json, and the metrics of its tracker."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import medlat
from medlat import build
from medlat.tracking import Tracker

if TYPE_CHECKING:
    from medlat.pipeline import Plan

LIBRARIES = ("torch", "pytorch-lightning", "monai", "hydra-core", "numpy", "scipy", "wandb")


@contextmanager
def recorded(config: DictConfig, folder: Path, plan: "Plan") -> Iterator[Tracker]:
    """The tracker of a run. What the run is goes to the folder at once; what it made and measured at the end, whatever
    the end is.
    """
    resolved = build.plain(config)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(resolved)))
    (folder / "environment.json").write_text(json.dumps(environment(config, plan), indent=2) + "\n")
    tracker = Tracker(folder, resolved["logger"], resolved, config.name)
    exit_code = 1
    try:
        yield tracker
        exit_code = 0
    finally:
        (folder / "artifacts.json").write_text(json.dumps(_artifacts(plan), indent=2) + "\n")
        tracker.close(exit_code)


def environment(config: DictConfig, plan: "Plan") -> dict[str, Any]:
    """Versions, commit, device, seed, command, what this job of a sweep was given, and a fingerprint of the data."""
    hardware = build.hardware(config)
    return {
        "medlat": medlat.__version__,
        "commit": commit(),
        "command": " ".join(["python -m medlat.run", *sys.argv[1:]]),
        "overrides": list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [],
        "seed": config.seed,
        "device": str(hardware.device),
        "precision": hardware.lightning_precision(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "data_fingerprint": plan.source.fingerprint(),
    }


def commit() -> str | None:
    """The commit of the checkout that runs, with "+" where files differ from it; None where it is installed from a
    wheel.
    """
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _artifacts(plan: "Plan") -> dict[str, dict[str, str]]:
    return {name: {"key": a.key, "path": os.path.relpath(a.path, plan.store.root)} for name, a in plan.made.items()}
