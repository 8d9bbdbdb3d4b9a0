import pickle
from pathlib import Path

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import GREY, HISTOLOGY
from medlat.data.pictures.medmnist import MedMNIST
from medlat.data.source import Damaged

COUNTS = {"train": 5, "val": 2, "test": 3}


def in_order(function, items, description):
    return map(function, items)


def arrays(colour: bool = False) -> dict[str, np.ndarray]:
    """Image i of part p is 100·p + i everywhere; labels are i mod 3, times 2."""
    made = {}
    for number, (part, count) in enumerate(COUNTS.items()):
        values = (50 * number + np.arange(count)).astype(np.uint8).reshape(-1, 1, 1)
        images = np.broadcast_to(values, (count, 6, 6))
        made[f"{part}_images"] = np.stack([images, images + 1, images + 2], -1) if colour else images.copy()
        made[f"{part}_labels"] = (2 * (np.arange(count) % 3)).reshape(-1, 1).astype(np.uint8)
    return made


def write(path: Path, save=np.savez_compressed, **changes) -> MedMNIST:
    save(path, **{name: values for name, values in (arrays() | changes).items() if values is not None})
    return MedMNIST(str(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("colour", [False, True])
def test_every_image_with_its_label_and_part(tmp_path, save, colour):
    source = pickle.loads(pickle.dumps(write(tmp_path / "a.npz", save, **arrays(colour))))
    assert source.modality == (HISTOLOGY if colour else GREY)
    assert source.expected() == 10
    scan = source.scan(in_order)
    assert scan.classes == {"label": ("0", "2", "4")}
    assert len({c.patient for c in scan.chunks}) == len(scan.chunks) == 10
    for chunk in reversed(scan.chunks):  # any order
        (one,) = source.read(chunk)
        number, i = int(chunk.columns["split"][0]), chunk.items[0].row
        expected = 50 * number + i
        assert chunk.columns["label.label"][0] == i % 3
        assert one.pixels.shape == ((6, 6, 3) if colour else (6, 6))
        assert (one.pixels.min(), one.pixels.max()) == (expected, expected + 2 * colour)


def test_into_the_slice_store_with_its_split(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    prepare(write(tmp_path / "a.npz"), Preparation(3, None, 0.0, "salt", 1), out)
    store = ImageStore.open(out)
    values = store.images[np.arange(10)][:, 0, 0, 0]
    np.testing.assert_array_equal(values // 50, store.columns["split"])
    np.testing.assert_array_equal(values % 50 % 3, store.columns["label.label"])
    assert np.bincount(store.columns["split"].astype(int)).tolist() == [5, 2, 3]
    assert store.info["spacing_mm"] == 2.0


def test_nothing_tells_patients_apart(tmp_path):
    scan = write(tmp_path / "a.npz").scan(in_order)
    assert not any(c.known for c in scan.chunks)
    assert len({chunk.patient for chunk in scan.chunks}) == 10


objects = np.array([{"a": 1}] * 5, dtype=object)
BAD = [
    ({"train_images": objects}, "train_images .* holds Python objects, which are refused"),
    ({"train_labels": objects}, "train_labels .*Python objects are refused"),
    ({"val_labels": np.zeros((2, 14), np.uint8)}, r"the parts of '.*' differ in their number of labels: \[1, 14\]"),
    ({"val_images": None}, "has no val_images, found train_images"),
    ({"test_labels": None}, "has no test_labels"),
    (
        {"test_images": np.zeros((3, 6, 6), np.float32)},
        r"test_images .* is float32 of shape \(3, 6, 6\), expected uint8",
    ),
    ({"test_images": np.zeros((3, 6, 6, 6), np.uint8)}, "volumes are not read"),
    ({"test_images": np.zeros((3, 7, 7), np.uint8)}, "differ in the shape"),
    ({"test_labels": np.zeros((4, 1), np.uint8)}, r"uint8 of shape \(4, 1\), expected whole numbers of shape \(3, 1\)"),
    ({"test_labels": np.zeros((3, 1), np.float32)}, "float32"),
    ({"test_labels": np.zeros((3, 1, 1, 2), np.uint8)[:2]}, r"uint8 of shape \(2, 1, 1, 2\), expected whole numbers"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_files_that_are_no_such_data_set(tmp_path, changes, words):
    source = write(tmp_path / "a.npz", **changes)
    with pytest.raises(UserError, match=words):
        source.scan(in_order)


def several(count: int, parts: dict[str, int] = COUNTS) -> dict[str, np.ndarray]:
    """Label j of image i is the j-th bit of i + 1."""
    return {
        f"{p}_labels": ((np.arange(n)[:, None] + 1) >> np.arange(count) & 1).astype(np.uint8) for p, n in parts.items()
    }


def test_of_several_labels_all_are_kept_or_the_one_that_is_asked_for(tmp_path):
    source = write(tmp_path / "chestmnist.npz", **several(14))
    scan = source.scan(in_order)
    assert list(scan.classes)[:3] == ["atelectasis", "cardiomegaly", "effusion"]
    assert len(scan.classes) == 14
    assert (scan.classes["effusion"], scan.classes["hernia"]) == (("0", "1"), ("0",))
    rows = [chunk.columns for chunk in scan.chunks]
    assert [row["label.cardiomegaly"].tolist() for row in rows[:5]] == [[0.0], [1.0], [1.0], [0.0], [0.0]]
    for label in (1, "1", "cardiomegaly"):
        one = MedMNIST(str(tmp_path / "chestmnist.npz"), label).scan(in_order)
        assert one.classes == {"cardiomegaly": ("0", "1")}
        assert [set(chunk.columns) for chunk in one.chunks] == [{"position_mm", "split", "label.cardiomegaly"}] * 10
        assert [c.columns["label.cardiomegaly"][0] for c in one.chunks[:5]] == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_labels_of_another_file_are_called_by_their_numbers(tmp_path):
    write(tmp_path / "a.npz", **several(3))
    assert list(MedMNIST(str(tmp_path / "a.npz")).scan(in_order).classes) == ["0", "1", "2"]
    assert list(MedMNIST(str(tmp_path / "a.npz"), 2).scan(in_order).classes) == ["2"]


@pytest.mark.parametrize("label", [3, "edema"])
def test_a_label_that_there_is_not(tmp_path, label):
    write(tmp_path / "a.npz", **several(3))
    with pytest.raises(UserError, match=rf"label={label}: '.*a.npz' has 3 labels per image; choose from 0, 1, 2"):
        MedMNIST(str(tmp_path / "a.npz"), label).scan(in_order)


def test_one_label_for_all_is_said_and_no_fault(tmp_path, caplog):
    same = {f"{part}_labels": np.ones((n, 1), np.uint8) for part, n in COUNTS.items()}
    assert write(tmp_path / "a.npz", **same).scan(in_order).classes == {"label": ("1",)}
    assert "every image has the same label: there is nothing to learn from it" in caplog.text


def test_a_missing_file_and_a_folder(tmp_path):
    write(tmp_path / "pathmnist.npz")
    with pytest.raises(UserError, match=r"path: there is no file .*did you mean 'pathmnist.npz'"):
        MedMNIST(str(tmp_path / "pathmnst.npz"))
    with pytest.raises(UserError, match=r"is a folder, expected a MedMNIST file .*pathmnist.npz'\?"):
        MedMNIST(str(tmp_path)).fingerprint()


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"no readable .npz file"):
        MedMNIST(str(tmp_path / "a.npz")).fingerprint()


def test_damage_within_the_archive_is_no_crash(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    more = {f"{p}_images": noise[:n] for p, n in COUNTS.items()}
    source = write(tmp_path / "a.npz", **more)
    chunks = source.scan(in_order).chunks
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[5000:5100] = bytes(100)
    (tmp_path / "a.npz").write_bytes(data)
    results = [one for chunk in chunks for one in source.read(chunk)]
    assert [isinstance(one, Damaged) for one in results] == [True] * 5 + [False] * 5


def test_the_fingerprint_follows_the_file(tmp_path):
    before = write(tmp_path / "a.npz").fingerprint()
    assert MedMNIST(str(tmp_path / "a.npz")).fingerprint() == before
    assert write(tmp_path / "a.npz", np.savez).fingerprint() != before
