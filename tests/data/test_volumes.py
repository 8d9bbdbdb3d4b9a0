"""MetaImage and NRRD beside NIfTI; which files are read; label maps; values that are no Hounsfield units."""

import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from composed import composed
from data.dicom_files import write_slice
from data.volume_files import write_meta, write_nrrd

from medlat.core.errors import UserError
from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.lidc import LIDC
from medlat.data.ct.volumes import CTVolumes
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.patterns import fits, pattern_for
from medlat.data.source import Damaged, Remark, Scan, Slice
from medlat.steps import builders

HU = (np.arange(4 * 5 * 6).reshape(4, 5, 6) * 10 - 1000).astype(np.int16)  # [x, y, z]: to the left, the back, up
LABELS = (np.indices((12, 12, 6)).sum(axis=0) // 8).astype(np.uint8)  # 0 to 3


def in_order(function, items, description):
    return map(function, items)


def scan(root: Path, **arguments) -> Scan:
    return CTVolumes(str(root), **arguments).scan(in_order)


def read(root: Path, **arguments) -> list[Slice | Damaged | Remark]:
    source = CTVolumes(str(root), **arguments)
    chunks = source.scan(in_order).chunks
    return [one for chunk in chunks for one in source.read(pickle.loads(pickle.dumps(chunk)))]


def prepared(root: Path, out: Path, **arguments) -> ImageStore:
    out.mkdir()
    prepare(CTVolumes(str(root), **arguments), Preparation(8, None, 0.0, "salt", 1), out)
    return ImageStore.open(out)


def write_nifti(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag((-1.0, -2.0, 3.0, 1.0))), path)
    return path


# formats

WRITERS: list[tuple[str, Callable]] = [
    ("a.mha", write_meta),
    ("a.mhd", write_meta),
    ("a.nrrd", write_nrrd),
    ("a.nhdr", write_nrrd),
]


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_every_format_gives_the_same_slices(tmp_path: Path, name: str, write, packed: bool, dtype: str) -> None:
    write(tmp_path / name, HU.astype(dtype), packed)
    (chunk,) = scan(tmp_path).chunks
    assert scan(tmp_path).skipped == {}
    assert chunk.patient == "a"
    np.testing.assert_array_equal(chunk.columns["position_mm"], np.arange(6) * 3.0)
    slices = read(tmp_path)
    assert {one.spacing_mm for one in slices} == {(2.0, 1.0)}
    for level, one in enumerate(slices):
        assert one.pixels.dtype == np.float32
        np.testing.assert_array_equal(one.pixels, HU[:, :, level].T)


TURNED = [  # as stored: x to the front, y down, z to the right
    (write_meta, "a.mha", {"TransformMatrix": "0 -1 0 0 0 -1 -1 0 0", "Offset": "5 -7 11"}),
    (write_nrrd, "a.nrrd", {"space_directions": "(0,-1,0) (0,0,-2) (-3,0,0)", "space_origin": "(5,-7,11)"}),
    (
        write_nrrd,
        "a.nrrd",
        {"space": "RAS", "space_directions": "(0,1,0) (0,0,-2) (3,0,0)", "space_origin": "(-5,7,11)"},
    ),
]


@pytest.mark.parametrize(("write", "name", "fields"), TURNED)
def test_any_storage_order_gives_axial_slices_from_feet_to_head(tmp_path: Path, write, name, fields) -> None:
    write(tmp_path / name, HU, **fields)
    (chunk,) = scan(tmp_path).chunks
    np.testing.assert_array_equal(chunk.columns["position_mm"], 11 - 2 * np.arange(5)[::-1])
    slices = read(tmp_path)
    assert slices[0].spacing_mm == (1.0, 3.0)
    for level, one in enumerate(slices):  # rows to the back, columns to the left
        np.testing.assert_array_equal(one.pixels, HU[::-1, 4 - level, ::-1])


def test_a_pair_of_header_and_values_is_one_volume(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(HU, np.diag((-1, -2, 3, 1))), tmp_path / "a.hdr")
    assert {path.name for path in tmp_path.iterdir()} == {"a.hdr", "a.img"}
    assert scan(tmp_path).skipped == {}
    np.testing.assert_array_equal([one.pixels.T for one in read(tmp_path)], np.moveaxis(HU, 2, 0))


