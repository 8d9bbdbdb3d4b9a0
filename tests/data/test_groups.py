"""`data.group`: who the images of a file are of, the same for every source."""

import csv
from pathlib import Path

import numpy as np
import pytest
from composed import composed
from data.dicom_files import ct_dataset, save
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.ct.dicom import CTDicom
from medlat.data.groups import Grouped, joined, rule
from medlat.data.image_store import ImageStore, Preparation, prepare, pseudonym
from medlat.data.modality import GREY
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Chunk, Scan, Slice
from medlat.steps import builders
from medlat.steps.data import Images


class Files:
    """A source of files by name: three images each, all 1, 2, 3 more than the file's place in the list."""

    modality = GREY

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self.names = folder, names

    def fingerprint(self) -> str:
        return "files"

    def expected(self) -> int:
        return 3 * len(self.names)

    def scan(self, parallel_map) -> Scan:
        items = [Item(str(self.folder / name)) for name in self.names]
        chunks = [Chunk("all", tuple(items), {"position_mm": np.arange(len(items), dtype=float)}, known=False)]
        studies = {item.path: f"1.2.{i % 2}" for i, item in enumerate(items)}
        return Scan(chunks, studies=studies)

    def read(self, chunk):
        for item in chunk.items:
            pixels = np.zeros((16, 16), np.float32)
            pixels[0] = self.names.index(Path(item.path).relative_to(self.folder).as_posix())
            yield Slice(pixels, (1.0, 1.0))


class Item:
    def __init__(self, path: str) -> None:
        self.path = path


def groups(root: Path, group, *names: str) -> list[str]:
    """The group of each file, in the order of the names."""
    source = Grouped(Files(root, *names), group)
    found = {item.path: c.patient for c in source.scan(in_order).chunks for item in c.items}
    return [found[str(root / name)] for name in names]


def in_order(function, items, description):
    return map(function, items)


RECONSTRUCTIONS = ("train_0/a/train_0_a_1.nii", "train_0/a/train_0_a_2.nii", "train_1/a/train_1_a_1.nii")
SLIDES = ("TCGA-AA-0001-01Z-00-DX1.svs", "TCGA-AA-0001-01Z-00-DX2.svs", "TCGA-AA-0002-01Z-00-DX1.svs")


@pytest.mark.parametrize(
    ("group", "names", "expected"),
    [
        (r"(train_\d+)_", RECONSTRUCTIONS, ["train_0", "train_0", "train_1"]),
        ("(?:^|/)(TCGA-..-....)", SLIDES, ["TCGA-AA-0001", "TCGA-AA-0001", "TCGA-AA-0002"]),
        (1, RECONSTRUCTIONS, ["train_0", "train_0", "train_1"]),
        (2, RECONSTRUCTIONS, ["a", "a", "a"]),
        (2, ("site/p1/x.png", "other/p1/x.png"), ["p1", "p1"]),
        ("folder", RECONSTRUCTIONS, ["train_0/a", "train_0/a", "train_1/a"]),
        ("study", ("a.dcm", "b.dcm", "c.dcm"), ["1.2.0", "1.2.1", "1.2.0"]),
    ],
)
def test_a_group_is_found_by_the_path(tmp_path, group, names, expected) -> None:
    assert groups(tmp_path, group, *names) == expected


def test_a_table_names_files_and_folders_and_the_nearest_counts(tmp_path, caplog) -> None:
    rows = [("p1", "ada"), ("p1/x.png", "bob"), ("p2\\y.png", "ada"), ("gone.png", "eve")]
    with open(tmp_path / "who.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "group"), *rows])
    names = ("p1/x.png", "p1/deep/z.png", "p2/y.png")
    for table in ("who.csv", str(tmp_path / "who.csv")):
        assert groups(tmp_path, table, *names) == ["bob", "ada", "ada"]
    assert "data.group: 1 of 4 rows of the CSV name no file that is read" in caplog.text
    source = Grouped(Files(tmp_path, *names), "who.csv")
    before = source.fingerprint()
    (tmp_path / "who.csv").write_text("path,group\np1,ada\np2,ada\n")
    assert source.fingerprint() != before != "files"


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (r"(val_\d+)_", r"group=(val_\d+)_: 3 of 3 files do not match it, so that nobody knows who they are of: "),
        ("(train_1)_", "group=(train_1)_: 2 of 3 files do not match it, so that nobody knows who they are of: "),
        (3, "group=3: 3 of 3 files lie in no folder at level 3 below the root, so that nobody knows who they are of: "),
        ("who.csv", "group=who.csv: 2 of 3 files are not listed there, so that nobody knows who they are of: "),
    ],
)
def test_files_that_get_no_group_are_named(tmp_path, group, said) -> None:
    (tmp_path / "who.csv").write_text("path,group\ntrain_1/a,bob\n")
    with pytest.raises(UserError) as refused:
        groups(tmp_path, group, *RECONSTRUCTIONS)
    assert str(refused.value).startswith(said + "'train_0/a/train_0_a_1.nii', 'train_0/a/train_0_a_2.nii'")


