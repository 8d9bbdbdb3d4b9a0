"""One odd file ends no run: it is left out, counted and listed, whatever it claims, and costs neither memory nor time.

Damage by chance is in test_mutations.py; here are the kinds that people meet, and those that somebody makes on purpose.
"""

import os
import struct
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from data.costs import cost_of, pictures
from data.dicom_files import write_slice
from data.test_lidc import roi, write_xml
from PIL import Image

from medlat.core.errors import UserError
from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.lidc import LIDC, readings
from medlat.data.ct.volumes import CTVolumes
from medlat.data.histology.asap import AsapAnnotation
from medlat.data.histology.pcam import PatchCamelyon
from medlat.data.histology.slides import Slides
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.modality import GREY, HISTOLOGY
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.medmnist import MedMNIST
from medlat.data.resample import MOST_VALUES, ToGrid, UnusableImage
from medlat.data.source import Slice, SliceSource


def made(source: SliceSource, out: Path, capsys: pytest.CaptureFixture, fov: float | None = None) -> tuple[int, str]:
    """How many slices the program has of a source, and what it says of damaged files."""
    out.mkdir()
    prepare(source, Preparation(16, fov, 0.6, "salt", 1), out)
    return len(ImageStore.open(out)), capsys.readouterr().err


# sizes and spacings


def ramp() -> np.ndarray:
    """A volume whose values are all different, from -1000."""
    return (np.arange(128).reshape(8, 8, 2) * 15 - 1000).astype(np.int16)


@pytest.mark.parametrize("mm", [0.0007, 0.01, 1e-30, 700.0, 1e30])
def test_a_spacing_in_metres_or_micrometres_is_damage(tmp_path, capsys, mm):
    write_slice(tmp_path / "in" / "a.dcm")
    write_slice(tmp_path / "in" / "b.dcm", PixelSpacing=[mm, mm], SOPInstanceUID="2.25.9")
    count, said = made(CTDicom(str(tmp_path / "in")), tmp_path / "out", capsys, 32.0)
    assert count == 1
    assert "b.dcm: pixel spacing outside 0.02 to 20 mm" in said


@pytest.mark.parametrize("bad", [0.0007, 0.01, 700.0])
def test_a_volume_in_metres_or_micrometres_is_damage(tmp_path, capsys, bad):
    (tmp_path / "in").mkdir()
    for name, mm in (("a.nii", 1.0), ("b.nii", bad)):
        nibabel.save(nibabel.Nifti1Image(ramp(), np.diag([mm, mm, 1, 1])), tmp_path / "in" / name)
    count, said = made(CTVolumes(str(tmp_path / "in")), tmp_path / "out", capsys)
    assert count == 2
    assert "b.nii: pixel spacing outside 0.02 to 20 mm" in said


UNUSABLE = [
    ((10, 30000), (1.0, 1.0), None, "narrower than a pixel of the result"),
    ((64, 64), (0.02, 0.02), 400.0, "narrower than a pixel of the result"),
    ((64, 64), (700.0, 700.0), 400.0, "pixels larger than the field of view"),
    ((64, 64), (float("nan"), 1.0), None, "no pixels, or none with a size"),
    ((0, 64), (1.0, 1.0), None, "no pixels, or none with a size"),
]


@pytest.mark.parametrize(("shape", "spacing", "fov", "words"), UNUSABLE)
def test_images_of_which_nothing_would_be_seen_are_refused(shape, spacing, fov, words):
    with pytest.raises(UnusableImage, match=words):
        ToGrid(16, fov)(Slice(np.zeros(shape, np.float32), spacing))


def test_a_strip_is_damage(tmp_path, capsys):
    source = pictures(tmp_path / "in", ["strip.png"])
    Image.fromarray(np.zeros((10, 30000), np.uint8)).save(tmp_path / "in" / "strip.png")
    count, said = made(source, tmp_path / "out", capsys)
    assert count == 1
    assert "strip.png: narrower than a pixel of the result" in said


@pytest.mark.parametrize(("modality", "channels"), [(GREY, 1), (HISTOLOGY, 3)])
def test_of_a_large_image_whole_blocks_are_averaged_first(modality, channels):
    """A ramp, and a square that is all field of view: as exact as the small image is."""
    side = int((MOST_VALUES / channels) ** 0.5) + 77
    ramp = np.broadcast_to((np.arange(side) * (255.0 / side)).astype(np.uint8)[None, :, None], (side, side, channels))
    grid = ToGrid(8, None, modality)(Slice(ramp if channels == 3 else ramp[..., 0], (1.0, 1.0)))
    np.testing.assert_allclose(grid[0, 3], (np.arange(8) + 0.5) * 255.0 / 8, atol=1.1)
    assert (grid == grid[:1, :1]).all()


