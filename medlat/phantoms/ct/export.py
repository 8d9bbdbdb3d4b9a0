"""Phantom patients as files: DICOM series and NIfTI volumes, so that the readers of real files can be tried on them."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medlat.core.errors import UserError
from medlat.core.progress import track
from medlat.data.source import Chunk, Slice
from medlat.phantoms.ct.source import CTPhantom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SLOPE, INTERCEPT = 1.0, -1024.0


def write_dicom_series(folder: Path | str, source: CTPhantom, patients: int | None = None, **dicom: Any) -> list[Path]:
    """One axial CT series a patient: `<folder>/<patient>/0001.dcm`, ... from feet to head; returns the files.

    Head first supine, int16 with rescale slope and intercept, explicit little endian. All identities are invented, and
    the same source gives the same UIDs.

    patients: how many of the source's patients, the first ones; None is all of them.
    dicom:    elements to set in every file, by keyword (`PatientID="X"`, `RescaleSlope=2.0`); None removes one.
    Raises UserError where the source has fewer patients, or for a keyword that DICOM does not have.
    """
    from pydicom.datadict import tag_for_keyword

    for keyword in dicom:
        if tag_for_keyword(keyword) is None:
            raise UserError(f"'{keyword}' is no DICOM keyword; expected one like 'PatientID' or 'RescaleSlope'")
    written = []
    for chunk in _chunks(source, patients, "writing DICOM series"):
        place = Path(folder) / chunk.patient
        place.mkdir(parents=True, exist_ok=True)
        for number, (position, image) in enumerate(_feet_to_head(source, chunk), start=1):
            path = place / f"{number:04d}.dcm"
            _dicom_slice(source, chunk.patient, number, position, image, dicom).save_as(path, enforce_file_format=True)
            written.append(path)
    return written


def write_nifti_volumes(folder: Path | str, source: CTPhantom, patients: int | None = None) -> list[Path]:
    """One int16 volume a patient, `<folder>/<patient>.nii.gz`, axes to the right, the front and the head (RAS+).

    A volume's slices are evenly spaced and a phantom's are not quite: the affine has their mean distance.

    patients: how many of the source's patients, the first ones; None is all of them.
    Raises UserError where the source has fewer patients.
    """
    import nibabel

    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for chunk in _chunks(source, patients, "writing NIfTI volumes"):
        positions, images = zip(*_feet_to_head(source, chunk), strict=True)
        volume = np.stack([image.pixels for image in images], axis=-1)[::-1, ::-1].swapaxes(0, 1)
        between = (positions[-1] - positions[0]) / (len(positions) - 1) if len(positions) > 1 else 5.0
        rows, columns = images[0].spacing_mm
        affine = np.diag([columns, rows, between, 1.0])
        affine[:3, 3] = -columns * (volume.shape[0] - 1) / 2, -rows * (volume.shape[1] - 1) / 2, positions[0]
        written.append(Path(folder) / f"{chunk.patient}.nii.gz")
        image = nibabel.Nifti1Image(np.round(volume).astype(np.int16), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, written[-1])
    return written


def _chunks(source: CTPhantom, patients: int | None, description: str) -> Iterator[Chunk]:
    chunks = source.scan(lambda function, items, _: map(function, items)).chunks
    if patients is not None and not 0 < patients <= len(chunks):
        raise UserError(f"patients: {patients}, expected 1 to {len(chunks)}, the patients of the source")
    return track(chunks[:patients], description, total=patients or len(chunks))


def _feet_to_head(source: CTPhantom, chunk: Chunk) -> list[tuple[float, Slice]]:
    """The position in mm and the image of every slice, feet first."""
    images = [image for image in source.read(chunk) if isinstance(image, Slice)]
    return sorted(zip(chunk.columns["position_mm"].tolist(), images, strict=True), key=lambda pair: pair[0])


def _dicom_slice(
    source: CTPhantom, patient: str, number: int, position_mm: float, image: Slice, overrides: dict[str, Any]
) -> "Dataset":
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def uid(*parts: object) -> str:
        return generate_uid(entropy_srcs=[source.fingerprint(), str(source.seed), patient, *map(str, parts)])

    slice_ = Dataset()
    slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, uid("image", number)
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = uid("study"), uid("series")
    slice_.FrameOfReferenceUID, slice_.PositionReferenceIndicator = uid("frame"), ""
    _patient_and_study(slice_, patient, number)
    rows, columns = image.spacing_mm
    height, width = image.pixels.shape
    slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    corner = [-columns * (width - 1) / 2, -rows * (height - 1) / 2, position_mm]
    slice_.ImagePositionPatient = [f"{millimetres:.4f}" for millimetres in corner]
    slice_.SliceLocation, slice_.SliceThickness = f"{position_mm:.4f}", "5"
    slice_.PixelSpacing = [f"{rows:.6f}", f"{columns:.6f}"]
    slice_.RescaleSlope, slice_.RescaleIntercept, slice_.RescaleType = SLOPE, INTERCEPT, "HU"
    for keyword, value in overrides.items():
        setattr(slice_, keyword, value)
    _pixels(slice_, image.pixels)
    for keyword in [keyword for keyword, value in overrides.items() if value is None]:
        delattr(slice_, keyword)
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.file_meta.MediaStorageSOPClassUID = slice_.get("SOPClassUID", CTImageStorage)
    slice_.file_meta.MediaStorageSOPInstanceUID = slice_.get("SOPInstanceUID", uid("image", number))
    return slice_


def _patient_and_study(slice_: "Dataset", patient: str, number: int) -> None:
    """What the CT image object demands beside geometry and pixels; nothing in it is of a person."""
    day = datetime(2000, 1, 1).strftime("%Y%m%d")
    slice_.PatientID, slice_.PatientName = patient.upper(), f"{patient}^CT"
    slice_.PatientBirthDate, slice_.PatientSex = "", "O"
    slice_.StudyDate = slice_.SeriesDate = slice_.AcquisitionDate = slice_.ContentDate = day
    slice_.StudyTime = slice_.ContentTime = "120000"
    slice_.StudyID, slice_.AccessionNumber, slice_.ReferringPhysicianName = "1", "", ""
    slice_.Manufacturer, slice_.SeriesDescription = "medlat", "CT phantom, not a patient"
    slice_.Modality, slice_.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    slice_.SeriesNumber, slice_.InstanceNumber, slice_.AcquisitionNumber = 1, number, 1
    slice_.PatientPosition, slice_.KVP = "HFS", "120"


def _pixels(slice_: "Dataset", hu: np.ndarray) -> None:
    """Store HU [H, W] by the slope and intercept that the slice has, rounded, within int16."""
    slope = float(1.0 if slice_.RescaleSlope is None else slice_.RescaleSlope)
    intercept = float(0.0 if slice_.RescaleIntercept is None else slice_.RescaleIntercept)
    stored = np.clip(np.round((hu - intercept) / slope), -32768, 32767).astype("<i2")
    slice_.Rows, slice_.Columns = stored.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.PixelData = stored.tobytes()
