"""No file costs more than 10 s and 1 GB, whatever it claims to be."""

import gzip
import io
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
from data.costs import cost_of, pictures, read_all
from data.dicom_files import write_slice
from data.formats import RGB
from data.gdcm_files import write_compressed
from PIL import Image
from pydicom import dcmread, uid
from pydicom.filereader import read_dataset

from medlat.core.errors import UserError
from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.volumes import CTVolumes
from medlat.data.histology.pcam import PatchCamelyon
from medlat.data.histology.slides import Slides, region
from medlat.data.pictures.decode import read_picture
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.medmnist import MedMNIST
from medlat.data.unpacked import unpacked

MOST_SECONDS, MOST_BYTES = 10, 1 << 30

# MedMNIST

HEADERS = [
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 16, 16), '",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 16, 16), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1000000000000, 16), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 16, 16), }",
    b"{'descr': '<U250000000', 'fortran_order': False, 'shape': (3, 1), }",
    b"(" * 9000,
]


@pytest.mark.parametrize("name", ["train_images", "train_labels"])
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_claims_anything_is_the_users_error(tmp_path, header, name):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for part in ("train", "val", "test"):
            for kind, values in (("images", np.zeros((3, 16, 16), np.uint8)), ("labels", np.array([[0], [1], [1]]))):
                stream = io.BytesIO()
                np.save(stream, values)
                content = stream.getvalue()
                if f"{part}_{kind}" == name:
                    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
                archive.writestr(f"{part}_{kind}.npy", content)
    (said,), _, taken = cost_of(read_all, MedMNIST, {"path": str(tmp_path / "a.npz")})
    assert said.startswith("path: ")
    assert "\n" not in said
    assert taken < 1 << 27


def deflated(path: Path, megabytes: int) -> Path:
    """A deflated DICOM file with so many zeros after its pixels."""
    write_slice(path, syntax=uid.DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    stream = io.BytesIO(content)
    stream.seek(132)
    read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    start, packer = stream.tell(), zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    tags = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, megabytes << 20)
    packed = [packer.compress(tags + padding), *(packer.compress(bytes(1 << 20)) for _ in range(megabytes))]
    path.write_bytes(content[:start] + b"".join([*packed, packer.flush()]))
    return path


def claimed_rows(path: Path) -> Path:
    write_slice(path, syntax=uid.RLELossless)
    dataset = dcmread(path)
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(path)
    return path


def claimed_frames(path: Path) -> Path:
    return write_slice(path, NumberOfFrames=2**31 - 1)


def claimed_frame(path: Path, syntax: str, marker: bytes, offset: int, kind: str) -> Path:
    """A frame that claims 65,000 x 65,000 pixels, where its DICOM header says 16 x 16."""
    content = bytearray(write_compressed(path, np.zeros((16, 16)), syntax).read_bytes())
    at = content.index(marker) + offset
    content[at : at + struct.calcsize(kind)] = struct.pack(kind, 65000, 65000)
    path.write_bytes(content)
    return path


DICOM_CLAIMS = {
    "inflates to more than 256 MB": lambda path: deflated(path, 300),
    "more than 16.8 million pixels in a slice": claimed_rows,
    "several frames without their positions": claimed_frames,
}


@pytest.mark.parametrize("reason", DICOM_CLAIMS)
def test_what_a_dicom_file_claims_is_not_believed(tmp_path, reason):
    DICOM_CLAIMS[reason](tmp_path / "bad.dcm")
    (said,), seconds, taken = cost_of(read_all, CTDicom, {"root": str(tmp_path)})
    assert reason in said
    assert seconds < MOST_SECONDS
    assert taken < 1 << 26


FRAMES = [
    (uid.JPEGLSLossless, b"\xff\xf7", 5, ">HH"),
    (uid.JPEGLosslessSV1, b"\xff\xc3", 5, ">HH"),
    (uid.JPEG2000Lossless, b"\xff\x4f\xff\x51", 8, ">II"),
]


@pytest.mark.parametrize(("syntax", "marker", "offset", "kind"), FRAMES)
def test_what_a_compressed_frame_claims_is_not_believed(tmp_path, syntax, marker, offset, kind):
    """GDCM's codec for JPEG-LS ends the process, that for JPEG 2000 takes 0.4 GB."""
    pytest.importorskip("gdcm")
    write_compressed(tmp_path / "good.dcm", np.zeros((16, 16)), syntax)
    claimed_frame(tmp_path / "bad.dcm", syntax, marker, offset, kind)
    said, _, taken = cost_of(read_all, CTDicom, {"root": str(tmp_path)})
    assert sorted(said) == ["", "corrupt pixel data"]
    assert taken < 1 << 26


