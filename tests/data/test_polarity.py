"""Negatives among radiographs: found, counted, and turned about only where that was asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.polarity import inverted_among


def knees(count: int, seed: int = 0, side: int = 32) -> np.ndarray:
    """[N, 1, S, S] uint8: bright bones above and below a dark joint, each placed, sized and exposed by chance."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    images = []
    for _ in range(count):
        joint, width, thick = rng.normal(0.5, 0.04), rng.uniform(0.25, 0.35), rng.uniform(0.02, 0.05)
        bone = (np.abs(x - rng.normal(0.5, 0.03)) < width) & (np.abs(y - joint) > thick)
        low, high = rng.uniform(10, 60), rng.uniform(110, 240)
        images.append(np.clip(np.where(bone, high, low) + rng.normal(0, 15, (side, side)), 1, 254))
    return np.array(images, np.uint8)[:, None]


def half(count: int, share: float) -> np.ndarray:
    return np.random.default_rng(1).permutation(count) < round(share * count)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.45])
@pytest.mark.parametrize("pad", [(0, 0), (0, 20), (12, 0)])
def test_negatives_are_found_and_nothing_else(share, pad):
    images, negative = knees(200), half(200, share)
    images[negative] = 255 - images[negative]
    padded = np.pad(images, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    found = inverted_among(padded, np.arange(200))
    np.testing.assert_array_equal(found.inverted, negative)
    assert found.alike > 0.7, found


def test_the_fewer_are_the_negatives():
    images, most = knees(100), half(100, 0.7)
    images[most] = 255 - images[most]
    np.testing.assert_array_equal(inverted_among(images, np.arange(100)).inverted, ~most)


def test_only_the_rows_that_hold_an_image_are_compared():
    images = knees(60)
    images[::2] = 0
    images[7] = 255 - images[7]
    rows = np.arange(1, 60, 2)
    np.testing.assert_array_equal(inverted_among(images, rows).inverted, rows == 7)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    """Dark nuclei anywhere."""
    images = np.full((300, 1, 32, 32), 200.0)
    for image in images:
        for _ in range(rng.integers(3, 12)):
            y, x = rng.integers(0, 28, 2)
            image[0, y : y + 5, x : x + 5] = 60
    return images


def _blobs(rng: np.random.Generator) -> np.ndarray:
    """Bright in the middle, most of them, each with as much of its own."""
    middle = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j]) < 0.6
    own = rng.normal(0, 1, (300, 1, 16, 16)).repeat(2, 2).repeat(2, 3)
    return np.clip(128 + 25 * (rng.normal(0.9, 0.9, (300, 1, 1, 1)) * 2 * (middle - middle.mean()) + own), 1, 255)


VARIED = {
    "noise": lambda rng: rng.integers(0, 256, (300, 1, 32, 32)),
    "tiles": _tiles,
    "a tail": _blobs,
    "few": lambda rng: knees(19),
    "flat": lambda rng: np.full((300, 1, 32, 32), 7),
}


@pytest.mark.parametrize("name", VARIED)
def test_of_images_that_differ_too_much_nothing_is_said(name):
    images = VARIED[name](np.random.default_rng(0)).astype(np.uint8)
    assert inverted_among(images, np.arange(len(images))).inverted is None


def test_images_that_are_all_alike_hold_no_negative():
    assert not inverted_among(knees(100), np.arange(100)).inverted.any()


def radiographs(root: Path, share: float, count: int = 40) -> np.ndarray:
    """Portraits, so that the store pads them; returns which are negatives."""
    images, negative = knees(count)[:, 0, :, 2:30], half(count, share)
    root.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(255 - image if negative[i] else image).save(root / f"{i:02}.png")
    return negative


def store_of(root: Path, out: Path, polarity: str) -> ImageStore:
    out.mkdir()
    source = ImageFolder(str(root), labels=None, colour=False, polarity=polarity)
    prepare(source, Preparation(32, None, 0.0, "salt", 1), out)
    return ImageStore.open(out)


def test_checked_says_it_and_changes_nothing_mended_turns_them_about(tmp_path, caplog):
    negative = radiographs(tmp_path / "in", 0.1)
    stored, checked, mended = (
        store_of(tmp_path / "in", tmp_path / polarity, polarity) for polarity in ("as_stored", "checked", "mended")
    )
    every = np.arange(40)
    assert [s.info["account"] for s in (stored, checked, mended)] == [
        [],
        [["read", 4, "negative"]],
        [["read", 4, "negative, turned about"]],
    ]
    assert caplog.messages == [
        "4 of 40 images are negatives of what the others look like; polarity=mended turns them about",
        "4 of 40 images are negatives of what the others look like, and were turned about (polarity=mended)",
    ]
    np.testing.assert_array_equal(stored.images[every], checked.images[every])
    before, after = stored.images[every].astype(int), mended.images[every].astype(int)
    changed = (before != after).any((1, 2, 3))
    assert changed.sum() == negative.sum() == 4
    np.testing.assert_array_equal(after[changed][..., 2:30], 255 - before[changed][..., 2:30])
    assert (after[..., :2] == 0).all()
    assert not inverted_among(mended.images, every).inverted.any()


def test_too_many_to_tell_which_are_wrong(tmp_path):
    radiographs(tmp_path / "in", 0.45)
    with pytest.raises(UserError, match=r"polarity=mended: 18 of 40 images are negatives .*: too many to tell which"):
        store_of(tmp_path / "in", tmp_path / "out", "mended")
    assert store_of(tmp_path / "in", tmp_path / "again", "checked").info["account"] == [["read", 18, "negative"]]


def test_that_nothing_can_be_said_is_said(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (25, 16, 16), dtype=np.uint8)):
        Image.fromarray(image).save(tmp_path / "in" / f"{i}.png")
    with caplog.at_level("INFO"):
        assert store_of(tmp_path / "in", tmp_path / "out", "mended").info["account"] == []
    assert "polarity: images too different from each other to tell negatives (r 0." in caplog.text


def test_knees(real_data, tmp_path):
    """Those that were found by eye to be dark bone: 84 of 6,604."""
    source = ImageFolder(str(real_data / "knee_oa"), colour=False, polarity="checked")
    prepare(source, Preparation(32, None, 0.0, "salt", 2), tmp_path)
    assert ImageStore.open(tmp_path).info["account"] == [["read", 84, "negative"]]


def test_no_false_alarm_among_tiles(real_data, tmp_path):
    source = ImageFolder(str(real_data / "histology_lc25000"), colour=False, polarity="checked")
    prepare(source, Preparation(32, None, 0.0, "salt", 2), tmp_path)
    assert ImageStore.open(tmp_path).info["account"] == []


def test_no_false_alarm_among_chest_radiographs(real_data):
    with np.load(real_data / "medmnist" / "pneumoniamnist.npz") as arrays:
        images = np.concatenate([arrays[f"{part}_images"] for part in ("train", "val", "test")])[:, None]
    assert not inverted_among(images, np.arange(len(images))).inverted.any()
