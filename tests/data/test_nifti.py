"""Small real NIfTI volumes, written here."""

import gzip
import os
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.data.ct.volumes import CTVolumes
from medlat.data.source import Damaged, Scan, Slice


def scan(root: Path) -> Scan:
    return CTVolumes(str(root)).scan(lambda f, items, description: map(f, items))


def read(root: Path) -> list[Slice | Damaged]:
    source = CTVolumes(str(root))
    return [one for chunk in scan(root).chunks for one in source.read(pickle.loads(pickle.dumps(chunk)))]


def write(
    path: Path, values: np.ndarray | None = None, affine: np.ndarray | None = None, kind=nibabel.Nifti1Image
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (np.arange(120).reshape(4, 5, 6) * 10 - 1000).astype(np.int16) if values is None else values
    nibabel.save(kind(values, np.eye(4) if affine is None else affine), path)
    return path


AXCODES = ["RAS", "LPS", "LAS", "LPI", "PIR", "SRP", "ASL", "IRA"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axcodes", AXCODES)
def test_any_storage_order_gives_axial_slices_from_feet_to_head(tmp_path: Path, axcodes: str, suffix: str) -> None:
    """The volume is 100·z + 10·y - x of RAS millimetres at every voxel; spacing 1, 2, 3 mm along x, y, z."""
    orientation = nibabel.orientations.axcodes2ornt(axcodes)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(orientation):
        affine[int(world), axis] = sign * (1, 2, 3)[int(world)]
    affine[:3, 3] = (-2, 3, 5)
    shape = (3, 4, 5)
    x, y, z = np.einsum("ij,jabc->iabc", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(3, 1, 1, 1)
    write(tmp_path / f"a{suffix}", (100 * z + 10 * y - x).astype(np.int16), affine)
    (chunk,) = scan(tmp_path).chunks
    slices = read(tmp_path)
    np.testing.assert_allclose(chunk.columns["position_mm"], np.unique(z))
    assert {one.spacing_mm for one in slices} == {(2, 1)}
    for height, one in zip(np.unique(z), slices, strict=True):
        assert one.pixels.dtype == np.float32
        assert one.pixels.flags.c_contiguous
        # row 0 is anterior (large y), column 0 is the patient's right (large x in RAS)
        expected = 100 * height + 10 * np.unique(y)[::-1, None] - np.unique(x)[None, ::-1]
        np.testing.assert_allclose(one.pixels, np.maximum(expected, -1024))


def test_right_is_right(tmp_path: Path) -> None:
    """Written out, for a volume stored as RAS: x counts from left to right, so the last x comes first."""
    values = np.zeros((4, 5, 1), np.int16)
    values[3, 4, 0] = 7  # right, anterior
    write(tmp_path / "a.nii", values)
    assert read(tmp_path)[0].pixels[0, 0] == 7


def test_an_oblique_volume_keeps_its_spacing_and_its_place_along_the_normal(tmp_path: Path) -> None:
    turn = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.1, 0.2, 0.3) @ np.diag((2, 3, 4)), (9, 9, 9))
    write(tmp_path / "a.nii", affine=turn)
    (chunk,) = scan(tmp_path).chunks
    np.testing.assert_allclose(np.diff(chunk.columns["position_mm"]), 4, rtol=1e-5)
    np.testing.assert_allclose(read(tmp_path)[0].spacing_mm, (3, 2), rtol=1e-5)


def test_values_are_scaled_by_the_header_and_cleaned(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2) * 100, np.diag((-1, -1, 1, 1)))
    image.header.set_slope_inter(2, -1000)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert nibabel.load(tmp_path / "a.nii.gz").dataobj.slope == 2
    expected = np.arange(8).reshape(2, 2, 2) * 200 - 1000
    np.testing.assert_array_equal([one.pixels.T for one in read(tmp_path)], np.moveaxis(expected, 2, 0))
    values = np.array([np.nan, -3024, 40.5, np.inf], np.float32).reshape(4, 1, 1)
    write(tmp_path / "sub" / "b.nii", values, np.diag((-1, -1, 1, 1)))
    assert read(tmp_path / "sub")[0].pixels[0, :3].tolist() == [-1024, -1024, 40.5]


DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_of_number_and_both_versions(tmp_path: Path, dtype: type, kind: type) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for name in ("a.nii", "b.NII.GZ"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.save(kind(values, np.diag((-1, -1, 1, 1))), tmp_path / name)
    slices = read(tmp_path)
    np.testing.assert_array_equal([one.pixels.T for one in slices], np.concatenate([np.moveaxis(values, 2, 0)] * 2))


def test_each_volume_is_a_patient_and_a_chunk(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", "site 1/deep/v1.2.nii.gz"):
        write(tmp_path / name, np.zeros((3, 3, 40), np.int16))
    chunks = scan(tmp_path).chunks
    assert [chunk.patient for chunk in chunks] == ["a", "b", "site 1/deep/v1.2"]
    assert [len(chunk.items) for chunk in chunks] == [40, 40, 40]
    assert [set(chunk.columns["series"]) for chunk in chunks] == [{0}, {1}, {2}]
    assert all(column.dtype == np.float64 for chunk in chunks for column in chunk.columns.values())


def test_what_is_no_volume_is_skipped_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "good.nii")
    write(tmp_path / "time.nii.gz", np.zeros((2, 2, 2, 3), np.int16))
    write(tmp_path / "image.nii", np.zeros((2, 2), np.int16))
    write(tmp_path / "colour.nii", np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    write(tmp_path / "complex.nii", np.zeros((2, 2, 2), np.complex64))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.nii").write_text("x")
    found = scan(tmp_path)
    expected = {"4D": 1, "2D": 1, "not plain numbers (colour or complex)": 2, "file of another kind": 1, "hidden": 1}
    assert found.skipped == expected
    assert found.damaged == []
    assert len(found.chunks) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)


def flip_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def junk(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>" * 30)


def junk_inside(path: Path) -> None:
    path.write_bytes(gzip.compress(b"<html>not found</html>" * 30))


def no_affine(path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 8), np.int16), np.eye(4))
    image.set_sform(np.diag((0, 1, 1, 1)), code=1)
    nibabel.save(image, path)


@pytest.mark.parametrize("name", ["bad.nii", "bad.nii.gz"])
@pytest.mark.parametrize("damage", [cut, flip_checksum, flip_middle, empty, junk, junk_inside, no_affine])
def test_damage_is_reported_and_never_raised(tmp_path: Path, name: str, damage) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (8, 8, 8)).astype(np.int16)
    write(tmp_path / "good.nii")
    bad = write(tmp_path / name, values)
    damage(bad)
    if name.endswith(".nii") and damage in (flip_checksum, flip_middle):
        return  # nothing in an uncompressed file tells a changed voxel
    damaged = scan(tmp_path).damaged + [one for one in read(tmp_path) if isinstance(one, Damaged)]
    assert {one.path for one in damaged} == {str(bad)}
    assert len(damaged) in (1, 8)
    assert all(one.reason in ("truncated", "corrupt", "empty file", "degenerate affine") for one in damaged)
    assert sum(isinstance(one, Slice) for one in read(tmp_path)) == 6


def test_a_root_without_a_volume_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "b.nii").touch()
    expected = r"no CT volume \(.nii, .*\) below .*: 1 DICOM file, 1 empty file; DICOM is read by data=ct_dicom"
    with pytest.raises(UserError, match=expected):
        scan(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        CTVolumes(str(tmp_path / "missing"))


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii")
    first = CTVolumes(str(tmp_path)).fingerprint()
    os.utime(path, ns=(0, 1))
    assert CTVolumes(str(tmp_path)).fingerprint() != first
