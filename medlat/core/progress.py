"""Progress of anything that takes more than a few seconds: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
T = TypeVar("T")


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
