"""Digests of files by block: a byte that a disk has changed is seen, of a large file when that part is read first."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.errors import UserError

BLOCK = 1 << 22  # bytes
DAMAGED = "damaged since it was written"


def digests(path: Path) -> dict[str, Any]:
    """{"bytes": the size of a file, "blocks": 16 hex digits for each block}."""
    with path.open("rb") as file:
        blocks = [_digest(block) for block in iter(lambda: file.read(BLOCK), b"")]
        return {"bytes": file.tell(), "blocks": blocks}


def is_whole(path: Path, noted: Mapping[str, Any]) -> bool:
    """Whether a file is as its digests say. Raises OSError where it cannot be read."""
    return path.is_file() and path.stat().st_size == noted["bytes"] and digests(path) == dict(noted)


class DamagedFile(UserError):
    """A file that is not as it was written. path: of the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: {DAMAGED}; the same command makes it anew")
        self.path = path

    def __reduce__(self) -> tuple:
        return DamagedFile, (self.path,)


class CheckedRows:
    """A memory-mapped array whose bytes are compared with the file's digests when they are read first.

    path: of a .npy file, [N, ...] in C order; noted: its digests.
    Indexing by whole numbers, slices or arrays of rows reads rows. Raises DamagedFile where one is not as it was
    written, and at once where the file has another size or its header is damaged.
    """

    def __init__(self, path: Path, noted: Mapping[str, Any]) -> None:
        self.path, self.blocks = path, noted["blocks"]
        self.file = path.open("rb")  # kept, as the map is: another run may put a new one in its place
        self.unread = np.ones(len(self.blocks), dtype=bool)
        if path.stat().st_size != noted["bytes"]:
            raise DamagedFile(path)
        self._read([0])
        self.array: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape = self.array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> np.ndarray:
        if self.unread.any():
            self._check(np.atleast_1d(np.arange(len(self))[rows]))
        return self.array[rows]

    def _check(self, rows: np.ndarray) -> None:
        size = self.array.nbytes // len(self)
        first = (self.array.offset + rows * size) // BLOCK
        last = (self.array.offset + (rows + 1) * size - 1) // BLOCK
        touched = np.unique(np.concatenate([np.minimum(first + i, last) for i in range(int((last - first).max()) + 1)]))
        self._read(touched[self.unread[touched]].tolist())

    def _read(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            self.file.seek(block * BLOCK)
            if _digest(self.file.read(BLOCK)) != self.blocks[block]:
                raise DamagedFile(self.path)
            self.unread[block] = False


def _digest(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=8).hexdigest()
