"""A file that a browser sends, read by the run's own source: nothing of it stays on the disk, its name is not known."""

import gzip
import re
import tempfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread

from medlat.core.errors import UserError
from medlat.data.given import Prepared
from medlat.study.finished import Run

LARGEST_FILE = 64 * 2**20  # bytes of a file
UNPACKED = 512 * 2**20  # bytes of what a packed one holds
SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){0,2}")
PLACE = re.compile(r"(\d{1,9}(,\d{1,9})?)?")
TOO_LARGE = f"the file has more than {LARGEST_FILE // 2**20} MB; expected less, or the command medlat explain"


async def read_upload(run: Run, body: AsyncIterator[bytes], suffix: str, place: str) -> Prepared:
    """The one image of an upload, prepared as those of the run.

    suffix: of the file's name, e.g. ".nii.gz". place: which slice of a volume, or "X,Y" of a slide; "": the only one.
    Raises UserError where it is none, is too large, or unpacks to more than is sane; the message says "the file".
    """
    if not SUFFIX.fullmatch(suffix) or not PLACE.fullmatch(place):
        raise UserError(f"suffix={suffix}, place={place}: expected e.g. .png, and the number of a slice or X,Y")
    with tempfile.TemporaryDirectory(prefix="medlat-") as folder:
        path = Path(folder) / f"image{suffix}"
        with path.open("wb") as file:
            async for part in body:
                if file.tell() + len(part) > LARGEST_FILE:
                    raise UserError(TOO_LARGE)
                file.write(part)
        return await to_thread.run_sync(_read, run, path, place)


def _read(run: Run, path: Path, place: str) -> Prepared:
    _check_unpacked(path)
    try:
        return run.read(f"{path}@{place}" if place else str(path))
    except UserError as error:
        raise UserError(str(error).replace(str(path), "the file")) from None  # nobody typed that path


def _check_unpacked(path: Path) -> None:
    """Raises UserError where a gzip file is damaged, or holds more than is read into memory."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
    size = 0
    try:
        with gzip.open(path) as packed:
            while part := packed.read(2**20):
                size += len(part)
                if size > UNPACKED:
                    raise UserError(f"the file unpacks to more than {UNPACKED // 2**20} MB; expected less")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("the file is packed, and damaged") from error