def test_a_file_in_no_folder_has_no_group(tmp_path) -> None:
    with pytest.raises(UserError, match=r"^group=folder: 1 of 2 files lie in no folder below the root, .*: 'b.png'$"):
        groups(tmp_path, "folder", "p/a.png", "b.png")


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("foldr", "group=foldr: did you mean 'folder'? expected null (what the data say themselves), a folder level"),
        (r"patient_\d+", r"group=patient_\d+: expected null (what the data say themselves), a folder level"),
        ("(a)(b)", "group=(a)(b): 2 groups in parentheses, expected one; (?:...) is none"),
        ("(a", "group=(a: no regular expression (missing ), unterminated subpattern at position 0)"),
        (0, "group=0: expected null"),
    ],
)
def test_what_is_no_rule_is_refused_at_once(tmp_path, group, said) -> None:
    with pytest.raises(UserError) as refused:
        Grouped(Files(tmp_path), group)
    assert str(refused.value).startswith(said)


def test_a_table_that_contradicts_itself_or_leaves_the_root_is_refused(tmp_path) -> None:
    table = tmp_path / "who.csv"
    for text, said in (
        ("path,group\na.png,1\na.png,2\n", "group=who.csv: 1 paths are listed with different groups: 'a.png'"),
        ("path,group\n../a.png,1\n", "group=who.csv: 1 paths are not below the root: '../a.png'"),
        ("path,group\na.png,\n", "group=who.csv: 1 paths have no group: 'a.png'"),
        ("path,who\na.png,1\n", "group: the CSV has no column 'group'; choose from path, who"),
    ):
        table.write_text(text)
        with pytest.raises(UserError) as refused:
            groups(tmp_path, "who.csv", "a.png")
        assert str(refused.value) == said
    with pytest.raises(UserError, match=r"^group: there is no file '.*wo\.csv'; did you mean 'who\.csv'\?$"):
        groups(tmp_path, "wo.csv", "a.png")


def test_a_source_without_files_cannot_be_grouped_by_them() -> None:
    source = builders.source(composed("data=ct_phantom"))
    with pytest.raises(UserError, match=r"^group=folder: these data are not files below a folder.*expected null$"):
        Grouped(source, "folder")


def test_items_without_a_path_cannot_be_grouped_by_it(tmp_path) -> None:
    source = Files(tmp_path)
    source.scan = lambda parallel_map: Scan([Chunk("p", ((1, 2),), {"position_mm": np.zeros(1)})])
    with pytest.raises(UserError, match=r"^group=study: these data are not files below a folder.*expected null$"):
        Grouped(source, "study").scan(in_order)


def test_the_rule_belongs_to_the_key_of_the_images_and_a_table_does_by_its_content(tmp_path) -> None:
    base = ("+experiment=ct_vae_sefa", "data=ct_nifti", f"data.root={tmp_path}")
    plain, level, table = (
        Images().settings(composed(*base, f"data.group={group}")) for group in ("null", "1", f"{tmp_path}/who.csv")
    )
    assert "group" not in plain
    assert level == plain | {"group": 1}
    assert table == plain | {"group": "CSV"}


