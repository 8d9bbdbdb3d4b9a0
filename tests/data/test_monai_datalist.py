"""A MONAI user's datalist and transforms, as a source of images."""

import json
import logging
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import (
    Compose,
    EnsureTyped,
    LoadImaged,
    Orientationd,
    RandFlipd,
    ScaleIntensityRanged,
    Transposed,
)
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import CT, GREY, HISTOLOGY
from medlat.data.monai.source import MonaiDatalist
from medlat.data.source import Damaged, Remark

AXIAL = Compose([LoadImaged(keys="image", ensure_channel_first=True), Orientationd(keys="image", axcodes="PLS")])
UPRIGHT = Compose(
    [LoadImaged(keys="image", ensure_channel_first=True), Transposed(keys="image", indices=[0, 2, 1])],
)


def in_order(function, items, description):
    return map(function, items)


def volumes(root: Path, count: int = 3) -> Path:
    """Volumes of 4 x 5 x 3 voxels of 1 x 2 x 3 mm, RAS: 100·volume + 10·level, and 7 more at the right and in front."""
    (root / "imagesTr").mkdir()
    items = []
    for i in range(count):
        values = np.broadcast_to(100 * i + 10 * np.arange(3), (4, 5, 3)).astype(np.int16)
        values = values + 0
        values[3, 4, :] += 7
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])), root / "imagesTr" / f"v{i}.nii.gz")
        items.append({"image": f"./imagesTr/v{i}.nii.gz", "label": i % 2, "patient": f"p{i // 2}"})
    return listed(root, {"name": "Lung", "training": items})


def listed(root: Path, content: object) -> Path:
    (root / "dataset.json").write_text(json.dumps(content))
    return root / "dataset.json"


