"""Images that stand in two parts of a split, pixel for pixel: what was trained on must not be tested on."""

import hashlib
import os
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medlat.core.errors import ArgumentError
from medlat.core.machine import cores
from medlat.data.image_store import ImageStore, in_order, worker_pool
from medlat.data.source import SliceSource
from medlat.data.splits import Split

BLOCK_BYTES = 1 << 24
SHOWN = 5
PARTS = ("train", "validation", "test")


def leaks(images: Any, parts: Split) -> list[tuple[int, int]]:
    """Pairs of rows with identical pixels in two different parts of the split, sorted; the lower row comes first.

    images: [N, C, H, W], memory-mapped: read once, in blocks. Of several copies in one part the first is named. Images
            of a single value (std 0: glass, air) do not count.
    """
    part = np.full(images.shape[0], -1)
    for i, name in enumerate(PARTS):
        part[getattr(parts, name)] = i
    rows = np.flatnonzero(part >= 0)
    first: dict[bytes, dict[int, int]] = {}  # pixels -> part -> its first row
    step = max(1, BLOCK_BYTES // max(1, int(np.prod(images.shape[1:])) * 2))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        for row, image in zip(block.tolist(), np.ascontiguousarray(images[block]), strict=True):
            if image.min() < image.max():
                pixels = hashlib.blake2b(image, digest_size=16).digest()
                first.setdefault(pixels, {}).setdefault(int(part[row]), row)
    pairs = (pair for copies in first.values() for pair in combinations(sorted(copies.values()), 2))
    return sorted(pairs)


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
        f"results on held-out images would flatter. Remove one of each pair, or give both the same group (patient):"
        f"{''.join(lines)}{more}",
    )
