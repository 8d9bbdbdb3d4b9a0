"""What the header of one DICOM file says: is it an axial CT slice, whose, where does it lie, how is it decoded.

Nothing that a tag says leaves this module but the identities in `Found`, numbers, and reasons taken from fixed words:
pydicom's own errors and warnings quote values, so they are silenced and replaced.
"""

import logging
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from medlat.data.ct.dicom_start import DEFLATED, inflates_too_far, not_dicom, says_dicom
from medlat.data.ct.plausible import scaling_problem, size_problem, spacing_problem
from medlat.data.modality import CT
from medlat.data.source import Damaged

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CT_CLASSES = {  # CT image, enhanced CT image, legacy converted enhanced CT image
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
OTHER_MODALITIES = (
    *("CR", "DOC", "DX", "ECG", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "REG", "RF", "RTDOSE", "RTIMAGE", "RTPLAN"),
    *("RTRECORD", "RTSTRUCT", "SC", "SEG", "SM", "SR", "US", "XA"),
)
HOUNSFIELD = {"", "HU", "HU_MOD", "US"}  # RescaleType; US is "unspecified"
# Words in the ImageType of what was computed of CT images and is none: blood flow and volume, times, effective atomic
# number, shares of materials. Images that such maps are computed of may have the same words, and are ORIGINAL.
MAPS = {"PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "RMTT", "TTP", "RTTP", "TTD", "TMAX", "PBV"}
MAPS |= {"EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "QUANTITY", "STD_DEVIATION", "DIVISION", "MULTIPLICATION"}
MAPS |= {"MAT_FRACTIONAL", "MAT_VALUE_BASED", "MAT_SPECIFIC", "PROPORTIONAL_MAP"}
CODECS = "pip install python-gdcm"

IDENTITY_TAGS = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
KIND_TAGS = ["SOPClassUID", "Modality", "ImageType", "RescaleType", "SamplesPerPixel", "PhotometricInterpretation"]
KIND_TAGS += ["PixelPresentation"]
PLACE_TAGS = ["ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "InstanceNumber", "PixelSpacing"]
VALUE_TAGS = ["RescaleSlope", "RescaleIntercept", "PixelRepresentation", "BitsAllocated"]
PADDING_TAGS = ["PixelPaddingValue", "PixelPaddingRangeLimit"]
SIZE_TAGS = ["Rows", "Columns"]
FRAME_TAGS = ["NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
FRAME_MACROS = [  # of the functional groups, those that hold the tags above
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
]


class Turn(NamedTuple):
    """How stored pixels are turned so that row 0 is anterior and column 0 the patient's right: transpose, then flip."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W] -> a contiguous [H, W] or [W, H]."""
        pixels = pixels.T if self.transpose else pixels
        pixels = pixels[::-1] if self.flip_rows else pixels
        return np.ascontiguousarray(pixels[:, ::-1] if self.flip_columns else pixels)


class Frame(NamedTuple):
    """All that is needed to read one slice.

    number:           of the frame in its file; 0 in a file with one.
    spacing_mm:       between rows and between columns, after the turn.
    slope, intercept: HU = stored · slope + intercept.
    padding:          lowest and highest of the stored values that mean "outside", where they lie above the range of CT.
    """

    path: str
    number: int
    syntax: str
    turn: Turn
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float
    padding: tuple[int, int] | None


class Found(NamedTuple):
    """A slice and where it belongs.

    positions: candidates for the place along the patient axis, best first, nan where not known: mm from position and
               orientation, SliceLocation, InstanceNumber.
    """

    patient: str
    study: str
    series: str
    instance: str
    size: int
    positions: tuple[float, float, float]
    frame: Frame


def read_header(path: str, max_tilt_deg: float) -> list[Found | Damaged | str]:
    """One entry per slice of the file: found, damaged, or the reason why it is not meant to be read."""
    start = b""
    try:
        with quiet(), open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(132)
            if problem := not_dicom(path, start, size):
                return [problem]
            if inflates_too_far(file, start):
                return [Damaged(path, "inflates to more than 256 MB")]
            file.seek(0)
            dataset, contents = _read_tags(file, size)
            reason = _not_wanted(dataset)
            if contents == "truncated" and reason in (None, "not CT"):
                return [Damaged(path, contents) if says_dicom(path, start) else "not DICOM"]
            if reason or contents == "no pixel data":
                return [reason or contents]
            return list(_frames(path, dataset, size, max_tilt_deg))
    except PermissionError:
        return [Damaged(path, "permission denied")]
    except Exception:  # whatever pydicom meets in a broken file; its message may quote tags
        return [Damaged(path, "unreadable header") if says_dicom(path, start) else "not DICOM"]


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom's warnings and log lines quote tag values, which must not reach a terminal or a log."""
    from pydicom.config import disable_value_validation

    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def codec_problem(syntax: str) -> str | None:
    """Why a transfer syntax cannot be decoded with what is installed, or None where it can."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        return "unknown transfer syntax"
    if decoder.is_available:
        return None
    needs = CODECS if codec_missing(syntax) else "; ".join(decoder.missing_dependencies)
    return f"{UID(syntax).name}: no codec, {needs}"


def codec_missing(syntax: str) -> bool:
    """Whether the codecs extra is not installed and would decode (more of) this known transfer syntax."""
    from pydicom.pixels import get_decoder

    return any("gdcm" in needs for needs in get_decoder(syntax).missing_dependencies)


def _read_tags(file: Any, size: int) -> tuple["Dataset", Literal["whole", "truncated", "no pixel data"]]:
    """The tags we use, and what the file holds beside, as far as it shows without reading the pixels."""
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    end, at_pixels = 0, False

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal end, at_pixels
        end = file.tell() + length if length != 0xFFFFFFFF else 0
        at_pixels = tag >> 16 == 0x7FE0
        return at_pixels

    names = IDENTITY_TAGS + KIND_TAGS + PLACE_TAGS + VALUE_TAGS + PADDING_TAGS + SIZE_TAGS + FRAME_TAGS
    dataset = read_partial(file, stop_when=stop, specific_tags=[Tag(name) for name in names], force=True)
    # a deflated file is unpacked in memory, so that the end of its elements says nothing about the file
    if (end > size and _syntax(dataset) != DEFLATED) or not (dataset or dataset.file_meta):
        return dataset, "truncated"
    return dataset, "whole" if at_pixels else "no pixel data"


def _not_wanted(dataset: "Dataset") -> str | None:
    """Why a data set is not a CT slice in Hounsfield units, judged by tags of the whole file."""
    sop_class = _text(dataset, "SOPClassUID") or _text(dataset.file_meta, "MediaStorageSOPClassUID")
    modality = _text(dataset, "Modality").upper()
    if sop_class == SECONDARY_CAPTURE or sop_class.startswith(SECONDARY_CAPTURE + "."):
        return "secondary capture"
    if sop_class not in CT_CLASSES and modality != "CT":
        return f"not CT ({modality})" if modality in OTHER_MODALITIES else "not CT"
    if _text(dataset, "RescaleType").upper() not in HOUNSFIELD:
        return "not in Hounsfield units"
    photometric = _text(dataset, "PhotometricInterpretation").upper() or "MONOCHROME2"
    if (_integer(dataset, "SamplesPerPixel") or 1) > 1 or not photometric.startswith("MONOCHROME"):
        return "colour image"
    return _not_wanted_type(dataset)


def _not_wanted_type(tags: "Dataset") -> str | None:
    """By ImageType (of a frame its FrameType) and PixelPresentation, of the whole file or a frame."""
    image_type = _text(tags, "ImageType").upper()
    if "LOCALIZER" in image_type:
        return "localizer"
    if "SCREEN SAVE" in image_type:
        return "secondary capture"
    words = set(re.findall(r"\w+", image_type))
    coloured = _text(tags, "PixelPresentation").upper() in ("COLOR", "TRUE_COLOR")
    return "not in Hounsfield units" if coloured or ("DERIVED" in words and words & MAPS) else None


def _frames(path: str, dataset: "Dataset", size: int, max_tilt_deg: float) -> Iterator[Found | Damaged | str]:
    """Each frame of the file; a frame of an enhanced object has its attributes in the functional groups."""
    syntax = _syntax(dataset)
    if problem := codec_problem(syntax):
        yield Damaged(path, problem)
        return
    count = _integer(dataset, "NumberOfFrames") or 1
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not groups and count == 1:
        yield _found(path, dataset, size, syntax, 0, max_tilt_deg)
    elif len(groups) != count:
        yield "several frames without their positions"
    else:
        shared = dataset.get("SharedFunctionalGroupsSequence") or []
        del dataset.PerFrameFunctionalGroupsSequence
        for index, group in enumerate(groups):
            yield _found(path, _flat(dataset, [*shared, group]), size, syntax, index, max_tilt_deg)


def _flat(dataset: "Dataset", groups: list["Dataset"]) -> "Dataset":
    """The file's tags with those of a frame's functional groups, later groups winning."""
    from pydicom.dataset import Dataset

    flat = Dataset()
    flat.update(dataset)
    for group in groups:
        for macro in FRAME_MACROS:
            if group.get(macro):
                flat.update(group[macro].value[0])
        if group.get("CTImageFrameTypeSequence"):
            kind = group.CTImageFrameTypeSequence[0]
            flat.ImageType = kind.get("FrameType", "")
            flat.PixelPresentation = kind.get("PixelPresentation", "")
    return flat


def _found(
    path: str, tags: "Dataset", size: int, syntax: str, index: int, max_tilt_deg: float
) -> Found | Damaged | str:
    """A slice from its tags, with the fallbacks that `CTDicom` documents."""
    if reason := _not_wanted_type(tags):
        return reason
    across, down, normal = _axes(_numbers(tags, "ImageOrientationPatient", 6))
    if abs(normal[2]) < math.cos(math.radians(max_tilt_deg)):
        return "not axial"
    spacing = _numbers(tags, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        return Damaged(path, "no pixel spacing")
    corner = _numbers(tags, "ImagePositionPatient", 3)
    along = math.nan if corner is None else float(np.dot(corner, normal))
    location = _numbers(tags, "SliceLocation", 1) or (math.nan,)
    number = _numbers(tags, "InstanceNumber", 1) or (math.nan,)
    turn = _turn(across, down)
    spacing_mm = (spacing[1], spacing[0]) if turn.transpose else (spacing[0], spacing[1])
    scaling = _rescale(tags)
    size_tags = (_integer(tags, name) or 0 for name in SIZE_TAGS)
    problem = spacing_problem(spacing_mm) or size_problem(*size_tags)
    if problem or isinstance(scaling, str):
        return Damaged(path, problem or str(scaling))
    frame = Frame(path, index, syntax, turn, spacing_mm, *scaling, _padding(tags, *scaling))
    patient, study, series, instance = (_text(tags, name) for name in IDENTITY_TAGS)
    return Found(patient, study, series, instance, size, (along, location[0], number[0] + index), frame)


def _axes(orientation: tuple[float, ...] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (LPS) along a row, along a column, and along the normal towards the head.

    Missing or degenerate orientation counts as the usual one: rows to the patient's left, columns to the back.
    """
    across, down = np.reshape(orientation or (1, 0, 0, 0, 1, 0), (2, 3)).astype(float)
    normal = np.cross(across, down)
    length = np.linalg.norm(normal)
    if length < 1e-3:
        return _axes(None)
    return across, down, normal / length * (-1.0 if normal[2] < 0 else 1.0)


def _turn(across: np.ndarray, down: np.ndarray) -> Turn:
    """From the directions (LPS) in which columns and rows count up, to the nearest quarter turn."""
    transpose = bool(abs(across[0]) + abs(down[1]) < abs(across[1]) + abs(down[0]))
    if transpose:
        across, down = down, across
    return Turn(transpose, flip_rows=bool(down[1] < 0), flip_columns=bool(across[0] < 0))


def _rescale(tags: "Dataset") -> tuple[float, float] | str:
    """Slope and intercept, with their fallbacks where they are missing; what is wrong where they are there and mean
    nothing.
    """
    signed = _integer(tags, "PixelRepresentation") == 1
    values = []
    for name, words, missing in (
        ("RescaleSlope", "slope", 1.0),
        ("RescaleIntercept", "intercept", 0.0 if signed else -1024.0),
    ):
        number = _numbers(tags, name, 1)
        if number is None and _is_filled(tags, name):
            return f"rescale {words} is no finite number"
        values.append(missing if number is None else number[0])
    slope, intercept = values
    return scaling_problem(slope, intercept, _integer(tags, "BitsAllocated") or 16) or (slope, intercept)


def _is_filled(tags: "Dataset", name: str) -> bool:
    """Whether a tag is there and not empty, whatever it holds."""
    value = tags.get_item(name).value if name in tags else None
    return bool(value.strip(b" \0") if isinstance(value, bytes) else str(value or "").strip())


def _padding(tags: "Dataset", slope: float, intercept: float) -> tuple[int, int] | None:
    """The range from PixelPaddingValue to PixelPaddingRangeLimit (without that, the one value), where it lies above the
    range of CT.

    Below that range every value becomes air anyway, and inside it scanners and converters often declare a value that
    tissue has too (0 in an image stored as HU would turn water into air).
    """
    found = [value for name in PADDING_TAGS if (value := _integer(tags, name)) is not None]
    if "PixelPaddingValue" not in tags or not found:
        return None
    bits = _integer(tags, "BitsAllocated") or 16
    if _integer(tags, "PixelRepresentation") == 1:  # some scanners write them as unsigned
        found = [value - (1 << bits) if value >= 1 << (bits - 1) else value for value in found]
    low, high = min(found), max(found)
    return (low, high) if min(low * slope, high * slope) + intercept > CT.high else None


def _syntax(dataset: "Dataset") -> str:
    """The transfer syntax; where the file does not say, the uncompressed one in which its header could be read."""
    if syntax := _text(dataset.file_meta, "TransferSyntaxUID"):
        return syntax
    implicit, little = dataset.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _text(tags: "Dataset", name: str) -> str:
    """A tag's text without surrounding blanks; several values as pydicom joins them; "" where missing."""
    value = tags.get(name)
    return "" if value is None else str(value).strip(" \0")


def _numbers(tags: "Dataset", name: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None where missing, of another count or no numbers."""
    try:
        values = tuple(float(value) for value in np.atleast_1d(np.asarray(tags.get(name), dtype=float)))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _integer(tags: "Dataset", name: str) -> int | None:
    values = _numbers(tags, name, 1)
    return None if values is None else int(values[0])
