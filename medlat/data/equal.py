"""Images that are the same, pixel for pixel, and images that show nothing."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

BLOCK_BYTES = 1 << 24


def equal_pixels(images: Any, rows: np.ndarray) -> list[list[int]]:
    """Which of these rows hold identical pixels: a rising list for each image that stands there twice or more, sorted.

    images: [N, C, H, W], memory-mapped: read once, in blocks. Images of a single value (std 0: glass, air) do not
            count. rows: rising.
    """
    found: dict[bytes, list[int]] = {}
    for row, image in _each(images, rows):
        if image.min() < image.max():
            found.setdefault(hashlib.blake2b(image, digest_size=16).digest(), []).append(row)
    return sorted(same for same in found.values() if len(same) > 1)


def found_again(wanted: np.ndarray, images: Any) -> list[int | None]:
    """Of each of the images [M, C, H, W] the first row of `images`, as above, with the same pixels; None: there is
    none.
    """
    rows: dict[bytes, int] = {}
    known = {image.tobytes() for image in wanted}
    for row, image in _each(images, np.arange(len(images))):
        if (pixels := image.tobytes()) in known:
            rows.setdefault(pixels, row)
    return [rows.get(image.tobytes()) for image in wanted]


def blank(images: Any, rows: np.ndarray) -> list[int]:
    """Which of these rows hold a single value. images, rows: as of `equal_pixels`."""
    return [row for row, image in _each(images, rows) if image.min() == image.max()]


def _each(images: Any, rows: np.ndarray) -> Iterator[tuple[int, Any]]:
    step = max(1, BLOCK_BYTES // max(1, int(np.prod(images.shape[1:])) * 2))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        yield from zip(block.tolist(), np.ascontiguousarray(images[block]), strict=True)
