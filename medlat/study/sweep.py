"""A sweep: what is checked before any job is started, where its runs lie, and what becomes of each.

The runs of a sweep lie in one folder that depends on what was asked for, so that the same command finds the runs that
are finished, and makes those that failed, died or never began.
"""

import importlib.util
import json
import logging
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from medlat.core.errors import ConfigErrors, UserError, did_you_mean
from medlat.core.files import read_json, write_json
from medlat.core.store import hash_of, restrict
from medlat.core.terminal import complain
from medlat.core.version import __version__
from medlat.study import cluster
from medlat.study.collect import JOBS, has_ended
from medlat.study.conclusion import conclude

log = logging.getLogger(__name__)

# Sections that no training reads but that of a direction method. Values of theirs change slowest, so that jobs that are
# started side by side train different generators instead of waiting for the same one.
LATE = ("directions", "compared", "controls", "inversion", "explain", "evaluation", "report")
SEARCHED = ("hydra.sweeper.params", "hydra.sweeper.search_space", "hydra.sweeper.direction")
INSTALLS = {
    "hydra_optuna_sweeper": 'hydra-optuna-sweeper "sqlalchemy<2" "alembic<1.17"'
}  # where the name is not enough


@dataclass(frozen=True)
class Sweep:
    """What was prepared. overrides: in the order that Hydra gets them in; folder: None where only plans are printed;
    earlier: the SLURM jobs that other commands submitted for this folder, None where this one submits none.
    """

    overrides: list[str]
    folder: Path | None
    earlier: frozenset[str] | None = None

    def conclude(self) -> int:
        """Wait for the jobs that still run, gather the results and say what failed; returns the exit code."""
        if self.folder is None or not self.folder.is_dir():
            return 0
        (self.folder / "multirun.yaml").unlink(missing_ok=True)  # Hydra's; jobs.json says what it was
        if self.earlier is not None:
            wait_for_jobs(self.folder, submitted(self.folder) - self.earlier)
        for lock in self.folder.glob(".*.lock"):  # of runs in processes of this machine
            with FileLock(lock, fallback_to_soft=False):
                pass
        return conclude(self.folder)


def prepare(overrides: Sequence[str], config_dirs: Sequence[str]) -> Sweep | None:
    """Check all jobs of a sweep, and what is to start them, before anything is started or submitted. Returns None where
    there is nothing to start: of a search, a dry run is the plan of one run.

    Raises UserError: for everything that is wrong with a configuration, a launcher that is not installed, a store that
    cannot be written, and what SLURM cannot give.
    """
    from medlat.steps import checks
    from medlat.study import pipeline

    ordered = in_order(overrides)
    configs = _composed(ordered, config_dirs)
    _check(configs)
    first, hydra = configs[0], configs[0].hydra
    _check_plugin(hydra.launcher._target_, "hydra/launcher")
    _check_plugin(hydra.sweeper._target_, "hydra/sweeper")
    _check_search(hydra.sweeper, first.objective)
    slurm = hydra.launcher._target_.endswith("SlurmLauncher")
    if slurm:
        _check_cluster(hydra.launcher, configs)
    for config in configs:
        checks.check_values(config)
    if first.dry_run and _searches(hydra.sweeper):  # which runs there will be is not known
        print(pipeline.describe(pipeline.plan(first)))
        return None
    if first.dry_run:  # plans are printed here, whatever is to start the jobs, and where
        planned = [text for text in ordered if not text.lstrip("+~").startswith("hydra.launcher.")]
        here = ["hydra/launcher=basic", *(["trainer.accelerator=cpu"] if slurm else [])]
        return Sweep([*planned, *here], None)
    restrict(first.store_mode)
    pipeline.plan(first).context.store.check_writable()
    given = [text for text in ordered if text.startswith("hydra.sweep.dir=")]
    place = f"outputs/{first.name}/sweep_{_digest(ordered)}"
    folder = Path(hydra.sweep.dir) if given else Path(place)
    try:
        jobs = _note_jobs(folder, hydra.sweeper._target_, ordered)
        with FileLock(folder / ".probe.lock", fallback_to_soft=False):
            pass
    except OSError as error:
        raise UserError(
            f"hydra.sweep.dir={folder}: cannot be written, or has no file locks ({error.strerror}); set hydra.sweep.dir"
        ) from error
    runs = f"{jobs} run{'s' * (jobs != 1)}" if jobs else "runs"
    by = hydra.runtime.choices["hydra/launcher"]
    print(f"{folder}: {runs} by {by}; medlat collect {folder} says what there is so far", file=sys.stderr)
    added = [] if given else [f"hydra.sweep.dir={_quoted(place)}"]
    if _searches(hydra.sweeper):
        added += _goes_on(hydra.sweeper, first.name, folder, ordered)
    return Sweep([*ordered, *added], folder, submitted(folder) if slurm else None)


