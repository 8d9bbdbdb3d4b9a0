"""Real small DICOM files, written here, and real patients where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
from data.dicom_files import ct_dataset, positions, read, save, scan, write_enhanced, write_slice
from pydicom import dcmwrite, uid

from medlat.data.ct.dicom import CTDicom
from medlat.data.source import Remark, Slice

REAL = Path(__file__).parents[2].parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real CT images at ../shared/data")


def read_one(root: Path) -> np.ndarray:
    (one,) = read(root)
    assert isinstance(one, Slice), one
    return one.pixels


# what is read


SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_syntax_gives_the_same_hounsfield_units(tmp_path: Path, syntax: str) -> None:
    hu = np.arange(12 * 16).reshape(12, 16) * 11 - 1000
    write_slice(tmp_path / "a.dcm", hu, syntax)
    pixels = read_one(tmp_path)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, hu)


@pytest.mark.parametrize("name", ["IM1.dcm", "IM00002"])
@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda syntax: syntax.name)
def test_a_file_without_the_prefix_is_read(tmp_path: Path, syntax: str, name: str) -> None:
    """As old archives hold them: the data set alone, without a word on how it is written."""
    hu = np.arange(12 * 16).reshape(12, 16) * 11 - 1000
    dataset = ct_dataset(hu)
    if not syntax.is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    dcmwrite(tmp_path / name, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_one(tmp_path), hu)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_a_file_without_the_prefix_may_still_say_how_it_is_written(tmp_path: Path, syntax: str) -> None:
    hu = np.arange(12 * 16).reshape(12, 16) * 11 - 1000
    content = write_slice(tmp_path / "a", hu, syntax).read_bytes()
    (tmp_path / "a").write_bytes(content[132:])
    np.testing.assert_array_equal(read_one(tmp_path), hu)


RESCALES = [  # tags, signed, stored value, HU
    ({"RescaleSlope": 1, "RescaleIntercept": -1024}, True, 1064, 40),
    ({"RescaleSlope": 1, "RescaleIntercept": -1024}, False, 1064, 40),
    ({"RescaleSlope": 0.5, "RescaleIntercept": -500.5}, True, 11, -495),
    ({"RescaleSlope": None, "RescaleIntercept": -1000}, True, 1064, 64),
    ({"RescaleSlope": None, "RescaleIntercept": None}, True, 40, 40),
    ({"RescaleSlope": None, "RescaleIntercept": None}, False, 1064, 40),
    ({}, True, -976, -1024),  # -2000 HU, outside the circle
    ({}, True, -32768, -1024),
    ({"PixelPaddingValue": -2000}, True, -2000, -1024),
    ({"PixelPaddingValue": 63536}, False, 63536, -1024),  # 62512 HU
    ({}, False, 63536, 62512),
    ({"PixelPaddingValue": 1064}, True, 1064, 40),  # declared padding that tissue has too
    ({"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 65534}, False, 65534, -1024),
    ({"PixelPaddingValue": 65000, "PixelPaddingRangeLimit": 65535}, False, 65200, -1024),
    ({"PixelPaddingValue": 65000, "PixelPaddingRangeLimit": 65535}, False, 64999, 63975),
    ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 65535}, False, 5000, 3976),  # a range that is all there is
    ({"PixelPaddingValue": None, "PixelPaddingRangeLimit": 65534}, False, 65534, 64510),  # of no value
]


@pytest.mark.parametrize(("tags", "signed", "stored", "expected"), RESCALES)
def test_rescale_and_padding(tmp_path: Path, tags: dict, signed: bool, stored: int, expected: float) -> None:
    dataset = ct_dataset(**{name: tags[name] for name in tags if not name.startswith("PixelPadding")})
    values = np.full((16, 16), stored)
    values[0, 0] = 1
    dataset.PixelData = values.astype(np.int32).astype(np.uint16).tobytes()
    dataset.PixelRepresentation = int(signed)
    for name, value in tags.items():
        if name.startswith("PixelPadding") and value is not None:
            dataset.add_new(name, "SS" if signed else "US", value)
    save(dataset, tmp_path / "a")
    assert read_one(tmp_path)[1:].min() == read_one(tmp_path)[1:].max() == expected


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    for z, (slope, intercept) in enumerate([(1, -1024), (2, -1000), (0.5, 0)]):
        tags = {"RescaleSlope": slope, "RescaleIntercept": intercept, "ImagePositionPatient": [0, 0, z]}
        write_slice(tmp_path / str(z), np.full((16, 16), 100), **tags)
    assert [one.pixels.mean() for one in read(tmp_path)] == [100, 100, 100]


def test_spacing_is_row_then_column(tmp_path: Path) -> None:
    write_slice(tmp_path / "a", np.zeros((12, 16)), PixelSpacing=[2, 3])
    write_slice(tmp_path / "b", np.zeros((12, 16)), PixelSpacing=[2, 3], ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
    first, second = read(tmp_path)
    assert (first.pixels.shape, first.spacing_mm) == ((12, 16), (2, 3))
    assert (second.pixels.shape, second.spacing_mm) == ((16, 12), (3, 2))


# orientation

AXES = [(1, 0), (-1, 0), (0, 1), (0, -1)]
ORIENTATIONS = [(a, b) for a in AXES for b in AXES if a[0] * b[0] + a[1] * b[1] == 0]  # 4 turns, 4 of them mirrored


@pytest.mark.parametrize("turn_deg", [0, 10], ids=["straight", "tilted"])
@pytest.mark.parametrize(("across", "down"), ORIENTATIONS)
def test_row_0_is_anterior_and_column_0_the_patients_right(
    tmp_path: Path, across: tuple, down: tuple, turn_deg: float
) -> None:
    """The image is 50·y + 4·x of LPS millimetres, sampled as the tags say: read, it grows with rows and columns."""
    cosine, sine = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    row, column = np.arange(4)[:, None] - 1.5, np.arange(6)[None] - 2.5
    x, y = (row * 2 * down[axis] + column * 3 * across[axis] for axis in (0, 1))
    tilt = [(v[0], v[1] * cosine, v[1] * sine) for v in (across, down)]
    write_slice(tmp_path / "a", 50 * y + 4 * x, ImageOrientationPatient=[*tilt[0], *tilt[1]], PixelSpacing=[2, 3])
    (one,) = read(tmp_path)
    dy, dx = one.spacing_mm
    np.testing.assert_allclose(np.diff(one.pixels, axis=0), 50 * dy)
    np.testing.assert_allclose(np.diff(one.pixels, axis=1), 4 * dx)


@pytest.mark.parametrize(("across", "down"), ORIENTATIONS)
def test_orientation_agrees_with_monai(tmp_path: Path, across: tuple, down: tuple) -> None:
    from monai.data.image_reader import PydicomReader
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import Orientation

    hu = np.arange(4 * 6).reshape(4, 6) * 20
    path = write_slice(tmp_path / "a", hu, ImageOrientationPatient=[*across, 0, *down, 0], PixelSpacing=[2, 3])
    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(path))
    image = MetaTensor(array[None, ..., None], affine=meta["affine"])
    theirs = Orientation("LPS", labels=None)(image)[0, ..., 0].T
    np.testing.assert_array_equal(read_one(tmp_path), theirs.numpy())


TILTS = [
    ((1, 0, 0, 0, np.cos(0.5), np.sin(0.5)), True),  # 28.6 degrees
    ((1, 0, 0, 0, np.cos(0.55), np.sin(0.55)), False),  # 31.5 degrees
    ((1, 0, 0, 0, 0, -1), False),  # coronal
    ((0, 1, 0, 0, 0, -1), False),  # sagittal
    ((np.cos(0.6), np.sin(0.6), 0, -np.sin(0.6), np.cos(0.6), 0), True),  # askew within the plane
]


@pytest.mark.parametrize(("orientation", "axial"), TILTS)
def test_slices_that_are_not_axial_are_skipped(tmp_path: Path, orientation: tuple, axial: bool) -> None:
    write_slice(tmp_path / "a")
    write_slice(tmp_path / "b", SeriesInstanceUID="2.25.3", ImageOrientationPatient=[round(v, 9) for v in orientation])
    assert scan(tmp_path).skipped == ({} if axial else {"not axial": 1})
    assert scan(tmp_path, max_tilt_deg=45).skipped.get("not axial", 0) == (abs(orientation[5]) > 0.9)


@pytest.mark.parametrize("orientation", [None, [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]])
def test_without_an_orientation_the_usual_one_is_taken(tmp_path: Path, orientation: list | None) -> None:
    hu = np.arange(256).reshape(16, 16)
    write_slice(tmp_path / "a", hu, ImageOrientationPatient=orientation)
    np.testing.assert_array_equal(read_one(tmp_path), hu)


# order


def test_order_is_by_position_and_by_nothing_else(tmp_path: Path) -> None:
    for z, number, name in ((5, 9998, "9998"), (-2.5, 9999, "9999"), (0, 10000, "10000"), (2.5, 10001, "10001")):
        write_slice(tmp_path / name, np.full((16, 16), z * 10), ImagePositionPatient=[0, 0, z], InstanceNumber=number)
    assert positions(tmp_path) == [-2.5, 0, 2.5, 5]
    assert [one.pixels[0, 0] for one in read(tmp_path)] == [-25, 0, 25, 50]


@pytest.mark.parametrize("flip", [1, -1], ids=["normal up", "normal down"])
def test_tilted_slices_are_ordered_along_their_normal(tmp_path: Path, flip: int) -> None:
    """Gantry tilt 0.6 / 0.8; the corner wanders along the plane, so that its z says nothing of the order."""
    normal, along = np.array([0, -0.6, 0.8]), np.array([0, 0.8, 0.6])
    for k, wander in enumerate([30, 0, -30]):
        tags = {
            "ImageOrientationPatient": [flip, 0, 0, *along],
            "ImagePositionPatient": list(k * normal + wander * along),
        }
        write_slice(tmp_path / str(k), **tags)
    found = CTDicom(str(tmp_path), max_tilt_deg=40).scan(lambda f, items, description: map(f, items))
    np.testing.assert_allclose(found.chunks[0].columns["position_mm"], [0, 1, 2], atol=1e-9)


FALLBACKS = [
    ({"ImagePositionPatient": None, "SliceLocation": [7, 3, 5]}, [3, 5, 7]),
    ({"ImagePositionPatient": None, "InstanceNumber": [7, 3, 5]}, [3, 5, 7]),
    ({"ImagePositionPatient": None, "SliceLocation": [7, None, 5], "InstanceNumber": [1, 2, 3]}, [1, 2, 3]),
    ({"ImagePositionPatient": None, "InstanceNumber": None}, [0, 0, 0]),
    ({"ImagePositionPatient": [[0, 0, 7], None, [0, 0, 5]], "SliceLocation": [1, 2, 3]}, [1, 2, 3]),
]


@pytest.mark.parametrize(("tags", "expected"), FALLBACKS)
def test_positions_fall_back_for_the_whole_series(tmp_path: Path, tags: dict, expected: list) -> None:
    for k in range(3):
        write_slice(tmp_path / str(k), **{name: v[k] if isinstance(v, list) else v for name, v in tags.items()})
    assert positions(tmp_path) == expected


# patients and series


def test_patients_and_series_are_told_apart_by_their_tags_in_any_folder(tmp_path: Path) -> None:
    for patient in ("A", "B"):
        for series in ("2.25.5", "2.25.6"):
            for z in (1, 0):
                tags = {"PatientID": patient, "SeriesInstanceUID": series, "ImagePositionPatient": [0, 0, z]}
                write_slice(tmp_path / ("x" * z) / f"{patient}{series}{z}", **tags)
    chunks = scan(tmp_path).chunks
    assert [chunk.patient for chunk in chunks] == ["A", "A", "B", "B"]
    assert [list(chunk.columns["series"]) for chunk in chunks] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert all(list(chunk.columns["position_mm"]) == [0, 1] for chunk in chunks)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (32, [32]), (33, [32, 1]), (70, [32, 32, 6])])
def test_a_series_is_cut_to_chunks(tmp_path: Path, count: int, sizes: list[int]) -> None:
    for z in range(count):
        write_slice(tmp_path / str(z), np.zeros((2, 2)), ImagePositionPatient=[0, 0, z])
    chunks = scan(tmp_path).chunks
    assert [len(chunk.items) for chunk in chunks] == sizes
    assert positions(tmp_path) == list(range(count))
    assert all(column.shape == (n,) for n, c in zip(sizes, chunks, strict=True) for column in c.columns.values())
    assert all(column.dtype == np.float64 for chunk in chunks for column in chunk.columns.values())


IDENTITIES = [  # tags of two slices in folders f/0 and f/1, expected patients
    (({"PatientID": "A "}, {"PatientID": "A"}), {"A"}),
    (({"PatientID": ""}, {"PatientID": None}), {"2.25.1"}),
    (({"PatientID": ""}, {"PatientID": "A"}), {"A"}),  # the same study
    (({"PatientID": ""}, {"PatientID": "A", "StudyInstanceUID": "2.25.9"}), {"2.25.1", "A"}),
    (({"PatientID": "", "StudyInstanceUID": None}, {"PatientID": "", "StudyInstanceUID": ""}), {"f/0", "f/1"}),
]


@pytest.mark.parametrize(("tags", "patients"), IDENTITIES)
def test_identity_without_a_patient_id(tmp_path: Path, tags: tuple[dict, dict], patients: set[str]) -> None:
    for k, one in enumerate(tags):
        write_slice(tmp_path / "f" / str(k) / "slice", **one)
    assert {chunk.patient for chunk in scan(tmp_path).chunks} == patients


def test_reconstructions_of_one_anatomy_are_all_kept(tmp_path: Path) -> None:
    for series in range(3):
        write_slice(tmp_path / str(series), SeriesInstanceUID=f"2.25.{series + 2}")
    assert len(scan(tmp_path).chunks) == 3
    assert scan(tmp_path).skipped == {}


def test_the_same_file_twice_counts_once_and_the_whole_one_wins(tmp_path: Path) -> None:
    whole = save(ct_dataset(np.full((16, 16), 7)), tmp_path / "b", uid.RLELossless)
    (tmp_path / "a").write_bytes(whole.read_bytes()[:-60])
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c").write_bytes(whole.read_bytes())
    found = scan(tmp_path)
    assert found.remarks == [
        Remark(str(path), "duplicate", False) for path in (tmp_path / "a", tmp_path / "deep" / "c")
    ]
    assert found.skipped == {}
    assert found.damaged == []
    assert read_one(tmp_path).mean() == 7


def test_equal_uids_at_other_positions_are_no_copies(tmp_path: Path) -> None:
    for z in range(3):
        write_slice(tmp_path / str(z), SOPInstanceUID="2.25.7", ImagePositionPatient=[0, 0, z])
    for z in range(2):
        write_slice(tmp_path / f"none{z}", SOPInstanceUID="", ImagePositionPatient=[0, 0, 0])
    assert positions(tmp_path) == [0, 0, 0, 1, 2]


# enhanced CT


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless], ids=lambda syntax: syntax.name)
def test_enhanced_ct_is_read_frame_by_frame(tmp_path: Path, syntax: str) -> None:
    hu = np.stack([np.arange(256).reshape(16, 16) + 300 * k for k in range(3)])
    write_enhanced(tmp_path / "a", hu, z=[4, 0, 2], intercepts=[-1024, -1000, 0], syntax=syntax)
    slices = read(tmp_path)
    assert positions(tmp_path) == [0, 2, 4]
    assert {one.spacing_mm for one in slices} == {(2, 3)}
    np.testing.assert_array_equal([one.pixels for one in slices], hu[[1, 2, 0], ::-1, ::-1])


# real patients


@needs_real
@pytest.mark.parametrize(
    ("folder", "slices", "patients", "duplicates"),
    [  # five files of ct_tcga_luad are there twice, under two names
        ("ct_tcga_luad", 95, 54, 5),
        ("ct_lidc", 39, 3, 0),
        ("ct_lung_dx", 30, 1, 0),
        (".", 164, 58, 5),
    ],
)
def test_real_data_are_found(folder: str, slices: int, patients: int, duplicates: int) -> None:
    found = scan(REAL / folder)
    assert sum(len(chunk.items) for chunk in found.chunks) == slices
    assert len({chunk.patient for chunk in found.chunks}) == patients
    not_dicom = sum(path.is_file() and path.suffix != ".dcm" for path in (REAL / folder).rglob("*"))
    assert found.skipped == ({"not DICOM": not_dicom} if not_dicom else {})
    assert [one.reason for one in found.remarks] == ["duplicate"] * duplicates
    assert found.damaged == []


@needs_real
def test_real_slices_have_air_above_and_a_spine_below() -> None:
    """Every position a patient can lie in: bone near the middle is behind (below) the middle of the body."""
    source = CTDicom(str(REAL / "ct_tcga_luad"))
    chunks = scan(REAL / "ct_tcga_luad").chunks
    turned = [chunk for chunk in chunks if any(any(frame.turn) for frame in chunk.items)]
    slices = [one for chunk in turned for one in source.read(chunk)]
    assert len(slices) == 8
    assert all(isinstance(one, Slice) for one in slices)
    behind = []
    for pixels in (one.pixels for one in slices):
        assert pixels.min() == -1024
        assert pixels.max() < 3100
        body = np.argwhere(pixels > -300)
        middle = body.mean(axis=0)
        rows, columns = np.nonzero(pixels > 300)
        behind.append(float(np.median(rows[abs(columns - middle[1]) < 60]) > middle[0]))
    assert np.mean(behind) >= 0.75
