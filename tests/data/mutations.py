"""Damaged copies of one file of every format that medlat reads, and the program run on each of them.

A copy is a function of format and number, so that a fault can be had again:
`python -c "from data.mutations import write; print(write('png', 17, Path('/tmp/there')))"` in the folder `tests`.
"""

import json
import os
import resource
import shutil
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import nibabel
import numpy as np
from data.dicom_files import write_enhanced, write_slice
from data.gdcm_files import write_compressed
from PIL import Image
from pydicom import uid

from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.lidc import LIDC
from medlat.data.ct.nifti import CTNifti
from medlat.data.histology.export import write_slide
from medlat.data.histology.pcam import PatchCamelyon
from medlat.data.histology.phantom import HistologyPhantom
from medlat.data.histology.slides import Slides
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.medmnist import MedMNIST
from medlat.data.slices import Preparation, prepare
from medlat.data.source import SliceSource
from medlat.errors import UserError

SECONDS = 10  # that a file may take
BYTES = 1 << 30  # of memory that it may take
HU = np.random.default_rng(0).integers(-1000, 1000, (3, 16, 16))
EXTREME = [
    b"\x00" * 8,
    b"\xff" * 8,
    b"\xff" * 3 + b"\x7f",
    b"\x7f" + b"\xff" * 7,
    b"\x80" + bytes(3),
    bytes(3) + b"\x80",
]


class Format(NamedTuple):
    """make:  write a small data set below a folder; returns the source's arguments.
    damaged: the file that is damaged, below that folder.
    alone:   whether a UserError is a right answer: the data set is nothing without that file, or (of a slide) the
             damage is that it no longer says its resolution, which only the user knows.
    """

    source: Callable[..., SliceSource]
    make: Callable[[Path], dict[str, Any]]
    damaged: str
    alone: bool = False


def _dicom(root: Path, syntax: str = uid.ExplicitVRLittleEndian) -> dict[str, Any]:
    write_slice(root / "good.dcm", HU[0])
    write = write_slice if syntax in (uid.RLELossless, *uid.UncompressedTransferSyntaxes) else write_compressed
    write(root / "bad.dcm", HU[1], syntax, ImagePositionPatient=[0, 0, 1], SOPInstanceUID="2.25.8")
    return {"root": str(root)}


def _enhanced(root: Path) -> dict[str, Any]:
    _dicom(root)
    write_enhanced(root / "bad.dcm", HU, [1, 2, 3], [-1024, -1000, 0], SOPInstanceUID="2.25.8")
    return {"root": str(root)}


def _lidc(root: Path) -> dict[str, Any]:
    for number in (1, 2):
        write_slice(root / f"{number}.dcm", HU[number], PatientID=f"P{number}", SeriesInstanceUID=f"2.25.{number}")
        point = "<edgeMap><xCoord>1</xCoord><yCoord>2</yCoord></edgeMap>"
        roi = f"<roi><imageZposition>0.0</imageZposition><inclusion>TRUE</inclusion>{point * 3}</roi>"
        (root / f"{'good' if number == 1 else 'bad'}.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
            f"<SeriesInstanceUid>2.25.{number}</SeriesInstanceUid></ResponseHeader><readingSession>"
            f"<unblindedReadNodule><noduleID>n</noduleID>{roi}</unblindedReadNodule></readingSession></LidcReadMessage>"
        )
    return {"root": str(root), "nodules": True}


def _nifti(root: Path, name: str = "bad.nii") -> dict[str, Any]:
    for file in ("good.nii", name):
        nibabel.save(nibabel.Nifti1Image(HU.T.astype(np.int16), np.diag([1.0, 1.5, 3.0, 1.0])), root / file)
    return {"root": str(root)}


def _picture(root: Path, name: str, pixels: np.ndarray) -> dict[str, Any]:
    Image.fromarray(HU[2].astype(np.uint8)).save(root / "good.png")
    Image.fromarray(pixels).save(root / name)
    (root / "labels.csv").write_text(f"path,label,group\ngood.png,a,1\n{name},b,2\n")
    return {"root": str(root), "colour": pixels.ndim == 3}


def _medmnist(root: Path, save: Callable[..., None] = np.savez_compressed) -> dict[str, Any]:
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = HU.astype(np.uint8)
        arrays[f"{part}_labels"] = np.array([[0], [1], [1]], np.uint8)
    save(root / "bad.npz", **arrays)
    return {"path": str(root / "bad.npz")}


def _pcam(root: Path) -> dict[str, Any]:
    for part in ("train", "test"):
        stem = f"{root}/camelyonpatch_level_2_split_{part}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            tiles = np.repeat(HU.astype(np.uint8)[..., None], 3, 3)
            file.create_dataset("x", data=tiles, chunks=(1, 16, 16, 3), compression="gzip")
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1)
        Path(f"{stem}_meta.csv").write_text(f",tumor_patch,wsi\n0,False,{part}\n1,True,{part}\n2,True,{part}\n")
    return {"root": str(root)}


def _slide(root: Path) -> dict[str, Any]:
    phantom = HistologyPhantom(patients=2, slices_per_patient=4, size=64)
    for patient in (0, 1):
        slide, outlines = write_slide(root, phantom, patient, grid=4)
        slide.rename(root / ("good.tif", "bad.tif")[patient])
        outlines.rename(root / ("good.xml", "bad.xml")[patient])
    return {"root": str(root), "mpp": 2.0, "tile_px": 16, "min_tissue": 0.1, "annotations": str(root)}


