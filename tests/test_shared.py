"""What tests share stays as it is: made once, copied by links, and damaged by nobody."""

import os

import pytest
from runs import linked, once, spoil


def test_a_shared_folder_is_made_once_and_again_where_that_failed(tmp_path_factory):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text("x")
        if len(made) == 1:
            raise RuntimeError

    name = f"of_{os.getpid()}"  # each worker has its own
    with pytest.raises(RuntimeError):
        once(name, make, tmp_path_factory)
    folders = {once(name, make, tmp_path_factory) for _ in range(3)}
    assert len(made) == 2
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [["file"]]


def test_a_linked_file_is_spoiled_alone(tmp_path):
    source = tmp_path / "source" / "below"
    source.mkdir(parents=True)
    (source / "file").write_text("whole")
    (source / ".file.lock").touch()
    copy = linked(tmp_path / "source", tmp_path / "copy") / "below"
    assert (copy / "file").samefile(source / "file")
    spoil(copy / "file", b"damaged")
    assert ((source / "file").read_text(), (copy / "file").read_text()) == ("whole", "damaged")
    assert sorted(path.name for path in copy.iterdir()) == ["file"]
