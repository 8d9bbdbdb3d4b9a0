"""Images that a run's generator made, as DICOM: multi-frame secondary capture that says on every frame, and in its
header, that no scanner made it. Whatever identifies is made new; nothing is read of the files that the run learnt from.
"""

import json
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medlat.core.errors import UserError
from medlat.core.tables import read_table
from medlat.core.version import __version__
from medlat.evaluation.naming import UNNAMED
from medlat.exporting.networks import notes_of
from medlat.report.rendering import Window
from medlat.study.finished import Run

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

WORD = "SYNTHETIC"
NARROWEST = 64  # pixels of a frame that the word can be read on: narrower ones are enlarged by a whole number
LINE, TEXT = 64, 1024  # characters of a DICOM text
FRAME_LABELS = 0x00182002  # the tag that frames are told apart by


@dataclass(frozen=True)
class Frames:
    """What becomes one file.

    images:     [S, H, W], in colour [S, H, W, 3], in the images' unit.
    labels:     of each frame, at most 16 characters.
    about:      what it is, in a few words.
    derivation: how it was made, in sentences.
    """

    images: np.ndarray
    labels: Sequence[str]
    about: str
    derivation: str


def write_dicom(run: Run, folder: Path) -> None:
    """Write 01.dcm, 02.dcm, ...: of a run with a classifier one for each image that its page shows, moved along the
    direction that changes the prediction, the counterfactual last; of another one for each direction that has a name.

    Raises UserError where there is neither.
    """
    found = list(_counterfactuals(run) if run.classifier is not None else _named_directions(run))
    if not found:
        raise UserError(
            f"{run.folder}: it explains no classifier, and no direction of {run.directions['main'].method} has a name: "
            f"there is nothing to export as DICOM"
        )
    study = _study()
    for number, frames in enumerate(found, start=1):
        file = _dataset(run, frames, number)
        file.update(study)
        file.save_as(folder / f"{number:02d}.dcm", enforce_file_format=True)


def _counterfactuals(run: Run) -> Iterator[Frames]:
    folder = run.context.folder(f"explanation/{run.directions['main'].method}")
    direction = read_table(folder / "followed.csv")[0]["direction"]
    with np.load(folder / "series.npz") as arrays:
        series = dict(arrays)
    target = json.loads((folder / "question.json").read_text())["target"]
    for i, images in enumerate(series["images"]):
        labels, predictions = list(map(_step, series["steps"])), list(series["predictions"][i])
        if series["reached"][i]:
            images = np.concatenate([images, series["counterfactual"][i][None]])
            labels.append(f"CF {_step(series['counterfactual_step'][i])}")
            predictions.append(series["counterfactual_prediction"][i])
            end = "The last frame is the counterfactual, where the prediction has changed as asked."
        else:
            end = "Within these steps the prediction did not change as asked: there is no counterfactual."
        said = ", ".join(f"{prediction:.2g}" for prediction in predictions)
        made = _made(run, "a held-out image as inversion gives it back", direction)
        yield Frames(images, labels, f"Counterfactual of {target}", f"{made} {end} Predictions of {target}: {said}.")


def _named_directions(run: Run) -> Iterator[Frames]:
    directions = run.directions["main"]
    with np.load(run.context.folder(f"semantics/{directions.method}") / "traversal.npz") as arrays:
        images, steps = arrays["images"], arrays["steps"]
    for row in run.table("names"):
        if row["method"] == directions.method and row["name"] != UNNAMED:
            derivation = _made(run, "a typical code", row["direction"])
            number = directions.names.index(row["direction"])
            yield Frames(images[number], list(map(_step, steps)), str(row["name"]), derivation)


def _step(step: float) -> str:
    return f"{step:+.3g} SD" if step else "0 SD"


def _made(run: Run, start: str, direction: str) -> str:
    return (
        f"{WORD}: drawn by a generator ({type(run.generator).__name__}, run {run.config.name}, medlat "
        f"{__version__}), not acquired. From {start} along the direction {direction}; frames are labelled with "
        f"standard deviations. {' '.join(notes_of(run))}"
    )


