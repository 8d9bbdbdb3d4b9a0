"""Running foreign programs in a process of their own first: they may loop for ever, or take the process with them."""

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from medlat.core.errors import UserError
from medlat.core.external import Culprit

LIMIT_S = 60.0  # that a program has to be loaded and run
LONGEST = 10_000  # characters of an answer: a pipe holds them, whether somebody reads or not
PASSED, REFUSED, OURS = "passed", "refused", "ours"  # the last: an error that no check should raise


def tried(culprit: Culprit, check: Callable[..., None], *arguments: Any) -> None:
    """Call `check(*arguments)` in a fresh process, which is killed afterwards with everything that it has started.

    culprit: what is to blame where the process does not end in time, or dies. check, arguments: picklable.

    Raises that as a UserError, and the UserError that `check` raises.
    """
    context = get_context("spawn")  # a fork would copy locks that OpenMP's threads hold here
    answers, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, check, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        answers.recv_bytes()  # what it imports takes no time of the program's
        process.join(LIMIT_S)
        late = process.is_alive()
    except EOFError as error:
        raise culprit.error(
            "the process that was to try it did not start; a script of yours needs the line "
            'if __name__ == "__main__":, and the machine memory for another Python'
        ) from error
    finally:
        _end(process)
    if late:
        raise culprit.error(f"the network did not answer within {LIMIT_S:g} s when it was tried on two made-up images")
    kind, _, text = _answer(answers, process, culprit).partition(" ")
    if kind == REFUSED:
        raise UserError(text)
    if kind == OURS:
        raise RuntimeError(text)


def _child(answers: Connection, check: Callable[..., None], arguments: tuple) -> None:
    os.setsid()  # what it starts is killed with it
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]  # and with the parent
    for printed in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), printed)
    answers.send_bytes(b"begins")
    try:
        check(*arguments)
        answer = PASSED
    except UserError as error:
        answer = f"{REFUSED} {error}"
    except Exception:
        answer = f"{OURS} {traceback.format_exc()}"
    answers.send_bytes(answer[:LONGEST].encode(errors="replace"))
    os._exit(0)  # threads that the program has left do not count


def _end(process: BaseProcess) -> None:
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # before it led a group
    process.join()


def _answer(answers: Connection, process: BaseProcess, culprit: Culprit) -> str:
    """Of a process that has ended: waits for nothing."""
    code = process.exitcode or 0
    if code == 0:
        with suppress(EOFError, OSError):
            return answers.recv_bytes(4 * LONGEST).decode(errors="replace")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    memory = ", as when memory runs out" if code == -signal.SIGKILL else ""
    raise culprit.error(f"the network ended the process that tried it on two made-up images ({how}{memory})")
