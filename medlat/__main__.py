"""The command `medlat`, and `python -m medlat`: which of its commands is meant.

Exit 0: done, or this list of commands printed. Exit 2: no such command. Else what the command says.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence

from medlat.core.errors import UserError, did_you_mean, nearest
from medlat.core.terminal import complain, heard

USAGE = """\
medlat: find, measure and show what the latent directions of generative models of medical images mean.

  medlat run +experiment=NAME [KEY=VALUE ...]   train a generator, find directions, say what they mean
  medlat explain RUN IMAGE [IMAGE ...]          ask a finished run: why this image?
  medlat explore RUN [RUN] | DIR                look at finished runs in the browser: move an image, see what changes
  medlat study ANSWERS.csv                      what the readers of a reader study saw, of medlat explore RUN --study
  medlat collect DIR [DIR ...]                  put the runs of a sweep into one table
  medlat export RUN PLACE [--onnx | ...]        hand on what it made, unless its generator copies its patients
  medlat --help                                 experiments, data, generators, classifiers, methods
  medlat --version

`medlat +experiment=NAME` and `python -m medlat.run +experiment=NAME` are `medlat run +experiment=NAME`.
A finished run in Python: `import medlat; run = medlat.load("outputs/NAME/DATE_TIME")`."""


def main() -> None:
    """Console script `medlat`, and `python -m medlat`."""
    _see_the_working_folder()
    sys.exit(heard(lambda: command(sys.argv[1:])))


def command(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code."""
    if not arguments:
        print(USAGE)
        return 0
    first, *rest = arguments
    if first in COMMANDS:
        return COMMANDS[first](rest)
    if re.fullmatch(r"\w[\w/.-]*", first):  # no option, and no override: those have a sign
        complain(_unknown(first))
        return 2
    return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    from medlat.run import run

    if "COMP_LINE" in os.environ:  # Hydra's tab completion reads what is typed from there, and knows no commands
        os.environ["COMP_LINE"] = re.sub(r"^(\s*\S+)\s+run\s", r"\1 ", os.environ["COMP_LINE"])
    return run(list(arguments))


def _explain(arguments: Sequence[str]) -> int:
    from medlat.explain_images import main

    return main(arguments)


def _explore(arguments: Sequence[str]) -> int:
    from medlat.explore.command import main

    return main(arguments)


def _study(arguments: Sequence[str]) -> int:
    from medlat.explore.reading.command import main

    return main(arguments)


def _collect(arguments: Sequence[str]) -> int:
    from medlat.collect import main

    return main(arguments)


def _export(arguments: Sequence[str]) -> int:
    from medlat.export import main

    return main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "explain": _explain,
    "explore": _explore,
    "study": _study,
    "collect": _collect,
    "export": _export,
}


def _unknown(word: str) -> UserError:
    """The error for a word that is no command; an experiment's name, or nearly one, lacks only its key."""
    from medlat.config.help import options
    from medlat.config.locate import config_dir

    if nearest(word, COMMANDS) is None and (experiment := nearest(word, options([config_dir()], "experiment"))):
        return UserError(f"{word}: no such command; did you mean '+experiment={experiment}'?")
    return UserError(f"{word}: no such command{did_you_mean(word, COMMANDS)}")


def _see_the_working_folder() -> None:
    """Have a script find the modules of the working folder first, as `python -m` does, unless Python was told not to
    (`-P`): classes that a configuration names may lie there.
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path[:1]:
        sys.path.insert(0, os.getcwd())


if __name__ == "__main__":
    main()
