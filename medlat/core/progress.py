"""Progress of anything that takes more than a few seconds: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
T = TypeVar("T")
SILENCE_S = 15.0  # after which it is said what is at work


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
        if now - last >= every_s and count != total:
            last = now
            elapsed = now - start
            left = f", {elapsed / count * (total - count):.0f} s left" if total else ""
            log.info("%s: %d%s (%.1f/s%s)", description, count, f" of {total}" if total else "", count / elapsed, left)


@contextmanager
def at_work(silence_s: float = SILENCE_S) -> Iterator[Callable[[str], None]]:
    """While the block runs, say what is at work when nothing has been said for so long, and no bar is drawn, so that
    nobody need guess whether a run still lives. Yields a function that is told what is at work from now on.
    """
    said, done, now = _Said(), threading.Event(), ("", time.monotonic())

    def begin(what: str) -> None:
        nonlocal now
        now = what, time.monotonic()

    def watch() -> None:
        while not done.wait(min(1.0, silence_s / 4)):
            what, start = now
            if time.monotonic() - said.last >= silence_s and not tqdm._instances:
                log.info("%s: at work for %.0f s", what, time.monotonic() - start)

    logging.getLogger().addHandler(said)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield begin
    finally:
        done.set()
        thread.join()
        logging.getLogger().removeHandler(said)


class _Said(logging.Handler):
    """Knows when something was said last."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.last = time.monotonic()
