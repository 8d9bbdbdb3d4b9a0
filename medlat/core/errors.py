"""What a user did wrong, said in one message: what was found, where, what was expected, the nearest valid choice.

A `UserError` ends a run with exit code 2 and no traceback (`debug=true` shows it). Anything else that
is raised is our fault and ends with exit code 1 and a traceback.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class UserError(Exception):
    """The user's input or configuration is wrong. The message is all that the user sees, so it names the culprit."""


UNSAID: Any = object()  # no value is shown


class ArgumentError(UserError):
    """An argument of an object is wrong. The object knows its arguments' names; what stands before them in the
    configuration is put there by whoever built it (`medlat.config.build`).

    argument: its name; dotted for one of an object below, e.g. "base.steps".
    problem:  what is wrong, or what was expected.
    found:    its value; not given: the problem says it.
    of:       the object, where it is finished: what built it has told it its keys (`Keys`).
    """

    def __init__(self, argument: str, problem: str, found: Any = UNSAID, of: Any = None) -> None:
        self.argument, self.problem = key_in(of, argument), problem
        self.found = found if isinstance(found, str) or found is UNSAID else _written(found)
        self.named = hasattr(of, "config_keys")  # the argument is a whole key
        said = [self.argument] * bool(self.argument) + [self.found] * (found is not UNSAID)
        super().__init__(": ".join(["=".join(said), problem]))

    def under(self, keys: "Keys") -> "ArgumentError":
        """The same error of the whole key; itself, where that is known already."""
        if self.named:
            return self
        error = ArgumentError(keys.of(self.argument), self.problem, self.found)
        error.named = True
        return error

    def __reduce__(self) -> tuple:  # a worker hands it from process to process
        found = () if self.found is UNSAID else (self.found,)
        return _again, (self.named, self.argument, self.problem, *found)


def _again(named: bool, *arguments: str) -> ArgumentError:
    error = ArgumentError(*arguments)
    error.named = named
    return error


@dataclass(frozen=True)
class Keys:
    """What an object's arguments are called in the configuration.

    section: the key of the object, e.g. "directions.deformator".
    others:  argument -> the key that its value is read from, where that is not one of the section's.
    """

    section: str
    others: Mapping[str, str] = field(default_factory=dict)

    def of(self, argument: str) -> str:
        """The key of an argument; a dotted one is of an object below, an empty one the object itself."""
        if not argument:
            return self.section
        name, dot, below = argument.partition(".")
        return f"{self.others.get(name, f'{self.section}.{name}'.lstrip('.'))}{dot}{below}"


def key_in(of: Any, argument: str) -> str:
    """What an argument of an object is called in the configuration; its name, where nothing else is known."""
    keys: Keys | None = getattr(of, "config_keys", None)
    return keys.of(argument) if keys else argument


def _written(value: Any) -> str:
    """As a configuration file writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


class ConfigErrors(UserError):
    """Every problem found in a configuration, at once.

    problems: one line each, beginning with the key, e.g. `data.rot: unknown key; did you mean 'data.root'?`
    where:    what they were found in.
    """

    def __init__(self, problems: Iterable[str], where: str = "the configuration") -> None:
        self.problems, self.where = list(problems), where
        head = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{head} in {where}:\n" + "\n".join(f"  {line}" for line in self.problems))

    def __reduce__(self) -> tuple:  # a launcher hands it from process to process
        return ConfigErrors, (self.problems, self.where)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most likely meant, or None where none is close."""
    matches = difflib.get_close_matches(word.lower(), {c.lower(): c for c in choices}, n=1, cutoff=0.5)
    return next((c for c in choices if matches and c.lower() == matches[0]), None)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'X'?` for a near choice, else `; choose from A, B, C`."""
    choices = sorted(choices)
    near = nearest(word, choices)
    if near is not None:
        return f"; did you mean '{near}'?"
    return f"; choose from {', '.join(choices)}" if choices else ""
