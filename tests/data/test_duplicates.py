from dataclasses import dataclass

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.duplicates import leaks, named, refuse_leaks, without_copies
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import GREY
from medlat.data.pictures.listing import Picture
from medlat.data.source import Chunk, Damaged, Scan, Slice
from medlat.data.splits import Split


def parts(train, validation=(), test=()) -> Split:
    return Split(*(np.array(rows, dtype=np.int64) for rows in (train, validation, test)))


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)


def test_nothing_leaks_where_all_differ():
    assert leaks(noise(9), parts([0, 1, 2], [3, 4, 5], [6, 7, 8])) == []


def test_copies_in_two_parts_are_found_and_copies_in_one_are_not():
    images = noise(8)
    images[5] = images[1]  # train and test
    images[6] = images[2]  # in test alone
    images[2] = images[6]
    images[7] = images[3]
    assert leaks(images, parts([0, 1], [3, 4], [2, 5, 6, 7])) == [(1, 5), (3, 7)]


def test_a_copy_in_all_parts_and_several_in_one():
    images = noise(6)
    images[1:] = images[0]
    assert leaks(images, parts([4, 5], [2, 3], [0, 1])) == [(0, 2), (0, 4), (2, 4)]


def test_every_copy_is_left_out_of_the_earlier_parts():
    images = noise(10)
    images[[1, 3, 6]] = images[0]  # twice in training, in validation, in test
    images[4] = images[2]  # in training and validation
    images[8] = images[7]  # in test alone
    left = without_copies(images, parts([0, 1, 2, 9], [3, 4], [5, 6, 7, 8]))
    assert (left.train.tolist(), left.validation.tolist(), left.test.tolist()) == ([9], [4], [5, 6, 7, 8])
    assert left.copies.tolist() == [0, 1, 2, 3]
    assert leaks(images, left) == []


def test_empty_images_do_not_count_and_one_grey_level_does():
    images = np.full((4, 3, 4, 4), 255, np.uint8)
    assert leaks(images, parts([0, 1], [], [2, 3])) == []
    images[[1, 2], 0, 0, 0] = 254
    assert leaks(images, parts([0, 1], [], [2, 3])) == [(1, 2)]


def test_slices_outside_the_split_do_not_count():
    images = noise(4)
    images[3] = images[0]
    assert leaks(images, parts([0], [], [1])) == []


def test_blocks_make_no_difference(monkeypatch):
    images = noise(50)
    images[40:50] = images[:10]
    split = parts(range(20), range(20, 30), range(30, 50))
    whole = leaks(images, split)
    monkeypatch.setattr("medlat.data.equal.BLOCK_BYTES", 100)
    assert leaks(images, split) == whole == [(i, i + 40) for i in range(10)]


@dataclass
class Files:
    """Ten patients with two files each; the files of patients 3 and 7 are the same, and one file is damaged."""

    kind: str = "path"
    modality = GREY

    def fingerprint(self):
        return "files"

    def expected(self):
        return 20

    def scan(self, parallel_map):
        chunks = []
        for p in range(10):
            names = [f"/data/p{p}_{i}.png" for i in range(2)]
            items = {"path": [Picture(n, "x", str(p), 0.0) for n in names], "tuple": [(n, 3) for n in names]}
            chunks.append(Chunk(f"p{p}", tuple(items.get(self.kind, range(2))), {"position_mm": np.zeros(2)}))
        return Scan(chunks)

    def read(self, chunk):
        p = int(chunk.patient[1:])
        for i in range(2):
            seed = 2 * (3 if p == 7 else p) + i
            pixels = np.random.default_rng(seed).uniform(0, 255, (8, 8)).astype(np.float32)
            yield Damaged(f"p{p}", "x") if (p, i) == (5, 0) else Slice(pixels, (1.0, 1.0))


def opened(tmp_path, source) -> tuple[ImageStore, dict[str, np.ndarray]]:
    prepare(source, Preparation(8, None, 0.5, "salt", 1), tmp_path)
    store = ImageStore.open(tmp_path)
    rows = {}
    for p in range(10):
        first = next(one for one in source.read(Chunk(f"p{p}", (), {})) if isinstance(one, Slice)).pixels.round()
        rows[p] = np.flatnonzero([np.array_equal(image[0], first) for image in store.images[np.arange(len(store))]])
    return store, rows


@pytest.mark.parametrize("kind", ["path", "tuple"])
def test_copies_are_named_as_the_user_knows_them(tmp_path, kind):
    source = Files(kind)
    store, rows = opened(tmp_path, source)
    a, b = rows[3]  # of patients 3 and 7, in the order of the store
    everything = np.arange(len(store))
    with pytest.raises(UserError) as caught:
        refuse_leaks(store, parts(np.setdiff1d(everything, [b, b + 1]), [], [b, b + 1]), source)
    text = str(caught.value)
    assert text.startswith("split: 2 images with the same pixels")
    assert all(f"/data/p{p}_{i}.png" in text for p in (3, 7) for i in (0, 1))
    assert "(train) = /data/p" in text
    assert a != b


def test_damaged_files_do_not_shift_the_names(tmp_path):
    source = Files()
    store, rows = opened(tmp_path, source)
    assert len(store) == 19
    for p in (0, 1, 2, 4, 6, 8, 9):
        assert named(store, [int(rows[p][0])], source) == [f"/data/p{p}_0.png"]
    assert named(store, [int(rows[5][0])], source) == ["/data/p5_1.png"]


def test_items_without_a_path_are_named_by_their_row(tmp_path):
    source = Files("number")
    store, rows = opened(tmp_path, source)
    a, b = rows[3].tolist()
    with pytest.raises(UserError, match=rf"slice {a} \(train\) = slice {b} \(test\)"):
        refuse_leaks(store, parts([a], [], [b]), source)


def test_at_most_five_pairs_are_named(tmp_path):
    source = Files()
    store, _ = opened(tmp_path, source)
    store.images = np.repeat(noise(8), 2, axis=0)
    with pytest.raises(UserError, match=r"(?s)8 images.*and 3 more") as caught:
        refuse_leaks(store, parts(range(0, 16, 2), [], range(1, 16, 2)), source)
    assert str(caught.value).count(" = ") == 5


def test_a_clean_split_passes(tmp_path):
    source = Files()
    store, rows = opened(tmp_path, source)
    refuse_leaks(store, parts(rows[1], rows[2], rows[4]), source)
