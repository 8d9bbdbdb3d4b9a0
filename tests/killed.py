"""A run that is killed inside a step: `python killed.py STEP [key=value ...]`.

Of a training once it has left a checkpoint that another run can go on from, of anything else when all is written but
the recipe, without which nothing is taken for whole.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from medlat import run
from medlat.core.store import Store

STEP = sys.argv.pop(1)
fill = Store._fill


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_checkpoint(partial: Path) -> None:
    while not list(partial.glob("progress/*.ckpt")):
        time.sleep(0.005)
    kill()


def killed(partial, recipe, build, keep):
    if recipe.step != STEP:
        return fill(partial, recipe, build, keep)
    threading.Thread(target=kill_at_checkpoint, args=(partial,), daemon=True).start()
    return fill(partial, recipe, lambda folder: (build(folder), kill()), keep)


Store._fill = staticmethod(killed)
run.main()
