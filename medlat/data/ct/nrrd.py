"""Headers of NRRD volumes, as 3D Slicer writes them: `.nrrd`, and `.nhdr` with a file of values beside it."""

import os
from typing import Any

import numpy as np

from medlat.data.ct.volume import Header, Implausible, Packing, Unfit, affine_of, beside

SUFFIXES = (".nrrd", ".nhdr")
MOST_BYTES = 1 << 16  # of a header
PACKINGS: dict[str, Packing] = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
SIGNS = {  # of the axes of a space, in RAS
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "ras": (1, 1, 1),
    "las": (-1, 1, 1),
    "lps": (-1, -1, 1),
}
NAMES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
DTYPES = {name: code for code, names in NAMES.items() for name in names}


def read_header(path: str) -> Header:
    """The fields are parsed by pynrrd; the values are mapped and not read by it, as it makes copies of the whole.

    Raises EOFError, `Unfit` (text, several files, several values a voxel), `Implausible`, and what pynrrd raises.
    """
    fields, start = _fields(path)
    shape = tuple(int(n) for n in fields["sizes"])
    if len(shape) != 3:
        raise Unfit(f"{len(shape)}D")
    if (encoding := fields["encoding"].lower()) not in PACKINGS:
        raise Unfit("values as text")
    if fields["type"].lower() not in DTYPES:
        raise Unfit("not plain numbers (colour or complex)")
    dtype = np.dtype((">" if fields.get("endian", "little") == "big" else "<") + DTYPES[fields["type"].lower()])
    values, where = path, fields.get("data file", fields.get("datafile"))
    if where is not None:
        if where.upper().startswith("LIST") or "%" in where:
            raise Unfit("values in several files")
        values, start = beside(path, where), 0
    if fields.get("line skip", fields.get("lineskip", 0)):
        raise Unfit("lines before the values")
    packing, skipped = PACKINGS[encoding], fields.get("byte skip", fields.get("byteskip", 0))
    if skipped == -1 and not packing:  # the values end where the file does
        start, skipped = os.path.getsize(values) - int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 0
    affine, assumed = _affine(fields)
    units = set(fields.get("space units", ()))
    unit = units.pop().lower() if len(units) == 1 else ""
    return Header(values, shape, dtype, affine, packing, start, skipped, unit=unit, assumed=assumed)


def _fields(path: str) -> tuple[dict[str, Any], int]:
    """The fields, and the bytes up to the blank line that ends them."""
    from nrrd import read_header as parsed

    with open(path, "rb") as file:
        head = file.read(MOST_BYTES)
    if not head.startswith(b"NRRD"):
        raise Implausible("corrupt")
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := head.find(mark)) >= 0]
    if not ends and len(head) == MOST_BYTES:
        raise Implausible("corrupt")
    end = min(ends, default=len(head))
    return dict(parsed(head[:end].decode("latin-1").splitlines())), end


def _affine(fields: dict[str, Any]) -> tuple[np.ndarray, str]:
    """In RAS, and what had to be assumed. Raises Implausible where the file says no spacing."""
    space = str(fields.get("space", "")).lower()
    signs = SIGNS.get(space, SIGNS["lps"])
    assumed = "" if space in SIGNS else "no orientation: taken as LPS"
    if (steps := fields.get("space directions")) is None:
        if (spacings := fields.get("spacings")) is None:
            raise Implausible("no pixel spacing")
        steps = np.diag(spacings)
    if np.shape(steps) != (3, 3):
        raise Implausible("corrupt")
    return affine_of(steps, fields.get("space origin", (0.0, 0.0, 0.0)), signs), assumed
