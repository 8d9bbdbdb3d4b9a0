"""The command line: `medlat run +experiment=NAME [key=value ...]`, or `python -m medlat.run`.

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
from medlat.core.errors import ConfigErrors, UserError
from medlat.core.terminal import complain, heard, printable
from medlat.core.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig


# Launchers' settings have defaults of ours, and of the plugin's under the same name, as they should; said in each job.
warnings.filterwarnings("ignore", message=r"\s*'hydra/\w+/\w+' is validated against ConfigStore schema")


def main() -> None:
    """`python -m medlat.run`; the console script is `medlat.__main__`, which knows other commands too."""
    sys.exit(heard(lambda: run(sys.argv[1:])))


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit code."""
    if "--version" in arguments:  # Hydra would say its own
        print(f"medlat {__version__}")
        return 0
    _Jobs.started, _Jobs.ended_by, _Jobs.error = 0, None, None
    _end_in_order()
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where `python -m` looks anyway: classes of the user's own may lie there
    debug = any(argument.lower() == "debug=true" for argument in arguments)
    try:
        from medlat.config.command_line import check_typed, ordered, parse, with_home

        arguments = with_home(arguments)
        options = parse(arguments)
        folders = [config_dir(), *filter(None, [options.config_dir])]
        if options.help:
            from medlat.config.help import help_text

            print(help_text(folders))
            return 0
        check_typed(options.overrides)
        sys.argv[1:] = ordered(arguments)
        return _sweep(options, folders) if options.multirun else _single(options, folders)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # `main` says whether it was ours
        raise
    except Exception as error:
        if _Jobs.ended_by is not None:  # code that an interrupt breaks into may make an error of its own of it
            return _interrupted()
        complain(error, debug)
        return 2 if isinstance(error, UserError) else 1


def _interrupted() -> int:
    number = signal.SIGINT if _Jobs.ended_by is None else _Jobs.ended_by
    print(f"medlat: interrupted by {signal.Signals(number).name}; the same command continues", file=sys.stderr)
    return 128 + number


def _single(options: Any, folders: list[str]) -> int:
    """Compose the configuration and run the job."""
    try:
        _hydra()
    except UserError:
        raise
    except Exception as error:
        if _Jobs.started:
            raise
        from medlat.config import build
        from medlat.config.compose_errors import explain
        from medlat.config.schema import Root

        try:
            raise explain(error, options.overrides, folders, Root, build.PROVIDED) from error
        except OSError as refused:  # of the run's folder, which Hydra makes
            raise UserError(
                f"hydra.run.dir={refused.filename}: cannot be made ({refused.strerror}); set hydra.run.dir=DIR to a "
                f"folder that can be written"
            ) from error
    if _Jobs.error is not None:
        raise _Jobs.error
    return 0


def _sweep(options: Any, folders: list[str]) -> int:
    """Check everything, run the jobs with Hydra's launcher, and gather what they left."""
    from medlat.study import sweep

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
        print(printable(f"medlat: {type(error).__name__}: {str(error).splitlines()[0]}"), file=sys.stderr)
        return 1
    return prepared.conclude()


def _hydra() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them and ending with 1
    import hydra

    hydra.main(config_path=config_dir(), config_name="config", version_base="1.3")(job)()


class _Jobs:
    """What became of the jobs that ran in this process."""

    started = 0  # above 0: Hydra could compose a configuration
    ended_by: int | None = None  # the signal that interrupted them
    error: Exception | None = None  # of a run by itself: Hydra would print its overrides before passing it on


def job(config: "DictConfig") -> Any:
    """One run: check the configuration, then print the plan or make everything. Of a sweep, the value that a search is
    for.
    """
    _Jobs.started += 1
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from medlat.config.compose_errors import with_replaced
    from medlat.core import machine
    from medlat.core.store import restrict

    hydra = HydraConfig.get()
    config = with_replaced(config, hydra.overrides.task)
    folder = Path(hydra.runtime.output_dir)
    alone = OmegaConf.is_missing(hydra.job, "num")
    try:
        restrict(config.store_mode if isinstance(config.store_mode, int) else None, folder)  # what else: said below
        if config.trainer.nodes > 1 and machine.node() > 0:
            return _follow(config, folder)
        if config.dry_run and not alone:
            print(f"job {hydra.job.num}: {' '.join(hydra.overrides.task)}")
        if config.dry_run:
            return _checked(config, folder)
        if alone:
            return _alone(config, folder)
        from medlat.study import sweep

        return sweep.run_job(config, folder, list(hydra.overrides.task), _checked)
    except Exception as error:
        if not alone:
            raise
        _Jobs.error = error
        return None
    finally:
        _remove_if_empty(folder)


def _alone(config: "DictConfig", folder: Path) -> None:
    """A run by itself, the only one in its folder."""
    from filelock import FileLock, Timeout

    from medlat.core.files import writing
    from medlat.study.collect import FAILURE

    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    with writing("hydra.run.dir", folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"hydra.run.dir={folder}: another run is at work in that folder; expected one of its own"
            ) from None
        (folder / FAILURE).unlink(missing_ok=True)  # of an earlier attempt
    try:
        _checked(config, folder)
    finally:
        (folder / ".lock").unlink(missing_ok=True)  # before another run can have it
        lock.release()


def _follow(config: "DictConfig", folder: Path) -> None:
    """What a node beside the first does. What fails is said as carefully as in the first, and not handed to SLURM."""
    from medlat.study import pipeline
    from medlat.study.record import failure

    try:
        pipeline.follow(config, folder)
    except Exception as error:
        error.noted = failure(error)  # type: ignore[attr-defined]
        complain(error, config.debug)
        raise SystemExit(1) from None


def _end_in_order() -> None:
    """Let the signals that ask a program to end do so as Ctrl-C does, with its records written, unless somebody listens
    already, or (`nohup`) had them ignored.
    """

    def end(number: int, _: Any) -> None:
        _Jobs.ended_by = number
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, end)


def _checked(config: "DictConfig", folder: Path) -> None:
    from medlat.config import build
    from medlat.config.preflight import problems
    from medlat.config.schema import Root
    from medlat.steps import checks

    found = problems(config, Root, build.PROVIDED)
    if any("=" not in line.partition(": ")[0] for line in found):  # more than numbers out of range: answered at once
        raise ConfigErrors(found)
    from medlat.study import pipeline

    checks.check_values(config, found, is_made=not config.dry_run and not found and pipeline.is_made(config))
    if config.dry_run:
        print(pipeline.describe(pipeline.plan(config)))
        return
    pipeline.plan(config).context.store.check_writable()
    checks.try_programs(config)
    pipeline.run(config, folder)


def _remove_if_empty(folder: Path) -> None:
    """A run that never began leaves no folder behind."""
    with contextlib.suppress(OSError):
        folder.rmdir()


if __name__ == "__main__":
    from medlat.run import main as imported  # launchers send `job` to other processes, where __main__ is another module

    imported()
