import errno
import multiprocessing
import os
import resource
import signal
import threading
import time

import pytest

from medlat.core.errors import UserError
from medlat.core.store import Recipe, Store, hash_of

RECIPE = Recipe("step", {"a": 1}, {"input": "k"})


def write(text):
    return lambda folder: (folder / "file").write_text(text)


def test_key_depends_on_what_determines_and_not_on_order():
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    keys = {
        r.key
        for r in (
            RECIPE,
            Recipe("other", {"a": 1}, {"input": "k"}),
            Recipe("step", {"a": 2}, {"input": "k"}),
            Recipe("step", {"a": 1}, {"input": "j"}),
        )
    }
    assert len(keys) == 4


def test_made_once_then_reused(tmp_path):
    store = Store(tmp_path)
    assert store.find(RECIPE) is None
    first = store.make(RECIPE, write("one"))
    second = store.make(RECIPE, write("two"))
    assert (first, second.path.joinpath("file").read_text()) == (second, "one")
    assert first.path == tmp_path / "step" / RECIPE.key


@pytest.mark.parametrize("damage", ["flipped", "longer", "removed", "recipe", "digests"])
def test_what_a_disk_has_damaged_is_made_anew(tmp_path, caplog, damage):
    store, built = Store(tmp_path), []

    def build(folder):
        built.append(folder)
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("as it was")

    path = store.make(RECIPE, build).path
    file, recipe = path / "below" / "file", path / "artifact.json"
    {
        "flipped": lambda: file.write_text("bs it was"),
        "longer": lambda: file.write_text("as it was "),
        "removed": file.unlink,
        "recipe": lambda: recipe.write_text("{"),
        "digests": lambda: recipe.write_text(recipe.read_text().replace('"bytes": 9', '"bytes": 8')),
    }[damage]()
    for _ in range(2):
        assert (store.make(RECIPE, build).path / "below" / "file").read_text() == "as it was"
    assert len(built) == 2, "once more, and then no more"
    assert f"step: damaged in the store ({RECIPE.key}); it is made anew" in caplog.text
    assert sorted(p.name for p in (tmp_path / "step").iterdir()) == [f".{RECIPE.key}.lock", RECIPE.key]


def test_nothing_is_whole_too(tmp_path, caplog):
    """A step that had nothing to do leaves no file; its artifact is reused and no damage."""
    built = []
    for _ in range(2):
        Store(tmp_path).make(RECIPE, built.append)
    assert len(built) == 1
    assert "damaged" not in caplog.text


def test_a_large_file_is_left_to_its_reader(tmp_path):
    """Who finds it damaged when it is read tells the store."""
    store = Store(tmp_path)

    def made(text):
        return store.make(RECIPE, lambda folder: (folder / "images.npy").write_text(text)).path / "images.npy"

    large = made("whole")
    large.write_text("whale")
    assert made("anew").read_text() == "whale"
    store.distrust(large)
    assert store.find(RECIPE) is not None, "nobody takes its folder for one without digests"
    assert made("anew").read_text() == "anew"


def test_what_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    """A colleague's artifact: refused, and not removed."""
    store = Store(tmp_path)
    path = store.make(RECIPE, write("theirs")).path / "file"

    def closed(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("medlat.core.store.is_whole", closed)
    with pytest.raises(UserError, match="file cannot be read"):
        store.make(RECIPE, write("ours"))
    assert path.read_text() == "theirs"


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("half")
        raise UserError("no")

    with pytest.raises(UserError):
        Store(tmp_path).make(RECIPE, fail)
    assert [p for p in (tmp_path / "step").iterdir() if not p.name.endswith(".lock")] == []


def test_a_resumable_build_finds_what_it_left(tmp_path):
    def first(folder):
        (folder / "half").write_text("half")
        raise UserError("interrupted")

    def second(folder):
        assert (folder / "half").read_text() == "half"

    store = Store(tmp_path)
    with pytest.raises(UserError):
        store.make(RECIPE, first, resumable=True)
    assert store.find(RECIPE) is None
    assert store.make(RECIPE, second, resumable=True).path.joinpath("half").exists()


def test_full_disk(tmp_path):
    """A limit on file size stands in for a full disk: the kernel refuses the write in the same way."""

    def child(queue):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            Store(tmp_path).make(RECIPE, lambda folder: (folder / "big").write_bytes(b"0" * 100_000))
        except UserError as error:
            queue.put(str(error))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join()
    assert "disk is full" in queue.get()
    assert not any(p.suffix == ".partial" for p in (tmp_path / "step").iterdir())


@pytest.mark.parametrize("place", ["file/store", "/proc/medlat"])
def test_not_writable(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Store(place).check_writable()


def _slow(root, queue):
    def build(folder):
        queue.put(os.getpid())
        time.sleep(0.3)
        (folder / "file").write_text("x")

    Store(root).make(RECIPE, build)


def test_eight_processes_make_one(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_slow, args=(tmp_path, queue)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * 8
    builders = [queue.get()]
    time.sleep(0.1)
    assert queue.empty(), "only one process builds"
    assert len(builders) == 1


def test_progress_is_kept_until_the_artifact_is_whole(tmp_path):
    def build(folder, fails):
        (folder / "progress").mkdir(exist_ok=True)
        (folder / "progress" / "1.ckpt").write_text("checkpoint")
        if fails:
            raise RuntimeError("between the training and what is saved of it")

    with pytest.raises(RuntimeError):
        Store(tmp_path).make(RECIPE, lambda folder: build(folder, True), resumable=True)
    assert [path.read_text() for path in tmp_path.glob("*/.*.partial/progress/*")] == ["checkpoint"]
    artifact = Store(tmp_path).make(RECIPE, lambda folder: build(folder, False), resumable=True)
    assert [path.name for path in artifact.path.iterdir()] == ["artifact.json"]


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    """Lock files in their place would outlive a job that dies."""

    def no_flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_flock)
    with pytest.raises(UserError, match="this disk has no file locks"):
        Store(tmp_path).check_writable()


def _hold(root, queue):
    def build(folder):
        (folder / "half").write_text("half")
        queue.put("holds")
        time.sleep(600)

    Store(root).make(RECIPE, build)


def test_a_killed_holder_blocks_nobody(tmp_path, caplog):
    """The lock is the kernel's, and goes with the process that held it; one that waits looks every 50 ms."""
    caplog.set_level("INFO")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    holder = context.Process(target=_hold, args=(tmp_path, queue))
    holder.start()
    assert queue.get() == "holds"
    killed = []
    threading.Timer(2.0, lambda: (holder.kill(), killed.append(time.monotonic()))).start()
    artifact = Store(tmp_path).make(RECIPE, write("whole"))
    assert 0.0 <= time.monotonic() - killed[0] < 5.0, "what the documentation promises"
    holder.join()
    assert holder.exitcode == -signal.SIGKILL
    assert "another job is making it; waiting" in caplog.text
    assert sorted(path.name for path in artifact.path.iterdir()) == ["artifact.json", "file"], "nothing of the dead"


def test_salt_is_made_once_and_private(tmp_path):
    salt = Store(tmp_path).salt()
    assert Store(tmp_path).salt() == salt
    assert len(salt) == 32
    assert (tmp_path / ".salt").stat().st_mode & 0o077 == 0
