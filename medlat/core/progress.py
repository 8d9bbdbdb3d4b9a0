"""Progress of anything that takes more than a few seconds: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
T = TypeVar("T")
_working: list[threading.Event] = []  # blocks of `at_work`, the innermost last
SILENCE_S = 15.0  # after which a step says that it is at work


def track(iterable: Iterable[T], description: str, total: int | None = None, every_s: float = 10.0) -> Iterator[T]:
    """Yield from `iterable`, showing count, rate and time left on stderr.

    every_s: seconds between two lines where stderr is no terminal; work shorter than that prints nothing there.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from tqdm(iterable, desc=description, total=total, leave=False, dynamic_ncols=True, delay=1.0)
        return
    start = last = time.monotonic()
    for count, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            elapsed = now - start
            left = f", {elapsed / count * (total - count):.0f} s left" if total else ""
            log.info("%s: %d%s (%.1f/s%s)", description, count, f" of {total}" if total else "", count / elapsed, left)


@contextmanager
def at_work(what: str, silence_s: float = SILENCE_S) -> Iterator[None]:
    """While the block runs, say that `what` is at work whenever nothing has been said for so long, and no bar is drawn:
    whoever watches a log need not guess whether a run still lives. Of blocks within each other the innermost says so.
    """
    start, last, done = time.monotonic(), _Last(), threading.Event()

    def watch() -> None:
        while not done.wait(min(1.0, silence_s / 4)):
            silent = time.monotonic() - last.at >= silence_s
            if silent and _working[-1:] == [done] and not tqdm._instances:
                log.info("%s: at work for %.0f s", what, time.monotonic() - start)

    logging.getLogger().addHandler(last)
    _working.append(done)
    thread = threading.Thread(target=watch, daemon=True, name=f"at work: {what}")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _working.remove(done)
        logging.getLogger().removeHandler(last)


class _Last(logging.Handler):
    """Knows when something was said last."""

    def __init__(self) -> None:
        super().__init__()
        self.at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.at = time.monotonic()
