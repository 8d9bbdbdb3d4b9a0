import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch

from medlat.core.errors import UserError
from medlat.data.batches import ShuffledBatches, Slices
from medlat.data.image_store import ImageStore, Preparation, prepare, pseudonym, worker_pool
from medlat.data.modality import CT
from medlat.data.source import Chunk, Damaged, Scan, Slice

HOW = Preparation(image_size=16, field_of_view_mm=32.0, max_damaged=0.5, salt="salt", workers=1)


@dataclass
class Levels:
    """A source whose slice i is i HU, but for its last rows; some are damaged."""

    patients: int = 3
    slices: int = 4
    bad: tuple[int, ...] = ()
    modality = CT

    def fingerprint(self):
        return "levels"

    def expected(self):
        return self.patients * self.slices

    def scan(self, parallel_map):
        chunks = []
        for p in range(self.patients):
            items = tuple(range(p * self.slices, (p + 1) * self.slices))
            columns = {"position_mm": np.array(items, float), "factor.level": np.array(items) / 10.0}
            chunks.append(Chunk(f"patient {p}", items, columns))
        return Scan(chunks, skipped={"not DICOM": 2})

    def read(self, chunk):
        for i in chunk.items:
            yield (
                Damaged(f"secret/{i}", "truncated")
                if i in self.bad
                else Slice(np.pad(np.full((30, 32), i, np.float32), ((0, 2), (0, 0)), constant_values=100), (1.0, 1.0))
            )


def opened(tmp_path, source, how=HOW):
    prepare(source, how, tmp_path)
    return ImageStore.open(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_slice_keeps_its_place(tmp_path, workers):
    source = Levels(patients=70, slices=2)  # more chunks than are read without worker processes
    how = Preparation(16, 32.0, 0.0, "salt", workers)
    store = opened(tmp_path, source, how)
    assert store.images.shape == (140, 1, 16, 16)
    assert np.array_equal(store.images[:, 0, 0, 0], store.columns["position_mm"])
    assert np.allclose(store.factors()["level"], store.columns["position_mm"] / 10)
    assert np.array_equal(store.patient, np.repeat(np.arange(70), 2))
    assert store.info["spacing_mm"] == 2.0


def test_damaged_slices_are_counted_listed_and_left_out(tmp_path, capsys):
    listing = tmp_path / "listing.txt"
    how = Preparation(16, 32.0, 0.5, "salt", 1, damaged_list=str(listing))
    (tmp_path / "out").mkdir()
    store = opened(tmp_path / "out", Levels(bad=(1, 5)), how)
    assert len(store) == 10
    assert sorted(store.images[np.arange(10)][:, 0, 0, 0]) == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert store.info["account"] == [["damaged", 2, "truncated"], ["left out", 2, "not DICOM"]]
    assert "secret/5: truncated" in capsys.readouterr().err
    assert (
        listing.read_text().splitlines() == ["secret/1: truncated", "secret/5: truncated"]
        or "secret/1" in listing.read_text()
    )
    assert all("secret" not in p.read_bytes().decode("latin1") for p in (tmp_path / "out").iterdir())


def test_too_many_damaged_slices_stop_the_run(tmp_path):
    with pytest.raises(UserError, match=r"max_damaged=0.5: 7 of 12 .*7 x truncated"):
        opened(tmp_path, Levels(bad=tuple(range(7))))


def test_a_patient_whose_slices_are_all_damaged_is_gone(tmp_path):
    store = opened(tmp_path, Levels(bad=(0, 1, 2, 3)))
    assert len(store.patients) == 2
    assert pseudonym("patient 0", "salt") not in store.patients
    assert sorted(set(store.patient)) == [0, 1]


def test_patients_appear_as_salted_hashes(tmp_path):
    store = opened(tmp_path, Levels())
    assert sorted(store.patients) == sorted(pseudonym(f"patient {p}", "salt") for p in range(3))
    assert pseudonym("a", "salt") != pseudonym("a", "pepper")
    assert all(b"patient 0" not in p.read_bytes() for p in tmp_path.iterdir())


def test_digest_is_of_the_content(tmp_path):
    digests = []
    for name, source in (("a", Levels()), ("b", Levels()), ("c", Levels(bad=(3,)))):
        (tmp_path / name).mkdir()
        digests.append(opened(tmp_path / name, source).info["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_a_batch_is_fetched_whole(tmp_path):
    store = opened(tmp_path, Levels())
    spec = store.spec((0.0, 10.0))
    batch = Slices(store, spec)[(np.array([3, 0]), 0)]
    positions = store.columns["position_mm"][[3, 0]]
    assert batch.shape == (2, 1, 16, 16)
    assert batch.dtype == torch.float32
    assert torch.allclose(batch[:, 0, 5, 5], torch.tensor(positions / 5 - 1, dtype=torch.float32).clamp(-1, 1))
    assert store.physical(np.array([3]), spec).shape == (1, 16, 16)


@pytest.mark.parametrize("name", ["images.npy", "index.npz", "slices.json"])
def test_a_damaged_store_is_named(tmp_path, name):
    prepare(Levels(), HOW, tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"images\.npy: damaged since it was written; the same command makes it anew"):
        ImageStore.open(tmp_path)


def test_batches_are_a_function_of_seed_and_step():
    indices = np.arange(100, 110)
    batches = ShuffledBatches(indices, batch_size=4, steps=5, seed=3)
    rounds = np.concatenate([batches.batch(s) for s in range(5)])
    assert sorted(rounds[:10]) == list(indices), "the first round shows each slice once"
    assert sorted(rounds[10:]) == list(indices)
    assert not np.array_equal(rounds[:10], rounds[10:])
    later = ShuffledBatches(indices, 4, 5, 3, start=3)
    assert [b.tolist() for b, _ in later] == [batches.batch(3).tolist(), batches.batch(4).tolist()]


def test_processes_share_a_round():
    indices = np.arange(8)
    parts = [ShuffledBatches(indices, 2, 2, 0, rank=r, world=2) for r in (0, 1)]
    assert sorted(np.concatenate([p.batch(s) for p in parts for s in (0, 1)])) == list(indices)


def test_a_batch_may_be_larger_than_the_data():
    batch = ShuffledBatches(np.arange(3), 8, 1, 0).batch(0)
    assert np.bincount(batch).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_a_signal_to_all_processes_of_a_job_does_not_break_the_pool():
    """As SLURM sends them before it queues a job again: what ends is the process that started the others."""

    def children(of):
        return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]

    with worker_pool(2) as parallel_map:
        results = parallel_map(time.sleep, [0.02] * 200, "sleeping")
        assert next(results) is None
        server = forkserver._forkserver._forkserver_pid
        workers = children(server)
        assert len(workers) == 2
        for pid in (server, *workers):
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
                os.kill(pid, number)
        assert list(results) == [None] * 199
        assert children(server) == workers