RGB = np.stack(list(HU.astype(np.uint8)), -1)
DEEP = (HU[0] + 1000).astype(np.uint16) * 32
STEM = "camelyonpatch_level_2_split_train"
FORMATS = {
    "dicom": Format(CTDicom, _dicom, "bad.dcm"),
    "dicom_implicit": Format(CTDicom, lambda root: _dicom(root, uid.ImplicitVRLittleEndian), "bad.dcm"),
    "dicom_deflated": Format(CTDicom, lambda root: _dicom(root, uid.DeflatedExplicitVRLittleEndian), "bad.dcm"),
    "dicom_rle": Format(CTDicom, lambda root: _dicom(root, uid.RLELossless), "bad.dcm"),
    "dicom_jpeg": Format(CTDicom, lambda root: _dicom(root, uid.JPEGLosslessSV1), "bad.dcm"),
    "dicom_jpeg_ls": Format(CTDicom, lambda root: _dicom(root, uid.JPEGLSLossless), "bad.dcm"),
    "dicom_jpeg_2000": Format(CTDicom, lambda root: _dicom(root, uid.JPEG2000Lossless), "bad.dcm"),
    "dicom_enhanced": Format(CTDicom, _enhanced, "bad.dcm"),
    "lidc_xml": Format(LIDC, _lidc, "bad.xml"),
    "nifti": Format(CTNifti, _nifti, "bad.nii"),
    "nifti_gz": Format(CTNifti, lambda root: _nifti(root, "bad.nii.gz"), "bad.nii.gz"),
    "png": Format(ImageFolder, lambda root: _picture(root, "bad.png", RGB), "bad.png"),
    "png_16": Format(ImageFolder, lambda root: _picture(root, "bad.png", DEEP), "bad.png"),
    "jpeg": Format(ImageFolder, lambda root: _picture(root, "bad.jpg", RGB), "bad.jpg"),
    "tiff": Format(ImageFolder, lambda root: _picture(root, "bad.tif", DEEP), "bad.tif"),
    "bmp": Format(ImageFolder, lambda root: _picture(root, "bad.bmp", RGB), "bad.bmp"),
    "csv": Format(ImageFolder, lambda root: _picture(root, "bad.png", RGB), "labels.csv", alone=True),
    "medmnist": Format(MedMNIST, _medmnist, "bad.npz", alone=True),
    "medmnist_stored": Format(MedMNIST, lambda root: _medmnist(root, np.savez), "bad.npz", alone=True),
    "pcam_tiles": Format(PatchCamelyon, _pcam, f"{STEM}_x.h5", alone=True),
    "pcam_labels": Format(PatchCamelyon, _pcam, f"{STEM}_y.h5", alone=True),
    "pcam_csv": Format(PatchCamelyon, _pcam, f"{STEM}_meta.csv", alone=True),
    "slide": Format(Slides, _slide, "bad.tif", alone=True),
    "asap_xml": Format(Slides, _slide, "bad.xml", alone=True),
}


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one change, most often near its beginning, where headers are."""

    def place() -> int:
        return int(len(content) * rng.random() ** 3)

    at, length = place(), int(1 + 64 * rng.random() ** 2)
    kind = rng.integers(8)
    if kind in (0, 1):
        changed = np.frombuffer(content, np.uint8).copy()
        where = [place() for _ in range(1 + int(len(content) * 0.05 * kind * rng.random()))]
        changed[where] ^= rng.integers(1, 256, len(where)).astype(np.uint8)
        return bytes(changed)
    if kind == 2:
        return content[: int(len(content) * rng.random())]
    if kind == 3:
        return content[:at] + content[at + length :]
    if kind == 4:  # a block twice, or a foreign one
        block = content[at : at + length] if rng.random() < 0.5 else rng.bytes(length)
        return content[:at] + block + content[at:]
    if kind == 5:
        return content[:at] + bytes([255 * rng.integers(2)]) * length + content[at + length :]
    if kind == 6:
        number = EXTREME[rng.integers(len(EXTREME))][: 1 << rng.integers(1, 4)]
        return content[:at] + number + content[at + len(number) :]
    return content[:at] + content[place() :]  # its beginning and an end from elsewhere


def write(name: str, number: int, folder: Path) -> dict[str, Any]:
    """The data set of a format with its `number`-th damage, below an empty folder; the source's arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = FORMATS[name].make(folder)
    damage(folder / FORMATS[name].damaged, (folder / FORMATS[name].damaged).read_bytes(), name, number)
    return arguments


def damage(path: Path, content: bytes, name: str, number: int) -> None:
    path.write_bytes(mutated(content, np.random.default_rng([zlib.crc32(name.encode()), number])))


def run(name: str, numbers: range, folder: Path) -> None:
    """Run the program on the damaged files, in a process of its own: it ends by SIGALRM where one takes too long.

    Writes beside each other what number is at work, and a line for each fault.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries and the list of damaged files
    kind, root, out = FORMATS[name], folder / "data", folder / "out"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    arguments = kind.make(root)
    whole = (root / kind.damaged).read_bytes()
    assert outcome(kind.source, arguments, out) == ""  # and all is imported before memory is looked at
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        (folder / "at").write_text(str(number))
        damage(root / kind.damaged, whole, name, number)
        signal.alarm(SECONDS)
        said = outcome(kind.source, arguments, out)
        signal.alarm(0)
        if said in ("", "UserError") and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base > BYTES >> 10:
            said = "more than 1 GB"
            base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if said and not (said == "UserError" and kind.alone):
            with open(folder / "faults", "a") as file:
                file.write(json.dumps([name, number, said]) + "\n")


def outcome(source: Callable[..., SliceSource], arguments: dict[str, Any], out: Path) -> str:
    """What the program made of a data set: "" where it has slices, else the name of what was raised."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        made = source(**arguments)
        made.fingerprint()
        made.expected()
        prepare(made, Preparation(8, None, 1.0, "salt", 1), out)
    except UserError:
        return "UserError"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return ""
