"""What a run says about itself: config.yaml, environment.json, artifacts.json, and the metrics of its tracker."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from medlat.config import build
from medlat.core import machine
from medlat.core.errors import UserError
from medlat.core.files import write_json, write_whole, writing
from medlat.core.store import hash_of
from medlat.core.version import PACKAGE, __version__
from medlat.steps import builders
from medlat.steps.step import Plan
from medlat.study.collect import FAILURE
from medlat.study.tracking import Tracker

READ_FILES = ("images", "split")  # steps that open the user's files
LIBRARIES = ("torch", "pytorch-lightning", "monai", "hydra-core", "numpy", "scipy", "wandb")


@contextmanager
def recorded(config: DictConfig, folder: Path, plan: Plan) -> Iterator[Tracker]:
    """The tracker of a run. What the run is goes to the folder at once; what it made and measured at the end, whatever
    the end is. Raises UserError where the folder's disk refuses what is written.
    """
    resolved = public(config)
    with writing("hydra.run.dir", folder):
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved)))
        write_json(folder / "environment.json", environment(config, plan))
        last = plan.steps[-1].name
        logger = None if config.logger is None else build.build(config.logger)
        tracker = Tracker(folder, logger, resolved, config.name, job_type=last, group=_sweep())
    try:
        with writing("hydra.run.dir", folder):
            yield tracker
            write_json(folder / "artifacts.json", _artifacts(plan))
            tracker.close()
    except BaseException as error:
        if isinstance(error, Exception):
            note_failure(folder, error, _overrides(), _in_the_making(plan))
        with suppress(OSError):  # the disk may be full: the error itself says so
            write_json(folder / "artifacts.json", _artifacts(plan))
        tracker.close(exit_code=1)
        raise


def note_failure(folder: Path, error: Exception, overrides: Sequence[str], step: str | None = None) -> None:
    """Write down why a run failed, and in which step (None: before the first), as far as the disk lets it; what is
    written already stays. `complain` says no more of the error where a file keeps it.
    """
    if not hasattr(error, "noted"):
        error.noted = failure(error, step)  # type: ignore[attr-defined]
    with suppress(OSError):
        if not (folder / FAILURE).exists():
            write_json(folder / FAILURE, error.noted | {"overrides": list(overrides)})  # type: ignore[attr-defined]


def failure(error: Exception, step: str | None = None) -> dict[str, Any]:
    """What may be kept of an error, and of where it came up."""
    where = f"in {step}" if step else "at the start"
    kind = UserError if isinstance(error, UserError) else type(error)
    return {"error": kind.__name__, "where": where, "reason": reason(error, step), "job": machine.job()}


def reason(error: Exception, step: str | None = None) -> str:
    """What may be kept of an error's message: nothing that a step says which reads the user's files, whose names may
    be patients'.
    """
    if step is not None and step not in READ_FILES:
        return str(error)
    return "not kept, as it may name patients' files; the run by itself, on a terminal, says it"


def public(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as it may be written and sent: of a secret its hash."""
    resolved = build.plain(config)
    if resolved["data"].get("salt"):
        resolved["data"]["salt"] = f"(hash {hash_of(resolved['data']['salt'])})"
    return resolved


def _overrides() -> list[str]:
    """What this job was given."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _sweep() -> str | None:
    """The name of the sweep that this run is a job of."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    return None if hydra is None or OmegaConf.is_missing(hydra.job, "num") else Path(hydra.sweep.dir).name


def _in_the_making(plan: Plan) -> str:
    """The first step that is not made."""
    return next((step.name for step in plan.steps if step.name not in plan.context.artifacts), "report")


def environment(config: DictConfig, plan: Plan) -> dict[str, Any]:
    """Versions, commit, device, seed, command, what this job of a sweep was given, and a fingerprint of the data."""
    hardware = builders.hardware(config)
    return {
        "medlat": __version__,
        "commit": commit(),
        "command": " ".join(["python -m medlat.run", *sys.argv[1:]]),
        "overrides": _overrides(),
        "job": machine.job(),
        "seed": config.seed,
        "device": str(hardware.device),
        "precision": hardware.lightning_precision(),
        "cores": machine.cores(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "data_fingerprint": plan.context.source.fingerprint(),
    }


def commit() -> str | None:
    """The commit of the checkout that runs, with "+" where files differ from it; None where it is installed from a
    wheel.
    """
    here = PACKAGE
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


def _artifacts(plan: Plan) -> dict[str, dict[str, str]]:
    """By step: its key and its path in the store; of directions also the method and its role."""
    root, roles = plan.context.store.root, {method.step: method for method in plan.context.methods}
    found: dict[str, dict[str, str]] = {}
    for name, artifact in plan.context.artifacts.items():
        found[name] = {"key": artifact.key, "path": os.path.relpath(artifact.path, root)}
        if name in roles:
            found[name] |= {"method": roles[name].name, "role": roles[name].role}
    return found
