import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.histology.pcam import PatchCamelyon
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.source import Damaged

COUNTS = {"train": 6, "valid": 3, "test": 4}
STEM = "camelyonpatch_level_2_split_"


def in_order(function, items, description):
    return map(function, items)


def write(root: Path, meta: bool = False, side: int = 8) -> Path:
    """Tile i of part p is 50·p + i everywhere, and tumour where i is odd; tiles 0, 2, ... are of one slide."""
    for number, (part, count) in enumerate(COUNTS.items()):
        values = (50 * number + np.arange(count)).astype(np.uint8).reshape(-1, 1, 1, 1)
        with h5py.File(root / f"{STEM}{part}_x.h5", "w") as file:
            file.create_dataset(
                "x",
                data=np.broadcast_to(values, (count, side, side, 3)),
                chunks=(1, side, side, 3),
                compression="gzip",
                fletcher32=True,
            )
        with h5py.File(root / f"{STEM}{part}_y.h5", "w") as file:
            file["y"] = (np.arange(count) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
        if meta:
            lines = [f"{i},{i % 2 == 1},{part}_slide_{i % 2}\n" for i in range(count)]
            (root / f"{STEM}{part}_meta.csv").write_text(",tumor_patch,wsi\n" + "".join(lines))
    return root


@pytest.mark.parametrize("meta", [False, True])
def test_tiles_labels_parts_and_groups(tmp_path, meta):
    source = pickle.loads(pickle.dumps(PatchCamelyon(str(write(tmp_path, meta)))))
    scan = source.scan(in_order)
    assert scan.classes == {"tumour": ("normal", "tumour")}
    groups = {f"{p}_slide_{k}" for p in COUNTS for k in (0, 1)} if meta else set(COUNTS)
    assert {c.patient for c in scan.chunks} == groups
    seen = []
    for chunk in scan.chunks:
        for i, one in enumerate(source.read(chunk)):
            value = int(one.pixels[0, 0, 0])
            assert (one.pixels == value).all()
            assert one.pixels.shape == (8, 8, 3)
            assert chunk.columns["split"][i] == value // 50
            assert chunk.columns["label.tumour"][i] == value % 50 % 2
            seen.append(value)
    assert sorted(seen) == [*range(6), *range(50, 53), *range(100, 104)]
    assert one.spacing_mm == pytest.approx((0.000972, 0.000972))


def test_into_the_slice_store(tmp_path):
    (tmp_path / "out").mkdir()
    prepare(PatchCamelyon(str(write(tmp_path))), Preparation(4, None, 0.0, "salt", 1), tmp_path / "out")
    store = ImageStore.open(tmp_path / "out")
    values = store.images[np.arange(13)][:, 1, 0, 0]
    np.testing.assert_array_equal(values // 50, store.columns["split"])
    assert len(store.patients) == 3


def test_a_damaged_tile_is_one_damaged_tile(tmp_path):
    source = PatchCamelyon(str(write(tmp_path)))
    chunks = source.scan(in_order).chunks
    path = tmp_path / f"{STEM}train_x.h5"
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[place.byte_offset + 4] ^= 0xFF
    path.write_bytes(data)
    results = [one for chunk in chunks if chunk.patient == "train" for one in source.read(chunk)]
    assert [isinstance(one, Damaged) for one in results] == [False, False, True, False, False, False]
    path.write_bytes(b"gone")
    assert all(isinstance(one, Damaged) for one in source.read(chunks[0]))


def broken(root: Path, what: str) -> None:
    x, y, meta = (root / f"{STEM}train_{name}" for name in ("x.h5", "y.h5", "meta.csv"))
    if what == "no labels":
        y.unlink()
    elif what == "not hdf5":
        x.write_bytes(b"no")
    elif what == "meta":
        meta.write_text(",wsi\n0,a\n")
    elif what == "copy":
        (root / "again").mkdir()
        (root / "again" / x.name).write_bytes(x.read_bytes())
    else:
        with h5py.File(x, "a") as images, h5py.File(y, "a") as labels:
            if what == "count":
                del labels["y"]
                labels["y"] = np.zeros((3, 1, 1, 1))
            elif what == "values":
                labels["y"][0] = 2
            elif what == "shape":
                del images["x"]
                images["x"] = np.zeros((6, 3, 8, 8), np.uint8)


BROKEN = [
    ("no labels", r"the part 'train' .* has no ..._train_y.h5"),
    ("not hdf5", r"train_x.h5' or .* is damaged or no PatchCamelyon file"),
    ("meta", r"train_meta.csv' has 1 rows, expected 6 with the slide's name in a column wsi"),
    ("copy", "two files of one part"),
    ("count", r"train_x.h5' holds 6 tiles, .*train_y.h5' 3 labels"),
    ("values", "other values than 0 and 1"),
    ("shape", r"uint8 of shape \(6, 3, 8, 8\), expected uint8"),
]


@pytest.mark.parametrize(("what", "words"), BROKEN)
def test_files_that_do_not_do(tmp_path, what, words):
    broken(write(tmp_path), what)
    with pytest.raises(UserError, match=words):
        PatchCamelyon(str(tmp_path)).scan(in_order)


def test_packed_files_are_to_be_unpacked(tmp_path):
    (tmp_path / f"{STEM}train_x.h5.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"no PatchCamelyon file .*; unpack the 1 .h5.gz files first \(gunzip\)$"):
        PatchCamelyon(str(tmp_path)).scan(in_order)


@pytest.mark.parametrize("packed", [("x.h5",), ("y.h5",), ("x.h5", "y.h5")])
def test_packed_files_are_to_be_unpacked_whatever_lies_beside_them(tmp_path, packed):
    """As they are delivered: the lists of slides are not packed."""
    write(tmp_path, meta=True)
    for part in COUNTS:
        for name in packed:
            path = tmp_path / f"{STEM}{part}_{name}"
            path.rename(f"{path}.gz")
    lacks = " and no ".join(f"..._train_{name}" for name in packed)
    with pytest.raises(UserError, match=rf"part 'train' .* has no {lacks}; unpack the {3 * len(packed)} .h5.gz files"):
        PatchCamelyon(str(tmp_path)).scan(in_order)


def test_a_bad_resolution(tmp_path):
    with pytest.raises(UserError, match=r"mpp=0"):
        PatchCamelyon(str(tmp_path), mpp=0.0)
