"""Small real DICOM files for tests, data sets full of planted identities, and reading them back."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from medlat.data.ct.dicom import CTDicom
from medlat.data.source import Damaged, Scan, Slice

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
PLANTED_VRS = ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "AE", "DA", "DT", "TM", "UI")
NOT_PLANTED = ("SOPClassUID", "RescaleType", "ModalityLUTType")  # a reader acts on these


def scan(root: Path, **arguments: float) -> Scan:
    """What CTDicom finds below the root."""
    return CTDicom(str(root), **arguments).scan(lambda f, items, description: map(f, items))


def read(root: Path) -> list[Slice | Damaged]:
    """All that CTDicom reads below the root; chunks are pickled on the way as they are for workers."""
    source = CTDicom(str(root))
    return [one for chunk in scan(root).chunks for one in source.read(pickle.loads(pickle.dumps(chunk)))]


def positions(root: Path) -> list[float]:
    return [float(z) for chunk in scan(root).chunks for z in chunk.columns["position_mm"]]


def ct_dataset(hu: np.ndarray | None = None, **tags: object) -> Dataset:
    """A valid axial CT slice of 16² pixels of 1 mm, head first supine, of patient "P1" in study 2.25.1, series 2.25.2.

    hu:   [H, W] whole Hounsfield units, stored by the slope and intercept (1 and -1024 unless given in `tags`).
    tags: DICOM keywords to set; None removes the element.
    """
    hu = np.zeros((16, 16)) if hu is None else hu
    slope = float(tags.get("RescaleSlope") or 1)
    intercept = -1024.0 if tags.get("RescaleIntercept") is None else float(tags["RescaleIntercept"])
    stored = np.round((hu - intercept) / slope).astype(np.int16)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientID, dataset.PatientName = "P1", "Test^Patient"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.InstanceNumber = "2.25.1", "2.25.2", 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 1
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.PixelData = stored.tobytes()
    return with_tags(dataset, tags)


def with_tags(dataset: Dataset, tags: dict[str, object]) -> Dataset:
    """Set the elements named by keyword; None removes."""
    for name, value in tags.items():
        if value is not None:
            setattr(dataset, name, value)
        elif name in dataset:
            delattr(dataset, name)
    return dataset


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a DICOM file in a native syntax, RLE, or, with what bytes the pixel data has, any other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif syntax not in NATIVE:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    if UID(syntax).is_transfer_syntax:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return path


def write_slice(path: Path, hu: np.ndarray | None = None, syntax: str = ExplicitVRLittleEndian, **tags: object) -> Path:
    """`ct_dataset` written to a file; folders are made."""
    return save(ct_dataset(hu, **tags), path, syntax)


def write_enhanced(
    path: Path, hu: np.ndarray, z: list[float], intercepts: list[float], syntax: str = ExplicitVRLittleEndian, **tags
) -> Path:
    """One enhanced CT file of several frames: hu [N, H, W], each frame with its own position and intercept."""
    dataset = ct_dataset(hu[0], SOPClassUID=EnhancedCTImageStorage)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, name)
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([with_tags(Dataset(), {"PixelSpacing": [2, 3]})])
    shared.PlaneOrientationSequence = Sequence(
        [with_tags(Dataset(), {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]})]
    )
    frames = []
    for height, intercept in zip(z, intercepts, strict=True):
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([with_tags(Dataset(), {"ImagePositionPatient": [0, 0, height]})])
        values = {"RescaleSlope": 1, "RescaleIntercept": intercept}
        frame.PixelValueTransformationSequence = Sequence([with_tags(Dataset(), values)])
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = Sequence([shared]), frames
    dataset.NumberOfFrames = len(z)
    dataset.PixelData = np.round(hu - np.reshape(intercepts, (-1, 1, 1))).astype(np.int16).tobytes()
    return save(with_tags(dataset, tags), path, syntax)


def plant_identity(dataset: Dataset, marker: str) -> list[bytes]:
    """Plant a marker in every attribute that can hold the text of a person, an institution or an identity.

    That is every attribute in pydicom's data dictionary of the types in PLANTED_VRS, private ones included, all of it
    once more inside a sequence. Only what a reader acts on keeps its value. Patients and slices stay distinct.

    marker: unique, of at least 12 letters and digits, e.g. uuid4().hex.
    Returns the byte strings to search outputs for: each planted value contains one of them.
    """
    digest = int(hashlib.sha256(marker.encode()).hexdigest(), 16)
    text, date = marker[:12], f"17{digest % 90 + 10:02d}1027"
    time, uid = f"2359{digest % 60:02d}.{digest % 10**6:06d}", f"2.25.{10**29 + digest % 10**29}"
    values = {
        **dict.fromkeys(("LO", "SH", "AE", "LT", "ST", "UT", "UC"), text),
        "PN": f"{text}^{text}",
        "UR": f"http://{text}.org",
        "DA": date,
        "DT": date + time,
        "TM": time,
        "UI": uid,
    }
    kept = {name: str(dataset.get(name, "")) for name in ("PatientID", "SeriesInstanceUID", "SOPInstanceUID")}
    nested = Dataset()
    for target in (dataset, nested):
        for tag, (vr, *_) in DicomDictionary.items():
            name = keyword_for_tag(tag)
            if vr in PLANTED_VRS and 0x0008 <= tag >> 16 < 0x7FE0 and name and name not in NOT_PLANTED:
                target.add_new(tag, vr, values[vr])
        private = target.private_block(0x0011, text, create=True)
        for number, vr in enumerate(("LO", "UT", "PN", "DA", "UI")):
            private.add_new(number, vr, values[vr])
        private.add_new(0x10, "UN", marker.encode())
    dataset.OtherPatientIDsSequence = Sequence([nested])
    dataset.PatientID = f"{text}-{kept['PatientID']}"
    dataset.SeriesInstanceUID = f"{uid}.{kept['SeriesInstanceUID'].split('.')[-1]}"
    number = int(kept["SOPInstanceUID"].split(".")[-1]) % 10**18
    dataset.SOPInstanceUID = f"{uid}.{number}"
    return [value.encode() for value in (text, date, time, uid)]
