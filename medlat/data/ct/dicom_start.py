"""How a DICOM file begins: what says that it is one, and what it would unpack to."""

import os
import zlib
from typing import Any

from medlat.data.ct.dicom_tree import packed_kind
from medlat.data.source import Damaged

SUFFIXES = (".dcm", ".dicom", ".ima")
PREFIX = b"DICM"  # after 128 bytes of anything
FIRST_TYPES = {b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO"}  # of the values that a file may begin with
DEFLATED = "1.2.840.10008.1.2.1.99"
MOST_INFLATED = 1 << 28  # bytes of a deflated file: 500 frames of 512²; pydicom holds them in memory two or three times


def not_dicom(path: str, start: bytes, size: int) -> Damaged | str | None:
    """Why a file is none of DICOM, or None where it is. start: its first 132 bytes; size: of all of it.

    Files of another kind are no damage, unless their name says DICOM (or, where empty, says nothing else).
    """
    named = says_dicom(path, start)
    if size == 0 and (named or not os.path.splitext(path)[1][1:].isalpha()):
        return Damaged(path, "empty file")
    if start[128:] == PREFIX or is_bare(start):
        return None
    if packed := packed_kind(path, start):
        return packed
    return Damaged(path, "named as DICOM, but is not (no DICM prefix)") if named else "not DICOM"


def says_dicom(path: str, start: bytes) -> bool:
    """By its prefix or its name. What only begins with a tag of DICOM may be anything."""
    return start[128:] == PREFIX or os.path.splitext(path)[1].lower() in SUFFIXES


def begins_as_dicom(path: str) -> bool:
    """Whether a file may be DICOM by its name or its beginning; one that cannot be opened may be."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return True
    return says_dicom(path, start) or is_bare(start)


def is_bare(start: bytes) -> bool:
    """Whether a file begins with its first tag, of group 2 or 8, as files of old archives do: without the 128 bytes and
    the letters DICM that come before it elsewhere.
    """
    tag = start[:4]
    if tag[:2] == b"\0\x08":  # big-endian, which always names the type of a value
        return tag[2:3] == b"\0" and tag[3:] <= b"\x90" and start[4:6] in FIRST_TYPES
    if tag[:2] not in (b"\x02\0", b"\x08\0") or tag[2:3] > b"\x90" or tag[3:] != b"\0":
        return False
    return start[4:6] in FIRST_TYPES or int.from_bytes(start[4:8], "little") <= 1024  # or the length of the value


def inflates_too_far(file: Any, start: bytes) -> bool:
    """Whether this is a deflated file that would fill the memory: pydicom inflates all of it, even for the header.

    file: stands after its first 132 bytes, `start`, and is left anywhere; what is inflated here is only counted.
    """
    from pydicom.filereader import read_dataset

    if start[128:] != PREFIX:
        if start[:2] != b"\x02\0":  # it does not say how it is written, so that it is not deflated
            return False
        file.seek(0)
    about = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if str(about.get("TransferSyntaxUID", "")).strip(" \0") != DEFLATED:
        return False
    inflate, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while count <= MOST_INFLATED and (packed := inflate.unconsumed_tail or file.read(1 << 16)):
        count += len(inflate.decompress(packed, 1 << 20))
    return count > MOST_INFLATED
