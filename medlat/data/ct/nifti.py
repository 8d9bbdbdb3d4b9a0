"""Axial CT slices from a folder of NIfTI volumes."""

import gzip
import math
import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, NamedTuple, cast

import numpy as np

from medlat.core.errors import UserError
from medlat.data.ct.dicom_tree import checked_root, fingerprint, nothing_found, walk
from medlat.data.ct.plausible import scaling_problem, size_problem, spacing_problem
from medlat.data.modality import CT
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice
from medlat.data.unpacked import MOST_TIMES, forget_pages, unpacked

SUFFIXES = (".nii", ".nii.gz")
MOST_SLICES = 1 << 16
MOST_UNPACKED = 1 << 32  # bytes of a volume on the disk for temporary files: 2,000 slices of 512² in 64 bits


class VolumeSlice(NamedTuple):
    """The level-th axial slice of a volume, counted from 0 at the feet."""

    path: str
    level: int


class CTNifti:
    """Every slice of the CT volumes below a folder: `.nii` and `.nii.gz`, at any depth.

    root: the folder; `~` is expanded. Label maps cannot be told from images: name the folder that holds the images.

    Each file is one patient: its identity is the path below the root without the extension. Values are Hounsfield units
    (after the header's own scaling); what is below -1024 or no number becomes -1024, air. Orientation comes from the
    affine, to the nearest axes: slices are the planes most nearly axial, feet to head, whatever the order in the file.
    `position_mm` is the plane's place along its normal, in mm of the affine's space; `series` numbers the volumes.

    Files that are no volume of three dimensions of plain numbers are skipped and counted; broken ones, and those that
    claim what no CT has (`medlat.data.ct.plausible`), are `Damaged`. A volume is memory-mapped, a compressed one from a
    temporary file: memory does not grow with it. Raises UserError where the root is missing or no folder.
    """

    modality = CT

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = checked_root(root)

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file."""
        return fingerprint(self.folder)

    def expected(self) -> None:
        """Unknown before the volumes' headers are read."""

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read every volume's header; one chunk per volume. Raises UserError where there is none."""
        skipped: Counter[str] = Counter()
        paths = sorted(entry.path for entry in walk(self.folder, skipped))
        volumes = [path for path in paths if path.lower().endswith(SUFFIXES)]
        skipped["not NIfTI"] += len(paths) - len(volumes)
        scan = Scan()
        for path, result in zip(volumes, parallel_map(_header, volumes, "reading NIfTI headers"), strict=True):
            if isinstance(result, str):
                skipped[result] += 1
            elif isinstance(result, Damaged):
                scan.damaged.append(result)
            else:
                patient = os.path.relpath(path, self.folder)
                patient = patient[: patient.lower().rindex(".nii")].replace(os.sep, "/")
                columns = result.columns | {"series": np.full(len(result.items), float(len(scan.chunks)))}
                scan.chunks.append(replace(result, patient=patient, columns=columns))
        if not scan.chunks:
            reasons = skipped + Counter(one.reason for one in scan.damaged)
            raise nothing_found(self.root, "CT volume (.nii, .nii.gz)", reasons, "; DICOM is read by data=ct_dicom")
        scan.skipped = dict(+skipped)
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """The chunk's slices, in order: float32 HU of at least -1024; all of a damaged volume are `Damaged`."""
        path = chunk.items[0].path
        try:
            volume = Volume(path)
            if volume.count != len(chunk.items):
                raise ValueError("another volume than was found")
            stored, mapped = volume.stored()
        except UserError:  # no room to unpack it is no damage
            raise
        except Exception as error:  # gzip, zlib and nibabel raise anything on damaged files
            yield from [Damaged(path, _reason(error))] * len(chunk.items)
            return
        for item in chunk.items:
            with np.errstate(over="ignore", invalid="ignore"):  # of floating-point numbers that are no HU
                values = stored[:, :, item.level].astype(np.float32) * volume.slope + volume.intercept
            values = np.nan_to_num(values, nan=CT.fill, copy=False)
            forget_pages(mapped)
            yield Slice(np.ascontiguousarray(np.maximum(values, np.float32(CT.fill))), volume.spacing_mm)


class Unfit(Exception):
    """A volume that is not meant to be read; the message says why in fixed words."""


class Implausible(Exception):
    """A volume that claims what no CT has, or a header that means nothing; the message says so in fixed words."""