def test_nrrd_that_says_its_spacing_alone_is_read_and_that_is_said(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", HU, space="", space_directions="", space_origin="", spacings="1 2 3")
    slices = read(tmp_path)
    assert slices[0].spacing_mm == (2.0, 1.0)
    assert slices[0].remarks == (Remark(str(tmp_path / "a.nrrd"), "no orientation: taken as LPS", True),)
    np.testing.assert_array_equal(slices[1].pixels, HU[:, :, 1].T)


@pytest.mark.parametrize(("unit", "steps"), [("m", "0.001 0.002 0.003"), ("um", "1000 2000 3000"), ("m", "1 2 3")])
def test_a_unit_is_believed_where_it_gives_a_likely_spacing(tmp_path: Path, unit: str, steps: str) -> None:
    x, y, z = steps.split()
    directions = f"({x},0,0) (0,{y},0) (0,0,{z})"
    write_nrrd(tmp_path / "a.nrrd", HU, space_directions=directions, space_units=f'"{unit}" "{unit}" "{unit}"')
    np.testing.assert_allclose(read(tmp_path)[0].spacing_mm, (2.0, 1.0))


LARGE, SMALL = (
    "slices of more than 1200 mm: is their pixel spacing in mm?",
    "slices of less than 60 mm: is their pixel spacing in cm?",
)
SIZES = [  # pixels a side, mm between them, what is said
    (512, 0.07, SMALL),
    (512, 0.0977, SMALL),
    (300, 0.1, SMALL),
    (512, 0.7, None),
    (512, 0.15, None),
    (32, 1.0, None),
    (512, 7.0, LARGE),
    (128, 9.77, LARGE),
    (64, 12.5, None),
]


@pytest.mark.parametrize(("pixels", "mm", "said"), SIZES)
def test_slices_as_large_as_none_of_a_patient_are_said(
    tmp_path: Path, pixels: int, mm: float, said: str | None
) -> None:
    """A series in cm is as plausible by its spacing as one in mm."""
    values = np.tile(HU, (pixels // HU.shape[0] + 1, pixels // HU.shape[1] + 1, 1))[:pixels, :pixels]
    image = nibabel.Nifti1Image(values, np.diag((-mm, -mm, 3, 1)))
    nibabel.save(image, tmp_path / "a.nii.gz")
    write_slice(tmp_path / "dicom" / "a.dcm", values[:, :, 0], PixelSpacing=[mm, mm])
    for found in (read(tmp_path), scanned(CTDicom(str(tmp_path / "dicom")))):
        assert [one.reason for one in found[0].remarks] == [said] * (said is not None)


def scanned(source: CTDicom) -> list[Slice]:
    return [one for chunk in source.scan(lambda f, items, _: map(f, items)).chunks for one in source.read(chunk)]


@pytest.mark.parametrize(("mm", "spacing"), [(0.07, 0.7), (0.7, 0.7)])
def test_centimetres_are_believed_where_millimetres_make_no_patient(tmp_path: Path, mm: float, spacing: float) -> None:
    values = np.tile(HU, (512 // HU.shape[0], 512 // HU.shape[1], 1))
    directions = f"({mm},0,0) (0,{mm},0) (0,0,{mm})"
    write_nrrd(tmp_path / "a.nrrd", values, space_directions=directions, space_units='"cm" "cm" "cm"')
    first, second, *_ = read(tmp_path)
    np.testing.assert_allclose(first.spacing_mm, (spacing, spacing))
    assert first.remarks == second.remarks == ()


def test_what_is_odd_about_one_volume_is_all_said(tmp_path: Path) -> None:
    values = np.tile(HU + 1024, (512 // HU.shape[0], 512 // HU.shape[1], 1))
    nibabel.save(nibabel.Nifti1Image(values, np.diag((-0.07, -0.07, 3, 1))), tmp_path / "a.nii.gz")
    assert [one.reason for one in read(tmp_path)[0].remarks] == [
        "no value below -200 HU, as air has: are these Hounsfield units?",
        SMALL,
    ]


def test_a_nifti_volume_in_metres_that_says_so_is_read(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(HU, np.diag((-0.001, -0.002, 0.003, 1)))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read(tmp_path)[0].spacing_mm, (2.0, 1.0), rtol=1e-6)


UNFIT = [
    (write_meta, "a.mha", {"ElementNumberOfChannels": "3"}, "not plain numbers (colour or complex)"),
    (write_meta, "a.mha", {"BinaryData": "False"}, "values as text"),
    (write_meta, "a.mhd", {"ElementDataFile": "slice%03d.raw 1 6 1"}, "values in several files"),
    (write_nrrd, "a.nrrd", {"encoding": "ascii"}, "values as text"),
    (write_nrrd, "a.nhdr", {"data_file": "LIST"}, "values in several files"),
    (write_nrrd, "a.nrrd", {"type": "block"}, "not plain numbers (colour or complex)"),
]


@pytest.mark.parametrize(("write", "name", "fields", "reason"), UNFIT)
def test_what_is_no_plain_volume_is_skipped_and_counted(tmp_path: Path, write, name, fields, reason) -> None:
    write_nifti(tmp_path / "good.nii", HU)
    write(tmp_path / name, HU, **fields)
    found = scan(tmp_path)
    assert (len(found.chunks), found.damaged) == (1, [])
    assert found.skipped.get(reason) == 1


BROKEN = [
    (write_meta, "a.mha", {"ElementSpacing": ""}, "no pixel spacing"),
    (write_meta, "a.mha", {"ElementSpacing": "0.0007 0.0007 1"}, "pixel spacing outside 0.02 to 20 mm"),
    (write_meta, "a.mha", {"DimSize": "4 5 7"}, "truncated"),
    (write_meta, "a.mha", {"DimSize": "4 5"}, "corrupt"),
    (write_meta, "a.mha", {"DimSize": "4 5 99999999999"}, "truncated"),
    (write_meta, "a.mha", {"ElementType": "MET_OTHER"}, "corrupt"),
    (write_meta, "a.mha", {"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "degenerate affine"),
    (write_meta, "a.mhd", {"ElementDataFile": "gone.raw"}, "the file with its values is missing"),
    (write_meta, "a.mhd", {"ElementDataFile": "../other.raw"}, "its values lie in another folder"),
    (write_nrrd, "a.nrrd", {"space_directions": "", "space_origin": ""}, "no pixel spacing"),
    (write_nrrd, "a.nrrd", {"sizes": "4 5 7"}, "truncated"),
    (write_nrrd, "a.nrrd", {"space_directions": "none (0,2,0) (0,0,3)"}, "degenerate affine"),
    (write_nrrd, "a.nhdr", {"data_file": "/etc/hostname"}, "its values lie in another folder"),
]


@pytest.mark.parametrize(("write", "name", "fields", "reason"), BROKEN)
def test_a_header_that_means_nothing_is_damage(tmp_path: Path, write, name, fields, reason) -> None:
    write_nifti(tmp_path / "good.nii", HU)
    write(tmp_path / name, HU, **fields)
    assert scan(tmp_path).damaged == [Damaged(str(tmp_path / name), reason)]


@pytest.mark.parametrize(("name", "write"), [("a.mha", write_meta), ("a.nrrd", write_nrrd)])
def test_damaged_values_that_are_packed_are_found(tmp_path: Path, name: str, write) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (9, 9, 9)).astype(np.int16)
    path = write(tmp_path / name, values, True)
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 255
    path.write_bytes(content)
    assert set(read(tmp_path)) == {Damaged(str(path), "corrupt")}
    path.write_bytes(write(path, values, True).read_bytes()[:-100])
    assert set(read(tmp_path)) == {Damaged(str(path), "truncated")}


def test_an_intercept_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", HU)
    write_nifti(tmp_path / "good.nii", HU)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([1, np.nan], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    assert scan(tmp_path).damaged == [Damaged(str(path), "scl_inter is no number")]


# what lies beside


def test_files_of_another_kind_are_named_by_what_they_are(tmp_path: Path) -> None:
    starts = {
        "a.zip": b"PK\3\4",
        "b.dcm.gz": b"\x1f\x8b",
        "c.png": b"\x89PNG",
        "d": b"\0" * 128 + b"DICM",
        "e.txt": b"x",
    }
    starts |= {
        "f.hdr": b"ENVI\n",
        "g.raw": b"\0" * 99,
        "h.7z": b"7z\xbc\xaf",
        "i.tar": b"\0" * 257 + b"ustar",
        "j": b"",
    }
    for name, start in starts.items():
        (tmp_path / name).write_bytes(start)
    with pytest.raises(UserError) as refused:
        scan(tmp_path)
    assert str(refused.value).endswith(
        "found: 1 .hdr file of another kind, 1 7z archive: unpack it, 1 DICOM file, 1 empty file, "
        "1 file of another kind, 1 gzip file: unpack it, 1 picture, 1 tar archive: unpack it, "
        "1 values without a header, 1 zip archive: unpack it; DICOM is read by data=ct_dicom"
    )


# label maps


def kits(root: Path) -> None:
    for case in range(3):
        write_nifti(root / f"case_{case}" / "imaging.nii.gz", np.tile(HU, (3, 3, 1)) + np.int16(case))
        write_nifti(root / f"case_{case}" / "segmentation.nii.gz", LABELS)


def test_label_maps_beside_images_are_left_out_counted_and_named(tmp_path: Path, caplog, capsys) -> None:
    kits(tmp_path / "in")
    store = prepared(tmp_path / "in", tmp_path / "out")
    assert (len(store), len(store.patients)) == (18, 3)
    reason = "few distinct whole numbers: a label map, not an image"
    assert store.info["account"] == [["left out", 3, reason]]
    assert store.images[np.arange(18)].min() < -900
    assert f"3 of 6 files left out: {reason}; data.source.exclude=PATTERN leaves such files out" in caplog.text
    assert "case_" not in caplog.text
    said = capsys.readouterr().err
    assert f"{tmp_path / 'in' / 'case_0' / 'segmentation.nii.gz'}: {reason}\n" in said
    assert "data.source.exclude='segmentation.nii.gz' fits 3 of these and no file that is read" in said


@pytest.mark.parametrize("picked", [{"exclude": "*segm*"}, {"exclude": ["nobody", "segm*.gz"]}, {"include": "imag*"}])
def test_patterns_choose_files_before_they_are_read(tmp_path: Path, picked, caplog) -> None:
    kits(tmp_path)
    found = scan(tmp_path, **picked)
    assert [chunk.patient for chunk in found.chunks] == ["case_0/imaging", "case_1/imaging", "case_2/imaging"]
    assert found.skipped == {"excluded" if "exclude" in picked else "not included": 3}
    unused = "the pattern 'nobody' of include or exclude fits none of 6 files"
    assert (unused in caplog.text) == ("nobody" in str(picked))


def test_the_command_line_takes_patterns(tmp_path: Path) -> None:
    """As a shell passes on what the messages and the documentation write."""
    kits(tmp_path)
    for word in ("exclude=segmentation.nii.gz", "exclude=*segm*", "exclude=[none,*seg*]", "include=*imag*"):
        config = composed("data=ct_nifti", f"data.root={tmp_path}", f"data.source.{word}")
        assert len(builders.source(config).scan(in_order).chunks) == 3


def test_a_folder_without_a_file_that_is_included_says_so(tmp_path: Path) -> None:
    kits(tmp_path)
    with pytest.raises(UserError, match=r"no CT volume .* found: 6 not included$"):
        scan(tmp_path, include="*.mha")
    with pytest.raises(UserError, match=r"^exclude=: an empty pattern; expected e\.g\. '\*_seg\*', or null$"):
        CTVolumes(str(tmp_path), exclude="")


def test_dicom_and_its_annotations_are_chosen_by_the_same_patterns(tmp_path: Path) -> None:
    for folder in ("thick", "thin"):
        write_slice(tmp_path / folder / "a.dcm", SeriesInstanceUID=f"2.25.{len(folder)}")
    for source in (CTDicom(str(tmp_path), exclude="thin"), LIDC(str(tmp_path), include="*thick/*")):
        (chunk,) = source.scan(in_order).chunks
        assert chunk.items[0].path == str(tmp_path / "thick" / "a.dcm")
        assert source.expected() == 1


NOT_IMAGES = {
    "0 and 1": LABELS > 1,
    "empty": np.zeros((12, 12, 6)),
    "float": LABELS.astype(np.float32),
    "ignored": LABELS.astype(np.int16) - 1,
    "whole heart": np.array([0, 205, 420, 850], np.int16)[LABELS],
    "117 classes": np.repeat(np.arange(118), 60).reshape(10, 118, 6),
}
IMAGES = {
    "HU + 1024 of few values": np.array([24, 1064, 1204], np.uint16)[LABELS.clip(0, 2)],
    "0 to 1": LABELS.astype(np.float32) / 3,
    "8 bits": np.arange(12 * 12 * 6).reshape(12, 12, 6) % 200,
    "air": np.array([-1000, 40, 300, 0], np.int16)[LABELS],
    "few voxels": np.arange(24).reshape(2, 3, 4),
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_few_distinct_whole_numbers_are_no_image_unless_the_user_says_so(tmp_path: Path, name: str) -> None:
    path = write_nifti(tmp_path / "a.nii", NOT_IMAGES[name].astype(np.float32))
    assert {type(one) for one in read(tmp_path)} == {Remark}
    assert {one.path for one in read(tmp_path)} == {str(path)}
    assert {type(one) for one in read(tmp_path, include="a.nii")} == {Slice}


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_no_label_maps(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / "a.nii", IMAGES[name].astype(np.float32))
    assert {type(one) for one in read(tmp_path)} == {Slice}


PATTERNS = [
    ("a/seg.nii", "seg.nii", True),
    ("masks/deep/x.nii", "masks", True),
    ("masks/deep/x.nii", "masks/*", True),
    ("masks/deep/x.nii", "mask", False),
    ("a/b_seg.nii", "*_seg*", True),
    ("a/b_SEG.nii", "*_seg*", False),
    ("a/b1.nii", "b?.nii", True),
]


@pytest.mark.parametrize(("path", "pattern", "fitting"), PATTERNS)
def test_a_pattern_fits_the_path_or_a_part_of_it(path: str, pattern: str, fitting: bool) -> None:
    assert fits(path, pattern) is fitting


@pytest.mark.parametrize(
    ("left", "kept", "pattern"),
    [
        (["a/seg.nii", "b/seg.nii"], ["a/img.nii"], "seg.nii"),
        (["labelsTr/a.nii", "labelsTr/b.nii"], ["imagesTr/a.nii"], "labelsTr"),
        (["a_seg.nii", "b_seg.nii"], ["a.nii", "b.nii"], "*_seg.nii"),
        (["segmentation-0.nii", "segmentation-1.nii"], ["volume-0.nii"], "segmentation-*"),
        (["a.nii", "b.nii"], ["c.nii"], None),
    ],
)
def test_the_pattern_that_is_offered_fits_what_is_left_out_alone(left, kept, pattern) -> None:
    assert pattern_for(left, kept) == pattern


# values


STRANGE = [
    (lambda hu: (hu + 1024).astype(np.uint16), "no value below -200 HU, as air has", "(found 24 to 1214)", (1, -1024)),
    (lambda hu: ((hu + 1000) / 1400).astype(np.float32), "no value below -200 HU", "(found 0 to 0.85)", (1400, -1000)),
    (lambda hu: hu - np.int16(1100), "no value above -200 HU, as tissue has", "(found -1020 to -910)", (1, 1100)),
]


@pytest.mark.parametrize(("change", "problem", "found", "back"), STRANGE)
def test_values_that_are_no_hounsfield_units_are_said_and_can_be_made_so(
    tmp_path: Path, caplog, change, problem, found, back
) -> None:
    values = np.tile(HU, (3, 3, 1))
    for name in ("p1", "p2"):
        write_nifti(tmp_path / "in" / f"{name}.nii", change(values))
    prepared(tmp_path / "in", tmp_path / "as_stored")
    assert f"2 of 2 files: {problem}" in caplog.text
    assert found in caplog.text
    assert "HU = value · slope + intercept, for every volume alike, by slope and intercept" in caplog.text
    caplog.clear()
    slope, intercept = back
    store = prepared(tmp_path / "in", tmp_path / "mended", slope=slope, intercept=intercept)
    assert "no value" not in caplog.text
    assert store.images[np.arange(len(store))].min() == pytest.approx(-1000, abs=30)


def test_padding_and_no_numbers_hide_nothing(tmp_path: Path) -> None:
    values = (np.tile(HU, (3, 3, 1)) + 1024).astype(np.float32)
    values[0] = -3024
    values[1] = np.nan
    write_nifti(tmp_path / "a.nii", values)
    (remark,) = read(tmp_path)[0].remarks
    assert remark.reason == "no value below -200 HU, as air has: are these Hounsfield units?"
    assert remark.values == (24.0, 1214.0)


def test_slope_and_intercept_come_after_the_files_own_scaling(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(HU, np.diag((-1, -2, 3, 1)))
    image.header.set_slope_inter(2.0, 24.0)
    nibabel.save(image, tmp_path / "a.nii")
    expected = np.maximum((HU * 2.0 + 24.0) * 0.5 - 100.0, -1024)
    np.testing.assert_allclose(
        [one.pixels.T for one in read(tmp_path, slope=0.5, intercept=-100.0)], np.moveaxis(expected, 2, 0)
    )
    with pytest.raises(UserError, match=r"^slope=0: expected a number above 0; 1 leaves values as they are$"):
        CTVolumes(str(tmp_path), slope=0.0)
