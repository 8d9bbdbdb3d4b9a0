"""Axial CT slices from a folder of DICOM files, as hospitals and archives deliver them."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import groupby, takewhile
from os.path import dirname, relpath

import numpy as np

from medlat.core.errors import ArgumentError, UserError
from medlat.core.ranges import Patterns, Tilt
from medlat.data.ct.codestreams import WITHOUT_CLAIMS, sound_frames
from medlat.data.ct.dicom_headers import CODECS, Found, Frame, codec_missing, quiet, read_header
from medlat.data.ct.dicom_start import DEFLATED, begins_as_dicom
from medlat.data.ct.dicom_tree import OfFiles, checked_root, fingerprint, listed, nothing_found
from medlat.data.ct.plausible import size_remarks
from medlat.data.modality import CT
from medlat.data.patterns import Picked
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice

CHUNK = 32  # slices one worker reads in one go
MOST_TIMES_USUAL = 3.0  # that pixels of one series may differ in size: parts of it are reconstructed finer
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


class CTDicom(OfFiles):
    """Every axial CT slice below a folder: any tree, several patients and series mixed, anything else among them.

    root:         the folder; `~` is expanded.
    max_tilt_deg: slices whose plane is tilted further from axial are skipped, 0 to 45 degrees.
    include, exclude: which files, as of `medlat.data.patterns.Picked`; None: all, none.

    What is read. Each file is judged by its content, never by its name: CT images of one or several frames (enhanced
    CT), in any transfer syntax that pydicom can decode here, with the DICOM prefix or without. Localizers, other
    modalities, secondary captures, colour images, maps of anything but HU (perfusion, materials), second copies of a
    file (same UIDs and position: the larger one is kept), hidden files and files of other formats are skipped and
    counted, archives by their kind; several reconstructions of one anatomy are all kept. Damaged files never stop a
    scan or a read.

    Patients are told apart by PatientID; where it is empty, by that of another slice of the same study, else by the
    StudyInstanceUID, else by the folder. A series is a patient's SeriesInstanceUID, else the folder.

    Positions (`position_mm`) are ImagePositionPatient projected on the slice normal, in mm of the patient coordinate,
    feet to head. A series in which any slice lacks it falls back to SliceLocation, then to InstanceNumber (as if 1 mm
    apart), then to 0 in the order of the paths. Missing orientation counts as (1, 0, 0, 0, 1, 0).

    Pixels are Hounsfield units by each slice's own rescale slope and intercept. Where these are missing the slope is 1
    and the intercept 0 for signed pixels (taken as HU already), -1024 for unsigned ones; where they are there and make
    no sense, the file is damaged. All below -1024 HU, and what PixelPaddingValue (to PixelPaddingRangeLimit) says above
    3071 HU, is outside the scanned circle and becomes -1024, air. Rows and columns are flipped or swapped by
    ImageOrientationPatient to the nearest quarter turn; a patient lying askew stays askew.

    Files that claim what no CT has are damaged too (`medlat.data.ct.plausible`): slices of more than 4096² pixels,
    pixels outside 0.02 to 20 mm or three times as large or small as in the rest of the series, deflated files of more
    than 256 MB.

    Raises UserError where the root is missing or no folder, or the tilt is out of range.
    """

    modality = CT

    def __init__(
        self, root: str, max_tilt_deg: Tilt = 30.0, include: Patterns = None, exclude: Patterns = None
    ) -> None:
        if not 0 <= max_tilt_deg <= 45:
            raise ArgumentError("max_tilt_deg", f"found {max_tilt_deg}, expected 0 to 45 degrees, e.g. 30")
        self.root = root
        self.max_tilt_deg = max_tilt_deg
        self.folder = checked_root(root)
        self.picked = Picked.of(include, exclude)

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file."""
        return fingerprint(self.folder)

    def expected(self) -> int:
        """Files that may hold a slice: all of them, as only their headers tell; 0 where none begins as one does."""
        paths = listed(self.folder, Counter(), self.picked)
        return len(paths) if any(map(begins_as_dicom, paths)) else 0

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read every header and sort the slices into chunks of one series each, patient by patient, feet to head.

        Columns: `position_mm`, and `series`, a running number of patient and series. Raises UserError where no slice
        can be read, with what was found instead.
        """
        skipped: Counter[str] = Counter()
        paths = listed(self.folder, skipped, self.picked)
        damaged: list[Damaged] = []
        found: list[Found] = []
        read = partial(read_header, max_tilt_deg=self.max_tilt_deg)
        for slices in parallel_map(read, paths, "reading DICOM headers"):
            for one in slices:
                if isinstance(one, str):
                    skipped[one] += 1
                else:
                    (damaged if isinstance(one, Damaged) else found).append(one)
        if not found:
            raise self._nothing_found(paths, skipped, damaged)
        kept = _without_copies(found)
        copies = {one.frame.path for one in found} - {one.frame.path for one in kept}
        remarks = [Remark(path, "duplicate", False) for path in sorted(copies)]
        kept, odd = _by_spacing(kept)
        damaged += odd
        studies = {one.frame.path: one.study for one in kept}
        return Scan(_chunks(kept, str(self.folder)), damaged, dict(+skipped), remarks, studies=studies)

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """Decode the chunk's slices, in order: float32 HU of at least -1024; a file that fails is `Damaged`."""
        for path, frames in groupby(chunk.items, key=lambda frame: frame.path):
            yield from _read_file(path, list(frames))

    def _nothing_found(self, paths: list[str], skipped: Counter[str], damaged: list[Damaged]) -> UserError:
        reasons = Counter(one.reason for one in damaged)
        if damaged and all(CODECS in reason for reason in reasons):
            names = ", ".join(sorted({reason.split(":")[0] for reason in reasons}))
            return ArgumentError(
                "root",
                f"all {len(damaged)} CT files below '{self.root}' are compressed ({names}) and no codec for "
                f"that is installed: {CODECS}",
            )
        volumes = sum(path.lower().endswith((".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")) for path in paths)
        hint = f"; volumes (NIfTI, MetaImage, NRRD: {volumes}) are read by data=ct_nifti" if volumes else ""
        return nothing_found(self.root, "axial CT slice (DICOM)", skipped + reasons, hint)


