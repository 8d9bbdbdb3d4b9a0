"""A signal that asks a training to end waits until what was learnt is saved."""

import logging
import os
import signal
import threading
import time
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

# What a cluster sends before it takes a node away, and what a terminal sends that closes.
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE_S = 100.0  # that the processes of a training have for their next checkpoint; clusters give two minutes


class Interruption:
    """While a training runs: notes the signals, and hands them on to their handlers once a checkpoint is written.

    Of a training in several processes the one that started them passes the signal on, and waits for their checkpoint
    (`checkpoints`: the folder) before it hands it on; in each of them it only says that a checkpoint is due: they end
    with the one that started them.
    """

    def __init__(self, checkpoints: Path, processes: int) -> None:
        self.checkpoints, self.alone = checkpoints, processes == 1
        self.pending: list[int] = []
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.getsignal(number) for number in SIGNALS}
            if not self.alone:
                self._listen(self._pass_on)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.hand_on()

    def __getstate__(self) -> dict[str, Any]:
        return {"checkpoints": self.checkpoints, "alone": False, "pending": [], "before": {}}  # of a started process

    def begin(self) -> None:
        """From here on a checkpoint can be written: note the signals, not Lightning, which would stop at once."""
        if threading.current_thread() is threading.main_thread():
            self._listen(self._note)

    def hand_on(self) -> None:
        """Do what the signals that came would have done, each once, whatever its handler raises."""
        pending, self.pending = dict.fromkeys(self.pending), []
        for number in pending:
            handler = self.before.get(number)
            if callable(handler):
                handler(number, None)
            elif handler == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

    def _listen(self, handler: Any) -> None:
        for number in SIGNALS:
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.pending.append(number)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        before = self._newest()
        for process in active_children():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)
        deadline = time.monotonic() + PATIENCE_S
        while self._newest() == before and active_children() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.pending.append(number)
        self.hand_on()

    def _newest(self) -> Path | None:
        return max(self.checkpoints.glob("*.ckpt"), default=None)