def test_the_groups_reach_the_store_and_every_image_keeps_its_place(tmp_path) -> None:
    names = ("p1/x.png", "p2/y.png", "p1/z.png")
    out = tmp_path / "out"
    out.mkdir()
    prepare(Grouped(Files(tmp_path, *names), 1), Preparation(16, None, 0.0, "salt", 1), out)
    store = ImageStore.open(out)
    assert sorted(store.patients) == sorted([pseudonym("p1", "salt"), pseudonym("p2", "salt")])
    whose = {int(p): store.patients[k] for p, k in zip(store.columns["position_mm"], store.patient, strict=True)}
    assert whose == {0: pseudonym("p1", "salt"), 1: pseudonym("p2", "salt"), 2: pseudonym("p1", "salt")}
    assert store.images[np.arange(3)][:, 0, 0, 0].tolist() == store.columns["position_mm"].tolist()


def test_the_command_line_takes_a_pattern_and_names_its_own_key(tmp_path) -> None:
    """As the documentation writes it in a shell: data.group='"(train_[0-9]+)"'."""
    write_pictures(tmp_path, train_0_a=10, train_0_b=20, train_1_a=30)
    base = ("data=radiographs", f"data.root={tmp_path}")
    for pattern in (r"(train_[0-9]+)_", r"(train_\d+)_"):
        source = builders.source(composed(*base, f'data.group="{pattern}"'))
        assert sorted({chunk.patient for chunk in source.scan(in_order).chunks}) == ["train_0", "train_1"]
    source = builders.source(composed(*base, r'data.group="(train_1)_"'))
    with pytest.raises(UserError, match=r"^data\.group=\(train_1\)_: 2 of 3 files do not match it"):
        source.scan(in_order)
    said = r"^data\.group=pth: no column of the CSV, which has path, label; did you mean 'path'\? expected null"
    with pytest.raises(UserError, match=said):
        builders.source(composed(*base, "data.group=pth"))


@pytest.mark.parametrize(
    ("word", "patients"),
    [
        ("group", ["ada", "bob"]),
        ("who", ["eve"]),
        ("null", ["p1/a.png", "p1/b.png", "p2/c.png"]),
        ("1", ["p1", "p2"]),
        ("folder", ["p1", "p2"]),
        ('"(.).png"', ["a", "b", "c"]),
        ("own.csv", ["all"]),
    ],
)
def test_pictures_have_their_groups_from_a_column_or_as_any_other_files(tmp_path, word, patients) -> None:
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
    for i, name in enumerate(("p1/a.png", "p1/b.png", "p2/c.png")):
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * (i + 2)).save(tmp_path / name)
    rows = "p1/a.png,0,ada,eve\np1/b.png,1,ada,eve\np2/c.png,1,bob,eve\n"
    (tmp_path / "labels.csv").write_text("path,label,group,who\n" + rows)
    (tmp_path / "own.csv").write_text("path,group\np1,all\np2,all\n")
    base = ("+experiment=ct_vae_sefa", "data=radiographs", f"data.root={tmp_path}")
    config = composed(*base, f"data.group={word}")
    chunks = builders.source(config).scan(in_order).chunks
    assert sorted({chunk.patient for chunk in chunks}) == patients
    assert {chunk.known for chunk in chunks} == {word != "null"}
    settings = Images().settings(config)
    assert settings.get("group") == {"null": None, "1": 1, '"(.).png"': "(.).png", "own.csv": "CSV"}.get(word, word)
    assert "group_column" not in settings["source"]


def test_without_a_csv_no_column_is_asked_for_but_one_that_the_user_names_is(tmp_path) -> None:
    source = ImageFolder(str(tmp_path), labels=None)
    assert rule(source, "group") is None
    assert rule(source, "folder") == "folder"
    with pytest.raises(UserError, match=r"^group=patient: expected null"):
        Grouped(source, rule(source, "patient"))


def test_negatives_are_turned_about_whoever_they_are_of(tmp_path) -> None:
    source = ImageFolder(str(tmp_path), labels=None, colour=False, polarity="mended")
    source.compare = lambda images, rows, scan: {1: "again"}
    whole = Grouped(source, "folder")
    assert whole.compare(None, np.arange(2), Scan()) == {1: "again"}
    assert not whole.has_labels


