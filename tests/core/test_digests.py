"""A byte that a disk has changed is seen: in a whole file, and in rows when they are read first."""

import pickle

import numpy as np
import pytest

from medlat.core import digests
from medlat.core.digests import CheckedRows, DamagedFile, is_whole


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(digests, "BLOCK", 256)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1024])
def test_every_byte_counts(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    noted = digests.digests(path)
    assert (noted["bytes"], len(noted["blocks"])) == (size, -(-size // 256))
    assert is_whole(path, noted)
    for place in {0, size // 2, size - 1} if size else set():
        flip(path, place)
        assert not is_whole(path, noted)
        flip(path, place)
    path.write_bytes(bytes(size + 1))
    assert not is_whole(path, noted)
    path.unlink()
    assert not is_whole(path, noted)


@pytest.mark.parametrize("columns", [30, 100, 700])  # rows within a block, across two, over several
def test_rows_are_checked_when_they_are_read_first(tmp_path, columns):
    path, values = tmp_path / "a.npy", np.arange(20 * columns, dtype=np.uint8).reshape(20, columns)
    np.save(path, values)
    noted = digests.digests(path)
    damaged = 13
    flip(path, 128 + damaged * columns + columns // 2)

    def rows():
        return CheckedRows(path, noted)

    near = {r for r in range(20) if (128 + r * columns) // 256 <= (128 + damaged * columns + columns // 2) // 256}
    far = {r for r in near if (128 + (r + 1) * columns - 1) // 256 < (128 + damaged * columns + columns // 2) // 256}
    opened = rows()
    assert len(opened) == 20
    for row in far:
        assert np.array_equal(opened[row], values[row]), "what lies in other blocks is as it was"
    for ask in (damaged, np.array([0, damaged]), slice(None), [damaged], np.arange(20) == damaged):
        with pytest.raises(DamagedFile, match=r"a\.npy: damaged since it was written"):
            rows()[ask]
    flip(path, 128 + damaged * columns + columns // 2)
    whole = rows()
    assert np.array_equal(whole[::-1], values[::-1])
    assert not whole.unread[1:].any()
    assert whole[np.array([], dtype=int)].shape == (0, columns)


def test_another_size_is_seen_at_once(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 4)))
    noted = digests.digests(path)
    np.save(path, np.zeros((5, 4)))
    with pytest.raises(DamagedFile):
        CheckedRows(path, noted)
    np.save(path, np.zeros((4, 4), dtype=np.int64))
    with pytest.raises(DamagedFile):  # another header
        CheckedRows(path, noted)


def test_the_error_reaches_other_processes(tmp_path):
    error = pickle.loads(pickle.dumps(DamagedFile(tmp_path / "a")))
    assert (error.path, str(error)) == (tmp_path / "a", str(DamagedFile(tmp_path / "a")))