def in_order(overrides: Sequence[str]) -> list[str]:
    """The overrides, with sweeps over late sections before sweeps over others, as the last changes fastest. The order
    of sweeps does not depend on the one they were typed in, so that the same jobs have the same numbers.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    ranks = []
    for text in overrides:
        try:
            sweeps = OverridesParser.create().parse_override(text).is_sweep_override()
        except Exception:  # what cannot be read is said later, with everything else
            sweeps = False
        key = text.lstrip("+").split("=")[0]
        late = key.split(".")[0].split("/")[0].split("@")[0] in LATE
        ranks.append((0, "") if not sweeps else (1 if late else 2, key))
    return [text for _, text in sorted(zip(ranks, overrides, strict=True), key=lambda pair: pair[0])]


def run_job(config: DictConfig, folder: Path, overrides: list[str], run: Callable[[DictConfig, Path], None]) -> Any:
    """One job: `run` it in its folder unless it is finished there; returns its objective, None where it failed.

    What failed is recorded in the folder and said, and not raised, so that the other jobs go on. Ends the program where
    no run has such an objective: a search would be in vain.
    """
    from medlat.study.record import note_failure

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock"), fallback_to_soft=False):
        try:
            if _is_finished(folder, config):
                log.info("%s: finished earlier", folder)
            else:
                _empty(folder)
                run(config, folder)
        except Exception as error:
            note_failure(folder, error, overrides)
            complain(error, config.debug)
            return None
        return _objective(config, folder)


def _composed(overrides: Sequence[str], config_dirs: Sequence[str]) -> list[DictConfig]:
    from medlat.config import build, compose_errors
    from medlat.config.schema import Root

    try:
        return compose_errors.sweep_configs(overrides, config_dirs)
    except compose_errors.COMPOSITION_ERRORS as error:
        raise compose_errors.explain(error, overrides, config_dirs, Root, build.PROVIDED, multirun=True) from error


def _check(configs: Sequence[DictConfig]) -> None:
    from medlat.config import build
    from medlat.config.preflight import problems
    from medlat.config.schema import Root

    if found := [line for config in configs for line in problems(config, Root, build.PROVIDED)]:
        raise ConfigErrors(dict.fromkeys(found))


def _check_cluster(section: DictConfig, configs: Sequence[DictConfig]) -> None:
    launcher: Any = OmegaConf.to_container(section, resolve=True)
    known = cluster.partitions()
    for config in configs:
        cluster.check(launcher, config.trainer, known)
        config.trainer.accelerator = "cpu"  # this machine need not have the GPUs that the jobs will find
    cluster.watch_without_accounting()


def _check_plugin(target: str, key: str) -> None:
    package = target.split(".")[1] if target.startswith("hydra_plugins.") else None
    if package and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
        wanted = INSTALLS.get(package, package.replace("_", "-"))
        raise UserError(f"{key}: {package} is not installed; pip install {wanted}")


def _searches(sweeper: DictConfig) -> bool:
    return sweeper._target_.endswith("OptunaSweeper")


def _check_search(sweeper: DictConfig, objective: str | None) -> None:
    if _searches(sweeper) and objective is None:
        raise UserError(
            "objective=null: hydra/sweeper=optuna needs the final number that it is to make best; expected one of "
            "metrics.json, e.g. objective=semantics/sefa/factor_coverage"
        )


def _goes_on(sweeper: DictConfig, name: str, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Overrides that let a search go on where the command before it ended, unless its study is kept elsewhere."""
    added = []
    if sweeper.storage is None:
        added += [f"hydra.sweeper.storage={_quoted(f'sqlite:///{folder}/study.db')}"]
        added += [f"hydra.sweeper.study_name={_quoted(sweeper.study_name or name)}"]
    if not any(text.startswith("hydra.sweep.subdir=") for text in overrides):
        added += [f"hydra.sweep.subdir='{_next_command(folder)}-${{hydra.job.num}}'"]
    return added


