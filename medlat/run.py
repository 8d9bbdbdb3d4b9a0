"""The command line: `python -m medlat.run +experiment=NAME [key=value ...]`.

Exit 0: done. Exit 2: the input or the configuration was wrong; one message says what. Exit 1: our fault, with a
        traceback.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlat.config.locate import config_dir
from medlat.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Console script `medlat` and `python -m medlat.run`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit code."""
    _Jobs.started = _Jobs.refused = 0
    try:
        from medlat.config.command_line import ordered, parse

        options = parse(arguments)
        if options.help:
            from medlat.config.help import help_text

            print(help_text([config_dir(), *filter(None, [options.config_dir])]))
            return 0
        sys.argv[1:] = ordered(arguments)
        _hydra(options)
    except UserError as error:
        _complain(error, arguments)
        return 2
    except KeyboardInterrupt:
        print("medlat: interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    return 2 if _Jobs.refused else 0


def _hydra(options: Any) -> None:
    """Compose the configuration and run the job, or the jobs of a sweep."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them and ending with 1
    import hydra

    try:
        hydra.main(config_path=config_dir(), config_name="config", version_base="1.3")(job)()
    except UserError:
        raise
    except Exception as error:
        if _Jobs.started:
            raise
        from medlat import build
        from medlat.config.compose_errors import explain
        from medlat.config.schema import Root

        folders = [config_dir(), *filter(None, [options.config_dir])]
        raise explain(error, options.overrides, folders, Root, build.PROVIDED, multirun=options.multirun) from error


class _Jobs:
    """What became of the jobs that ran in this process."""

    started = 0  # above 0: Hydra could compose a configuration
    refused = 0  # ended with a UserError


def job(config: "DictConfig") -> None:
    """One run: check the configuration, then print the plan or make everything."""
    _Jobs.started += 1
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    try:
        _checked(config, folder)
    except UserError as error:
        if not hydra.launcher._target_.endswith("BasicLauncher"):
            raise  # the job is a process of its own, and its launcher has to know
        _Jobs.refused += 1  # said here, without what Hydra would print around it; a sweep's other jobs go on
        _complain(error, ["debug=true"] if config.debug else [])
    finally:
        _remove_if_empty(folder)


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
    main()
