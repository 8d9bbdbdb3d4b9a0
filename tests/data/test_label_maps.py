"""Label maps among pictures: found by their names and their values, left out and named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.label_maps import are_labels, named_after

RNG = np.random.default_rng(0)
SIDE = 192
Y, X = np.mgrid[:SIDE, :SIDE]
DISC = (Y - 90) ** 2 + (X - 100) ** 2 < 50**2
PHOTO = np.clip(100 + 80 * DISC + RNG.normal(0, 12, Y.shape), 1, 250).astype(np.uint8)
DARK = np.where(DISC, RNG.integers(0, 90, Y.shape), 0).astype(np.uint8)  # 90 values, most pixels black
TILES = ((Y // 48) * 4 + X // 48).astype(np.uint8)  # 16 objects
NUCLEI = np.where((Y % 24 < 12) & (X % 24 < 12), Y // 24 * 8 + X // 24 + 1, 0)  # 64 objects of 12 pixels

NAMES = [
    ("ISIC_01.jpg ISIC_01_segmentation.png", {"ISIC_01_segmentation.png": ""}),
    ("a.png a_2.png", {"a_2.png": "a.png"}),
    ("benign (1).png benign (1)_mask.png benign (10).png", {"benign (1)_mask.png": ""}),
    ("train_1.bmp train_1_anno.bmp train_10.bmp", {"train_1_anno.bmp": ""}),
    ("x/img.png y/img.png", {"x/img.png": "y/img.png", "y/img.png": "x/img.png"}),
    ("images/21_training.tif 1st_manual/21_manual1.gif", {"1st_manual/21_manual1.gif": ""}),
    ("train-volume.tif train-labels.tif", {"train-labels.tif": ""}),
    ("labels/a.png labels/b.png", {}),
    ("images/IM001 labels/IM001", {"labels/IM001": ""}),
    ("segue.png masked.png labelled.png a1.png a12.png", {}),
    ("a.png a_b.png a_b_c.png", {"a_b.png": "a.png", "a_b_c.png": "a_b.png"}),
]


@pytest.mark.parametrize(("paths", "expected"), NAMES)
def test_what_is_named_like_a_label_map(paths, expected):
    assert named_after(paths.split(" ") if "(" not in paths else paths.replace(".png ", ".png|").split("|")) == expected


VALUES = [
    (np.where(DISC, 255, 0), True),
    (np.where(DISC, 1, 0), True),
    (np.zeros(Y.shape), True),
    (TILES, True),
    (NUCLEI, True),
    (np.stack([TILES * 10, TILES, 255 - TILES], -1), True),
    (PHOTO, False),
    (DARK, False),
    (np.stack([PHOTO, PHOTO // 2, PHOTO], -1), False),
    (RNG.integers(0, 16, Y.shape), False),
    (np.clip(np.where(DISC, 255, 0) + RNG.normal(0, 6, Y.shape), 0, 255), True),
    (np.clip(RNG.normal(5, 6, Y.shape), 0, 255), False),
]


@pytest.mark.parametrize(("pixels", "expected"), VALUES)
def test_what_holds_labels(pixels, expected):
    assert are_labels(np.asarray(pixels, np.float32)) == expected
    assert are_labels(np.tile(np.asarray(pixels, np.uint8), (7, 7, 1)[: np.ndim(pixels)])) == expected, "1344² pixels"


def test_a_picture_one_pixel_wide_holds_none():
    assert not are_labels(np.arange(200, dtype=np.float32)[:, None] / 8 // 1 * 8 + 1)


def test_an_image_of_which_a_small_part_has_values_is_none():
    pixels = np.zeros((512, 512), np.float32)
    pixels[100:110, 200:210] = RNG.integers(0, 255, (10, 10))
    assert not are_labels(pixels)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


LAYOUTS = [
    ("{}.jpg", "{}_segmentation.png"),
    ("{}.png", "{}_mask.png"),
    ("images/{}.png", "masks/{}.png"),
    ("images/{}.png", "truth/{}.jpg"),
    ("images/{}_training.tif", "1st_manual/{}_manual1.gif"),
    ("a/{}.png", "b/{}.png"),
]


@pytest.mark.parametrize(("image", "label_map"), LAYOUTS)
@pytest.mark.parametrize("colour", [False, True])
def test_label_maps_beside_pictures_are_left_out_named_and_counted(tmp_path, caplog, capsys, image, label_map, colour):
    root = tmp_path / "in"
    for i in range(3):
        photo = PHOTO + i
        save(root / image.format(i), np.stack([photo, photo // 2, photo], -1) if colour else photo)
        save(root / label_map.format(i), np.where(np.roll(DISC, i), 255, 0).astype(np.uint8))
    source = ImageFolder(str(root), labels=None, colour=colour)
    (tmp_path / "out").mkdir()
    prepare(source, Preparation(64, None, 0.0, "salt", 1), tmp_path / "out")
    store = ImageStore.open(tmp_path / "out")
    reason = "few distinct whole numbers: a label map, not an image"
    assert (len(store), store.info["account"]) == (3, [["left out", 3, reason]])
    assert store.images[np.arange(3)].min() > 0
    assert f"{root / label_map.format(0)}: {reason}" in capsys.readouterr().err
    said = "3 of 6 files left out: few distinct whole numbers: a label map, not an image; data.source.exclude=PATTERN"
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line[: len(said)] for line in warned] == [said]


def test_pictures_that_include_names_are_images(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", PHOTO + i)
        save(tmp_path / f"{i}_mask.png", np.where(DISC, 255, i).astype(np.uint8))
    source = ImageFolder(str(tmp_path), labels=None, colour=False, include="*_mask.png")
    assert all(not hasattr(one, "kept") for chunk in source.scan(map_in_order).chunks for one in source.read(chunk))


def test_pictures_named_after_others_are_images_where_they_look_alike(tmp_path):
    """A second view, and drawings of two values, of which none is another's label map."""
    save(tmp_path / "a.png", PHOTO)
    save(tmp_path / "a_2.png", PHOTO[::-1].copy())
    save(tmp_path / "b.png", np.where(DISC, 255, 0).astype(np.uint8))
    save(tmp_path / "b_2.png", np.where(DISC, 0, 255).astype(np.uint8))
    source = ImageFolder(str(tmp_path), labels=None, colour=False)
    read = [one for chunk in source.scan(map_in_order).chunks for one in source.read(chunk)]
    assert [one.pixels.shape for one in read] == [Y.shape] * 4


def map_in_order(function, items, description):
    return map(function, items)


def test_many_pictures_of_one_name_are_still_looked_at_for_their_range(tmp_path):
    for i in range(3):
        save(tmp_path / str(i) / "image.png", (PHOTO.astype(np.uint16) + i) * 16)
    with pytest.raises(Exception, match=r"white: the 16-bit pictures \(3 of 3 looked at\) hold values from"):
        ImageFolder(str(tmp_path), labels=None, colour=False).scan(map_in_order)
