"""Files that are there whole or not at all, and what is said where a disk refuses them."""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medlat.core.errors import UserError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file at, which takes the place of what was there once it is whole: a kill or a
    full disk leaves the one or the other.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same of a new folder, with all that is written into it."""
    fresh = path.with_name(f".{path.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # of a kill
    fresh.mkdir()
    try:
        yield fresh
        os.rename(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Text in UTF-8."""
    with whole(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def copy_whole(source: Path, folder: Path) -> None:
    """A file into a folder, under its name."""
    with whole(folder / source.name) as fresh:
        shutil.copy(source, fresh)


def write_json(path: Path, value: Any) -> None:
    """A plain value as JSON."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def jsonable(value: Any) -> Any:
    """Mappings, lists and plain values as JSON knows them: None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """The value in a file; None where there is no file, or none that is whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


@contextmanager
def writing(key: str, folder: Path) -> Iterator[None]:
    """Turn what the disk of a folder refuses into a UserError that names the key which sets the folder. Errors about
    files elsewhere pass as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if problem := _refusal(error, folder):
            raise UserError(f"{key}={folder}: {problem.format(key=key)}") from error
        raise


def _refusal(error: Exception, folder: Path) -> str | None:
    """What a disk refuses, and what to do about it; None where it is another error, or one of another folder."""
    path = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy the second
    if path is not None and not _is_near(path, folder):
        return None
    if (full := _no_space(error)) is not None:
        return f"the disk is full ({os.strerror(full)}); free space or set {{key}}=DIR"
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno in NO_LOCKS:
        return f"this disk has no file locks ({error.strerror}); set {{key}}=DIR to one that has"
    there = folder.is_dir() and (path is None or Path(os.fsdecode(path)).parent.is_dir())
    gone = error.errno == errno.ENOENT and not there
    if gone or (error.errno in REFUSED and path is not None):
        return f"cannot be written ({error.strerror}); set {{key}}=DIR to a folder that can"
    return None


def _no_space(error: BaseException | None) -> int | None:
    """The system's number for a full disk, where that is behind an error: safetensors has a class of its own, torch's
    archives trip over what is missing once the OSError is behind them, and NumPy counts what was written.
    """
    seen: set[int] = set()  # an error that is raised again while it is handled stands behind itself
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number is None and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
            number = errno.ENOSPC
        if number in NO_SPACE:
            return number
        error = error.__cause__ or error.__context__
    return None


def _is_near(path: str | bytes, folder: Path) -> bool:
    """Whether it is below the folder, or a folder above it."""
    one, other = (Path(os.path.abspath(os.fsdecode(p))) for p in (path, folder))
    return one.is_relative_to(other) or other.is_relative_to(one)