def _without_copies(found: list[Found]) -> list[Found]:
    """Each slice once. The same file twice is common; of a whole and a cut copy the larger one is the better.

    Positions belong to the key because some de-identification gives all files the same UID: those are no copies.
    """
    best: dict[tuple, Found] = {}
    for one in found:
        unnamed = "" if one.instance else one.frame.path
        key = (one.instance, unnamed, one.frame.number, one.patient, one.series, str(one.positions))
        if key not in best or one.size > best[key].size:
            best[key] = one
    return list(best.values())


def _by_spacing(found: list[Found]) -> tuple[list[Found], list[Damaged]]:
    """The slices whose pixels are as large as in most of their series, and the others: they were written in cm, say."""
    sizes: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for one in found:
        sizes[one.patient, one.series].append(one.frame.spacing_mm[0])
    usual = {key: float(np.median(mm)) for key, mm in sizes.items()}
    kept, odd = [], []
    for one in found:
        times = one.frame.spacing_mm[0] / usual[one.patient, one.series]
        if one.series and not 1 / MOST_TIMES_USUAL < times < MOST_TIMES_USUAL:
            odd.append(Damaged(one.frame.path, "pixel spacing unlike the rest of its series"))
        else:
            kept.append(one)
    return kept, odd


def _chunks(found: list[Found], root: str) -> list[Chunk]:
    """Patients, their series and the series' slices in a fixed order, cut to chunks."""
    patient_of_study = {one.study: one.patient for one in found if one.study and one.patient}
    series: defaultdict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in found:
        folder = relpath(dirname(one.frame.path), root)
        patient = one.patient or patient_of_study.get(one.study) or one.study or folder
        series[patient, one.series or folder].append(one)
    chunks = []
    for number, ((patient, _), slices) in enumerate(sorted(series.items())):
        positions = _positions(slices)
        order = sorted(range(len(slices)), key=lambda i: (positions[i], slices[i].frame.path, slices[i].frame.number))
        for start in range(0, len(order), CHUNK):
            part = order[start : start + CHUNK]
            columns = {"position_mm": positions[part], "series": np.full(len(part), float(number))}
            chunks.append(Chunk(patient, tuple(slices[i].frame for i in part), columns))
    return chunks


