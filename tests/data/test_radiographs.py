"""Radiographs in DICOM files: what a viewer shows first, whose they are, and what is no image."""

from pathlib import Path

import numpy as np
import pytest
from data.dicom_files import save, with_tags
from data.gdcm_files import write_compressed
from pydicom import Dataset, Sequence, uid
from pydicom.uid import DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage, generate_uid

from medlat.core.errors import UserError
from medlat.data.groups import Grouped
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.pictures.dicom import is_dicom, read_dicom, read_identity
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Damaged, Remark, Slice

STORED = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16)
FULL = STORED / 4095 * 255


def in_order(function, items, description):
    return map(function, items)


def radiograph(stored: np.ndarray = STORED, **tags: object) -> Dataset:
    """A digital X-ray image of 12 bits in 16, or of 8 bits, without a window."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID = "DX", "P1", "2.25.1"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * stored.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    return with_tags(dataset, tags)


def write(path: Path, stored: np.ndarray = STORED, **tags: object) -> str:
    return str(save(radiograph(stored, **tags), path))


def table(descriptor: list[int], data: list[int]) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if descriptor[1] >= 0 else "SS", descriptor)
    item.add_new("LUTData", "US", data)
    return Sequence([item])


WINDOW = {"WindowCenter": 2048, "WindowWidth": 2048}  # 1024 to 3071
WINDOWED = np.clip((STORED - 2047.5) / 2047 + 0.5, 0, 1) * 255
NARROW = {"RescaleSlope": 1 / 4096, "RescaleIntercept": 0, "WindowCenter": 0.5, "WindowWidth": 0.5}
SHOWN = [
    ({}, FULL),
    ({"PhotometricInterpretation": "MONOCHROME1"}, 255 - FULL),
    ({"PresentationLUTShape": "IDENTITY"}, FULL),
    ({"PresentationLUTShape": "INVERSE"}, 255 - FULL),
    ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, 255 - FULL),
    (WINDOW, WINDOWED),
    (WINDOW | {"PhotometricInterpretation": "MONOCHROME1"}, 255 - WINDOWED),
    ({"WindowCenter": [2048, 100], "WindowWidth": [2048, 10]}, WINDOWED),
    (WINDOW | {"VOILUTFunction": "LINEAR_EXACT"}, np.clip((STORED - 2048.0) / 2048 + 0.5, 0, 1) * 255),
    (WINDOW | {"VOILUTFunction": "SIGMOID"}, 255 / (1 + np.exp(-4 * (STORED - 2048.0) / 2048))),
    (NARROW | {"VOILUTFunction": "LINEAR_EXACT"}, np.clip((STORED / 4096 - 0.5) / 0.5 + 0.5, 0, 1) * 255),
    (NARROW | {"VOILUTFunction": "SIGMOID"}, 255 / (1 + np.exp(-4 * (STORED / 4096 - 0.5) / 0.5))),
    (NARROW, FULL),
    ({"WindowCenter": 0, "WindowWidth": 0}, FULL),
    ({"WindowCenter": 0, "WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"}, FULL),
    ({"WindowCenter": 2048}, FULL),
    ({"RescaleSlope": 2, "RescaleIntercept": -100}, FULL),
    ({"RescaleSlope": 2, "RescaleIntercept": 0, "WindowCenter": 4096, "WindowWidth": 4096}, WINDOWED),
    ({"RescaleSlope": -1, "RescaleIntercept": 4095}, 255 - FULL),
    ({"VOILUTSequence": table([4096, 0, 12], [4095 - i for i in range(4096)])}, 255 - FULL),
    ({"VOILUTSequence": table([4096, 0, 16], list(range(4096)))}, FULL),
    ({"VOILUTSequence": table([2, 2000, 8], [0, 255])}, np.where(STORED > 2000, 255.0, 0.0)),
    (WINDOW | {"VOILUTSequence": table([4096, 0, 12], list(range(4096)))}, FULL),
    ({"ModalityLUTSequence": table([4096, 0, 16], [16 * i for i in range(4096)])}, STORED * 16 / 65535 * 255),
]


@pytest.mark.parametrize(("tags", "expected"), SHOWN)
def test_an_image_is_what_a_viewer_shows(tmp_path, tags, expected):
    grey, spacing, doubts = read_dicom(write(tmp_path / "a.dcm", **tags), colour=False)
    assert (grey.dtype, spacing, doubts) == (np.float32, None, ())
    np.testing.assert_allclose(grey, expected, atol=0.1)
    rgb = read_dicom(str(tmp_path / "a.dcm"), colour=True).pixels
    np.testing.assert_array_equal(rgb, np.rint(grey).astype(np.uint8)[..., None].repeat(3, 2))


def test_black_and_white_of_the_user_take_the_place_of_the_window(tmp_path):
    path = write(tmp_path / "a.dcm", **WINDOW)
    np.testing.assert_allclose(
        read_dicom(path, False, 4000.0, 2000.0)[0], np.clip((STORED - 2000.0) / 2000, 0, 1) * 255
    )
    np.testing.assert_allclose(read_dicom(path, False, 2000.0)[0], np.clip(STORED / 2000, 0, 1) * 255, atol=0.1)


def test_signed_and_8_bit_values(tmp_path):
    signed = np.array([[-2048, 0, 2047]], np.int16)
    np.testing.assert_allclose(read_dicom(write(tmp_path / "a.dcm", signed), False)[0], [[0, 127.5, 255]], atol=0.1)
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    np.testing.assert_allclose(read_dicom(write(tmp_path / "b.dcm", grey), False)[0], grey, atol=0.01)


PADDED = np.array([[4095, 4095, 1000], [63, 0, 2000]], np.uint16)
PADDING = [
    ({"PixelPaddingValue": 4095}, [(0, 0), (0, 1)]),
    ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 63}, [(1, 0), (1, 1)]),
    ({"PixelPaddingValue": 63, "PixelPaddingRangeLimit": 0}, [(1, 0), (1, 1)]),
    ({}, []),
]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("tags", "black"), PADDING)
def test_padding_is_black_whatever_the_polarity(tmp_path, photometric, tags, black):
    path = write(tmp_path / "a.dcm", PADDED, PhotometricInterpretation=photometric, **tags)
    expected = PADDED / 4095 * 255
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    for row, column in black:
        expected[row, column] = 0
    np.testing.assert_allclose(read_dicom(path, False)[0], expected, atol=0.1)


SPACING = [
    ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
    ({"ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14)),
    ({"ImagerPixelSpacing": [0.14, 0.14], "PixelSpacing": [0.1, 0.1]}, (0.1, 0.1)),
    ({"NominalScannedPixelSpacing": [0.17, 0.17]}, (0.17, 0.17)),
    ({"PixelSpacing": ""}, None),
    ({"PixelSpacing": [0, 0]}, None),
]


@pytest.mark.parametrize(("tags", "expected"), SPACING)
def test_pixel_spacing(tmp_path, tags, expected):
    assert read_dicom(write(tmp_path / "a.dcm", **tags), False)[1] == expected


def test_colours_of_a_secondary_capture(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    path = write(tmp_path / "a.dcm", rgb, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT", **tags)
    np.testing.assert_array_equal(read_dicom(path, True)[0], rgb)
    np.testing.assert_allclose(read_dicom(path, False)[0], rgb @ np.array([0.299, 0.587, 0.114]), atol=0.01)


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_compressed_images(tmp_path, syntax):
    hu = np.random.default_rng(0).integers(-1000, 3000, (16, 16))
    write_compressed(tmp_path / "a.dcm", hu, syntax, WindowCenter=1000, WindowWidth=4001)
    expected = np.clip((hu - 999.5) / 4000 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(read_dicom(str(tmp_path / "a.dcm"), False)[0], expected, atol=0.1)


def test_a_file_without_preamble(tmp_path):
    whole = Path(write(tmp_path / "a.dcm")).read_bytes()
    for name, start in (("meta", 132), ("bare", whole.index(b"\x08\x00\x16\x00"))):
        (tmp_path / name).write_bytes(whole[start:])
        assert is_dicom(tmp_path / name)
        np.testing.assert_allclose(read_dicom(str(tmp_path / name), False)[0], FULL, atol=0.1)
    (tmp_path / "text").write_text("x" * 200)
    assert not is_dicom(tmp_path / "text")
    assert not is_dicom(tmp_path / "absent")


REFUSED = [
    ({"Rows": None}, "DICOM without an image"),
    ({"Rows": 9000, "Columns": 9000}, "more than 67 million pixels, or 9 million of JPEG 2000"),
    ({"PixelData": b"\0\0"}, "corrupt DICOM file"),
    ({"PixelSpacing": [0.00014, 0.00014]}, "pixel spacing outside 0.02 to 20 mm"),
    ({"PixelSpacing": [140, 140]}, "pixel spacing outside 0.02 to 20 mm"),
    ({"WindowCenter": 60000, "WindowWidth": 10}, "a window beside all values of the image"),
    ({"RescaleSlope": 0, "RescaleIntercept": 0}, "rescale slope is 0, or a rescale that is no finite number"),
    ({"PresentationLUTSequence": table([2, 0, 8], [0, 255])}, "a presentation LUT, which is not read"),
]


@pytest.mark.parametrize(("tags", "reason"), REFUSED)
def test_what_is_no_image_says_why(tmp_path, tags, reason):
    with pytest.raises(ValueError, match="^" + reason + "$"):
        read_dicom(write(tmp_path / "a.dcm", **tags), False)


STATE, ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.66.4"  # greyscale softcopy; segmentation
NO_IMAGE = {"Rows": None, "Columns": None, "PixelData": None}
OTHERS = [
    (NO_IMAGE | {"Modality": "PR", "SOPClassUID": STATE}, "presentation state, which is not applied"),
    (NO_IMAGE | {"Modality": "", "SOPClassUID": STATE}, "presentation state, which is not applied"),
    (NO_IMAGE | {"Modality": "SR"}, "DICOM without image"),
    ({"Modality": "SEG", "SOPClassUID": ENCAPSULATED}, "DICOM without image"),
    ({"NumberOfFrames": 2, "PixelData": STORED.tobytes() * 2}, "several frames in a file, where one image is expected"),
]


@pytest.mark.parametrize(("tags", "reason"), OTHERS)
def test_what_is_meant_for_something_else_is_left_out_and_no_damage(tmp_path, tags, reason):
    """Whether it is met among all files, or a CSV with groups lists it, so that no header is read before."""
    path = write(tmp_path / "other.dcm", **tags)
    assert read_identity(path).reason == reason
    vindr(tmp_path, rows="a,0,p1\nb,1,p2\nother,1,p2\n")
    listed = ImageFolder(str(tmp_path), path_column="image_id", colour=False)
    found = [one for chunk in listed.scan(in_order).chunks for one in listed.read(chunk)]
    assert [one for one in found if not isinstance(one, Slice)] == [Remark(path, reason, False)]
    assert len(found) == 3
    every = ImageFolder(str(tmp_path), labels=None, colour=False).scan(in_order)
    assert (every.skipped, every.remarks) == ({"no picture": 1}, [Remark(path, reason, False)])


DOUBTS = [
    ({"Modality": "CT"}, "CT in grey levels, not in Hounsfield units", "data=ct_dicom reads Hounsfield units"),
    (
        {"PresentationIntentType": "FOR PROCESSING"},
        "FOR PROCESSING: raw values of a detector",
        "data.source.exclude=PATTERN leaves such files out",
    ),
    (
        {"BurnedInAnnotation": "YES"},
        "BurnedInAnnotation: text in the picture may name the patient",
        "data.source.exclude=PATTERN leaves such files out",
    ),
]


@pytest.mark.parametrize(("tags", "doubt", "advice"), DOUBTS)
def test_values_that_may_not_be_those_that_are_wanted_are_said(tmp_path, tags, doubt, advice):
    path = write(tmp_path / "a.dcm", **tags)
    source = ImageFolder(str(tmp_path), labels=None, colour=False)
    (image,) = (one for chunk in source.scan(in_order).chunks for one in source.read(chunk))
    np.testing.assert_allclose(image.pixels, FULL, atol=0.1)
    assert image.remarks == (Remark(path, doubt, True, advice=advice),)


def test_a_cut_file_is_damaged(tmp_path):
    path = Path(write(tmp_path / "a.dcm"))
    whole = path.read_bytes()
    for size in (133, 200, 400, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^(corrupt DICOM file|DICOM without an image)$"):
            read_dicom(str(path), False)


# as a source


def vindr(root: Path, header: str = "image_id,label,group", rows: str = "a,0,p1\nb,1,p2\n", **tags) -> Path:
    """Two files in a folder below the root, which a CSV names by their stems; the second MONOCHROME1."""
    write(root / "train" / "a.dicom", PatientID="X1", PixelSpacing=[0.2, 0.2], **tags)
    write(root / "train" / "b.dicom", 4095 - STORED, PatientID="X2", PhotometricInterpretation="MONOCHROME1", **tags)
    (root / "labels.csv").write_text(f"{header}\n{rows}")
    return root


def test_a_csv_names_files_by_their_stem(tmp_path):
    source = ImageFolder(str(vindr(tmp_path)), path_column="image_id", colour=False, mpp=150.0)
    scan = source.scan(in_order)
    assert [chunk.patient for chunk in scan.chunks] == ["p1", "p2"]
    one, other = (next(source.read(chunk)) for chunk in scan.chunks)
    np.testing.assert_allclose(one.pixels, FULL, atol=0.1)
    np.testing.assert_allclose(other.pixels, FULL, atol=0.1)
    assert (one.spacing_mm, other.spacing_mm) == ((0.2, 0.2), (0.15, 0.15))


def test_patients_are_told_by_the_files_where_no_column_does(tmp_path, caplog):
    vindr(tmp_path, "image_id,label", "a,0\nb,1\nc,0\nd,1\ne.png,1\n", StudyInstanceUID="2.25.7")
    write(tmp_path / "train" / "c.dicom", PatientID="X1", StudyInstanceUID="2.25.8")
    write(tmp_path / "train" / "d.dicom", PatientID="", StudyInstanceUID="2.25.9")
    (tmp_path / "e.png").write_bytes(b"")
    source = ImageFolder(str(tmp_path), path_column="image_id", group_column=None, colour=False)
    with caplog.at_level("INFO"):
        scan = source.scan(in_order)
    assert {chunk.patient: len(chunk.items) for chunk in scan.chunks} == {"X1": 2, "X2": 1, "2.25.9": 1, "e.png": 1}
    assert [chunk.patient for chunk in scan.chunks if not chunk.known] == ["e.png"]
    assert "X1" not in caplog.text


def test_without_a_csv_into_the_store(tmp_path):
    vindr(tmp_path / "in")
    (tmp_path / "in" / "labels.csv").unlink()
    state = radiograph(Rows=None, Columns=None, PixelData=None, Modality="PR")
    save(state, tmp_path / "in" / "state.dcm")
    save(radiograph(Rows=None, Columns=None, PixelData=None, Modality="SR"), tmp_path / "in" / "report")
    source = ImageFolder(str(tmp_path / "in"), labels=None, colour=False)
    (tmp_path / "out").mkdir()
    prepare(source, Preparation(3, None, 0.0, "salt", 1), tmp_path / "out")
    store = ImageStore.open(tmp_path / "out")
    assert (len(store), len(store.patients)) == (2, 2)
    assert not any("X" in name for name in store.patients)
    reasons = ("DICOM without image", "presentation state, which is not applied")
    assert store.info["account"] == [["left out", 1, reason] for reason in reasons]


def test_studies_that_share_one_identity_can_be_told_apart(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.dcm", PatientID="ANONYMOUS", StudyInstanceUID=f"2.25.{i}")
    scan = ImageFolder(str(tmp_path), labels=None, colour=False).scan(in_order)
    assert {chunk.patient for chunk in scan.chunks if chunk.known} == {"ANONYMOUS"}
    assert scan.studies == {str(tmp_path / f"{i}.dcm"): f"2.25.{i}" for i in range(3)}
    apart = Grouped(ImageFolder(str(tmp_path), labels=None, colour=False), "study").scan(in_order)
    assert sorted(chunk.patient for chunk in apart.chunks) == ["2.25.0", "2.25.1", "2.25.2"]


def test_an_identity_is_no_more_than_that(tmp_path):
    assert read_identity(write(tmp_path / "a.dcm", PatientID=" P7 ")) == ("P7", "2.25.1", None)
    (tmp_path / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    assert read_identity(str(tmp_path / "bad.dcm")).reason is None
    source = ImageFolder(str(tmp_path), labels=None, colour=False)
    results = [one for chunk in source.scan(in_order).chunks for one in source.read(chunk)]
    assert sorted(isinstance(one, Damaged) for one in results) == [False, True]


def test_12_bits_that_claim_to_be_16_are_refused(tmp_path):
    vindr(tmp_path, BitsStored=16, HighBit=15)
    source = ImageFolder(str(tmp_path), path_column="image_id", colour=False)
    with pytest.raises(
        UserError, match=r"white: the DICOM pictures \(2 of 2 looked at\) hold values from 0 to 4095, wh"
    ):
        source.scan(in_order)
    vindr(tmp_path, BitsStored=16, HighBit=15, **WINDOW)
    assert len(source.scan(in_order).chunks) == 2
