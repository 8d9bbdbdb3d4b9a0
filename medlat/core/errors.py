"""What a user did wrong, said in one message: what was found, where, what was expected, the nearest valid choice.

A `UserError` ends a run with exit code 2 and no traceback (`debug=true` shows it). Anything else that
is raised is our fault and ends with exit code 1 and a traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The user's input or configuration is wrong. The message is all that the user sees, so it names the culprit."""


class ConfigErrors(UserError):
    """Every problem found in a configuration, at once.

    problems: one line each, beginning with the key, e.g. `data.rot: unknown key; did you mean 'data.root'?`
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        head = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{head} in the configuration:\n" + "\n".join(f"  {line}" for line in self.problems))

    def __reduce__(self) -> tuple:  # a launcher hands it from process to process
        return ConfigErrors, (self.problems,)


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
