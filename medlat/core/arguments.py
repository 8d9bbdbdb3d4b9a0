"""Commands that take places and options: `medlat explain`, `medlat explore`, `medlat export`."""

from collections.abc import Callable, Sequence

from medlat.core.errors import UserError, did_you_mean
from medlat.core.terminal import complain


def command(arguments: Sequence[str], page: str | None, run: Callable[[Sequence[str]], None]) -> int:
    """Print the page where it is asked for, or nothing is; else run. Returns the exit code, 2 after a UserError."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print((page or "").strip())
        return 0 if arguments else 2
    try:
        run(arguments)
    except UserError as error:
        complain(error)
        return 2
    return 0


def parsed(arguments: Sequence[str], known: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What stands without an option, and the options' values: `--out DIR` or `--out=DIR`.

    Raises UserError for an option that is not known, and one without a value.
    """
    places, options, rest = list[str](), dict[str, str](), iter(arguments)
    for text in rest:
        name, _, value = text.partition("=")
        if not text.startswith("--"):
            places.append(text)
        elif name not in known:
            raise UserError(f"{name}: no such option{did_you_mean(name, known)}")
        else:
            options[name] = value or next(rest, "")
            if not options[name]:
                raise UserError(f"{name}: without a value; expected {name} {name[2:].upper()}")
    return places, options


def usable_device(name: str) -> str:
    """The device of `--device`. Raises UserError where the machine has none of that name."""
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device={name}: not there; expected cpu, or cuda where there is a GPU") from error
    return name
