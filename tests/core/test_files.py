"""Files that are there whole or not at all, and what is said where a disk refuses them."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medlat.core.errors import UserError
from medlat.core.files import copy_whole, read_json, whole, write_json, writing

BIG = torch.zeros(100_000)


def test_what_was_there_stays_until_the_new_is_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail():
        with whole(path) as fresh:
            fresh.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / "copies").mkdir()
    copy_whole(path, tmp_path / "copies")
    assert read_json(tmp_path / "copies" / "a.json") == {"a": 1}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_no_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "b.json") is None


def _torch(path):
    with open(path, "wb") as file:
        torch.save({"a": BIG}, file)


WRITERS = {
    "torch": _torch,
    "safetensors": lambda path: save_file({"a": BIG}, path),
    "numpy": lambda path: np.save(path, BIG.numpy()),
    "plain": lambda path: path.write_text("a" * 400_000),
    "copy": lambda path: shutil.copy(sys.executable, path),
}


def _on_a_full_disk(folder, name, queue):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        with writing("store", folder):
            WRITERS[name](folder / "file")
    except UserError as error:
        queue.put(str(error))
    except Exception as error:
        queue.put(repr(error))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_has_one_name(tmp_path, name):
    """Each library says it in its own way. A limit on file size stands in: the kernel refuses in the same way."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_on_a_full_disk, args=(tmp_path, name, queue))
    process.start()
    process.join()
    reason = "No space left on device" if name == "numpy" else "File too large"  # NumPy does not pass on the system's
    assert queue.get() == f"store={tmp_path}: the disk is full ({reason}); free space or set store=DIR"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
        (errno.ENAMETOOLONG, "cannot be written"),
        (errno.ENOLCK, "no file locks"),
        (errno.EDQUOT, "the disk is full"),
    ],
)
def test_what_a_disk_refuses(tmp_path, number, words):
    def refuse(path):
        with writing("hydra.run.dir", tmp_path):
            raise OSError(number, os.strerror(number), str(path))

    with pytest.raises(UserError, match=words):
        refuse(tmp_path / "a" / "b")
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        refuse(tmp_path.parent / "elsewhere")
    assert not isinstance(raised.value, UserError), "of another folder"


def test_a_file_that_is_missing_is_no_fault_of_the_disk(tmp_path):
    def read(path):
        with writing("hydra.run.dir", tmp_path):
            path.read_text()

    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot be written"):
        read(tmp_path / "gone" / "absent")  # its folder was deleted