def pictures(root: Path, colour: bool = False) -> Path:
    for i in range(4):
        pixels = np.zeros((6, 9), np.uint8)
        pixels[1, 7] = 50 * (i + 1)
        Image.fromarray(np.stack([pixels, pixels // 2, pixels * 0], -1) if colour else pixels).save(root / f"{i}.png")
    return listed(
        root,
        {
            "training": [{"image": "0.png", "grade": 2}, {"image": "1.png", "grade": "10"}],
            "validation": [{"image": "2.png", "grade": 2.0}],
            "test": [{"image": str(root / "3.png"), "grade": 10}],
        },
    )


def test_axial_slices_of_volumes_as_the_transform_leaves_them(tmp_path):
    source = MonaiDatalist(str(volumes(tmp_path)), AXIAL, CT, label_key="label", group_key="patient")
    source = pickle.loads(pickle.dumps(source))
    scan = source.scan(in_order)
    assert [chunk.patient for chunk in scan.chunks] == ["p0", "p0", "p1"]
    assert scan.classes == {"label": ("0", "1")}
    for i, chunk in enumerate(scan.chunks):
        assert chunk.columns["position_mm"].tolist() == [0.0, 3.0, 6.0]
        assert chunk.columns["series"].tolist() == [i] * 3
        assert chunk.columns["label.label"].tolist() == [i % 2] * 3
        for level, one in enumerate(source.read(pickle.loads(pickle.dumps(chunk)))):
            assert (one.pixels.shape, one.pixels.dtype, one.spacing_mm) == ((5, 4), np.float32, (2.0, 1.0))
            assert one.pixels[0, 0] == 100 * i + 10 * level + 7, "the right, in front"
            assert one.pixels[1:].min() == one.pixels[1:].max() == 100 * i + 10 * level


def test_into_the_store(tmp_path):
    (tmp_path / "out").mkdir()
    source = MonaiDatalist(str(volumes(tmp_path)), AXIAL, CT, group_key="patient")
    prepare(source, Preparation(8, None, 0.0, "salt", 1), tmp_path / "out")
    store = ImageStore.open(tmp_path / "out")
    assert (len(store), len(store.patients), store.modality) == (9, 2, CT)
    assert sorted(store.images[np.arange(9)][:, 0, 4, 4]) == [0, 10, 20, 100, 110, 120, 200, 210, 220]
    assert store.labels() == {}


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_with_a_grade_and_their_published_parts(tmp_path, colour):
    lists = ["training", "validation", "test"]
    path = str(pictures(tmp_path, colour))
    source = MonaiDatalist(path, UPRIGHT, HISTOLOGY if colour else GREY, label_key="grade", lists=lists)
    scan = source.scan(in_order)
    assert scan.classes == {"grade": ("2", "10")}, "numbers in their order, 2 and 2.0 alike"
    assert [chunk.columns["label.grade"].tolist() for chunk in scan.chunks] == [[0], [1], [0], [1]]
    assert [chunk.columns["split"].tolist() for chunk in scan.chunks] == [[0], [0], [1], [2]]
    assert len({chunk.patient for chunk in scan.chunks}) == 4
    (one,) = source.read(scan.chunks[1])
    assert one.pixels.shape == ((6, 9, 3) if colour else (6, 9))
    assert one.spacing_mm == (1.0, 1.0)
    expected = [100, 50, 0] if colour else 100
    assert np.array_equal(one.pixels[1, 7], expected)
    assert one.pixels.sum() == np.sum(expected)


def test_a_quantity_and_an_order_of_classes(tmp_path):
    path = str(pictures(tmp_path))
    scan = MonaiDatalist(path, UPRIGHT, GREY, label_key="grade", kind="quantity").scan(in_order)
    assert (scan.classes, [c.columns["label.grade"].item() for c in scan.chunks]) == ({}, [2.0, 10.0])
    scan = MonaiDatalist(path, UPRIGHT, GREY, label_key="grade", classes=[10, 2]).scan(in_order)
    assert (scan.classes["grade"], [c.columns["label.grade"].item() for c in scan.chunks]) == (("10", "2"), [1.0, 0.0])


def test_a_damaged_item_an_absent_one_and_one_without_a_label_are_counted(tmp_path):
    path = volumes(tmp_path)
    content = json.loads(path.read_text())
    (tmp_path / "bad.nii.gz").write_bytes(b"no volume")
    del content["training"][2]["label"]
    content["training"] += [{"image": "bad.nii.gz", "label": 1}, {"image": "gone.nii.gz", "label": 0}]
    scan = MonaiDatalist(str(listed(tmp_path, content)), AXIAL, CT, label_key="label").scan(in_order)
    assert len(scan.chunks) == 2
    assert [Path(one.path).name for one in scan.damaged] == ["bad.nii.gz", "gone.nii.gz"]
    assert all(one.reason.startswith("the transform failed (") for one in scan.damaged)
    assert scan.remarks == [Remark(str(tmp_path / "imagesTr/v2.nii.gz"), "without a label", False)]


def test_an_image_that_changes_after_the_scan_is_damaged(tmp_path):
    source = MonaiDatalist(str(volumes(tmp_path)), AXIAL, CT)
    chunk = source.scan(in_order).chunks[0]
    path = tmp_path / "imagesTr" / "v0.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 2), np.int16), np.eye(4)), path)
    assert list(source.read(chunk)) == [Damaged(str(path), "another image than was found")] * 3


def test_values_beyond_the_modality_are_said(tmp_path, caplog):
    path = tmp_path / "a.nii"
    values = np.zeros((8, 8, 2), np.int16)
    values[:4] = 5000
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    listed(tmp_path, {"training": [{"image": "a.nii"}]})
    with caplog.at_level(logging.INFO):
        scan = MonaiDatalist(str(tmp_path / "dataset.json"), AXIAL, CT).scan(in_order)
    assert scan.remarks == [Remark(str(path), "values outside -1024 to 3071, which are clipped", True)]
    assert "values that the transform leaves: 0 to 5000" in caplog.messages


def test_values_of_another_range_than_the_modality_are_said(tmp_path, caplog):
    scaled = Compose([AXIAL, ScaleIntensityRanged(keys="image", a_min=0, a_max=300, b_min=0, b_max=1)])
    MonaiDatalist(str(volumes(tmp_path)), scaled, CT).scan(in_order)
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said.getMessage() == (
        "modality: the transform leaves values from 0 to 0.756667, where low=-1024 and high=3071: images will have no "
        "contrast"
    )


def test_a_function_of_ones_own_may_make_the_image(tmp_path):
    listed(tmp_path, {"training": [{"image": "1"}, {"image": "2"}]})
    scan = MonaiDatalist(str(tmp_path / "dataset.json"), _constant, GREY, spacing_mm=0.5).scan(in_order)
    source = MonaiDatalist(str(tmp_path / "dataset.json"), _constant, GREY, spacing_mm=0.5)
    images = [one for chunk in scan.chunks for one in source.read(chunk)]
    assert [(one.pixels.max(), one.spacing_mm) for one in images] == [(1.0, (0.5, 0.5)), (2.0, (0.5, 0.5))]


def _constant(item: dict) -> dict:
    return {"image": np.full((1, 4, 4), float(Path(item["image"]).name))}


ARRAYS = [
    (lambda item: {"image": np.zeros((2, 4, 4))}, "2 channels, expected 1"),
    (lambda item: {"image": np.zeros((4, 4))}, r"an array of 2 dimensions, expected \[C, H, W\] or \[C, H, W, D\]"),
    (lambda item: {"image": np.zeros((1, 0, 4))}, r"an array of 3 dimensions"),
    (lambda item: {"image": np.full((1, 4, 4), np.nan)}, "no finite value"),
    (lambda item: {"picture": np.zeros((1, 4, 4))}, r"the transform failed \(KeyError\)"),
    (lambda item: None, r"the transform failed \(TypeError\)"),
]


@pytest.mark.parametrize(("transform", "words"), ARRAYS)
def test_what_no_transform_may_leave(tmp_path, transform, words):
    listed(tmp_path, {"training": [{"image": "1"}]})
    with pytest.raises(UserError, match=rf"transform: none of the 1 items became an image; the first, '.*/1': {words}"):
        MonaiDatalist(str(tmp_path / "dataset.json"), transform, GREY).scan(in_order)


LISTS = [
    ("no json", {}, r"datalist: '.*dataset.json' cannot be read as JSON \(JSONDecodeError\)"),
    ("[" * 100_000, {}, r"datalist: '.*' cannot be read as JSON \(RecursionError\)"),
    ("[1]", {}, "holds no lists by name"),
    ('{"train": [], "name": "x"}', {}, "lists: '.*' has no list 'training'; did you mean 'train'"),
    ('{"training": []}', {}, r"lists=\[training\]: no items in"),
    ('{"training": [{"img": "a"}]}', {}, r"image_key=image: 1 items without the path .*'training\[0\]'; .*'img'"),
    ('{"training": [{"image": 7}, {"image": []}, 3]}', {}, r"image_key=image: 3 items without the path of an image"),
    ('{"training": [{"image": "1", "Label": 1}]}', {"label_key": "label"}, r"label_key=label: .* mean 'Label'"),
    ('{"training": [{"image": "1", "label": "1.nii"}]}', {"label_key": "label"}, r"1 labels are files, as of a segm"),
    (
        '{"training": [{"image": "1", "label": 1}, {"image": "2", "label": -1}]}',
        {"label_key": "label"},
        r"1 labels are -1 beside 1; null in the place of -1 leaves those images out, classes=\[-1,1\] takes",
    ),
    ('{"training": [{"image": "1", "label": 1}]}', {"label_key": "label"}, r"every label is '1', expected two or"),
    (
        '{"training": [{"image": "1", "label": "a"}, {"image": "1", "label": "b"}]}',
        {"label_key": "label", "kind": "quantity"},
        r"2 labels are no numbers: 'a', 'b'",
    ),
    (
        '{"training": [{"image": "1", "label": "a"}, {"image": "1", "label": "b"}]}',
        {"label_key": "label", "classes": ["a", "c"]},
        r"classes=\[a, c\]: labels that are not among them: 'b'",
    ),
    ('{"training": [{"image": "1", "patient": 3}, {"image": "2"}]}', {"group_key": "patient"}, r"=patient: 1 items wi"),
]


@pytest.mark.parametrize(("text", "arguments", "words"), LISTS)
def test_datalists_that_do_not_do(tmp_path, text, arguments, words):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=words):
        MonaiDatalist(str(tmp_path / "dataset.json"), _constant, GREY, **arguments).scan(in_order)


def test_a_random_transform_is_refused(tmp_path):
    listed(tmp_path, {"training": []})
    flips = Compose([LoadImaged(keys="image"), Compose([EnsureTyped(keys="image"), RandFlipd(keys="image")])])
    with pytest.raises(UserError, match=r"^transform: RandFlipd is random; expected what is always the same"):
        MonaiDatalist(str(tmp_path / "dataset.json"), flips, GREY)
    with pytest.raises(UserError, match=r"^datalist: there is no file '.*datset.json'; did you mean 'dataset.json'"):
        MonaiDatalist(str(tmp_path / "datset.json"), AXIAL, GREY)


def test_the_fingerprint_follows_images_and_list(tmp_path):
    path = volumes(tmp_path)
    source = MonaiDatalist(str(path), AXIAL, CT)
    found = {source.fingerprint(), source.fingerprint()}
    assert len(found) == 1
    (tmp_path / "imagesTr" / "v0.nii.gz").write_bytes(b"other")
    found.add(source.fingerprint())
    path.write_text(path.read_text() + " ")
    found.add(source.fingerprint())
    (tmp_path / "imagesTr" / "v0.nii.gz").unlink()
    found.add(source.fingerprint())
    assert len(found) == 4