def _quoted(value: str) -> str:
    """As Hydra reads any text."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _next_command(folder: Path) -> int:
    """Its number among the commands that went on with a search, which no other gets: trials of each begin with 0."""
    for number in count(1):
        with suppress(FileExistsError):
            (folder / f".command-{number}").touch(exist_ok=False)
            return number
    raise AssertionError("numbers do not end")


def _digest(overrides: Sequence[str]) -> str:
    """Of what is run, whatever runs it and in which order it was typed."""
    keys = [(text.lstrip("+~"), text) for text in overrides]
    return hash_of(sorted(t for key, t in keys if not key.startswith("hydra") or key.startswith(SEARCHED)))[:8]


def _note_jobs(folder: Path, sweeper: str, overrides: Sequence[str]) -> int | None:
    """Write down which jobs there will be, where that is known: one that never begins leaves nothing else. Returns how
    many.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    jobs = None
    if sweeper.endswith("BasicSweeper"):
        parsed = [o for o in OverridesParser.create().parse_overrides(list(overrides)) if not _is_hydras(o)]
        with suppress(HydraException):  # glob(...) is known to Hydra alone
            jobs = [list(job) for job in product(*{o.get_key_element(): _choices(o) for o in parsed}.values())]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JOBS, {"overrides": list(overrides), "jobs": jobs or None})
    return len(jobs) if jobs else None


def _choices(override: Any) -> list[str]:
    """The override of each job, in the order of Hydra's own sweeper."""
    key = override.get_key_element()
    swept = override.is_sweep_override()
    values = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
    return [f"{key}={value}" for value in values]


def _is_hydras(override: Any) -> bool:
    return override.is_hydra_override() or override.key_or_group.startswith("hydra/")


def _is_finished(folder: Path, config: DictConfig) -> bool:
    """Whether a folder holds the whole run of this configuration on these data, by this version of the program."""
    from medlat.steps import builders
    from medlat.study.record import public

    made = read_json(folder / "environment.json")
    if not has_ended(folder) or made is None:
        return False
    if made["medlat"] != __version__ or made["data_fingerprint"] != builders.source(config).fingerprint():
        return False
    return OmegaConf.load(folder / "config.yaml") == OmegaConf.create(public(config))


def _empty(folder: Path) -> None:
    """Away with what an earlier attempt left: what it made lies in the store."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _objective(config: DictConfig, folder: Path) -> Any:
    if config.objective is None or config.dry_run:
        return None
    numbers = json.loads((folder / "metrics.json").read_text())
    if config.objective not in numbers:
        near = did_you_mean(config.objective, numbers)
        print(f"medlat: objective={config.objective}: no final number of run {folder.name}{near}", file=sys.stderr)
        others = (read_json(path) or {} for path in folder.parent.glob("*/metrics.json"))
        if not any(config.objective in other for other in others):
            raise SystemExit(2)  # and no exception, which a sweeper takes for a trial that failed, and goes on
        return None
    return numbers[config.objective]


def submitted(folder: Path) -> frozenset[str]:
    """The ids of the jobs that submitit submitted for a sweep, e.g. "17_3" of an array."""
    ending = "_submitted.pkl"
    return frozenset(path.name.removesuffix(ending) for path in folder.glob(f".submitit/*/*{ending}"))


def wait_for_jobs(folder: Path, jobs: Collection[str]) -> None:
    """Until SLURM says of each that it has ended: Hydra stops waiting at the first one that died without a word."""
    from submitit.slurm.slurm import SlurmJob

    for name in jobs:
        SlurmJob(folder=folder / ".submitit" / "%j", job_id=name).wait()
