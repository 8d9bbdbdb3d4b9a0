"""Everything that lies among CT slices and is none, or none any more; what is said about it, and what must not be."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.dicom_files import ct_dataset, plant_identity, positions, read, save, scan, write_enhanced, write_slice
from pydicom import uid

from medlat.core.errors import UserError
from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.dicom_start import is_bare
from medlat.data.source import Damaged, Slice

# what else lies in the folder

MR, SECONDARY, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.4", uid.SecondaryCaptureImageStorage, uid.RTStructureSetStorage
SKIPPED = [
    ({"SOPClassUID": MR, "Modality": "MR"}, "not CT (MR)"),
    ({"SOPClassUID": uid.PositronEmissionTomographyImageStorage, "Modality": "PT"}, "not CT (PT)"),
    ({"SOPClassUID": RTSTRUCT, "Modality": "RTSTRUCT", "PixelData": None}, "not CT (RTSTRUCT)"),
    ({"SOPClassUID": uid.SegmentationStorage, "Modality": "SEG"}, "not CT (SEG)"),
    ({"SOPClassUID": uid.BasicTextSRStorage, "Modality": "SR", "PixelData": None}, "not CT (SR)"),
    ({"SOPClassUID": MR, "Modality": "JANE DOE"}, "not CT"),
    ({"SOPClassUID": uid.MediaStorageDirectoryStorage, "Modality": None, "PixelData": None}, "not CT"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary capture"),
    ({"SOPClassUID": SECONDARY}, "secondary capture"),
    ({"SOPClassUID": uid.MultiFrameTrueColorSecondaryCaptureImageStorage}, "secondary capture"),
    ({"RescaleType": "MGML"}, "not in Hounsfield units"),
    ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"], "RescaleType": "US"}, "not in Hounsfield units"),
    ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "EFF_ATOMIC_NUM"]}, "not in Hounsfield units"),
    ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "NONE"], "PixelPresentation": "COLOR"}, "not in Hounsfield units"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image"),
    ({"PixelData": None}, "no pixel data"),
    ({"NumberOfFrames": 4}, "several frames without their positions"),
]


@pytest.mark.parametrize(("tags", "reason"), SKIPPED)
def test_other_objects_are_skipped_and_counted(tmp_path: Path, tags: dict, reason: str) -> None:
    write_slice(tmp_path / "good")
    write_slice(tmp_path / "other.dcm", **tags)
    found = scan(tmp_path)
    assert list(found.skipped) == [reason]
    assert not found.damaged
    assert len(found.chunks) == 1


KEPT = [
    {"Modality": None},
    {"SOPClassUID": "1.2.3.4"},
    {"ImageType": None},
    {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
    {"RescaleType": "HU"},
    {"ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"]},  # what a map of perfusion is computed of
    {"PixelPresentation": "MONOCHROME"},
    {"PhotometricInterpretation": None, "SamplesPerPixel": 1},
    {"InstanceNumber": None},
    {"PatientName": None},
]


@pytest.mark.parametrize("tags", KEPT, ids=str)
def test_sloppy_ct_is_read(tmp_path: Path, tags: dict) -> None:
    write_slice(tmp_path / "a", **tags)
    assert scan(tmp_path).skipped == {}
    assert len(scan(tmp_path).chunks[0].items) == 1


def test_junk_is_skipped_at_any_depth_and_names_do_not_matter(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefgh")
    write_slice(deep / "IM000001")
    write_slice(deep / "slice.jpg", ImagePositionPatient=[0, 0, 1])  # misnamed, and a slice all the same
    write_slice(deep / ".hidden.dcm")
    write_slice(tmp_path / ".trash" / "x.dcm")
    for name in ("photo.jpg", "table.csv", "slide.svs", "notes.txt", "README", "x.nii.gz"):
        (tmp_path / name).write_bytes(b"\xff\xd8 not DICOM" * 30)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    found = scan(tmp_path)
    assert positions(tmp_path) == [0, 1]
    assert found.damaged == []
    assert found.skipped == {"not DICOM": 7, "hidden": 2, "broken link or special file": 1}


ARCHIVES = {
    "study.zip": (b"PK\x03\x04", "zip archive: unpack it"),
    "a.dcm.gz": (b"\x1f\x8b\x08\0", "gzip file: unpack it"),
    "a.tar.gz": (b"\x1f\x8b\x08\0", "tar archive: unpack it"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c", "7z archive: unpack it"),
    "a.dcm": (b"PK\x03\x04", "zip archive: unpack it"),
    "ct.nii.gz": (b"\x1f\x8b\x08\0", "not DICOM"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_named(tmp_path: Path, name: str) -> None:
    start, reason = ARCHIVES[name]
    write_slice(tmp_path / "good.dcm")
    (tmp_path / name).write_bytes(start + bytes(200))
    assert scan(tmp_path).skipped == {reason: 1}
    (tmp_path / "good.dcm").unlink()
    with pytest.raises(UserError, match=rf"found: 1 {reason}"):
        scan(tmp_path)


BARE = [b"\x08\0\x05\0CS\x0a\0ISO_IR 100", b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", b"\x02\0\0\0UL\x04\0\x07\0\0\0"]
NOT_BARE = [
    b"",
    b"\x08\0",
    b"\x08\0\x05\0\xff\xff\xff\0",
    b"\x08\0\x05\x01CS",
    b"\x0a\0\x05\0CS",
    b"GIF89a",
    b"\0\x08ab",
]


@pytest.mark.parametrize(("start", "expected"), [*((b, True) for b in BARE), *((b, False) for b in NOT_BARE)])
def test_a_data_set_without_prefix_is_known_by_its_first_tag(start: bytes, expected: bool) -> None:
    assert is_bare(start) is expected


def test_what_only_begins_like_dicom_is_none(tmp_path: Path) -> None:
    write_slice(tmp_path / "good.dcm")
    (tmp_path / "notes").write_bytes(b"\x08\0\x05\0CS\x0a\0" + np.random.default_rng(0).bytes(400))
    found = scan(tmp_path)
    assert (found.damaged, found.skipped) == ([], {"not DICOM": 1})


# damage


def broken(change: Callable[[bytes], bytes], syntax: str = uid.ExplicitVRLittleEndian) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        write_slice(path, np.random.default_rng(0).integers(0, 2000, (32, 32)), syntax)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def with_bytes(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def with_tags(**tags: object) -> Callable[[Path], Path]:
    return lambda path: write_slice(path, **tags)


def with_syntax(syntax: str) -> Callable[[Path], Path]:
    # an encapsulated value: an empty offset table, a fragment of junk, the delimiter
    pixels = (
        b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0\x10\0\0\0" + b"junk" * 4 + b"\xfe\xff\xdd\xe0" + bytes(4)
    )
    return lambda path: save(ct_dataset(PixelData=pixels), path, syntax)


NEEDS_CODEC = "no codec, pip install python-gdcm"
DAMAGE = [
    (with_bytes(b""), "empty file"),
    (with_bytes(b"<html>not found</html>"), "named as DICOM, but is not"),
    (with_bytes(bytes(128) + b"DICM"), "truncated"),
    (broken(lambda content: content[:-1]), "truncated"),
    (broken(lambda content: content[: len(content) // 2]), "truncated"),
    (broken(lambda content: content[:-400], uid.RLELossless), "corrupt pixel data"),
    (broken(lambda content: content[:-500] + b"\x7f" * 500, uid.RLELossless), "corrupt pixel data"),
    (broken(lambda content: content[:-200], uid.DeflatedExplicitVRLittleEndian), "unreadable header"),
    (with_tags(PixelSpacing=None), "no pixel spacing"),
    (with_tags(PixelSpacing=[0, 1]), "no pixel spacing"),
    (with_tags(Rows=17), "corrupt pixel data"),
    (with_syntax("1.2.3.4"), "unknown transfer syntax"),
]


@pytest.mark.parametrize(("make", "reason"), DAMAGE)
def test_damage_is_reported_and_never_raised(tmp_path: Path, make: Callable, reason: str) -> None:
    write_slice(tmp_path / "good")
    bad = make(tmp_path / "bad.dcm")
    damaged = scan(tmp_path).damaged + [one for one in read(tmp_path) if isinstance(one, Damaged)]
    assert [one.path for one in damaged] == [str(bad)]
    assert reason in damaged[0].reason
    assert sum(isinstance(one, Slice) for one in read(tmp_path)) == 1


def test_no_cut_and_no_flipped_byte_ever_raises(tmp_path: Path) -> None:
    write_slice(tmp_path / "good")
    content = write_slice(tmp_path / "bad.dcm", syntax=uid.RLELossless, SOPInstanceUID="2.25.8").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        changed = np.frombuffer(content, np.uint8).copy()
        changed[random.integers(128, len(content), 4)] = random.integers(0, 256, 4)
        (tmp_path / "bad.dcm").write_bytes(bytes(changed[: random.integers(132, len(content))]))
        assert any(isinstance(one, Slice) for one in read(tmp_path))


def test_a_damaged_frame_leaves_those_before_it(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a", np.zeros((3, 16, 16)), [0, 1, 2], [-1024] * 3, uid.RLELossless)
    path.write_bytes(path.read_bytes()[:-40])
    assert [type(one) for one in read(tmp_path)] == [Slice, Slice, Damaged]


def test_one_slice_in_other_units_than_its_series_is_damage(tmp_path: Path) -> None:
    """0.07 for 0.7 mm: a spacing that a CT may have, where the slices beside it have another."""
    for k, mm in enumerate((0.7, 0.7, 0.07, 0.7)):
        write_slice(tmp_path / f"{k}.dcm", PixelSpacing=[mm, mm], ImagePositionPatient=[0, 0, k])
    write_slice(tmp_path / "zoom.dcm", PixelSpacing=[0.3, 0.3], ImagePositionPatient=[0, 0, 9])
    write_slice(tmp_path / "other.dcm", PixelSpacing=[0.07, 0.07], SeriesInstanceUID="2.25.77")
    found = scan(tmp_path)
    assert found.damaged == [Damaged(str(tmp_path / "2.dcm"), "pixel spacing unlike the rest of its series")]
    assert sum(len(chunk.items) for chunk in found.chunks) == 5


def test_a_file_removed_after_the_scan_is_damaged(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a")
    source = CTDicom(str(tmp_path))
    (chunk,) = source.scan(lambda f, items, description: map(f, items)).chunks
    path.unlink()
    assert list(source.read(chunk)) == [Damaged(str(path), "removed since it was found")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files_and_folders(tmp_path: Path) -> None:
    write_slice(tmp_path / "good")
    write_slice(tmp_path / "bad").chmod(0)
    write_slice(tmp_path / "closed" / "a").parent.chmod(0)
    found = scan(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert found.damaged == [Damaged(str(tmp_path / "bad"), "permission denied")]
    assert found.skipped == {"folder that cannot be read": 1}


def test_a_missing_codec_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as where no codec is installed, whatever is here
    missing = property(lambda decoder: ["gdcm - requires python-gdcm"] if decoder.UID.is_compressed else [])
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.missing_dependencies", missing)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda decoder: False))
    with_syntax(uid.JPEGLSLossless)(tmp_path / "a")
    with pytest.raises(UserError, match=r"all 1 CT files .*compressed \(JPEG-LS Lossless.*pip install python-gdcm"):
        scan(tmp_path)
    monkeypatch.setattr(
        "pydicom.pixels.decoders.base.Decoder.is_available", property(lambda decoder: not decoder.UID.is_compressed)
    )
    write_slice(tmp_path / "b")
    (damaged,) = scan(tmp_path).damaged
    assert damaged.reason == f"JPEG-LS Lossless Image Compression: {NEEDS_CODEC}"


# privacy


def test_no_planted_identity_leaves_but_as_patient_and_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    marker = "c0ffee17b0de42aa"
    root = tmp_path / "root"
    for k, name in enumerate(("good", "spacing", "number", "cut", "rle", "modality", "other")):
        dataset = ct_dataset(ImagePositionPatient=[0, 0, k])
        planted = plant_identity(dataset, marker)
        if name == "spacing":
            del dataset.PixelSpacing
        if name == "number":
            dataset["PixelSpacing"]._value = [marker, marker]
        if name == "modality":
            dataset.SOPClassUID, dataset.Modality = MR, marker[:12].upper()
        if name == "other":
            dataset.SOPClassUID = planted[3].decode()
        save(dataset, root / name, uid.RLELossless if name == "rle" else uid.ImplicitVRLittleEndian)
    for name in ("cut", "rle"):
        (root / name).write_bytes((root / name).read_bytes()[:-100])
    with warnings.catch_warnings(record=True) as caught, caplog.at_level("DEBUG"):
        warnings.simplefilter("always")
        found = scan(root)
        results = read(root)
    assert len(found.damaged) == 3
    assert len(results) == 3
    said = [caplog.text, *capfd.readouterr(), *(str(warning.message) for warning in caught), *found.skipped]
    said += [one.reason for one in found.damaged] + [one.reason for one in results if isinstance(one, Damaged)]
    assert not any(value.decode() in text.lower() for value in planted for text in said)
    assert {chunk.patient for chunk in found.chunks} == {f"{marker[:12]}-P1"}


# the root


def test_a_missing_root_is_named_with_the_nearest_that_exists(tmp_path: Path) -> None:
    (tmp_path / "patients" / "ct_lung").mkdir(parents=True)
    (tmp_path / "file.dcm").touch()
    with pytest.raises(UserError, match=r"no folder '.*ct_lnug'; did you mean '.*/patients/ct_lung'"):
        CTDicom(str(tmp_path / "patients" / "ct_lnug"))
    with pytest.raises(UserError, match=r"no folder '.*'; did you mean '.*/patients'"):
        CTDicom(str(tmp_path / "patient" / "a" / "b"))
    with pytest.raises(UserError, match=r"is a file, expected a folder"):
        CTDicom(str(tmp_path / "file.dcm"))
    with pytest.raises(UserError, match=r"max_tilt_deg: found 60, expected 0 to 45"):
        CTDicom(str(tmp_path), max_tilt_deg=60)


def test_a_root_without_ct_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no axial CT slice .*no files at all"):
        scan(tmp_path)
    write_slice(tmp_path / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_slice(tmp_path / "coronal", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path / "c.dcm").touch()
    expected = (
        "2 not DICOM, 1 empty file, 1 localizer, 1 not axial; volumes (NIfTI, MetaImage, NRRD: 1) are read by "
        "data=ct_nifti"
    )
    with pytest.raises(UserError, match=re.escape(expected)):
        scan(tmp_path)


def test_relative_roots_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_slice(tmp_path / "ct" / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("~/ct"))) == len(read(Path("ct"))) == 1
    assert CTDicom("ct").root == "ct"


def test_the_fingerprint_is_of_names_sizes_and_times(tmp_path: Path) -> None:
    def fingerprint(root: Path = tmp_path / "ct") -> str:
        return CTDicom(str(root)).fingerprint()

    path = write_slice(tmp_path / "ct" / "sub" / "a")
    first = fingerprint()
    assert first == fingerprint()
    assert len(first) == 64
    assert int(first, 16)
    os.rename(tmp_path / "ct", tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == first
    os.rename(tmp_path / "moved", tmp_path / "ct")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    second = fingerprint()
    path.rename(path.with_name("b"))
    third = fingerprint()
    (tmp_path / "ct" / "c").touch()
    assert len({first, second, third, fingerprint()}) == 4
