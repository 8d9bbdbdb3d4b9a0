"""What a data set costs to read: run in a process of its own, where memory is seen and a crash ends no test."""

import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
from data.formats import RGB
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.image_store import _start_forkserver
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.resample import ToGrid
from medlat.data.source import Slice


def pictures(root: Path, names: list[str], colour: bool = False) -> ImageFolder:
    """A data set of pictures: good.png, and what is named."""
    root.mkdir(exist_ok=True)
    Image.fromarray(RGB).save(root / "good.png")
    rows = "".join(f"{name},{i},{i}\n" for i, name in enumerate(["good.png", *names]))
    (root / "labels.csv").write_text("path,label,group\n" + rows)
    return ImageFolder(str(root), colour=colour)


def processes() -> ForkServerContext:
    """Where processes are started from that have imported all already, as the program starts its workers."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["medlat.data.image_store", "monai.transforms", "data.formats"])
    _start_forkserver()  # deaf to a cluster's signals, as the tests of workers expect it to be
    return context


def cost_of(work: Callable[..., object], *arguments: object) -> tuple[object, float, float]:
    """What a function returns in a process of its own, the CPU seconds that it took (neighbours on a busy machine cost
    none), and the bytes more than before.
    """
    context = processes()
    ours, theirs = context.Pipe()
    worker = context.Process(target=_measured, args=(theirs, work, arguments))
    worker.start()
    theirs.close()
    answer = ours.recv()  # EOFError where it crashed
    worker.join()
    return answer


def _measured(answer: object, work: Callable[..., object], arguments: tuple) -> None:
    ToGrid(16, None)(Slice(np.zeros((20, 20), np.float32), (1.0, 1.0)))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result = work(*arguments)
    seconds = time.process_time() - start
    answer.send((result, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024.0))


def read_all(kind: type, arguments: dict, fov: float | None = None) -> list[str]:
    """The reasons of what is damaged, "" for a slice that came onto the grid; UserErrors as they are."""
    source = kind(**arguments)
    try:
        scan = source.scan(lambda function, items, _: map(function, items))
    except UserError as error:
        return [str(error)]
    grid, said = ToGrid(64, fov, source.modality), [one.reason for one in scan.damaged]
    for chunk in scan.chunks:
        for one in source.read(chunk):
            said.append("" if isinstance(one, Slice) and grid(one) is not None else one.reason)
    return said
