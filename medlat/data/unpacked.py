"""Packed data laid out on the disk, so that memory grows neither with what a file holds nor with what it claims."""

import mmap
import tempfile
from typing import IO

from medlat.core.errors import UserError

BLOCK = 1 << 20
SPARE = 1 << 24  # bytes that a stream may go on beyond what is asked for
MOST_TIMES = 1100  # deflate packs to a 1032nd at best


def unpacked(stream: IO[bytes], size: int) -> IO[bytes]:
    """The first `size` bytes of a stream, in a temporary file without a name.

    The stream is read to its end, where gzip and zip look whether anything is damaged; what goes beyond `size` is not
    kept. Raises EOFError where the stream is shorter, ValueError where it is longer by more than 16 MB, UserError
    where the temporary folder is full or missing, and whatever the stream raises.
    """
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller's)
    except OSError as error:
        raise _no_room(size) from error
    count = 0
    while block := stream.read(BLOCK):
        try:
            file.write(block[: max(0, size - count)])
            file.flush()
        except OSError as error:
            raise _no_room(size) from error
        count += len(block)
        if count > size + SPARE:
            raise ValueError("longer than its header says")
    if count < size:
        raise EOFError
    return file


def _no_room(size: int) -> UserError:
    return UserError(
        f"TMPDIR: no room in the folder for temporary files to unpack {size / 1e9:.1f} GB; expected more there, or "
        f"another folder, TMPDIR=DIR"
    )


def forget_pages(mapped: mmap.mmap) -> None:
    """Takes what was read of a memory-mapped file out of this process's memory; it stays in the system's cache."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
