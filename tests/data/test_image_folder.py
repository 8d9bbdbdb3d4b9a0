"""Pictures in many formats, and tables with everything that can be wrong in them, written here."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import HISTOLOGY, RADIOGRAPH
from medlat.data.pictures.decode import read_picture
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Damaged, Slice

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2


def in_order(function, items, description: str) -> Iterator:
    return map(function, items)


def folder(root: Path, text: str, files: str = "a b c d") -> Path:
    for i, name in enumerate(files.split()):
        Image.fromarray(np.full((4, 4, 3), 10 * i % 256, np.uint8)).save(root / f"{name}.png")
    (root / "labels.csv").write_text(text)
    return root


GOOD = "path,label,group\na.png,tumour,1\nb.png,normal,1\nc.png,normal,2\nd.png,tumour,3\n"


def test_rows_become_chunks_of_one_group(tmp_path):
    source = pickle.loads(pickle.dumps(ImageFolder(str(folder(tmp_path, GOOD)), mpp=2.0)))
    assert source.expected() == 4
    scan = source.scan(in_order)
    assert scan.classes == {"label": ("normal", "tumour")}
    assert [(c.patient, len(c.items)) for c in scan.chunks] == [("1", 2), ("2", 1), ("3", 1)]
    assert [c.columns["label.label"].tolist() for c in scan.chunks] == [[1.0, 0.0], [0.0], [1.0]]
    assert all((c.columns["position_mm"] == 0).all() and "split" not in c.columns for c in scan.chunks)
    first, second = source.read(scan.chunks[0])
    assert first.pixels.shape == (4, 4, 3)
    assert (first.pixels.max(), second.pixels.min()) == (0, 10)
    assert first.spacing_mm == (0.002, 0.002)
    assert source.modality == HISTOLOGY


def test_into_the_slice_store(tmp_path):
    source = ImageFolder(str(folder(tmp_path, GOOD)), mpp=2.0)
    (tmp_path / "d.png").write_bytes(b"\x89PNG nothing more")
    out = tmp_path / "out"
    out.mkdir()
    prepare(source, Preparation(2, None, 0.5, "salt", 1), out)
    store = ImageStore.open(out)
    assert len(store) == 3
    assert store.images.shape[1:] == (3, 2, 2)
    assert store.info["spacing_mm"] == pytest.approx(0.004)
    value = {0: 1.0, 10: 0.0, 20: 0.0}
    grey = store.images[np.arange(3)][:, 0, 0, 0]
    assert [value[int(g)] for g in grey] == store.columns["label.label"].tolist()
    assert store.classes("label") == ["normal", "tumour"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_separator_byte_order_mark_and_backslashes(tmp_path, separator):
    (tmp_path / "x").mkdir()
    text = "﻿" + GOOD.replace("c.png", "x\\c.png").replace(",", separator)
    folder(tmp_path, "", "a b d")
    Image.new("RGB", (4, 4)).save(tmp_path / "x" / "c.png")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert sum(len(c.items) for c in ImageFolder(str(tmp_path)).scan(in_order).chunks) == 4


def test_ordinal_classes_keep_their_order_and_numbers_are_numbers(tmp_path):
    text = "path,kl,group\na.png,10,1\nb.png,2.0,2\nc.png,2,3\nd.png,1,4\n"
    source = ImageFolder(str(folder(tmp_path, text)), label_column="kl")
    scan = source.scan(in_order)
    assert scan.classes == {"kl": ("1", "2", "10")}
    assert [c.columns["label.kl"][0] for c in scan.chunks] == [2.0, 1.0, 1.0, 0.0]
    given = ImageFolder(str(tmp_path), label_column="kl", classes=[10, 2, 1, 0]).scan(in_order)
    assert given.classes == {"kl": ("10", "2", "1", "0")}
    assert [c.columns["label.kl"][0] for c in given.chunks] == [0.0, 1.0, 1.0, 2.0]


def test_a_quantity_stays_a_number(tmp_path):
    text = "path,age,group\na.png,61.5,1\nb.png,-2,2\n"
    scan = ImageFolder(str(folder(tmp_path, text, "a b")), label_column="age", kind="quantity").scan(in_order)
    assert scan.classes == {}
    assert [c.columns["label.age"][0] for c in scan.chunks] == [61.5, -2.0]


def test_without_groups_each_file_is_one(tmp_path):
    scan = ImageFolder(str(folder(tmp_path, GOOD)), group_column=None).scan(in_order)
    assert [c.patient for c in scan.chunks] == ["a.png", "b.png", "c.png", "d.png"]
    assert not any(c.known for c in scan.chunks)


def test_a_published_split_is_kept(tmp_path):
    text = "path,label,group,part\na.png,x,1,train\nb.png,y,2,Test\nc.png,y,3,val\nd.png,y,4,training\n"
    scan = ImageFolder(str(folder(tmp_path, text)), split_column="part").scan(in_order)
    assert [c.columns["split"][0] for c in scan.chunks] == [0.0, 2.0, 1.0, 0.0]


def test_the_same_row_twice_is_read_once(tmp_path):
    scan = ImageFolder(str(folder(tmp_path, GOOD + "./a.png,tumour,1\n"))).scan(in_order)
    assert sum(len(c.items) for c in scan.chunks) == 4
    assert scan.skipped == {"listed twice": 1}


def test_the_fingerprint_is_of_pictures_and_table(tmp_path):
    source = ImageFolder(str(folder(tmp_path, GOOD)), labels=str(tmp_path / "labels.csv"))
    before = source.fingerprint()
    assert source.fingerprint() == before
    (tmp_path / "labels.csv").write_text(GOOD.replace("a.png,tumour", "a.png,normal"))
    assert source.fingerprint() != before


PROBLEMS = [
    ("../a.png,normal,5\n", ["1 paths that leave the root", "'../a.png'"]),
    ("/etc/passwd,normal,5\n", ["leave the root", "/etc/passwd"]),
    ("C:\\a.png,normal,5\n", ["leave the root"]),
    ("a.png,tumour,2\n", ["1 listed twice with different label, group or part: 'a.png'"]),
    ("a.png,normal,1\n", ["listed twice with different label"]),
    ("d.png,tumour,\n", ["1 without a group: 'd.png'"]),
    ("d.png,tumour,\n../b.png,normal,5\n", ["3 problems", "1 without a group", "leave the root", "listed twice"]),
]


@pytest.mark.parametrize(("rows", "words"), PROBLEMS)
def test_all_that_is_wrong_is_named_at_once(tmp_path, rows, words):
    with pytest.raises(UserError) as caught:
        ImageFolder(str(folder(tmp_path, GOOD + rows))).scan(in_order)
    assert str(caught.value).startswith("labels: ")
    assert all(word in str(caught.value) for word in words), str(caught.value)


ARGUMENTS = [
    ({"classes": ["normal", "tumor"]}, r"not among classes .*'tumour'; did you mean 'tumor'"),
    ({"label_column": "lable"}, r"label_column: the CSV has no column 'lable'; did you mean 'label'"),
    ({"path_column": "file"}, r"path_column: .*no column 'file'"),
    ({"group_column": "groups"}, r"group_column: .*did you mean 'group'"),
    ({"split_column": "part"}, r"split_column: "),
    ({"split_column": "label"}, r"4 with a label that is none of train, validation, test"),
    ({"labels": "label.csv"}, r"labels: there is no file .*did you mean 'labels.csv'"),
    ({"kind": "quantity"}, r"2 labels that are no numbers: 'normal', 'tumour'"),
    ({"kind": "klass"}, r"kind=klass"),
    ({"mpp": 0.0}, r"mpp=0"),
    ({"white": -1.0}, r"white=-1: expected a stored value above black \(0\), e.g. 4095"),
    ({"white": 31000.0, "black": 31768.0}, r"white=31000: expected a stored value above black \(31768\)"),
    ({"unlabelled": "skip"}, r"unlabelled=skip: expected stop or drop"),
    ({"polarity": "fix", "colour": False}, r"polarity=fix: expected as_stored, checked or mended"),
    ({"polarity": "mended"}, r"polarity=mended: colours have none; expected as_stored"),
    ({"labels": None, "split_column": "part"}, r"split_column=part: a column of a CSV, and labels=null says"),
]


@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS)
def test_arguments_that_do_not_fit(tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        ImageFolder(str(folder(tmp_path, GOOD)), **arguments).scan(in_order)


TABLES = [
    ("", "has no rows"),
    ("path,label,group\n", "has no rows"),
    ("path,label,group\na.png,x\n", "line 2 of .* has 2 values"),
]


@pytest.mark.parametrize(("text", "words"), TABLES)
def test_tables_that_do_not_do(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        ImageFolder(str(folder(tmp_path, text))).scan(in_order)


def test_more_labels_than_classes_are_quantities(tmp_path):
    names = " ".join(f"x{i}" for i in range(101))
    text = "path,label,group\n" + "".join(f"x{i}.png,{i}.5,1\n" for i in range(101))
    with pytest.raises(UserError, match=r"101 different labels, expected at most 100 classes; .* by kind=quantity"):
        ImageFolder(str(folder(tmp_path, text, names))).scan(in_order)


@pytest.mark.parametrize("kind", ["class", "quantity"])
def test_one_label_for_all_is_said_and_no_fault(tmp_path, caplog, kind):
    text = "path,label,group\na.png,7,1\nb.png,7,2\n"
    scan = ImageFolder(str(folder(tmp_path, text, "a b")), kind=kind).scan(in_order)
    assert len(scan.chunks) == 2
    assert "every label is '7': there is nothing to learn from it" in caplog.text


def test_a_table_that_is_no_text(tmp_path):
    folder(tmp_path, "")
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UserError, match=r"cannot be read as a CSV file in UTF-8"):
        ImageFolder(str(tmp_path)).scan(in_order)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_colours_are_kept(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_picture(tmp_path / f"a.{suffix}", colour=True), RGB)
    grey = read_picture(tmp_path / f"a.{suffix}", colour=False)
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, RGB @ np.array([0.299, 0.587, 0.114]), atol=1.0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path, suffix):
    stored = np.array([[0, 257, 65535], [4095, 2047, 1000]], np.uint16)
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read_picture(tmp_path / f"a.{suffix}", False), stored / 257.0, rtol=1e-6)
    twelve = read_picture(tmp_path / f"a.{suffix}", False, white=4095.0)
    np.testing.assert_allclose(twelve, np.minimum(stored / 4095.0, 1.0) * 255.0, rtol=1e-5)
    colour = read_picture(tmp_path / f"a.{suffix}", True)
    np.testing.assert_array_equal(colour[0], [[0] * 3, [1] * 3, [255] * 3])


def test_eight_bits_with_another_white(tmp_path):
    Image.fromarray(np.array([[0, 50, 100, 200]], np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_picture(tmp_path / "a.png", False, white=100.0), [[0.0, 127.5, 255.0, 255.0]])


def test_a_palette_is_looked_up_and_what_is_transparent_is_glass_or_black(tmp_path):
    Image.fromarray(RGB).convert("P").save(tmp_path / "p.png")
    assert np.abs(read_picture(tmp_path / "p.png", True).astype(int) - RGB).mean() < 30
    rgba = np.dstack([RGB, np.where(np.arange(7) < 3, 0, 255)[None].repeat(5, 0).astype(np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    glass = read_picture(tmp_path / "a.png", True)
    assert (glass[:, :3] == 255).all()
    np.testing.assert_array_equal(glass[:, 3:], RGB[:, 3:])
    assert (read_picture(tmp_path / "a.png", False)[:, :3] == 0).all()


def test_a_picture_is_turned_as_its_tag_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    Image.fromarray(RGB).save(tmp_path / "a.tif", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif", True), np.rot90(RGB, -1))


def test_what_cannot_be_decoded_is_damaged(tmp_path):
    folder(tmp_path, GOOD)
    whole = (tmp_path / "a.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(whole[:20])
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:4000])
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "c.png", format="tiff")
    source = ImageFolder(str(tmp_path))
    chunks = source.scan(in_order).chunks
    (tmp_path / "d.png").unlink()
    results = [one for chunk in chunks for one in source.read(chunk)]
    assert all(isinstance(one, Damaged) for one in results)
    reasons = [one.reason for one in results]
    assert reasons[:2] == ["corrupt", "corrupt"]
    assert reasons[2] == "floating-point pixels of which nothing says what is white"
    assert reasons[3] == "no such file"


def test_radiographs_are_grey(tmp_path):
    source = ImageFolder(str(folder(tmp_path, GOOD)), colour=False, mpp=150.0)
    one = next(source.read(source.scan(in_order).chunks[1]))
    assert source.modality == RADIOGRAPH
    assert isinstance(one, Slice)
    np.testing.assert_allclose(one.pixels, np.full((4, 4), 20.0))
    assert one.spacing_mm == (0.15, 0.15)


def test_lung_tiles(real_data):
    source = ImageFolder(str(real_data / "histology_lc25000"))
    scan = source.scan(in_order)
    assert scan.classes == {"label": ("adenocarcinoma", "normal")}
    labels = np.concatenate([c.columns["label.label"] for c in scan.chunks])
    assert len(labels) == source.expected() == 1476
    assert 600 < labels.sum() < 876
    assert all(len(set(c.columns["label.label"])) == 1 for c in scan.chunks), "an original has one label"
    tiles = list(source.read(scan.chunks[0]))
    assert all(one.pixels.shape == (224, 224, 3) for one in tiles)
    mean = np.mean([one.pixels.mean((0, 1)) for one in tiles], axis=0)
    assert mean[1] < min(mean[0], mean[2]), "haematoxylin and eosin take green away"
