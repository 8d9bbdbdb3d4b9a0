"""CSVs as people have them: what a row may call its file, what is left out, what is said."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Scan


def in_order(function, items, description):
    return map(function, items)


def data_set(root: Path, rows: str, *files: str, header: str = "path,label,group") -> ImageFolder:
    """Files of 4² pixels, the i-th of them of grey level 20 i + 10, but for a row, and a CSV."""
    for i, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.pad(np.full((3, 4), 20 * i + 10, np.uint8), ((0, 1), (0, 0)))
        Image.fromarray(pixels).save(root / name, format="PNG")
    (root / "labels.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    return ImageFolder(str(root), colour=False)


def levels(source: ImageFolder, scan: Scan) -> dict[str, int]:
    """Group -> the grey level of its picture."""
    return {chunk.patient: int(next(source.read(chunk)).pixels[0, 0]) for chunk in scan.chunks}


NAMES = [
    ("{root}/a.png", ["a.png"], ""),
    ("{root}/x/a.png", ["x/a.png"], ""),
    ("a.png", ["images_001/images/a.png"], "in another folder below the root"),
    ("images/a.png", ["set/images/a.png", "set/masks/a.png"], "in another folder below the root"),
    ("a.PNG", ["a.png"], "in another spelling (case, or Unicode form)"),
    ("A.png", ["x/a.png"], "in another spelling (case, or Unicode form)"),
    (unicodedata.normalize("NFC", "Müller.png"), [unicodedata.normalize("NFD", "Müller.png")], "in another spelling"),
    (unicodedata.normalize("NFD", "é/ü.png"), [unicodedata.normalize("NFC", "é/ü.png")], "in another spelling"),
    ("a", ["a.png"], "without the suffix"),
    ("1.2.840.5", ["dicom/1.2.840.5.png", "dicom/1.2.840.6.png"], "without the suffix"),
]


@pytest.mark.parametrize(("cell", "files", "way"), NAMES)
def test_a_file_is_found_by_what_a_table_calls_it(tmp_path, caplog, cell, files, way):
    source = data_set(tmp_path, f"{cell.format(root=tmp_path)},x,1\nother.png,y,2\n", *files, "other.png")
    with caplog.at_level("INFO"):
        scan = source.scan(in_order)
    assert levels(source, scan) == {"1": 10, "2": 20 * len(files) + 10}
    assert scan.damaged == []
    said = [line for line in caplog.messages if "listed files were found" in line]
    assert said == ([f"1 listed files were found {said[0].split('found ')[1]}"] if way else [])
    assert way in "".join(said)


def test_a_file_that_lies_where_it_should_is_taken_before_others(tmp_path):
    source = data_set(tmp_path, "a.png,x,1\nx/a.png,y,2\n", "a.png", "x/a.png", "y/A.png")
    assert levels(source, source.scan(in_order)) == {"1": 10, "2": 30}


def test_a_link_to_the_root_is_the_root(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    data_set(tmp_path / "there", f"{tmp_path}/link/a.png,x,1\n{tmp_path}/there/b.png,y,2\n", "a.png", "b.png")
    source = ImageFolder(str(tmp_path / "link"), colour=False)
    assert levels(source, source.scan(in_order)) == {"1": 10, "2": 30}


def test_paths_may_begin_with_the_name_of_the_root(tmp_path):
    root = tmp_path / "CheXpert-small"
    source = data_set(root, "CheXpert-small/train/a.png,x,1\ntrain/b.png,y,2\n", "train/a.png", "train/b.png")
    assert levels(source, source.scan(in_order)) == {"1": 10, "2": 30}
    (root / "CheXpert-small" / "train").mkdir(parents=True)
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save(root / "CheXpert-small" / "train" / "a.png")
    assert levels(source, source.scan(in_order)) == {"1": 99, "2": 30}


@pytest.mark.parametrize("cell", ["{root}x/a.png", "{root}/../a.png", "{root}", "/a.png"])
def test_absolute_paths_beside_the_root_leave_it(tmp_path, cell):
    (tmp_path / "in").mkdir()
    cell = cell.format(root=tmp_path / "in")
    with pytest.raises(UserError, match="1 paths that leave the root: "):
        data_set(tmp_path / "in", f"{cell},x,1\nb.png,y,2\n", "b.png").scan(in_order)


def test_absent_files_are_left_out_and_counted_as_damaged(tmp_path):
    rows = "a.png,x,1\nb.png,y,2\ngone.png,x,3\ngone.png,x,3\ntwice.png,y,4\n"
    source = data_set(tmp_path, rows, "a.png", "b.png", "1/twice.png", "2/twice.png")
    scan = source.scan(in_order)
    assert levels(source, scan) == {"1": 10, "2": 30}
    assert [(Path(one.path).name, one.reason) for one in scan.damaged] == [
        ("gone.png", "listed but not there"),
        ("twice.png", "listed but not there (and 2 files in other folders fit)"),
    ]


def test_where_no_file_is_there_the_root_is_wrong(tmp_path):
    with pytest.raises(UserError, match=r"none of the 2 files listed is below '.*': 'a.png', 'b.png'"):
        data_set(tmp_path, "a.png,x,1\nb.png,y,2\n").scan(in_order)


def prepared(source: ImageFolder, out: Path, max_damaged: float = 0.25) -> ImageStore:
    out.mkdir()
    prepare(source, Preparation(4, None, max_damaged, "salt", 1), out)
    return ImageStore.open(out)


@pytest.mark.parametrize("blank", ["", "NaN", "n/a", " "])
def test_rows_without_a_label_count_as_damaged_within_the_limit(tmp_path, capsys, blank):
    rows = f"a.png,x,1\nb.png,y,2\nc.png,{blank},3\nd.png,y,4\n"
    source = data_set(tmp_path, rows, "a.png", "b.png", "c.png", "d.png")
    store = prepared(source, tmp_path / "out")
    reason = "without a label, which unlabelled=drop leaves out"
    assert (len(store), store.info["account"]) == (3, [["damaged", 1, reason]])
    assert f"c.png: {reason}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"max_damaged=0.2: 1 of 4 slices cannot be read \(1 x without a label, which"):
        prepared(source, tmp_path / "again", 0.2)


def test_too_many_absent_files_are_told_before_any_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    source = data_set(tmp_path / "in", "a.png,x,1\nb.png,y,2\nc.png,x,3\n", "a.png")
    with pytest.raises(UserError, match=r"2 of 3 slices cannot be read \(2 x listed but not there\)"):
        prepared(source, tmp_path / "out", 0.5)
    assert list((tmp_path / "out").iterdir()) == []


def test_any_number_of_rows_without_a_label_is_dropped_where_that_was_asked_for(tmp_path):
    data_set(tmp_path, "a.png,x,1\nb.png,y,2\nc.png,,3\nd.png,nan,4\n", "a.png", "b.png", "c.png", "d.png")
    store = prepared(ImageFolder(str(tmp_path), colour=False, unlabelled="drop"), tmp_path / "out", 0.0)
    assert (len(store), store.info["account"]) == (2, [["left out", 2, "without a label"]])


@pytest.mark.parametrize("unlabelled", ["stop", "drop"])
def test_no_label_at_all(tmp_path, unlabelled):
    data_set(tmp_path, "a.png,,1\nb.png,,2\n", "a.png", "b.png")
    with pytest.raises(UserError, match=r"no row of '.*labels.csv' has a label"):
        ImageFolder(str(tmp_path), unlabelled=unlabelled).scan(in_order)


CHEXPERT = "a.png,1.0,1\nb.png,0.0,2\nc.png,-1.0,3\nd.png,,4\ne.png,1,5\nf.png,-1,6\n"
FILES = [f"{name}.png" for name in "abcdef"]


def test_numbers_below_0_are_no_class_without_a_word(tmp_path):
    source = data_set(tmp_path, CHEXPERT, *FILES)
    with pytest.raises(UserError) as refused:
        source.scan(in_order)
    assert str(refused.value).splitlines()[1:] == [
        "  2 labels are -1 beside 0, 1; leave_out_labels=[-1] leaves those images out, classes=[-1,0,1] takes them as "
        "they are"
    ]


@pytest.mark.parametrize("kind", ["class", "quantity"])
def test_labels_that_are_not_wanted_are_left_out_and_counted(tmp_path, caplog, kind):
    data_set(tmp_path, CHEXPERT, *FILES)
    source = ImageFolder(str(tmp_path), colour=False, unlabelled="drop", leave_out_labels=[-1], kind=kind)
    with caplog.at_level("INFO"):
        store = prepared(source, tmp_path / "out", 0.0)
    assert ("\n  label: 0 (1), 1 (2)" in caplog.text) == (kind == "class")
    assert store.info["account"] == [
        ["left out", 2, "label is -1, as leave_out_labels says"],
        ["left out", 1, "without a label"],
    ]
    assert sorted(store.columns["label.label"]) == [0.0, 1.0, 1.0]
    assert store.classes("label") == (["0", "1"] if kind == "class" else None)


def test_a_class_below_0_that_is_named_is_one(tmp_path):
    data_set(tmp_path, CHEXPERT, *FILES)
    scan = ImageFolder(str(tmp_path), colour=False, classes=[-1, 0, 1]).scan(in_order)
    assert scan.classes == {"label": ("-1", "0", "1")}
    assert [chunk.columns["label.label"][0] for chunk in scan.chunks] == [2, 1, 0, 2, 0]


@pytest.mark.parametrize("labels", [["0", "1"], ["-2", "-1"], ["no", "yes"]])
def test_labels_of_one_side_of_0_are_classes(tmp_path, labels):
    source = data_set(tmp_path, f"a.png,{labels[0]},1\nb.png,{labels[1]},2\n", "a.png", "b.png")
    assert source.scan(in_order).classes == {"label": tuple(labels)}


def test_a_label_to_leave_out_that_is_not_there_is_said(tmp_path, caplog):
    data_set(tmp_path, "a.png,x,1\nb.png,y,2\n", "a.png", "b.png")
    assert len(ImageFolder(str(tmp_path), colour=False, leave_out_labels=["X", "y"]).scan(in_order).chunks) == 1
    assert "leave_out_labels: no row has the label 'X'" in caplog.messages
    with pytest.raises(UserError, match=r"^leave_out_labels: no row of '.*' has another label"):
        ImageFolder(str(tmp_path), colour=False, leave_out_labels=["x", "y"]).scan(in_order)


def test_a_file_with_a_label_that_is_left_out_and_another_is_refused(tmp_path):
    data_set(tmp_path, "a.png,-1,1\na.png,1,1\nb.png,0,2\n", "a.png", "b.png")
    with pytest.raises(UserError, match=r"1 listed twice with different label, group or part: 'a\.png'"):
        ImageFolder(str(tmp_path), colour=False, leave_out_labels=[-1]).scan(in_order)


WRITTEN = [
    "sep=;\npath;label;group\na.png;x;1\nb.png;y;2\n",
    '"sep=,"\npath,label,group\na.png,x,1\nb.png,y,2\n',
    "path|label|group\na.png|x|1\nb.png|y|2\n",
    "path,label,group\n\n  ,  ,\na.png,x,1\n,,\nb.png,y,2\n   \n",
    "path,label,group\na.png,x,1,\nb.png,y,2,,\n",
    "path,label,group,group\na.png,x,1,1\nb.png,y,2,2\n",
    "path,label,group,note,note\na.png,x,1,p,q\nb.png,y,2,r,s\n",
    "path,label,group\na.png,x,1.0\nb.png,y,2\na.png,x,1\n",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_tables_as_programs_write_them(tmp_path, text):
    source = data_set(tmp_path, "", "a.png", "b.png")
    (tmp_path / "labels.csv").write_text(text)
    scan = source.scan(in_order)
    assert levels(source, scan) == {"1": 10, "2": 30}
    assert scan.classes == {"label": ("x", "y")}


def test_leading_zeros_tell_groups_apart(tmp_path):
    source = data_set(tmp_path, "a.png,x,7\nb.png,y,007\n", "a.png", "b.png")
    assert sorted(chunk.patient for chunk in source.scan(in_order).chunks) == ["007", "7"]


def test_the_number_of_a_line_is_that_of_the_file(tmp_path):
    data_set(tmp_path, "")
    (tmp_path / "labels.csv").write_text("sep=;\npath;label;group\n\na.png;x\n")
    with pytest.raises(UserError, match=r"line 4 of '.*' has 2 values, expected one for each of the 3 columns"):
        ImageFolder(str(tmp_path)).scan(in_order)


@pytest.mark.parametrize("column", ["label", "group", "path"])
def test_two_columns_of_one_name_are_refused_where_they_differ(tmp_path, column):
    source = data_set(tmp_path, "a.png,x,1,b.png\nb.png,y,2,a.png\n", header=f"path,label,group,{column}")
    with pytest.raises(UserError, match=rf"{column}_column: the CSV has 2 columns '{column}' with different values"):
        source.scan(in_order)


DOUBTS = [
    ("Tumor", "tumor", "labels that differ in case or blanks only are classes of their own: 'Tumor', 'tumor'"),
    ("no  finding", "No finding", "labels that differ in case or blanks only"),
    ("1", "True", "labels are numbers and words of truth, each a class of its own: '1', 'True'"),
    ("1", "0", None),
    ("True", "False", None),
    ("tumour", "normal", None),
]


@pytest.mark.parametrize(("one", "other", "said"), DOUBTS)
def test_labels_that_may_be_meant_alike_are_said(tmp_path, caplog, one, other, said):
    source = data_set(tmp_path, f"a.png,{one},1\nb.png,{other},2\n", "a.png", "b.png")
    assert len(source.scan(in_order).classes["label"]) == 2
    found = [line for line in caplog.messages if line.startswith("labels")]
    assert len(found) == (said is not None)
    assert (said or "") in "".join(found)


def test_all_columns_that_are_not_there_are_named_at_once(tmp_path):
    source = data_set(tmp_path, "a.png,x\n", "a.png", header="image_id,finding")
    with pytest.raises(UserError) as refused:
        source.expected()
    assert [line.split(": the CSV")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        "path_column",
        "label_column",
        "group_column",
    ]
    alone = ImageFolder(str(tmp_path), path_column="image_id", label_column="finding")
    with pytest.raises(UserError) as refused:
        alone.expected()
    assert str(refused.value) == (
        "group_column: the CSV has no column 'group'; choose from finding, image_id (group_column=null: none)"
    )


def test_a_column_whose_name_is_a_number(tmp_path):
    data_set(tmp_path, "a.png,x,1\nb.png,y,2\n", "a.png", "b.png", header="path,2024,group")
    scan = ImageFolder(str(tmp_path), label_column=2024, colour=False).scan(in_order)
    assert scan.classes == {"2024": ("x", "y")}


# without labels


def test_without_a_csv_every_picture_is_read(tmp_path, caplog):
    data_set(tmp_path, "", "a.png", "x/b.JPG", "x/c.tiff", ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    source = ImageFolder(str(tmp_path), labels=None, colour=False)
    with caplog.at_level("INFO"):
        scan = source.scan(in_order)
    assert levels(source, scan) == {"a.png": 10, "x/b.JPG": 30, "x/c.tiff": 50}
    assert (scan.classes, scan.skipped) == ({}, {"hidden": 1, "no picture": 2})
    assert all(set(chunk.columns) == {"position_mm"} for chunk in scan.chunks)
    assert not any(chunk.known for chunk in scan.chunks)
    assert source.expected() == 3
    assert not source.has_labels
    assert len(source.fingerprint()) == 64


def test_a_csv_without_labels_still_groups(tmp_path):
    data_set(tmp_path, "a.png,1\nb.png,1\n", "a.png", "b.png", header="path,group")
    source = ImageFolder(str(tmp_path), label_column=None, colour=False)
    (chunk,) = source.scan(in_order).chunks
    assert (chunk.patient, len(chunk.items), set(chunk.columns)) == ("1", 2, {"position_mm"})
    assert not source.has_labels


def test_the_same_pictures_elsewhere_are_the_same(tmp_path):
    for name in ("here", "there/deep"):
        data_set(tmp_path / name, "", *(f"{i}.png" for i in range(5)))
    stores = [
        prepared(ImageFolder(str(tmp_path / name), labels=None, colour=False), tmp_path / f"out_{name[:4]}")
        for name in ("here", "there/deep")
    ]
    assert stores[0].info["digest"] == stores[1].info["digest"]


def test_no_picture_at_all(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(
        UserError, match=r"root: no picture \(PNG, JPEG, TIFF, BMP, DICOM\) below '.*', found: 1 no pic"
    ):
        ImageFolder(str(tmp_path), labels=None).scan(in_order)


def test_a_missing_csv_names_the_way_without_one(tmp_path):
    with pytest.raises(
        UserError, match=r"labels: there is no file .*; labels=null reads all pictures below '.*', without"
    ):
        ImageFolder(str(tmp_path)).scan(in_order)


def test_pictures_of_few_values_beside_images_may_be_masks(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    for i in range(4):
        Image.fromarray(noise + i).save(tmp_path / f"{i}.png")
        Image.fromarray((noise > 200).astype(np.uint8)).save(tmp_path / f"m{i}.png")
    ImageFolder(str(tmp_path), labels=None, colour=False).scan(in_order)
    said = "4 of 8 pictures looked at hold at most 8 different values, as masks do; exclude=PATTERN leaves files out"
    assert said in caplog.text
    caplog.clear()
    scan = ImageFolder(str(tmp_path), labels=None, colour=False, exclude="m*").scan(in_order)
    assert (len(scan.chunks), scan.skipped) == (4, {"excluded": 4})
    assert "as masks do" not in caplog.text


def test_patterns_choose_among_the_files_of_a_csv_too(tmp_path):
    rows = "a.png,x,1\nb.png,y,2\nold/c.png,x,3\nold/gone.png,y,4\n"
    data_set(tmp_path, rows, "a.png", "b.png", "old/c.png")
    source = ImageFolder(str(tmp_path), colour=False, exclude="old")
    scan = source.scan(in_order)
    assert levels(source, scan) == {"1": 10, "2": 30}
    assert (scan.skipped, scan.damaged) == ({"excluded": 2}, [])
    with pytest.raises(UserError, match=r"\n  include and exclude leave none of the 4 files listed$"):
        ImageFolder(str(tmp_path), colour=False, include="*.tif").scan(in_order)
