"""Headers of MetaImage volumes, as ITK writes them: `.mha`, and `.mhd` with a file of values beside it (LUNA16).

Parsed here: of the libraries that know the format, SimpleITK takes 264 MB when installed, prints what it meets, and
passes over the checksum of packed values, so that damaged ones are read without a word; MONAI's ITKReader is no other.
"""

import os
from typing import IO

import numpy as np

from medlat.data.ct.volume import Header, Implausible, Unfit, affine_of, beside

SUFFIXES = (".mha", ".mhd")
MOST_BYTES = 1 << 16  # of a header
DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_header(path: str) -> Header:
    """Raises EOFError, `Unfit` (text, several files, several values a voxel), `Implausible`, ValueError, KeyError."""
    with open(path, "rb") as file:
        fields, start = _fields(file)
    count = int(fields["ndims"])
    shape = tuple(int(n) for n in fields["dimsize"].split())
    if count != len(shape):
        raise Implausible("corrupt")
    if count != 3:
        raise Unfit(f"{count}D")
    if int(fields.get("elementnumberofchannels", "1")) != 1:
        raise Unfit("not plain numbers (colour or complex)")
    if not _true(fields.get("binarydata", "True")):
        raise Unfit("values as text")
    order = ">" if _true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False"))) else "<"
    dtype = np.dtype(order + DTYPES[fields["elementtype"].upper()])
    where = fields["elementdatafile"]
    if where.upper() == "LIST" or "%" in where:
        raise Unfit("values in several files")
    values = path
    if where.upper() != "LOCAL":
        values, start = beside(path, where), 0
    packed = _true(fields.get("compresseddata", "False"))
    skipped = int(fields.get("headersize", "0"))
    if skipped == -1 and not packed:  # the values end where the file does
        start = os.path.getsize(values) - int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    elif skipped > 0:
        start += skipped
    return Header(values, shape, dtype, _affine(fields), packing="zlib" if packed else "", start=start)


def _fields(file: IO[bytes]) -> tuple[dict[str, str], int]:
    """Names in lower case -> values, up to the last, which says where the values are; and the bytes until there."""
    fields: dict[str, str] = {}
    while file.tell() < MOST_BYTES:
        line = file.readline(MOST_BYTES)
        name, equals, value = line.decode("latin-1").partition("=")
        if not line:
            raise EOFError
        if not equals:
            raise Implausible("corrupt")
        fields[name.strip().lower()] = value.strip()
        if "elementdatafile" in fields:
            return fields, file.tell()
    raise Implausible("corrupt")


def _affine(fields: dict[str, str]) -> np.ndarray:
    """In RAS; the file counts to the left, to the back and up (LPS), whatever its AnatomicalOrientation: as in ITK."""

    def numbers(count: int, default: str, *names: str) -> np.ndarray:
        text = next((fields[name] for name in names if name in fields), default)
        values = np.array([float(word) for word in text.split()])
        if len(values) != count:
            raise Implausible("corrupt")
        return values

    if not {"elementspacing", "elementsize"} & set(fields):
        raise Implausible("no pixel spacing")
    spacing = numbers(3, "", "elementspacing", "elementsize")
    directions = numbers(9, "1 0 0 0 1 0 0 0 1", "transformmatrix", "rotation", "orientation").reshape(3, 3)
    return affine_of(directions * spacing[:, None], numbers(3, "0 0 0", "offset", "position", "origin"), (-1, -1, 1))


def _true(value: str) -> bool:
    return value[:1].upper() in ("T", "Y", "1")
