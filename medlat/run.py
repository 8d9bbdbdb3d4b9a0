"""The command line: `python -m medlat.run +experiment=NAME [key=value ...]`.

Exit 0: done. Exit 2: the input or the configuration was wrong; one message says what. Exit 1: our fault, with a
        traceback.
"""

import contextlib
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlat.config.locate import config_dir
from medlat.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


# Launchers' settings have defaults of ours, and of the plugin's under the same name, as they should; said in each job.
warnings.filterwarnings("ignore", message=r"\s*'hydra/\w+/\w+' is validated against ConfigStore schema")


def main() -> None:
    """Console script `medlat` and `python -m medlat.run`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit code."""
    _Jobs.started, _Jobs.ended_by = 0, signal.SIGINT
    _end_in_order()
    try:
        from medlat.config.command_line import ordered, parse

        options = parse(arguments)
        folders = [config_dir(), *filter(None, [options.config_dir])]
        if options.help:
            from medlat.config.help import help_text

            print(help_text(folders))
            return 0
        sys.argv[1:] = ordered(arguments)
        return _sweep(options, folders) if options.multirun else _single(options, folders)
    except UserError as error:
        _complain(error, arguments)
        return 2
    except KeyboardInterrupt:
        print("medlat: interrupted; the same command continues", file=sys.stderr)
        return 128 + _Jobs.ended_by


def _single(options: Any, folders: list[str]) -> int:
    """Compose the configuration and run the job."""
    try:
        _hydra()
    except UserError:
        raise
    except Exception as error:
        if _Jobs.started:
            raise
        from medlat import build
        from medlat.config.compose_errors import explain
        from medlat.config.schema import Root

        raise explain(error, options.overrides, folders, Root, build.PROVIDED) from error
    return 0


def _sweep(options: Any, folders: list[str]) -> int:
    """Check everything, run the jobs with Hydra's launcher, and gather what they left."""
    from medlat import sweep

    prepared = sweep.prepare(options.overrides, folders)
    if prepared is None:
        return 0
    sys.argv[1:] = [a for a in sys.argv[1:] if a not in options.overrides] + prepared.overrides
    try:
        _hydra()
    except SystemExit:
        prepared.conclude()
        raise
    except Exception as error:  # of a job that died without a word, or of the launcher
        failed = prepared.conclude()
        if not failed:
            raise
        print(f"medlat: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return prepared.conclude()


def _hydra() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them and ending with 1
    import hydra

    hydra.main(config_path=config_dir(), config_name="config", version_base="1.3")(job)()


class _Jobs:
    """What became of the jobs that ran in this process."""

    started = 0  # above 0: Hydra could compose a configuration
    ended_by: int = signal.SIGINT  # the signal that interrupted them


def job(config: "DictConfig") -> Any:
    """One run: check the configuration, then print the plan or make everything. Of a sweep, the value that a search is
    for.
    """
    _Jobs.started += 1
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from medlat import cluster
    from medlat.store import restrict

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    restrict(config.store_mode, folder)
    if config.trainer.nodes > 1 and cluster.node() > 0:
        return _follow(config, folder)
    try:
        alone = OmegaConf.is_missing(hydra.job, "num")
        if config.dry_run and not alone:
            print(f"job {hydra.job.num}: {' '.join(hydra.overrides.task)}")
        if config.dry_run or alone:
            return _checked(config, folder)
        from medlat import sweep

        return sweep.run_job(config, folder, list(hydra.overrides.task), _checked)
    finally:
        _remove_if_empty(folder)


def _follow(config: "DictConfig", folder: Path) -> None:
    """What a node beside the first does. What fails is said as carefully as in the first, and not handed to SLURM."""
    from medlat import pipeline, sweep

    try:
        pipeline.follow(config, folder)
    except Exception as error:
        sweep.say(error, folder, config.debug)
        raise SystemExit(1) from None


def _end_in_order() -> None:
    """Let a SIGTERM end the program as Ctrl-C does, with its records written, unless somebody listens already."""

    def end(number: int, _: Any) -> None:
        _Jobs.ended_by = number
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def _checked(config: "DictConfig", folder: Path) -> None:
    from medlat import build
    from medlat.config.preflight import check
    from medlat.config.schema import Root

    check(config, Root, build.PROVIDED)
    from medlat import pipeline

    build.check_values(config)
    if config.dry_run:
        print(pipeline.describe(pipeline.plan(config)))
        return
    pipeline.plan(config).store.check_writable()
    pipeline.run(config, folder)


def _complain(error: UserError, arguments: list[str]) -> None:
    if any(argument.lower() == "debug=true" for argument in arguments):
        import traceback

        traceback.print_exception(error)
    print(f"medlat: {error}", file=sys.stderr)


def _remove_if_empty(folder: Path) -> None:
    """A run that never began leaves no folder behind."""
    with contextlib.suppress(OSError):
        folder.rmdir()


if __name__ == "__main__":
    from medlat.run import main as imported  # launchers send `job` to other processes, where __main__ is another module

    imported()