def gz_of_zeros(path: Path, claimed: tuple[int, int, int], held: int) -> Path:
    """A volume of bytes that claims a shape and holds so many megabytes of zeros."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(claimed)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", 1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(held):
            file.write(bytes(1 << 20))
    return path


VOLUMES = [  # claimed, megabytes, what is said of the first slice
    ((1000, 1000, 500), 480, ""),
    ((5000, 5000, 2), 20, "more than 16.8 million pixels in a slice"),
    ((4000, 4000, 2000), 1, "truncated"),
    ((4000, 4000, 300), 8, "truncated"),
    ((4000, 4000, 300), 20, "truncated"),
    ((16, 16, 16), 100, "corrupt"),
]


@pytest.mark.parametrize(("claimed", "held", "expected"), VOLUMES)
def test_what_a_packed_volume_claims_is_not_believed(tmp_path, claimed, held, expected):
    gz_of_zeros(tmp_path / "a.nii.gz", claimed, held)
    arguments = {"root": str(tmp_path), "include": "*"}  # else zeros are no image
    said, seconds, taken = cost_of(read_all, CTVolumes, arguments)
    assert said[0] == expected or said[0].endswith(f"found: 1 {expected}")
    assert len(said) == (claimed[2] if expected == "" or len(said) > 1 else 1)
    assert seconds < MOST_SECONDS
    assert taken < 1 << 27


def _without_disk(path: str) -> str:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        with gzip.open(path) as stream:
            unpacked(stream, 4 << 20)
    except UserError as error:
        return str(error)
    return ""


def test_a_full_disk_for_temporary_files_is_no_damage(tmp_path):
    with gzip.open(tmp_path / "a.gz", "wb", 1) as file:
        file.write(bytes(4 << 20))
    assert cost_of(_without_disk, str(tmp_path / "a.gz"))[0].startswith("TMPDIR: no room ")


LARGE = [
    ((6000, 6000), "L", "png"),
    ((8000, 8000), "I;16", "png"),
    ((8000, 8000), "RGBA", "png"),
    ((8000, 8000), "RGB", "jpg"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "mode", "suffix"), LARGE)
def test_large_pictures_are_read_within_the_limits(tmp_path, size, mode, suffix):
    source = pictures(tmp_path, [f"large.{suffix}"], colour=mode not in "L")
    Image.new(mode, size).save(tmp_path / f"large.{suffix}")
    arguments = {"root": str(tmp_path), "colour": source.colour}
    said, seconds, taken = cost_of(read_all, ImageFolder, arguments)
    assert said == ["", ""]
    assert seconds < MOST_SECONDS
    assert taken < MOST_BYTES


def tiff_of_large_tiles(path: Path) -> Path:
    tifffile.imwrite(path, RGB, tile=(16, 16), photometric="rgb", compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[tag].valueoffset for tag in (322, 323)]
    for at in places:
        content[at : at + 4] = struct.pack("<I", 32768)
    path.write_bytes(content)
    return path


def large_png(path: Path) -> Path:
    Image.new("L", (13000, 13000)).save(path)
    return path


def large_jpeg_2000(path: Path) -> Path:
    Image.new("RGB", (4000, 4000)).save(path)
    return path


@pytest.mark.parametrize("make", [large_png, tiff_of_large_tiles, large_jpeg_2000])
def test_what_a_picture_claims_is_not_believed(tmp_path, make):
    path = make(tmp_path / {"large_png": "a.png", "large_jpeg_2000": "a.jp2"}.get(make.__name__, "a.tif"))
    pictures(tmp_path, [path.name])
    said, seconds, taken = cost_of(read_all, ImageFolder, {"root": str(tmp_path)})
    assert said == ["", "more than 67 million pixels, or 9 million of JPEG 2000"]
    assert seconds < 1
    assert taken < 1 << 26


def test_a_picture_that_would_start_a_program_is_not_decoded(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^corrupt$"):
        read_picture(tmp_path / "a.png", True)


TILES = {  # shape of x, its blocks, shape of y
    "tiles": ((10**12, 96, 96, 3), (1, 96, 96, 3), (10**12, 1, 1, 1)),
    "size": ((4, 10**6, 10**6, 3), (1, 96, 96, 3), (4, 1, 1, 1)),
    "blocks": ((10**5, 96, 96, 3), (10**5, 96, 96, 3), (10**5, 1, 1, 1)),
    "labels": ((4, 96, 96, 3), None, (10**12, 1, 1, 1)),
}


@pytest.mark.parametrize("what", TILES)
def test_what_an_hdf5_file_claims_is_the_users_error(tmp_path, what):
    shape, blocks, labels = TILES[what]
    stem = f"{tmp_path}/camelyonpatch_level_2_split_train"
    with h5py.File(f"{stem}_x.h5", "w") as file:
        file.create_dataset("x", shape, np.uint8, chunks=blocks, compression="gzip" if blocks else None)
    with h5py.File(f"{stem}_y.h5", "w") as file:
        file.create_dataset("y", labels, np.uint8, chunks=(4, 1, 1, 1))
    (said,), _, taken = cost_of(read_all, PatchCamelyon, {"root": str(tmp_path)})
    assert said.startswith("root: ")
    assert "claims the shape" in said or "1000000000000 labels" in said
    assert taken < 1 << 26


@pytest.mark.parametrize(("tag", "reason"), [(256, "more pixels than it can hold"), (322, "tiles of more than")])
def test_what_a_slide_claims_is_not_believed(tmp_path, tag, reason):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((256, 256, 3), np.uint8), tile=(64, 64), photometric="rgb", compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        for other in (tag, tag + 1):
            at = tags[other].valueoffset
            content[at - 6 : at - 4] = struct.pack("<H", 4)  # as 32 bits
            content[at : at + 4] = struct.pack("<I", 1 << 19 if tag == 256 else 1 << 15)
    path.write_bytes(content)
    (said,), seconds, taken = cost_of(read_all, Slides, {"root": str(tmp_path), "slide_mpp": 0.5})
    assert reason in said or "no slide that OpenSlide can read" in said
    assert seconds < MOST_SECONDS
    assert taken < 1 << 27


def test_a_tile_far_finer_than_asked_is_read_in_parts(tmp_path):
    """A slide of one level: a tile of 8 pixels covers 8192² of it, four times what is read at once."""
    from openslide import OpenSlide

    image = np.zeros((8192, 8192, 3), np.uint8)
    image[:, 4096:, 0] = 200
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(256, 256), photometric="rgb", compression="zlib")
    with OpenSlide(str(tmp_path / "a.tif")) as slide:
        small = region(slide, (0, 0), (8192, 8192), (8, 6))
    assert small.shape == (6, 8, 3)
    assert (small[:, :4, 0] == 0).all()
    assert (small[:, 4:, 0] == 200).all()