class Volume:
    """What the header of a file says, and the way to its values.

    Not nibabel's image: opening one reads header extensions of whatever length the file claims. Not MONAI's
    NibabelReader, which makes float64 of a scaled volume: four times what the file holds, in every worker.

    turn, affine:     of `_orientation`.
    count:            slices.
    spacing_mm:       between rows and between columns.
    slope, intercept: HU = stored · slope + intercept.

    Raises EOFError, `Unfit`, `Implausible` and whatever the libraries raise on damaged files.
    """

    def __init__(self, path: str) -> None:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header

        self.path, self.packed = path, path.lower().endswith(".gz")
        with self._open() as stream:
            start = stream.read(Nifti2Header.sizeof_hdr)
        kind = next((kind for kind in (Nifti1Header, Nifti2Header) if kind.may_contain_header(start)), None)
        if kind is None:
            raise EOFError if len(start) < Nifti1Header.sizeof_hdr else Implausible("corrupt")
        header = kind(start[: kind.sizeof_hdr])
        self.shape = tuple(int(n) for n in header.get_data_shape())
        self.dtype, self.offset = header.get_data_dtype(), int(header.get_data_offset()) or header.single_vox_offset
        self._check_layout(os.path.getsize(path))
        self.turn, self.affine = _orientation(header.get_best_affine(), self.shape)
        rows, columns, self.count = (self.shape[list(self.turn[:, 0]).index(axis)] for axis in range(3))
        self.spacing_mm = cast("tuple[float, float]", tuple(np.linalg.norm(self.affine[:3, :2], axis=0).tolist()))
        slope, intercept = header.get_slope_inter()
        self.slope, self.intercept = np.float32(slope or 1.0), np.float32(intercept or 0.0)
        bits = 32 if self.dtype.kind == "f" else 8 * self.dtype.itemsize
        scaling = scaling_problem(slope or 1.0, intercept or 0.0, bits)
        if problem := size_problem(rows, columns) or spacing_problem(self.spacing_mm) or scaling:
            raise Implausible(problem)

    def _open(self) -> IO[bytes]:
        return cast("IO[bytes]", gzip.open(self.path) if self.packed else open(self.path, "rb"))

    @property
    def _end(self) -> int:
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def _check_layout(self, size: int) -> None:
        """size: of the file in bytes."""
        if self.dtype.kind not in "iuf":
            raise Unfit("not plain numbers (colour or complex)")
        if len(self.shape) != 3:
            raise Unfit(f"{len(self.shape)}D")
        if min(self.shape) < 0 or self.offset < 0:
            raise Implausible("corrupt")
        if 0 in self.shape:
            raise Implausible("no slices")
        if self._end > (size * MOST_TIMES + (1 << 20) if self.packed else size):
            raise EOFError
        if max(self.shape) > MOST_SLICES or (self.packed and self._end > MOST_UNPACKED):
            raise Implausible("larger than any CT volume")

    def stored(self) -> tuple[np.ndarray, mmap.mmap]:
        """[rows, columns, slices] as stored and turned, memory-mapped, and the map.

        A compressed file is read to its end, where gzip checks that nothing is damaged. Raises UserError where there
        is no room to unpack it.
        """
        from nibabel.orientations import apply_orientation

        with self._open() as stream, unpacked(stream, self._end) if self.packed else self._open() as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(mapped, self.dtype, math.prod(self.shape), self.offset)
        return apply_orientation(values.reshape(self.shape, order="F"), self.turn), mapped


def _header(path: str) -> Chunk | Damaged | str:
    """The volume's chunk as far as its header says (the patient is named by the caller), or why there is none."""
    try:
        if os.path.getsize(path) == 0:
            return Damaged(path, "empty file")
        volume = Volume(path)
    except Unfit as error:
        return str(error)
    except Exception as error:
        return Damaged(path, _reason(error))
    affine, count = volume.affine, volume.count
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal *= np.sign(normal @ affine[:3, 2]) / np.linalg.norm(normal)
    positions = (affine[:3, 3] + np.arange(count)[:, None] * affine[:3, 2]) @ normal
    return Chunk("", tuple(VolumeSlice(path, level) for level in range(count)), {"position_mm": positions})


def _orientation(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """How the axes are permuted and flipped to (row: to the back, column: to the left, slice: up), and the affine then.

    Raises Implausible where the affine leaves an axis without direction.
    """
    from nibabel import orientations

    turn = orientations.io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    if not np.isfinite(turn).all():
        raise Implausible("degenerate affine")
    turn = orientations.ornt_transform(turn, orientations.axcodes2ornt(("P", "L", "S")))
    return turn, affine @ orientations.inv_ornt_aff(turn, shape)


def _reason(error: Exception) -> str:
    """In fixed words: the messages of the libraries quote paths."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, EOFError):
        return "truncated"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    return str(error) if isinstance(error, Implausible | Unfit) else "corrupt"
