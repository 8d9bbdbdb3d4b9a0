"""What is printed for the user: nothing that steers a terminal, and in a file nothing that may name patients."""

import logging
import os
import sys
import traceback
import unicodedata
from collections.abc import Callable

from medlat.core import machine
from medlat.core.errors import UserError

CONTROLS = {"Cc", "Cf", "Zl", "Zp"}  # Unicode's: controls, escapes; what turns the direction of text; line ends
UNHEARD = 141  # 128 + SIGPIPE, as shells have it
PLAIN = "\n\t"


def printable(text: str) -> str:
    """The text with control characters written out, an escape as `\\x1b`: names of files, and what files hold, may bear
    them, and a terminal would obey.
    """
    return "".join(
        c if c in PLAIN or unicodedata.category(c) not in CONTROLS else c.encode("unicode_escape").decode()
        for c in text.encode("utf-8", "backslashreplace").decode()
    )


class Lines(logging.Formatter):
    """The lines of a run on stderr."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def heard(command: Callable[[], int]) -> int:
    """Carry out a command; returns its exit code. Where who reads its output has stopped (`| head`), it ends without a
    word, as other programs do.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError as error:
        if not _is_deaf():
            complain(error)
            return 1
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    return UNHEARD


def _is_deaf() -> bool:
    """Whether nobody reads what is printed."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


def complain(error: BaseException, debug: bool = False) -> None:
    """Say on stderr what ended a run: a user's error in one message, anything else with its traceback.

    debug: the traceback in any case. Where stderr goes to a file, an error that a run has noted (`record.note_failure`)
    is said as it was noted, without what may name patients' files, and of a traceback the places in the code.
    """
    whole, noted = debug or not isinstance(error, UserError), getattr(error, "noted", None)
    if noted is not None and machine.logged_to_a_file():
        lines = traceback.format_tb(error.__traceback__) if whole else []
        text = "".join(lines) + f"medlat: {noted['error']} {noted['where']}: {noted['reason']}"
    elif whole:
        text = "".join(traceback.format_exception(error)).rstrip()
        text += f"\nmedlat: {error}" if isinstance(error, UserError) else ""
    else:
        text = f"medlat: {error}"
    print(printable(text), file=sys.stderr)
