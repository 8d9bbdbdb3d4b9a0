"""The options beside the overrides: `--help`, `-m`, `--config-dir DIR` and Hydra's others."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra

from medlat.core.errors import ConfigErrors, nearest

_FLAG: dict[str, Any] = {"action": "store_true"}
_SHOWN = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
HYDRAS: dict[str, dict[str, Any]] = {  # the options of `hydra.main`
    "--help -h": _FLAG,
    "--hydra-help": _FLAG,
    "--version": {"action": "version", "version": f"Hydra {hydra.__version__}"},
    "--cfg -c": {"choices": ["job", "hydra", "all"]},
    "--resolve": _FLAG,
    "--package -p": {},
    "--run -r": _FLAG,
    "--multirun -m": _FLAG,
    "--shell-completion -sc": _FLAG,
    "--config-path -cp": {},
    "--config-name -cn": {},
    "--config-dir -cd": {},
    "--experimental-rerun": {},
    "--info -i": {"const": "all", "nargs": "?", "choices": _SHOWN},
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's own options (`overrides`, `multirun`, `config_dir`, ...), overrides before, after or between them.

    Raises ConfigErrors for an unknown option, one without its value, and a `--config-dir` that is not there.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("overrides", nargs="*")
    for names, settings in HYDRAS.items():
        parser.add_argument(*names.split(), **settings)

    def fail(message: str) -> NoReturn:
        raise ConfigErrors([_line(message)])

    parser.error = fail  # type: ignore[method-assign]
    found = parser.parse_intermixed_args(list(arguments))
    if found.config_dir is not None and (line := _missing_folder(found.config_dir)):
        raise ConfigErrors([line])
    return found


def with_home(arguments: Sequence[str]) -> list[str]:
    """The same arguments, the home folder in place of the `~` that a value begins with: the shell leaves it in
    `data.root=~/data`, and Hydra cannot read it. A sweep over several values stays as it is.
    """
    found = []
    for text in arguments:
        match = re.fullmatch(r"([+\w][^=]*=)(~[\w.-]*(?:/[^,'\"]*)?)", text)
        found.append(f"{match[1]}'{os.path.expanduser(match[2])}'" if match else text)
    return found


def ordered(arguments: Sequence[str]) -> list[str]:
    """The same arguments, options first: Hydra itself reads `seed=1 -m scale=tiny` no further than the `-m`."""
    overrides = parse(arguments).overrides
    return [argument for argument in arguments if argument not in overrides] + overrides


def check_typed(overrides: Sequence[str]) -> None:
    """Raises ConfigErrors where a secret stands among the overrides, which shells, job schedulers and Hydra write down,
    and for a `name` that is no folder below `outputs/`: Hydra would make it before anything else is checked.
    """
    from medlat.config.kinds import complaint
    from medlat.config.schema import Root
    from medlat.config.signatures import signature_of

    secret = re.compile(r"\s*[+~]*\s*data(@\S*)?\s*(\.\s*salt\s*=\s*(?!null\s*$)|=.*\bsalt\b)")
    if any(map(secret.match, overrides)):
        raise ConfigErrors(["data.salt: what is typed stays in histories, logs and job lists; use MEDLAT_SALT"])
    names = [text.partition("=")[2].strip() for text in overrides if re.match(r"\s*\+*\s*name\s*=", text)]
    kind = signature_of(Root).parameters["name"].annotation
    if names and (line := complaint("name", names[-1].strip("'\""), kind)):
        raise ConfigErrors([line])


def _missing_folder(folder: str) -> str | None:
    """The line for a `--config-dir` that is not there, with the nearest folder beside it."""
    path = Path(folder)
    if path.is_dir():
        return None
    if path.is_file():
        return f"--config-dir: {folder} is a file, not a folder"
    beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    return f"--config-dir: no folder {folder}" + (f"; did you mean '{path.with_name(near)}'?" if near else "")


def _line(message: str) -> str:
    """argparse's complaint, beginning with the option that it is about."""
    if unknown := re.match(r"unrecognized arguments: ([^\s=]+)", message):
        near = nearest(unknown[1], [names.split()[0] for names in HYDRAS])
        return f"{unknown[1]}: unknown option" + (f"; did you mean '{near}'?" if near else "; see --help")
    return re.sub(r"^argument (?:-\w+/)?(--[\w-]+)[^:]*: ", r"\1: ", message)
