"""Radiographs and other single images in DICOM files, as a viewer shows them first (DICOM PS3.3 C.7.6.3, C.11).

Nothing that a tag says leaves this module but numbers, an identity, and reasons taken from fixed words.
"""

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medlat.data.ct.codestreams import WITHOUT_CLAIMS, sound_frames
from medlat.data.ct.dicom_headers import CT_CLASSES, codec_problem, quiet
from medlat.data.ct.dicom_start import DEFLATED, PREFIX, inflates_too_far, is_bare
from medlat.data.ct.plausible import spacing_problem
from medlat.data.pictures.decode import MOST_PIXELS, TOO_MANY

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

START = 132  # bytes, with the prefix
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
WITHOUT_IMAGE = {"AU", "DOC", "ECG", "KO", "PLAN", "REG", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SR"}  # modalities
DICOMDIR = "1.2.840.10008.1.3.10"
PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."  # SOP classes: greyscale, colour, blending, ...
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
UNCOMPRESSED = {(True, True): "1.2.840.10008.1.2", (False, True): "1.2.840.10008.1.2.1"}  # implicit?, little-endian?
BIG_ENDIAN = "1.2.840.10008.1.2.2"
WINDOW = ("WindowWidth", "WindowCenter")
SIZE = (("Rows", 0), ("Columns", 0), ("SamplesPerPixel", 1))  # and what is meant where not said
LEAVES_OUT = "data.source.exclude=PATTERN leaves such files out"
FARTHEST = 1e12  # beyond any window
SMALLEST_WIDTH = 1e-9  # of a window that is not LINEAR


class Header(NamedTuple):
    """Whose image a DICOM file holds: "" where it does not say; and why there is none, or None where there is."""

    patient: str
    study: str
    reason: str | None


class Shown(NamedTuple):
    """An image as a viewer shows it first.

    pixels:     [H, W, 3] uint8, or [H, W] float32 from 0, black, to 255, white.
    spacing_mm: between rows, between columns; None where the file does not say it.
    doubts:     why these may not be the values that are wanted, in fixed words, each with what to do then.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    doubts: tuple[tuple[str, str], ...] = ()


class NotAnImage(ValueError):
    """A file that is whole, and meant for something else than one image; the message says what, in fixed words."""


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """By the first bytes: the prefix, or where files lack it, a first element of the groups that they begin with."""
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except (OSError, ValueError):
        return False
    return start[128:] == PREFIX or is_bare(start)


def read_identity(path: str) -> Header:
    """Of a DICOM file. What is wrong with its pixels shows when they are read."""
    try:
        with quiet():
            tags = _opened(path, pixels=False)
            patient, study = (str(tags.get(name) or "").strip(" \0") for name in ("PatientID", "StudyInstanceUID"))
            return Header(patient, study, _other_purpose(tags))
    except Exception:  # whatever pydicom meets in a broken file; `read_dicom` says it
        return Header("", "", None)


def read_dicom(path: str, colour: bool, white: float | None = None, black: float | None = None) -> Shown:
    """The image of a file, in colours where `colour`.

    Greyscale: the modality LUT or rescale, then the first VOI LUT, or the first window, or without them all that the
    bits stored can hold; then turned about where MONOCHROME1 or an INVERSE presentation LUT shape says so (once, where
    both do). Padding is black.

    white, black: values after the rescale that are white and black, in place of the file's own VOI LUT or window.

    Raises NotAnImage where the file is meant for something else, and another ValueError, in fixed words, where there is
    no image to be had.
    """
    try:
        with quiet():
            return _read(path, colour, white, black)
    except NotAnImage:
        raise
    except _NoImage as error:
        problem = str(error)
    except FileNotFoundError:
        problem = "no such file"
    except PermissionError:
        problem = "permission denied"
    except MemoryError:
        problem = "more than fits into memory"
    except Exception:  # decoders raise anything, and their messages may quote tags
        problem = "corrupt DICOM file"
    raise ValueError(problem)


def read_unwindowed(path: str) -> tuple[np.ndarray, float, float] | None:
    """The values after the rescale, and those that count as black and white; None where the file says by a VOI LUT or a
    window what is shown, or holds colours, or cannot be read.
    """
    try:
        with quiet():
            tags = _checked(path)
            if _is_colour(tags) or tags.get("VOILUTSequence") or _has_window(tags):
                return None
            decoded = _decoded(tags)
            values, low, high = _modality(tags, decoded)
            return values[~_padding(tags, decoded)], low, high
    except Exception:  # `read_dicom` says it
        return None


class _NoImage(Exception):
    """Why there is none, in fixed words."""


def _read(path: str, colour: bool, white: float | None, black: float | None) -> Shown:
    tags = _checked(path)
    decoded = _decoded(tags)
    if _is_colour(tags):
        rgb = _rgb(tags, decoded)
        return Shown(rgb if colour else rgb.astype(np.float32) @ LUMINANCE, _spacing(tags), tuple(_doubts(tags)))
    grey = _grey(tags, decoded, white, black)
    pixels = np.rint(grey).astype(np.uint8)[:, :, None].repeat(3, 2) if colour else grey
    return Shown(pixels, _spacing(tags), tuple(_doubts(tags)))


def _other_purpose(tags: "Dataset") -> str | None:
    """What a file is meant for that is not meant to be one image, or None."""
    modality, kind = str(tags.get("Modality") or "").strip().upper(), _sop_class(tags)
    if modality == "PR" or kind.startswith(PRESENTATION_STATES):
        return "presentation state, which is not applied"
    if modality in WITHOUT_IMAGE or kind == DICOMDIR:
        return "DICOM without image"
    return "several frames in a file, where one image is expected" if int(tags.get("NumberOfFrames") or 1) > 1 else None


def _sop_class(tags: "Dataset") -> str:
    return str(tags.get("SOPClassUID") or tags.file_meta.get("MediaStorageSOPClassUID", ""))


def _doubts(tags: "Dataset") -> Iterator[tuple[str, str]]:
    """Why values may not be those that are wanted, and what to do then."""
    intent, text = (str(tags.get(n) or "").strip().upper() for n in ("PresentationIntentType", "BurnedInAnnotation"))
    if _sop_class(tags) in CT_CLASSES or tags.get("Modality") == "CT":
        yield "CT in grey levels, not in Hounsfield units", "data=ct_dicom reads Hounsfield units"
    if intent == "FOR PROCESSING":
        yield "FOR PROCESSING: raw values of a detector", LEAVES_OUT
    if text == "YES":
        yield "BurnedInAnnotation: text in the picture may name the patient", LEAVES_OUT


def _opened(path: str, pixels: bool) -> "Dataset":
    from pydicom import dcmread

    with open(path, "rb") as file:
        start = file.read(START)
        if inflates_too_far(file, start):
            raise _NoImage("inflates to more than 256 MB")
    tags = dcmread(path, stop_before_pixels=not pixels, force=start[128:] != PREFIX)
    if "TransferSyntaxUID" not in tags.file_meta:
        tags.file_meta.TransferSyntaxUID = UNCOMPRESSED.get(tags.original_encoding, BIG_ENDIAN)
    return tags


def _checked(path: str) -> "Dataset":
    """The file, once its header has been found to claim nothing that fills the memory or brings a codec down."""
    tags = _opened(path, pixels=False)
    if purpose := _other_purpose(tags):
        raise NotAnImage(purpose)
    rows, columns, samples = (int(tags.get(n) or d) for n, d in SIZE)
    if not rows or not columns:
        raise _NoImage("DICOM without an image")
    if rows * columns > MOST_PIXELS:
        raise _NoImage(TOO_MANY)
    syntax = str(tags.file_meta.TransferSyntaxUID)
    if problem := codec_problem(syntax):
        raise _NoImage(problem)
    if syntax not in WITHOUT_CLAIMS and syntax != DEFLATED and samples == 1 and sound_frames(path) < 1:
        raise _NoImage("a frame of another size than the header says")
    return _opened(path, pixels=True)


def _decoded(tags: "Dataset") -> np.ndarray:
    from pydicom.pixels import pixel_array

    if "PhotometricInterpretation" not in tags:
        tags.PhotometricInterpretation = "MONOCHROME2" if int(tags.get("SamplesPerPixel") or 1) == 1 else "RGB"
    return pixel_array(tags, index=0)


def _is_colour(tags: "Dataset") -> bool:
    return not str(tags.get("PhotometricInterpretation") or "MONOCHROME2").startswith("MONOCHROME")


def _rgb(tags: "Dataset", decoded: np.ndarray) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    rgb, bits = decoded, int(tags.BitsStored)
    if tags.PhotometricInterpretation == "PALETTE COLOR":
        rgb = apply_color_lut(decoded, tags)
        bits = rgb.dtype.itemsize * 8
    return np.rint(rgb[..., :3].astype(np.float32) * (255.0 / (2.0**bits - 1.0))).clip(0, 255).astype(np.uint8)


def _grey(tags: "Dataset", decoded: np.ndarray, white: float | None, black: float | None) -> np.ndarray:
    values, low, high = _modality(tags, decoded)
    if white is not None or black is not None:
        low, high = low if black is None else black, high if white is None else white
        if low >= high:
            raise _NoImage("no stored value is as bright as black")
        is_windowed = False
    else:
        values, low, high, is_windowed = _windowed(tags, values, low, high)
    grey = np.clip((values - low) * (255.0 / (high - low)), 0.0, 255.0).astype(np.float32)
    if is_windowed and grey.min() == grey.max() and decoded.min() < decoded.max():
        raise _NoImage("a window beside all values of the image")
    if _is_inverse(tags):
        grey = np.float32(255.0) - grey
    grey[_padding(tags, decoded)] = 0.0
    return grey


def _modality(tags: "Dataset", decoded: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The values after the modality LUT or rescale, and the least and greatest that the bits stored can become."""
    from pydicom.pixels import apply_modality_lut

    if decoded.dtype.kind == "f":
        raise _NoImage("floating-point pixels in DICOM")
    if lut := tags.get("ModalityLUTSequence"):
        return apply_modality_lut(decoded, tags).astype(np.float64), 0.0, 2.0 ** int(lut[0].LUTDescriptor[2]) - 1.0
    bits, is_signed = int(tags.BitsStored), int(tags.get("PixelRepresentation") or 0) == 1
    ends = np.array([-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1]) if is_signed else np.array([0.0, 2.0**bits - 1.0])
    slope, intercept = [*_values(tags, "RescaleSlope"), 1.0][0], [*_values(tags, "RescaleIntercept"), 0.0][0]
    if not (slope != 0 and math.isfinite(slope) and math.isfinite(intercept)):
        raise _NoImage("rescale slope is 0, or a rescale that is no finite number")
    ends = np.sort(ends * slope + intercept)
    return decoded.astype(np.float64) * slope + intercept, float(ends[0]), float(ends[1])


def _windowed(tags: "Dataset", values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, float, float, bool]:
    """The values after the first VOI LUT or window, those that are black and white then, and whether there was one."""
    from pydicom.pixels import apply_voi, apply_windowing

    if tags.get("VOILUTSequence"):
        entries, first, bits = map(int, tags.VOILUTSequence[0].LUTDescriptor)
        last = first + (entries or 1 << 16) - 1
        used = int(apply_voi(np.arange(first, last + 1), tags).max()).bit_length()
        found = apply_voi(np.rint(values.clip(first, last)).astype(np.int64), tags).astype(np.float64)
        # tables of 12 bits often say that they are of 16
        return found, 0.0, 2.0 ** (used if 0 < used <= bits - 2 else bits) - 1.0, True
    if not _has_window(tags):
        return values, low, high, False
    ends = apply_windowing(np.array([-FARTHEST, FARTHEST]), tags)
    return apply_windowing(values, tags), float(ends.min()), float(ends.max()), True


def _has_window(tags: "Dataset") -> bool:
    """Whether the first window is one; 0 wide, as some writers leave it, is none, and of a LINEAR one less than 1."""
    widths, centres = (_values(tags, name) for name in WINDOW)
    if not widths or not centres or not math.isfinite(centres[0]):
        return False
    is_linear = str(tags.get("VOILUTFunction") or "LINEAR").strip().upper() == "LINEAR"
    return (1.0 if is_linear else SMALLEST_WIDTH) <= widths[0] < math.inf


def _is_inverse(tags: "Dataset") -> bool:
    if tags.get("PresentationLUTSequence"):
        raise _NoImage("a presentation LUT, which is not read")
    shape = str(tags.get("PresentationLUTShape") or "").strip().upper()
    return tags.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE"


def _padding(tags: "Dataset", decoded: np.ndarray) -> np.ndarray:
    """[H, W] bool: pixels outside of the image."""
    value = tags.get("PixelPaddingValue")
    if value in (None, ""):
        return np.zeros(decoded.shape, bool)
    limit = tags.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit in (None, "") else limit)]
    if int(tags.get("PixelRepresentation") or 0) == 1:  # written as unsigned, as some do
        bits = int(tags.BitsAllocated)
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    return (decoded >= min(ends)) & (decoded <= max(ends))


def _spacing(tags: "Dataset") -> tuple[float, float] | None:
    """Of the first tag that says it: in the patient, at the detector, of a scanned film."""
    for name in SPACINGS:
        values = _values(tags, name)
        if len(values) == 2 and min(values) > 0:
            if problem := spacing_problem((values[0], values[1])):
                raise _NoImage(problem)
            return values[0], values[1]
    return None


def _values(tags: "Dataset", name: str) -> list[float]:
    """The numbers of a tag; none where it is missing or empty."""
    value = tags.get(name)
    return [] if value in (None, "") else [float(one) for one in np.atleast_1d(value)]
