"""A CT volume in a file of any format: from what its header says to axial slices."""

import bz2
import gzip
import io
import math
import mmap
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from medlat.data.ct.plausible import scaling_problem, size_doubt, size_problem, spacing_problem
from medlat.data.unpacked import MOST_TIMES, unpacked

MOST_SLICES = 1 << 16
MOST_UNPACKED = 1 << 32  # bytes of a volume on the disk for temporary files: 2,000 slices of 512² in 64 bits
BLOCK = 1 << 16
IN_MM = {"meter": 1e3, "m": 1e3, "cm": 10.0, "micron": 1e-3, "um": 1e-3, "µm": 1e-3}  # NIfTI's words, NRRD's
Packing = Literal["", "gzip", "bzip2", "zlib"]


class Unfit(Exception):
    """A volume that is not meant to be read; the message says why in fixed words."""


class Implausible(Exception):
    """A volume that claims what no CT has, or a header that means nothing; the message says so in fixed words."""


@dataclass(frozen=True)
class Header:
    """What a header says.

    path:     of the file that holds the values: the header's own, or one beside it.
    shape:    along the axes of the file, the fastest first; dtype: of a value.
    affine:   [4, 4] indices of an element -> mm to the right, to the front, up (RAS).
    packing:  of what begins at byte `start` of the file; the values begin `offset` bytes into it, when unpacked.
    slope, intercept: of the header's own scaling: value = stored · slope + intercept.
    unit:     of the affine, where the header names one that is not mm.
    assumed:  what the header does not say and is taken for granted, in fixed words.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    packing: Packing = ""
    start: int = 0
    offset: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    assumed: str = ""


class Volume:
    """A volume with the axes (row: to the back, column: to the left, slice: up), to the nearest axes of the patient.

    affine:     of these axes, in mm.
    shape:      rows and columns of a slice.
    count:      slices; positions: [count] of each along the normal of its plane, in mm.
    spacing_mm: between rows and between columns.

    Raises EOFError, `Unfit`, `Implausible`, and what the libraries raise on damaged files.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self._check_layout()
        self.turn, affine = _orientation(header.affine, header.shape)
        rows, columns, self.count = (header.shape[list(self.turn[:, 0]).index(axis)] for axis in range(3))
        self.shape = (rows, columns)
        self.affine = _in_mm(affine, header.unit, self.shape)
        self.spacing_mm = _spacing(self.affine)
        self.slope, self.intercept = np.float32(header.slope), np.float32(header.intercept)
        bits = 32 if header.dtype.kind == "f" else 8 * header.dtype.itemsize
        scaling = scaling_problem(header.slope, header.intercept, bits)
        if problem := size_problem(rows, columns) or spacing_problem(self.spacing_mm) or scaling:
            raise Implausible(problem)

    @property
    def positions(self) -> np.ndarray:
        normal = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        normal *= np.sign(normal @ self.affine[:3, 2]) / np.linalg.norm(normal)
        return (self.affine[:3, 3] + np.arange(self.count)[:, None] * self.affine[:3, 2]) @ normal

    @property
    def _end(self) -> int:
        """Bytes up to the last value, when unpacked."""
        return self.header.offset + math.prod(self.header.shape) * self.header.dtype.itemsize

    def _check_layout(self) -> None:
        header = self.header
        if header.dtype.kind not in "iuf":
            raise Unfit("not plain numbers (colour or complex)")
        if len(header.shape) != 3:
            raise Unfit(f"{len(header.shape)}D")
        if min(header.shape) < 0 or min(header.offset, header.start) < 0:
            raise Implausible("corrupt")
        if 0 in header.shape:
            raise Implausible("no slices")
        size = max(0, os.path.getsize(header.path) - header.start)
        most = {"": size, "bzip2": MOST_UNPACKED}.get(header.packing, size * MOST_TIMES + (1 << 20))
        if self._end > most:
            raise EOFError
        if max(header.shape) > MOST_SLICES or (header.packing and self._end > MOST_UNPACKED):
            raise Implausible("larger than any CT volume")

    def stored(self) -> tuple[np.ndarray, mmap.mmap]:
        """[rows, columns, slices] as stored and turned, memory-mapped, and the map.

        What is packed is read to its end, where its checksum says that nothing is damaged. Raises UserError where there
        is no room to unpack it.
        """
        from nibabel.orientations import apply_orientation

        header, first = self.header, self.header.offset
        with open(header.path, "rb") as file:
            if header.packing:
                file.seek(header.start)
                with unpacked(_stream(file, header.packing), self._end) as whole:
                    mapped = mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ)
            else:
                mapped, first = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), first + header.start
        values = np.frombuffer(mapped, header.dtype, math.prod(header.shape), first)
        return apply_orientation(values.reshape(header.shape, order="F"), self.turn), mapped

    def values(self, stored: np.ndarray, level: int) -> np.ndarray:
        """A slice of `stored` as the header scales it, [rows, columns] float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # of floating-point numbers that are no HU
            return stored[:, :, level].astype(np.float32) * self.slope + self.intercept


class _Inflated(io.RawIOBase):
    """What zlib packed; raises EOFError or zlib.error where it is cut or damaged."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.inflate = file, zlib.decompressobj()

    def read(self, size: int = -1) -> bytes:
        while not self.inflate.eof:
            packed = self.inflate.unconsumed_tail or self.file.read(BLOCK)
            if not packed:
                raise EOFError
            if found := self.inflate.decompress(packed, max(size, BLOCK)):
                return found
        return b""


def _stream(file: IO[bytes], packing: Packing) -> IO[bytes]:
    opened = {"gzip": lambda: gzip.GzipFile(fileobj=file), "bzip2": lambda: bz2.BZ2File(file)}
    return cast("IO[bytes]", opened.get(packing, lambda: _Inflated(file))())


def _in_mm(affine: np.ndarray, unit: str, shape: tuple[int, int]) -> np.ndarray:
    """The affine in mm. Many a header names a unit that it does not mean: one of mm is believed where it is likely."""
    own = _spacing(affine)
    if unit not in IN_MM or not (spacing_problem(own) or size_doubt(shape, own)):
        return affine
    return np.diag([IN_MM[unit]] * 3 + [1.0]) @ affine


def _spacing(affine: np.ndarray) -> tuple[float, float]:
    return cast("tuple[float, float]", tuple(np.linalg.norm(affine[:3, :2], axis=0).tolist()))


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


def affine_of(axes: ArrayLike, origin: ArrayLike, signs: Sequence[float]) -> np.ndarray:
    """[4, 4] from the step along each axis and the first element's place, in a space whose axes have these signs in RAS
    (LPS: -1, -1, 1).
    """
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, dtype=np.float64).T
    affine[:3, 3] = origin
    return np.diag([*signs, 1.0]) @ affine


def beside(path: str, name: str) -> str:
    """The file that a header names for its values: in its own folder or below.

    Raises Implausible where it lies elsewhere (the program would not notice when it changes), or is not there.
    """
    folder = os.path.dirname(os.path.abspath(path))
    found = os.path.abspath(os.path.join(folder, name.replace("\\", "/")))
    if os.path.commonpath([folder, found]) != folder:
        raise Implausible("its values lie in another folder")
    if not os.path.isfile(found):
        raise Implausible("the file with its values is missing")
    return found