def _positions(slices: list[Found]) -> np.ndarray:
    """[len(slices)] float64: the best kind of position that every slice of the series has."""
    kinds = np.array([one.positions for one in slices], dtype=np.float64).T
    return next((kind for kind in kinds if np.isfinite(kind).all()), np.zeros(len(slices)))


def _read_file(path: str, frames: list[Frame]) -> Iterator[Slice | Damaged]:
    """Frames of one file in the order given; after the first that fails the decoder cannot go on."""
    stored = _decode(path, frames)
    problem = None
    for frame in frames:
        if problem is None:
            try:
                with quiet():
                    pixels = _hounsfield(next(stored), frame)
            except Exception as error:  # decoders raise anything, and their messages may quote tags
                problem = _reason(error, frame.syntax)
        if problem is None:
            yield Slice(pixels, frame.spacing_mm, size_remarks(path, pixels.shape, frame.spacing_mm))
        else:
            yield Damaged(path, problem)


def _decode(path: str, frames: list[Frame]) -> Iterator[np.ndarray]:
    """Stored pixels [H, W] of the frames, one at a time.

    pydicom's iterator and not MONAI's PydicomReader: for a single slice that is eight times slower (112 against 827
    slices a second on one core; it turns the whole data set into JSON, pixels included), gives float64, knows no frames
    and no padding, and is given anew here what the scan knows already. The axes agree: its affine comes from the same
    tags as `Turn`.
    """
    from pydicom import dcmread
    from pydicom.pixels import iter_pixels

    indices = [frame.number for frame in frames]
    if frames[0].syntax == DEFLATED:  # iter_pixels does not inflate files by itself
        yield from iter_pixels(dcmread(path, force=True), indices=indices)
        return
    sound = math.inf if frames[0].syntax in WITHOUT_CLAIMS else sound_frames(path)
    if readable := list(takewhile(lambda index: index < sound, indices)):
        yield from iter_pixels(path, indices=readable, transfer_syntax_uid=frames[0].syntax)
    if len(readable) < len(indices):
        raise ValueError("a frame of another size than the header says")


def _hounsfield(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Stored pixels -> float32 HU as a radiologist sees them, everything outside the circle as air."""
    with np.errstate(over="ignore", invalid="ignore"):  # of pixels stored as floating-point numbers
        values = stored.astype(np.float32)
        values *= np.float32(frame.slope)
        values += np.float32(frame.intercept)
    if stored.dtype.kind == "f":
        np.nan_to_num(values, copy=False, nan=CT.fill)
    if frame.padding is not None:
        low, high = frame.padding
        values[(stored >= low) & (stored <= high)] = CT.fill
    return frame.turn.apply(np.maximum(values, np.float32(CT.fill), out=values))


def _reason(error: Exception, syntax: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "removed since it was found"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    if syntax == JPEG_EXTENDED:  # GDCM and Pillow decode its 8-bit variant only
        return "corrupt pixel data, or 12-bit JPEG, which needs: pip install pylibjpeg pylibjpeg-libjpeg"
    if codec_missing(syntax):  # what decodes here may not know every variant
        return f"corrupt pixel data, or in need of another codec: {CODECS}"
    return "corrupt pixel data"
