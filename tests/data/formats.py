"""A small data set of every format that medlat reads images from, and which of its files is to be damaged."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import tifffile
from damage import Format
from data.dicom_files import write_enhanced, write_slice
from data.gdcm_files import write_compressed
from data.volume_files import write_meta, write_nrrd
from monai.transforms import LoadImaged
from PIL import Image
from pydicom import uid

from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.lidc import LIDC
from medlat.data.ct.volumes import CTVolumes
from medlat.data.histology.pcam import PatchCamelyon
from medlat.data.histology.slides import Slides
from medlat.data.image_store import Preparation, prepare
from medlat.data.modality import CT
from medlat.data.monai.source import MonaiDatalist
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.medmnist import MedMNIST
from medlat.data.source import SliceSource
from medlat.phantoms.histology.export import write_slide
from medlat.phantoms.histology.source import HistologyPhantom

HU = np.random.default_rng(0).integers(-1000, 1000, (3, 16, 16))


def _prepared(source: Callable[..., SliceSource], arguments: dict[str, Any], out: Path) -> None:
    made = source(**arguments)
    made.fingerprint()
    made.expected()
    prepare(made, Preparation(8, None, 1.0, "salt", 1), out)


def _dicom(root: Path, syntax: str = uid.ExplicitVRLittleEndian) -> dict[str, Any]:
    write_slice(root / "good.dcm", HU[0])
    write = write_slice if syntax in (uid.RLELossless, *uid.UncompressedTransferSyntaxes) else write_compressed
    write(root / "bad.dcm", HU[1], syntax, ImagePositionPatient=[0, 0, 1], SOPInstanceUID="2.25.8")
    return {"root": str(root)}


def _enhanced(root: Path) -> dict[str, Any]:
    _dicom(root)
    write_enhanced(root / "bad.dcm", HU, [1, 2, 3], [-1024, -1000, 0], SOPInstanceUID="2.25.8")
    return {"root": str(root)}


def _bare(root: Path, syntax: str) -> dict[str, Any]:
    """A file without the DICOM prefix; of one syntax without a word on how it is written, either."""
    _dicom(root, syntax)
    content = (root / "bad.dcm").read_bytes()[132:]
    (root / "bad.dcm").write_bytes(content if syntax != uid.ImplicitVRLittleEndian else content[content.index(CLASS) :])
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


def _nifti_pair(root: Path) -> dict[str, Any]:
    nibabel.save(nibabel.Nifti1Pair(HU.T.astype(np.int16), np.diag([1.0, 1.5, 3.0, 1.0])), root / "bad.hdr")
    return _nifti(root, "other.nii")


def _volume(name: str, write: Callable[..., Path], root: Path) -> dict[str, Any]:
    write(root / name, HU.T.astype(np.int16), packed=True)
    return _nifti(root, "other.nii")


def _datalist(root: Path) -> dict[str, Any]:
    _nifti(root, "bad.nii.gz")
    items = [{"image": name, "label": i, "group": f"p{i}"} for i, name in enumerate(("good.nii", "bad.nii.gz"))]
    (root / "dataset.json").write_text(json.dumps({"training": items}))
    keys = {"label_key": "label", "group_key": "group"}
    return {"datalist": str(root / "dataset.json"), "transform": _loaded, "modality": CT} | keys


def _loaded(item: dict) -> dict:
    return LoadImaged(keys="image", ensure_channel_first=True)(item)


def _picture(root: Path, name: str, pixels: np.ndarray) -> dict[str, Any]:
    Image.fromarray(HU[2].astype(np.uint8)).save(root / "good.png")
    Image.fromarray(pixels).save(root / name)
    (root / "labels.csv").write_text(f"path,label,group\ngood.png,a,1\n{name},b,2\n")
    return {"root": str(root), "colour": pixels.ndim == 3}


def _tiff(root: Path, pixels: np.ndarray) -> dict[str, Any]:
    """WhiteIsZero, whatever the numbers."""
    found = _picture(root, "bad.tif", DEEP)
    tifffile.imwrite(root / "bad.tif", pixels, photometric="miniswhite")
    return found | {"white": 65535.0}


def _radiograph(root: Path, **tags: object) -> dict[str, Any]:
    """One that no row of a CSV names."""
    write_slice(root / "good.dcm", HU[0], Modality="DX", WindowCenter=0, WindowWidth=2000)
    marks = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": -2000, "SOPInstanceUID": "2.25.8"}
    marks |= {"BitsStored": 12, "HighBit": 11}
    write_slice(root / "bad.dcm", HU[1], Modality="DX", **(marks | tags))
    return {"root": str(root), "labels": None, "colour": False}


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


def _resolutions(root: Path) -> dict[str, Any]:
    (root / "mpp.csv").write_text("slide,mpp\ngood,1.0\nbad.tif,1.0\n")
    return _slide(root) | {"mpp_table": "mpp.csv"}


CLASS = b"\x08\x00\x08\x00"  # the tag of ImageType, the first of an implicit data set here
RGB = np.stack(list(HU.astype(np.uint8)), -1)
DEEP = (HU[0] + 1000).astype(np.uint16) * 32
STEM = "camelyonpatch_level_2_split_train"
DICOM, VOLUMES, PICTURES, ARRAYS, TILES, SLIDES, LISTS = (
    partial(_prepared, source)
    for source in (CTDicom, CTVolumes, ImageFolder, MedMNIST, PatchCamelyon, Slides, MonaiDatalist)
)
IMAGES = {
    "dicom": Format(DICOM, _dicom, "bad.dcm"),
    "dicom_implicit": Format(
        partial(_prepared, CTDicom), lambda root: _dicom(root, uid.ImplicitVRLittleEndian), "bad.dcm"
    ),
    "dicom_deflated": Format(
        partial(_prepared, CTDicom), lambda root: _dicom(root, uid.DeflatedExplicitVRLittleEndian), "bad.dcm"
    ),
    "dicom_rle": Format(DICOM, lambda root: _dicom(root, uid.RLELossless), "bad.dcm"),
    "dicom_jpeg": Format(DICOM, lambda root: _dicom(root, uid.JPEGLosslessSV1), "bad.dcm"),
    "dicom_jpeg_ls": Format(DICOM, lambda root: _dicom(root, uid.JPEGLSLossless), "bad.dcm"),
    "dicom_jpeg_2000": Format(DICOM, lambda root: _dicom(root, uid.JPEG2000Lossless), "bad.dcm"),
    "dicom_enhanced": Format(DICOM, _enhanced, "bad.dcm"),
    "dicom_bare": Format(DICOM, lambda root: _bare(root, uid.ExplicitVRLittleEndian), "bad.dcm"),
    "dicom_bare_implicit": Format(DICOM, lambda root: _bare(root, uid.ImplicitVRLittleEndian), "bad.dcm"),
    "lidc_xml": Format(partial(_prepared, LIDC), _lidc, "bad.xml"),
    "nifti": Format(VOLUMES, _nifti, "bad.nii"),
    "nifti_gz": Format(VOLUMES, lambda root: _nifti(root, "bad.nii.gz"), "bad.nii.gz"),
    "mha": Format(VOLUMES, partial(_volume, "bad.mha", write_meta), "bad.mha"),
    "mhd": Format(VOLUMES, partial(_volume, "bad.mhd", write_meta), "bad.mhd"),
    "mhd_values": Format(VOLUMES, partial(_volume, "bad.mhd", write_meta), "bad.zraw"),
    "nrrd": Format(VOLUMES, partial(_volume, "bad.nrrd", write_nrrd), "bad.nrrd"),
    "nhdr": Format(VOLUMES, partial(_volume, "bad.nhdr", write_nrrd), "bad.nhdr"),
    "nhdr_values": Format(VOLUMES, partial(_volume, "bad.nhdr", write_nrrd), "bad.raw.gz"),
    "nifti_pair": Format(VOLUMES, _nifti_pair, "bad.hdr"),
    "datalist": Format(LISTS, _datalist, "dataset.json", alone=True),
    "datalist_volume": Format(LISTS, _datalist, "bad.nii.gz"),
    "png": Format(PICTURES, lambda root: _picture(root, "bad.png", RGB), "bad.png"),
    "png_16": Format(PICTURES, lambda root: _picture(root, "bad.png", DEEP), "bad.png"),
    "jpeg": Format(PICTURES, lambda root: _picture(root, "bad.jpg", RGB), "bad.jpg"),
    "tiff": Format(PICTURES, lambda root: _picture(root, "bad.tif", DEEP), "bad.tif"),
    "tiff_white_is_zero": Format(PICTURES, lambda root: _tiff(root, DEEP), "bad.tif"),
    "tiff_float": Format(PICTURES, lambda root: _tiff(root, DEEP.astype(np.float32)), "bad.tif"),
    "radiograph": Format(PICTURES, lambda root: _radiograph(root, WindowCenter=100, WindowWidth=500), "bad.dcm"),
    "radiograph_unwindowed": Format(PICTURES, _radiograph, "bad.dcm"),
    "gif": Format(PICTURES, lambda root: _picture(root, "bad.gif", RGB[..., 0]), "bad.gif"),
    "webp": Format(PICTURES, lambda root: _picture(root, "bad.webp", RGB), "bad.webp"),
    "jpeg_2000": Format(PICTURES, lambda root: _picture(root, "bad.jp2", RGB), "bad.jp2"),
    "bmp": Format(PICTURES, lambda root: _picture(root, "bad.bmp", RGB), "bad.bmp"),
    "csv": Format(
        partial(_prepared, ImageFolder), lambda root: _picture(root, "bad.png", RGB), "labels.csv", alone=True
    ),
    "medmnist": Format(ARRAYS, _medmnist, "bad.npz", alone=True),
    "medmnist_stored": Format(
        partial(_prepared, MedMNIST), lambda root: _medmnist(root, np.savez), "bad.npz", alone=True
    ),
    "pcam_tiles": Format(TILES, _pcam, f"{STEM}_x.h5", alone=True),
    "pcam_labels": Format(TILES, _pcam, f"{STEM}_y.h5", alone=True),
    "pcam_csv": Format(TILES, _pcam, f"{STEM}_meta.csv", alone=True),
    "slide": Format(SLIDES, _slide, "bad.tif", alone=True),
    "slide_csv": Format(SLIDES, _resolutions, "mpp.csv", alone=True),
    "asap_xml": Format(SLIDES, _slide, "bad.xml", alone=True),
}
