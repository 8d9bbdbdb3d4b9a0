"""The CT phantom: its columns, its anatomy in numbers, and the files it is exported to."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.volumes import CTVolumes
from medlat.data.source import Chunk, Slice, SliceSource
from medlat.phantoms.ct.canvas import Tissue
from medlat.phantoms.ct.export import write_dicom_series, write_nifti_volumes
from medlat.phantoms.ct.person import LENGTH, Nodule
from medlat.phantoms.ct.source import FACTORS, CTPhantom, add_noise, nodule_radius_mm, render

SIZE = 96
PIXEL = 400.0 / SIZE


def in_process(function, items, description):
    return map(function, items)


def chunks(source: SliceSource) -> list[Chunk]:
    return source.scan(in_process).chunks


def images(source: SliceSource, chunk: Chunk) -> list[Slice]:
    return [one for one in source.read(pickle.loads(pickle.dumps(chunk))) if isinstance(one, Slice)]


def area_cm2(tissue: np.ndarray, *labels: Tissue) -> float:
    return np.isin(tissue, labels).sum() * PIXEL**2 / 100


def body_cm2(tissue: np.ndarray) -> float:
    return (tissue >= Tissue.SKIN).sum() * PIXEL**2 / 100


def test_scan_has_a_chunk_per_patient_with_all_columns():
    found = chunks(CTPhantom(5, 8, 32, seed=1))
    assert len({chunk.patient for chunk in found}) == 5
    names = {"position_mm", "label.nodule"} | {f"factor.{factor.name}" for factor in FACTORS}
    for chunk in found:
        assert set(chunk.columns) == names
        assert all(column.shape == (8,) and column.dtype == np.float64 for column in chunk.columns.values())
        assert np.all(np.diff(chunk.columns["factor.z"]) > 0)
        scale = chunk.columns["factor.body_size"]
        np.testing.assert_allclose(chunk.columns["position_mm"], (1 - chunk.columns["factor.z"]) * LENGTH * scale)


def test_factors_fill_their_ranges_and_are_independent():
    found = chunks(CTPhantom(400, 6, 32))
    table = {f.name: np.concatenate([chunk.columns[f"factor.{f.name}"] for chunk in found]) for f in FACTORS}
    for factor in FACTORS:
        values, width = table[factor.name], factor.high - factor.low
        assert abs(values.mean() - (factor.low + factor.high) / 2) < 0.06 * width
        assert values.std() == pytest.approx(width / 12**0.5, rel=0.12)
    correlations = np.corrcoef(np.stack(list(table.values()))) - np.eye(len(FACTORS))
    assert np.abs(correlations).max() < 0.2  # 400 patients: a standard error of 0.05


def test_slices_depend_on_seed_patient_and_slice_alone():
    first, again, other = (CTPhantom(2, 2, 48, seed=seed) for seed in (3, 3, 4))
    a = [image.pixels for chunk in chunks(first) for image in images(first, chunk)]
    b = [image.pixels for chunk in reversed(chunks(again)) for image in images(again, chunk)]
    c = [image.pixels for chunk in chunks(other) for image in images(other, chunk)]
    assert [x.tobytes() for x in a] == [x.tobytes() for x in (*b[2:], *b[:2])]
    assert all(x.tobytes() != y.tobytes() for x, y in zip(a, c, strict=True))
    more = CTPhantom(7, 2, 48, seed=3)
    assert images(more, chunks(more)[1])[0].pixels.tobytes() == a[2].tobytes()


def test_slice_is_float32_hounsfield_with_spacing():
    source = CTPhantom(1, 3, 40, field_of_view_mm=380.0)
    for image in images(source, chunks(source)[0]):
        assert image.pixels.dtype == np.float32
        assert image.pixels.shape == (40, 40)
        assert image.spacing_mm == (9.5, 9.5)
        assert image.pixels.min() >= -1024
        assert image.pixels.max() < 1200
    assert source.fingerprint() == CTPhantom(9, 9, 99, seed=9).fingerprint()


def test_tissues_have_their_hounsfield_units():
    hu, tissue = render({"z": 0.55, "breast_size": 0.0, "fat_thickness": 16.0}, 256, noise_hu=0.0)
    expected = {Tissue.FAT: -100, Tissue.MUSCLE: 45, Tissue.LUNG: -855, Tissue.HEART: 44, Tissue.AIR: -1000}
    for label, value in expected.items():
        assert np.median(hu[tissue == label]) == pytest.approx(value, abs=15), label.name
    assert np.percentile(hu[tissue == Tissue.BONE], 75) > 400
    hu, tissue = render({"z": 0.97}, 256, noise_hu=0.0)
    assert np.median(hu[tissue == Tissue.LIVER]) == pytest.approx(56, abs=2)


def test_liver_is_on_the_image_left_and_heart_on_the_right():
    columns = np.arange(SIZE) - (SIZE - 1) / 2
    middle = {"rotation": 0.0, "x": 0.0}
    liver = render(middle | {"z": 0.9}, SIZE).tissue == Tissue.LIVER
    heart = render(middle | {"z": 0.6}, SIZE).tissue == Tissue.HEART
    assert (liver.sum(0) @ columns) / liver.sum() < -5
    assert (heart.sum(0) @ columns) / heart.sum() > 3


@pytest.mark.parametrize("z", [0.2, 0.5, 0.8])
def test_size_scales_areas_by_its_square(z: float):
    small, large = (render({"z": z, "body_size": size, "breast_size": 0.0}, SIZE).tissue for size in (0.84, 1.05))
    assert body_cm2(large) / body_cm2(small) == pytest.approx((1.05 / 0.84) ** 2, rel=0.01)


@pytest.mark.parametrize("factor", ["lung_size", "fat_thickness", "heart_size", "table_height"])
def test_factors_inside_leave_the_outline(factor: str):
    bounds = next((f.low, f.high) for f in FACTORS if f.name == factor)
    low, high = (render({"z": 0.55, factor: value}, SIZE).tissue for value in bounds)
    assert body_cm2(high) == pytest.approx(body_cm2(low), rel=0.003)


def test_each_factor_moves_its_own_tissue():
    def change(factor: str, *labels: Tissue, z: float) -> float:
        low, high = next((f.low, f.high) for f in FACTORS if f.name == factor)
        first, last = (area_cm2(render({"z": z, factor: value}, SIZE).tissue, *labels) for value in (low, high))
        return last / first

    lungs = (Tissue.LUNG, Tissue.LUNG_VESSEL)
    assert change("lung_size", *lungs, z=0.4) > 1.3
    assert change("fat_thickness", Tissue.FAT, z=0.9) > 1.8
    assert change("heart_size", Tissue.HEART, z=0.62) == pytest.approx((1.2 / 0.75) ** 2, rel=0.12)
    assert change("breast_size", Tissue.FAT, Tissue.GLAND, z=0.52) > 1.5
    assert change("heart_size", *lungs, z=0.2) == 1.0


def test_position_and_rotation_move_the_body_as_said():
    def centre(**factors: float) -> np.ndarray:
        tissue = render({"z": 0.9, "breast_size": 0.0, "body_size": 0.9} | factors, SIZE).tissue >= Tissue.SKIN
        return np.argwhere(tissue).mean(0)[::-1] * PIXEL

    moved = centre(x=12.0, y=-9.0) - centre()
    np.testing.assert_allclose(moved, [12.0, -9.0], atol=0.4)
    spine = np.argwhere(render({"z": 0.9, "rotation": 12.0}, SIZE).hu > 300).mean(0)
    straight = np.argwhere(render({"z": 0.9, "rotation": 0.0}, SIZE).hu > 300).mean(0)
    assert spine[1] < straight[1]  # clockwise: the back moves to the image's left


@pytest.mark.parametrize("gap", [5.0, 15.0, 27.0])
def test_table_lies_under_the_back(gap: float):
    tissue = render({"z": 0.6, "rotation": 9.0, "table_height": gap, "body_size": 0.9}, 256).tissue
    rows = np.arange(256)[:, None]
    body = np.where(tissue >= Tissue.SKIN, rows, -1).max(0)
    table = np.where(tissue == Tissue.TABLE, rows, 999).min(0)
    assert (table - body - 1)[body > 0].min() * 400 / 256 == pytest.approx(gap, abs=1.6)


def test_nodule_is_a_ball_in_the_lung():
    nodule = Nodule(z=0.4, radius_mm=9.0, place=0.3)
    for dz, radius in ((0.0, 9.0), (0.02, (81 - (0.02 * LENGTH) ** 2) ** 0.5), (0.05, 0.0)):
        assert nodule_radius_mm(nodule, 0.4 + dz, 1.0) == pytest.approx(radius)
        drawn = render({"z": 0.4 + dz, "body_size": 1.0}, 256, nodules=(nodule,)).tissue == Tissue.NODULE
        assert drawn.sum() * (400 / 256) ** 2 == pytest.approx(0.9 * np.pi * radius**2, rel=0.06, abs=1e-9)
    before = render({"z": 0.4, "body_size": 1.0}, 256).tissue
    after = render({"z": 0.4, "body_size": 1.0}, 256, nodules=(nodule,)).tissue
    was = before[after == Tissue.NODULE]
    assert np.isin(was, [Tissue.LUNG, Tissue.LUNG_VESSEL]).mean() > 0.98


def test_label_is_one_where_a_nodule_shows():
    source = CTPhantom(12, 20, 64, noise_hu=0.0, seed=2)
    found = chunks(source)
    labels = np.concatenate([chunk.columns["label.nodule"] for chunk in found])
    assert set(labels) == {0.0, 1.0}
    assert 0.08 < labels.mean() < 0.3
    chunk = max(found, key=lambda c: c.columns["label.nodule"].sum())
    with_nodules = images(source, chunk)
    source._nodules = lambda patient: ()  # the same patient without them
    differs = [
        np.abs(a.pixels - b.pixels).max() > 200 for a, b in zip(with_nodules, images(source, chunk), strict=True)
    ]
    marked = chunk.columns["label.nodule"].astype(bool)
    assert np.all(np.array(differs)[marked])
    assert np.mean(np.array(differs)[~marked]) < 0.2  # grazed by less than 2.5 mm


def test_noise_has_its_standard_deviation_and_is_correlated():
    noise = np.zeros((256, 256), np.float32)
    add_noise(noise, 20.0, np.random.default_rng(0))
    assert noise.std() == pytest.approx(20.0, rel=0.02)
    neighbours = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert neighbours == pytest.approx(2 * 0.35 / (1 + 2 * 0.35**2), abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 64), "patients: 0, expected at least 1"),
        ((1, 0, 64), "slices_per_patient: 0"),
        ((1, 1, 8), "size: 8, expected at least 16"),
        ((1, 1, 64, 0.0), "field_of_view_mm: 0.0"),
        ((1, 1, 64, 400.0, -1.0), "noise_hu: -1.0"),
    ],
)
def test_bad_arguments(arguments: tuple, message: str):
    with pytest.raises(UserError, match=message):
        CTPhantom(*arguments)


def test_unknown_factor_names_the_nearest():
    with pytest.raises(UserError, match="no factor 'lungsize'; did you mean 'lung_size'"):
        render({"lungsize": 1.0}, 64)


def test_dicom_export_is_read_back_in_order(tmp_path: Path):
    source = CTPhantom(3, 4, 48, seed=5)
    assert len(write_dicom_series(tmp_path, source, patients=2)) == 8
    reader = CTDicom(str(tmp_path))
    scan = reader.scan(in_process)
    assert not scan.damaged
    assert not scan.skipped
    assert len(scan.chunks) == 2
    for chunk, original in zip(scan.chunks, chunks(source), strict=False):
        assert chunk.patient == original.patient.upper()
        np.testing.assert_allclose(chunk.columns["position_mm"], original.columns["position_mm"][::-1], atol=1e-3)
        for image, truth in zip(images(reader, chunk), reversed(images(source, original)), strict=True):
            assert image.spacing_mm == pytest.approx(truth.spacing_mm, abs=1e-5)
            np.testing.assert_allclose(image.pixels, truth.pixels, atol=0.51)


def test_dicom_export_has_what_a_ct_image_must_have(tmp_path: Path):
    import pydicom

    files = write_dicom_series(tmp_path, CTPhantom(1, 2, 32), RescaleSlope=2.0, StudyDescription="x", KVP=None)
    first, second = (pydicom.dcmread(file) for file in files)
    assert first.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (first.RescaleSlope, first.StudyDescription, "KVP" in first) == (2, "x", False)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert float(second.ImagePositionPatient[2]) > float(first.ImagePositionPatient[2])
    again = write_dicom_series(tmp_path / "again", CTPhantom(1, 2, 32))
    assert pydicom.dcmread(again[0]).SOPInstanceUID == first.SOPInstanceUID


def test_dicom_export_refuses_unknown_keywords_and_patients(tmp_path: Path):
    with pytest.raises(UserError, match="'PatientIdentity' is no DICOM keyword"):
        write_dicom_series(tmp_path, CTPhantom(1, 1, 32), PatientIdentity="x")
    with pytest.raises(UserError, match="patients: 3, expected 1 to 2"):
        write_nifti_volumes(tmp_path, CTPhantom(2, 1, 32), patients=3)


def test_nifti_export_is_read_back(tmp_path: Path):
    import nibabel

    source = CTPhantom(2, 5, 48, seed=5)
    files = write_nifti_volumes(tmp_path, source)
    volume = nibabel.load(files[0])
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    original = chunks(source)[0]
    position = original.columns["position_mm"]
    assert volume.header.get_zooms() == pytest.approx((400 / 48, 400 / 48, (position[0] - position[-1]) / 4), rel=1e-5)
    reader = CTVolumes(str(tmp_path))
    chunk = reader.scan(in_process).chunks[0]
    assert chunk.columns["position_mm"][0] == pytest.approx(position[-1], abs=1e-3)
    for image, truth in zip(images(reader, chunk), reversed(images(source, original)), strict=True):
        np.testing.assert_allclose(image.pixels, truth.pixels, atol=0.51)


def test_nodules_of_a_chosen_size():
    large = CTPhantom(12, 6, 64, nodule_radius_mm=[14.0, 20.0], seen_radius_mm=8.0)
    radii = [nodule.radius_mm for patient in range(12) for nodule in large._nodules(patient)]
    assert 14.0 <= min(radii) < max(radii) <= 20.0
    scan = large.scan(lambda function, items, _: map(function, items))
    for chunk in scan.chunks:
        scale, nodules = chunk.columns["factor.body_size"][0], large._nodules(chunk.items[0].patient)
        shown = [max((nodule_radius_mm(n, z, scale) for n in nodules), default=0.0) for z in chunk.columns["factor.z"]]
        assert (chunk.columns["label.nodule"] == (np.array(shown) > 8.0)).all()
    assert scan.classes == {"nodule": ("no nodule", "nodule")}
    assert scan.units["rotation"] == "deg"


def test_slices_at_chosen_levels():
    whole, some = (chunks(CTPhantom(3, 8, 32, levels=levels)) for levels in (None, [0.14, 0.82]))
    for all_levels, chosen in zip(whole, some, strict=True):
        z = all_levels.columns["factor.z"]
        np.testing.assert_allclose(chosen.columns["factor.z"], 0.14 + (0.82 - 0.14) * z)
        np.testing.assert_array_equal(chosen.columns["factor.x"], all_levels.columns["factor.x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"nodule_radius_mm": [9.0, 3.0]}, "nodule_radius_mm"),
        ({"seen_radius_mm": 4.0}, "seen_radius_mm: 4.0"),
        ({"levels": [0.5, 0.5]}, "levels"),
        ({"levels": [-0.1, 0.5]}, "levels"),
    ],
)
def test_nodules_of_no_size(arguments, words):
    with pytest.raises(UserError, match=words):
        CTPhantom(1, 1, 32, **arguments)