def _study() -> "Dataset":
    """A patient and a study that never were."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    study = Dataset()
    study.PatientName, study.PatientID = WORD, f"{WORD}-{uuid.uuid4().hex[:12]}"
    study.PatientBirthDate = study.PatientSex = ""
    study.PatientIdentityRemoved, study.DeidentificationMethod = "YES", "Synthetic, not acquired"
    study.StudyInstanceUID = generate_uid(prefix=None)  # 2.25 and a random number
    study.StudyDate, study.StudyTime = time.strftime("%Y%m%d"), time.strftime("%H%M%S")  # of this export
    study.StudyID, study.AccessionNumber, study.ReferringPhysicianName = "1", "", ""
    return study


def _dataset(run: Run, frames: Frames, number: int) -> "Dataset":
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    file = Dataset()
    file.SpecificCharacterSet = "ISO_IR 192"
    file.SOPInstanceUID, file.SeriesInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    file.Modality, file.ConversionType, file.SyntheticData = "OT", "SYN", "YES"
    file.Manufacturer = file.SecondaryCaptureDeviceManufacturer = "medlat"
    file.SecondaryCaptureDeviceSoftwareVersions = __version__
    file.SeriesNumber, file.InstanceNumber = number, 1
    file.Laterality = file.PatientOrientation = ""
    file.SeriesDescription = frames.about.replace("\\", "/")[:LINE]
    file.ImageType, file.BurnedInAnnotation, file.LossyImageCompression = ["DERIVED", "SECONDARY"], "YES", "00"
    file.DerivationDescription = frames.derivation[:TEXT]
    file.NumberOfFrames, file.FrameIncrementPointer = len(frames.images), FRAME_LABELS
    file.FrameLabelVector = list(frames.labels)
    _pixels(file, run, frames.images)
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    return file


def _pixels(file: "Dataset", run: Run, images: np.ndarray) -> None:
    """Colours, and values of 8 bits, as they are; others in 16 bits, with slope and intercept back to their unit."""
    from pydicom import uid
    from pydicom.valuerep import DS

    look, spec = run.look, run.image
    bits = 8 if look.modality.dtype == "uint8" else 16
    slope = 1.0 if bits == 8 else float(DS(spec.range / (2**bits - 1), auto_format=True))
    intercept = 0.0 if bits == 8 else spec.low

    def stored(values: np.ndarray | float) -> np.ndarray:
        return np.rint((np.asarray(values) - intercept) / slope).clip(0, 2**bits - 1).astype(f"<u{bits // 8}")

    black, white = stored(np.array((0.0, 255.0) if look.colour else look.window))
    factor = math.ceil(NARROWEST / images.shape[2])
    large = stored(images).repeat(factor, axis=1).repeat(factor, axis=2)
    pixels = np.concatenate([large, _strip(large, (black, white))], axis=1)
    file.Rows, file.Columns = pixels.shape[1:3]
    file.PixelSpacing = [DS(spec.spacing_mm / factor, auto_format=True)] * 2
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit, file.PixelRepresentation = bits - 1, 0
    file.PixelData = pixels.tobytes()
    if look.colour:
        file.SOPClassUID = uid.MultiFrameTrueColorSecondaryCaptureImageStorage
        file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration = 3, "RGB", 0
        return
    byte, word = (
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    )
    file.SOPClassUID = byte if bits == 8 else word
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PresentationLUTShape = 1, "MONOCHROME2", "IDENTITY"
    file.RescaleIntercept, file.RescaleSlope = DS(intercept, auto_format=True), DS(slope, auto_format=True)
    file.RescaleType = "HU" if spec.unit == "HU" else "US"
    low, high = look.window
    file.WindowCenter, file.WindowWidth = DS((low + high) / 2, auto_format=True), DS(high - low, auto_format=True)


def _strip(frames: np.ndarray, window: Window) -> np.ndarray:
    """The word in white on black, below each frame: [S, H, W, ...] -> [S, h, W, ...]. It hides nothing of the image."""
    black, white = window
    width = frames.shape[2]
    font = ImageFont.load_default(width * 10 / NARROWEST)
    left, top, right, bottom = font.getbbox(WORD)
    margin = max(2, width // 32)
    picture = Image.new("L", (width, round(bottom - top) + 2 * margin))
    ImageDraw.Draw(picture).text(((width - right + left) / 2 - left, margin - top), WORD, fill=255, font=font)
    word = np.where(np.asarray(picture) > 127, white, black).astype(frames.dtype)
    shape = (len(frames), *word.shape, *frames.shape[3:])
    return np.broadcast_to(word.reshape(1, *word.shape, *[1] * (frames.ndim - 3)), shape)
