"""Images that stand in two parts of a split, pixel for pixel: what was trained on must not be tested on."""

import os
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medlat.core.errors import ArgumentError
from medlat.core.machine import cores
from medlat.data.equal import equal_pixels
from medlat.data.image_store import ImageStore, in_order, worker_pool
from medlat.data.source import SliceSource
from medlat.data.splits import Split

SHOWN = 5
PARTS = ("train", "validation", "test")


def copies(images: Any, parts: Split) -> list[list[int]]:
    """Rows with identical pixels that stand in two parts of the split or more: a list for each such image, sorted.

    images: [N, C, H, W], memory-mapped, as of `equal_pixels`.
    """
    part = _part_of(images, parts)
    return [same for same in equal_pixels(images, np.flatnonzero(part >= 0)) if len(set(part[same])) > 1]


def leaks(images: Any, parts: Split) -> list[tuple[int, int]]:
    """Pairs of rows with identical pixels in two different parts of the split, sorted; the lower row comes first. Of
    several copies in one part the first is named. images: as of `copies`.
    """
    part = _part_of(images, parts)
    pairs: list[tuple[int, int]] = []
    for same in copies(images, parts):
        first = {int(part[row]): row for row in reversed(same)}
        pairs += combinations(sorted(first.values()), 2)
    return sorted(pairs)


def without_copies(images: Any, parts: Split) -> Split:
    """The split without the images that stand in a later part too: training images that are held out as well, and
    validation images that are tested on. Those are its `copies`. images: as of `copies`.
    """
    part = _part_of(images, parts)
    left: list[int] = []
    for same in copies(images, parts):
        left += [row for row in same if part[row] < part[same].max()]
    kept = {name: np.setdiff1d(getattr(parts, name), left, assume_unique=True) for name in PARTS}
    return Split(**kept, copies=np.array(sorted(left), dtype=np.int64))


def _part_of(images: Any, parts: Split) -> np.ndarray:
    """[N]: the number of the part each row stands in; -1 for none."""
    part = np.full(images.shape[0], -1)
    for i, name in enumerate(PARTS):
        part[getattr(parts, name)] = i
    return part


def named(opened: ImageStore, rows: Sequence[int], source: SliceSource) -> list[str]:
    """What the user knows these rows of the store as: the path of the file, else "slice <row>".

    Scans the source anew, as the store holds no paths: only for a message on the terminal.
    """
    with worker_pool(cores()) as parallel_map:
        chunks = in_order(source.scan(parallel_map).chunks)
    items = [item for chunk in chunks for item in chunk.items]
    place = getattr(opened.images, "rows", np.arange(len(opened)))  # rows of damaged files are left out
    if place.max(initial=0) >= len(items):  # the files have changed since
        return [f"slice {row}" for row in rows]
    return [_name(items[int(place[row])], row) for row in rows]


def _name(item: Any, row: int) -> str:
    if isinstance(item, tuple) and item and not hasattr(item, "path"):
        item = item[0]
    path = getattr(item, "path", item)
    return os.fspath(path) if isinstance(path, str | os.PathLike) else f"slice {row}"


def refuse_leaks(opened: ImageStore, parts: Split, source: SliceSource) -> None:
    """Raises UserError where an image stands in two parts of the split; up to 5 pairs are named."""
    pairs = leaks(opened.images, parts)
    if not pairs:
        return
    part_of = {int(row): name for name in PARTS for row in getattr(parts, name)}
    shown = pairs[:SHOWN]
    names = iter(named(opened, [row for pair in shown for row in pair], source))
    lines = []
    for a, b in shown:
        one, other = next(names), next(names)
        if one == other and not one.startswith("slice "):  # two images of one file
            one, other = f"{one}, slice {a}", f"slice {b} of it"
        lines.append(f"\n  {one} ({part_of[a]}) = {other} ({part_of[b]})")
    more = f"\n  and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    raise ArgumentError(
        "split",
        f"{len(pairs)} image{'s' * (len(pairs) > 1)} with the same pixels in two parts of the split; "
        f"results on held-out images would flatter. Remove one of each pair, give both the same group (patient), or "
        f"set data.duplicates=drop, which leaves them out of the training:{''.join(lines)}{more}",
    )