# tables, names, links and permissions


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "loop.png", "x/" * 3000])
def test_a_name_that_no_file_can_have_is_damage(tmp_path, capsys, name):
    source = pictures(tmp_path / "in", [name])
    (tmp_path / "in" / "loop.png").symlink_to("loop.png")
    count, said = made(source, tmp_path / "out", capsys)
    assert count == 1
    assert "1 damaged file:" in said


def test_links_to_themselves_are_passed_over(tmp_path, capsys):
    write_slice(tmp_path / "in" / "a.dcm")
    (tmp_path / "in" / "loop").symlink_to("loop")
    (tmp_path / "in" / "deep").mkdir()
    (tmp_path / "in" / "deep" / "loop.dcm").symlink_to("../loop")
    source = CTDicom(str(tmp_path / "in"))
    assert source.scan(lambda f, items, _: map(f, items)).skipped == {"broken link or special file": 2}
    assert len(source.fingerprint()) == 64
    assert source.expected() == 1
    assert made(source, tmp_path / "out", capsys)[0] == 1


def _as_nobody(root: str) -> tuple[dict, list[str], int]:
    os.setuid(65534)
    source = CTDicom(root)
    scan = source.scan(lambda f, items, _: map(f, items))
    return scan.skipped, [one.reason for one in scan.damaged], len(source.fingerprint())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_folders_that_may_not_be_entered():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        root = Path(name)
        root.chmod(0o755)
        write_slice(root / "in" / "a.dcm")
        write_slice(root / "closed" / "deep" / "b.dcm")
        write_slice(root / "in" / "listed" / "c.dcm")
        (root / "in" / "deep").symlink_to(root / "closed" / "deep")
        (root / "in" / "one.dcm").symlink_to(root / "closed" / "deep" / "b.dcm")
        (root / "closed").chmod(0)
        (root / "in" / "listed").chmod(0o444)
        skipped, damaged, digest = cost_of(_as_nobody, str(root / "in"))[0]
    assert skipped == {"broken link or special file": 2}
    assert damaged == ["permission denied"]
    assert digest == 64


def test_names_that_are_no_text(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i, name in enumerate((b"\xff\xfe.nii", b"good.nii", b"\xffbad.nii")):
        path = os.fsencode(tmp_path / "in") + b"/" + name
        nibabel.save(nibabel.Nifti1Image(ramp() + i, np.eye(4)), tmp_path / "x.nii")
        os.rename(os.fsencode(tmp_path / "x.nii"), path)
        if b"bad" in name:
            Path(os.fsdecode(path)).write_bytes(b"")
    (tmp_path / "out").mkdir()
    listed = tmp_path / "list.txt"
    how = Preparation(16, None, 0.6, "salt", 1, damaged_list=str(listed))
    prepare(CTVolumes(str(tmp_path / "in")), how, tmp_path / "out")
    assert len(ImageStore.open(tmp_path / "out").patients) == 2
    assert b"\xffbad.nii: empty file" in listed.read_bytes()


EMPTY = [
    lambda text, there: CTDicom(text),
    lambda text, there: CTVolumes(text),
    lambda text, there: ImageFolder(text),
    lambda text, there: MedMNIST(text),
    lambda text, there: PatchCamelyon(text),
    lambda text, there: Slides(text),
    lambda text, there: Slides(there, annotations=text),
    lambda text, there: ImageFolder(there, labels=text),
]


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
@pytest.mark.parametrize("make", EMPTY)
def test_an_unset_variable_is_not_the_working_directory(tmp_path, make, text):
    with pytest.raises(UserError, match=r"(root|labels|annotations|path): empty .*, expected a"):
        make(text, str(tmp_path))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~nobody/x", "\udcff"])
@pytest.mark.parametrize("make", EMPTY)
def test_a_name_in_the_configuration_that_no_file_can_have(tmp_path, make, name):
    with pytest.raises(UserError, match=r"(root|labels|annotations|path): there is no (file|folder)"):
        make(str(tmp_path / name), str(tmp_path)).fingerprint()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(UserError, match="is no plain file"):
        MedMNIST(str(tmp_path / "a.npz")).fingerprint()


# annotations


@pytest.mark.parametrize("z", ["", " ", "one", "-97,5", "nan", "inf", "1e999"])
def test_a_reading_without_a_position_is_a_damaged_file(tmp_path, z):
    for number in (1, 2):
        folder = tmp_path / str(number)
        write_slice(folder / "a.dcm", PatientID=f"P{number}", SeriesInstanceUID=f"2.25.{number}")
        write_xml(folder / "marks.xml", f"2.25.{number}", roi(0.0))
    text = (tmp_path / "2" / "marks.xml").read_text().replace("0.000000", z)
    (tmp_path / "2" / "marks.xml").write_text(text)
    scan = LIDC(str(tmp_path), nodules=True).scan(lambda f, items, _: map(f, items))
    assert [chunk.patient for chunk in scan.chunks] == ["P1"]
    assert [(Path(one.path).parent.name, one.reason) for one in scan.damaged] == [
        ("2", "reading without the position of its slice")
    ]
    assert scan.skipped["slice without a reading"] == 1


def test_entities_are_not_expanded_in_any_encoding(tmp_path):
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 9))
    text = f'<!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><LidcReadMessage>&l8;</LidcReadMessage>'
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
        start = time.perf_counter()
        assert list(readings(tmp_path / "a.xml")) == []
        assert time.perf_counter() - start < 1.0