def test_files_that_name_nobody_join_a_patient_who_is_named_and_those_stay_apart() -> None:
    images = np.array([1, 1, 1, 2, 2])[:, None, None, None] * np.eye(4)
    names = {"ada": True, "bob": True, "a.png": False, "b.png": False, "c.png": False}
    chunks = [Chunk(name, (name,), {}, known) for name, known in names.items()]
    assert [c.patient for c in joined(chunks, images, np.arange(5))] == ["ada", "bob", "ada", "b.png", "b.png"]


def write_pictures(folder: Path, **values: int) -> None:
    """8 x 8 pixels each, of that value but for a white corner; half of them are class 1."""
    lines = ["path,label"]
    for i, (name, value) in enumerate(values.items()):
        pixels = np.full((8, 8), value, np.uint8)
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(folder / f"{name}.png")
        lines.append(f"{name}.png,{i % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("column", "called"), [("group", "groups"), ("original", "groups"), ("patient_id", "patients"), (None, "groups")]
)
def test_groups_are_called_patients_only_where_the_data_call_them_so(tmp_path, caplog, column, called) -> None:
    write_pictures(tmp_path, a=10, b=20)
    if column is not None:
        (tmp_path / "labels.csv").write_text(f"path,label,{column}\na.png,0,1\nb.png,1,1\n")
    out = tmp_path / "out"
    out.mkdir()
    with caplog.at_level("INFO"):
        prepare(ImageFolder(str(tmp_path), group_column=column), Preparation(16, None, 0.0, "salt", 1), out)
    assert ImageStore.open(out).info["groups"] == called
    count = f"1 {called[:-1]}" if column else "2 groups"
    assert f"data: 2 tiles of {count}; a pixel is taken for " in caplog.text


def test_where_nobody_is_named_files_are_patients_and_equal_pixels_one(tmp_path, caplog) -> None:
    write_pictures(tmp_path, a=10, b=20, c=10, d=30, e=20, f=10)
    out = tmp_path / "out"
    out.mkdir()
    with caplog.at_level("INFO"):
        prepare(ImageFolder(str(tmp_path), group_column=None), Preparation(16, None, 0.0, "salt", 1), out)
    store = ImageStore.open(out)
    values = store.images[np.arange(6)][:, 0, 9, 9]
    assert {tuple(values[store.patient == number].tolist()) for number in range(len(store.patients))} == {
        (10, 10, 10),
        (20, 20),
        (30,),
    }
    said = "nothing says who the images are of: each of 6 files counts as a group of its own; data.group=... says"
    assert said in caplog.text
    assert "3 of them hold an image of another one, pixel for pixel, and count as one group with it" in caplog.text
    assert str(tmp_path) not in caplog.text


def test_patients_that_are_named_stay_apart_whatever_their_pixels(tmp_path) -> None:
    write_pictures(tmp_path, a=10, b=10)
    (tmp_path / "labels.csv").write_text("path,label,group\na.png,0,ada\nb.png,1,bob\n")
    out = tmp_path / "out"
    out.mkdir()
    prepare(ImageFolder(str(tmp_path)), Preparation(16, None, 0.0, "salt", 1), out)
    assert len(ImageStore.open(out).patients) == 2


def test_studies_that_share_one_patient_are_told_apart(tmp_path) -> None:
    for study in range(3):
        for level in range(2):
            tags = {"PatientID": "ANONYMOUS", "StudyInstanceUID": f"1.2.{study}"}
            tags |= {"ImagePositionPatient": [0, 0, level]}
            dataset = ct_dataset(np.full((8, 9), 10 * study + level), **tags)
            save(dataset, tmp_path / "in" / f"pat{study}" / f"{level}.dcm")
    plain = CTDicom(str(tmp_path / "in"))
    scan = plain.scan(in_order)
    assert {chunk.patient for chunk in scan.chunks} == {"ANONYMOUS"}
    assert sorted(set(scan.studies.values())) == ["1.2.0", "1.2.1", "1.2.2"]
    by_study, by_folder = (Grouped(plain, group).scan(in_order).chunks for group in ("study", "folder"))
    assert sorted(chunk.patient for chunk in by_study) == ["1.2.0", "1.2.1", "1.2.2"]
    assert sorted(chunk.patient for chunk in by_folder) == ["pat0", "pat1", "pat2"]
    prepare(plain, Preparation(8, 8.0, 0.0, "salt", 1), tmp_path)
    assert ImageStore.open(tmp_path).info["studies"] == 3
