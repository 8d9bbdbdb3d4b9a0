"""Images that a user names, prepared as the images of a run were: by its own source, on its own grid."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, UserError, nearest
from medlat.core.machine import logged_to_a_file
from medlat.data.image_store import ImageStore, on_grid
from medlat.data.resample import ToGrid
from medlat.data.source import Chunk, Scan, Slice

MOST = 100  # images that are explained together
COMPARED = 1000  # images of the run that show what the others look like
PLACE = re.compile(r"(.+)@(\d+)(?:,(\d+))?$", re.DOTALL)
_ONE_AT_A_TIME = Lock()

SourceOf = Callable[[Sequence[str]], Any]  # files and folders, absolute paths -> the source of these


class Refused(UserError):
    """An image that cannot be taken. given: as it was typed; reason: why, for a log: no file's name, FILE in its place;
    near: for the terminal alone.
    """

    def __init__(self, given: str, reason: str, near: str = "") -> None:
        super().__init__(f"{given}: {reason.replace('FILE', given)}{near}")
        self.given, self.reason = given, reason


class Given(NamedTuple):
    """What a user names. text: as it was typed; path: absolute; place: which of a file's slices, from 0 at the feet, or
    where on a slide (x, y); None: the whole file or folder.
    """

    text: str
    path: str
    place: tuple[int, ...] | None

    @classmethod
    def of(cls, text: str) -> "Given":
        """FILE, FOLDER, FILE@SLICE or SLIDE@X,Y. Raises UserError where there is no such file."""
        path, place, match = text, None, PLACE.match(text)
        if match and not os.path.exists(os.path.expanduser(text)):
            path, place = match[1], tuple(int(digits) for digits in match.groups()[1:] if digits)
        whole = os.path.abspath(os.path.expanduser(path))
        if not path.strip() or not os.path.exists(whole):
            raise Refused(text, "there is no such file", _near(Path(whole)))
        return cls(text, whole, place)


@dataclass
class Prepared:
    """images: [N, C, S, S] as they would stand in the run's store. names: [N] what the user typed, with the file below
    a folder: for the terminal alone. notes: [N] what is odd about each. left_out: in folders, counted by reason; lost:
    the files.
    """

    images: np.ndarray
    names: list[str] = field(default_factory=list)
    notes: list[tuple[str, ...]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


def prepare_given(
    given: Sequence[Given], source_of: SourceOf, store: ImageStore, field_of_view_mm: float | None
) -> Prepared:
    """The images that are named, in that order; of a folder as the source orders them.

    store: of the run. Raises UserError where a file that is named by itself cannot be read or holds several images and
    no place says which, where a folder holds no image, and where they are more than 100.
    """
    grid = ToGrid(store.images.shape[-1], field_of_view_mm, store.modality)
    found, items = Prepared(np.zeros((0, *store.images.shape[1:]), store.modality.dtype)), list[Any]()
    images = list[np.ndarray]()
    with _silent():
        for one in given:
            source = source_of([one.path])
            for item, image, notes in _read(one, source, grid, found):
                images.append(image)
                items.append((source, item))
                found.names.append(_name(one, item))
                found.notes.append(notes)
                if len(images) > MOST:
                    raise Refused(one.text, f"more than {MOST} images are named; expected at most {MOST} at once")
        found.images = np.stack(images)
        _compare(found, items, grid, store)
    return found


def _read(one: Given, source: Any, grid: ToGrid, found: Prepared) -> Iterator[tuple[Any, np.ndarray, tuple[str, ...]]]:
    """Each image of what is named, with its item and notes; what a folder loses is counted."""
    scan, alone = _scan(one, source), not os.path.isdir(one.path)
    read = 0
    left = [(each.reason, each.path) for each in scan.damaged]
    left += [(each.reason, each.path) for each in scan.remarks if not each.kept]
    for reason, path in left:
        _lose(one, found, reason, path, alone)
    found.left_out.update(scan.skipped)
    for chunk, wanted in _wanted(one, source, scan):
        for item, result in zip(chunk.items, source.read(chunk), strict=False):
            if wanted is not None and item is not wanted:
                continue
            image = on_grid(grid, item, result) if isinstance(result, Slice) else result
            if isinstance(image, np.ndarray):
                assert isinstance(result, Slice)
                read += 1
                yield item, image, tuple(dict.fromkeys(remark.reason for remark in result.remarks))
            else:
                _lose(one, found, image.reason, image.path, alone)
            if item is wanted:
                break
    if not read:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        raise Refused(one.text, f"no image in it can be read ({reasons})")


def _scan(one: Given, source: Any) -> Scan:
    if hasattr(source, "tile_at"):
        if one.place is None or len(one.place) != 2:
            raise Refused(
                one.text,
                "expected a place on the slide, FILE@X,Y: the upper left corner of a tile in pixels of the slide's "
                "finest level",
            )
        try:
            return Scan([source.tile_at(one.path, *one.place)])
        except UserError as error:
            raise UserError(f"{one.text}: {error}") from error
    try:
        return source.scan(lambda function, items, _: map(function, items))
    except ArgumentError as error:  # its key is of the run's configuration, and nobody typed it here
        raise UserError(f"{one.text}: {error.problem}") from error


def _wanted(one: Given, source: Any, scan: Scan) -> Iterator[tuple[Chunk, Any]]:
    """The chunks that are read, each with the only item that is wanted of it, or None for all."""
    items = [(chunk, item) for chunk in scan.chunks for item in chunk.items]
    if (os.path.isdir(one.path) and one.place is None) or hasattr(source, "tile_at"):
        yield from ((chunk, None) for chunk in scan.chunks)
        return
    if len(items) > 1 and one.place is None:
        ends = f"FILE@0 (at the feet) to FILE@{len(items) - 1}"
        raise Refused(one.text, f"it holds {len(items)} slices; expected one of them, {ends}")
    number = 0 if one.place is None else one.place[0]
    if one.place is not None and (len(one.place) > 1 or number >= len(items)):
        last = f"@0 to @{len(items) - 1}" if len(items) > 1 else "the file alone, without @"
        raise Refused(one.text, f"it holds {len(items)} slice{'s' * (len(items) > 1)}; expected {last}")
    if items:
        yield items[number]


def _lose(one: Given, found: Prepared, reason: str, path: str, alone: bool) -> None:
    if alone:
        raise Refused(one.text, reason)
    found.left_out[reason] += 1
    found.lost.append(path)


def _compare(found: Prepared, items: Sequence[tuple[Any, Any]], grid: ToGrid, store: ImageStore) -> None:
    """What shows only beside the other images of the run, as a negative does: noted, or read again as theirs were."""
    others = store.images[np.unique(np.linspace(0, len(store) - 1, min(len(store), COMPARED)).astype(int))]
    for number, (source, item) in enumerate(items):
        if not hasattr(source, "compare"):
            continue
        scan = Scan([Chunk("", (item, *[item._replace(path="")] * len(others)), {})])
        images = np.concatenate([found.images[number : number + 1], others])
        again = source.compare(images, np.arange(len(images)), scan).get(0)
        found.notes[number] += tuple(remark.reason for remark in scan.remarks if remark.path)
        if again is not None:
            result = next(iter(source.read(Chunk("", (again,), {}))))
            image = on_grid(grid, again, result) if isinstance(result, Slice) else None
            assert isinstance(image, np.ndarray), "it was read before"
            found.images[number] = image


@contextmanager
def _silent() -> Iterator[None]:
    """Sources warn of what should be set otherwise before a run; this one is done. The log is the whole process's: of
    threads that read at once, one after another, or the last would leave it as the first had made it.
    """
    with _ONE_AT_A_TIME:
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _name(one: Given, item: Any) -> str:
    """What the terminal calls it."""
    path = getattr(item, "path", one.path)
    below = os.path.relpath(path, one.path)
    return one.text if below == "." else os.path.join(one.text, below)


def _near(path: Path) -> str:
    """What lies there and is called nearly so; never in a log."""
    if logged_to_a_file() or not path.parent.is_dir():
        return ""
    near = nearest(path.name, os.listdir(path.parent))
    return f"; did you mean '{path.parent / near}'?" if near else ""