def test_a_cut_file_of_readings_is_damaged(tmp_path):
    write_xml(tmp_path / "a.xml", "2.25.1", roi(0.0))
    (tmp_path / "a.xml").write_bytes((tmp_path / "a.xml").read_bytes()[:-30])
    with pytest.raises(ValueError, match="corrupt file of readings"):
        readings(tmp_path / "a.xml")


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
def test_an_outline_has_numbers_on_a_slide(tmp_path, value):
    points = "".join(f'<Coordinate Order="{i}" X="{value}" Y="{i}"/>' for i in range(3))
    (tmp_path / "a.xml").write_text(f"<ASAP_Annotations><Annotation>{points}</Annotation></ASAP_Annotations>")
    with pytest.raises(UserError, match=r"annotations: a Coordinate in .*a.xml"):
        AsapAnnotation(tmp_path / "a.xml")


@pytest.mark.parametrize(
    "text", ["<?xml version='1.0' encoding='foo'?><a/>", "<?xml version='1.0' encoding='cp932'?><a/>"]
)
def test_an_encoding_that_nobody_knows(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match=r"annotations: '.*a.xml'"):
        AsapAnnotation(tmp_path / "a.xml")
    assert readings(tmp_path / "a.xml") == []


# scaling

SENSELESS = [
    ({"RescaleSlope": "0"}, "rescale slope is 0"),
    ({"RescaleSlope": "nan"}, "rescale slope is no finite number"),
    ({"RescaleSlope": "inf"}, "rescale slope is no finite number"),
    ({"RescaleSlope": "one"}, "rescale slope is no finite number"),
    ({"RescaleSlope": "1\\2"}, "rescale slope is no finite number"),
    ({"RescaleSlope": "1e38"}, "rescale slope is absurd"),
    ({"RescaleSlope": "1e-30"}, "rescale slope is absurd"),
    ({"RescaleIntercept": "inf"}, "rescale intercept is no finite number"),
    ({"RescaleIntercept": "-1e38"}, "rescale intercept is absurd"),
    ({"RescaleIntercept": "1000000"}, "rescale intercept is absurd"),
]


@pytest.mark.parametrize(("tags", "reason"), SENSELESS)
def test_a_rescale_that_makes_no_sense_is_damage(tmp_path, tags, reason):
    write_slice(tmp_path / "a.dcm")
    path = write_slice(
        tmp_path / "b.dcm", SOPInstanceUID="2.25.9", RescaleSlope="7777777777", RescaleIntercept="8888888888"
    )
    content = path.read_bytes()
    for name, planted, usual in (("RescaleSlope", b"7777777777", "1"), ("RescaleIntercept", b"8888888888", "-1024")):
        content = content.replace(planted, tags.get(name, usual).ljust(10).encode())
    path.write_bytes(content)
    scan = CTDicom(str(tmp_path)).scan(lambda f, items, _: map(f, items))
    assert [one.reason for one in scan.damaged] == [reason]


@pytest.mark.parametrize(("slope", "inter"), [(1e38, 0.0), (5000.0, 0.0), (1e-30, 0.0), (1.0, 1e38), (1.0, -1e6)])
def test_a_volume_with_a_scaling_that_makes_no_sense_is_damage(tmp_path, slope, inter):
    image = nibabel.Nifti1Image(np.ones((8, 8, 2), np.int16), np.eye(4))
    for name, scaling in (("a.nii", (1.0, -1000.0)), ("b.nii", (slope, inter))):
        image.header.set_slope_inter(*scaling)
        nibabel.save(image, tmp_path / name)
    scan = CTVolumes(str(tmp_path)).scan(lambda f, items, _: map(f, items))
    assert [one.reason.split(" is ")[-1] for one in scan.damaged] == ["absurd"]


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_a_volume_may_say_that_it_is_not_scaled(tmp_path, slope):
    nibabel.save(nibabel.Nifti1Image(ramp(), np.diag([-1, -1, 1, 1])), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:116] = struct.pack("<f", slope)
    (tmp_path / "a.nii").write_bytes(content)
    source = CTVolumes(str(tmp_path))
    (chunk,) = source.scan(lambda f, items, _: map(f, items)).chunks
    for level, one in enumerate(source.read(chunk)):
        np.testing.assert_array_equal(one.pixels.T, ramp()[:, :, level])
