"""Folders of image files as users have them: checking the root, listing what is below it, and its fingerprint."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from medlat.core.errors import ArgumentError, UserError, nearest
from medlat.core.machine import logged_to_a_file
from medlat.data.modality import Modality
from medlat.data.patterns import Picked

log = logging.getLogger(__name__)

PACKED = {  # where in a file which bytes stand, and what it is
    (0, b"PK\x03\x04"): "zip archive",
    (0, b"Rar!"): "rar archive",
    (0, b"7z\xbc\xaf"): "7z archive",
    (257, b"ustar"): "tar archive",
    (0, b"\x1f\x8b"): "gzip file",
    (0, b"BZh"): "bzip2 file",
    (0, b"\xfd7zXZ"): "xz file",
}
# Zip files inside, and no archives.
ZIPPED = (".npz", ".docx", ".xlsx", ".pptx", ".pt", ".pth", ".ckpt", ".whl", ".jar")
KINDS = {
    (0, b"\x89PNG"): "picture",
    (0, b"\xff\xd8\xff"): "picture",
    (0, b"II*\0"): "picture",
    (0, b"MM\0*"): "picture",
    (0, b"\x89HDF"): "HDF5 file",
    (0, b"\x93NUMPY"): "NumPy file",
}


class OfFiles:
    """A source that also reads files that are named one by one, wherever they lie (see `SliceSource`).

    alone: arguments of the constructor that speak of files beside the images, and what they are where there are none.
    """

    alone: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of_files(cls, files: Sequence[str], modality: Modality, **settings: Any) -> Self:
        """Of these files and folders alone: absolute paths. modality: of the run's images; settings: of the constructor
        of their source.
        """
        folder = os.path.dirname(os.path.commonpath([*files, os.path.join(files[0], "")]))
        found: Any = cls(**{**settings, **cls.alone, "root": folder, "include": None, "exclude": None})
        found.root, found.picked = "", Picked(files=tuple(files))
        return found


def checked_root(root: str) -> Path:
    """The folder the user named, absolute; `~` is expanded and a relative path is relative to the working directory.

    Raises UserError where it is empty, missing or no folder, with the most similar name that exists.
    """
    if not root.strip():  # else the working directory, which nobody named, would be searched
        raise ArgumentError("root", "empty (an unset variable?), expected a folder")
    path = Path(os.path.abspath(os.path.expanduser(root)))
    # os.path and not pathlib, which raises for a name that is too long, or in a folder that may not be entered
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise ArgumentError("root", f"'{root}' is a file, expected a folder; did you mean '{path.parent}'?")
    parent, missing = path.parent, path.name
    while not os.path.isdir(parent):
        parent, missing = parent.parent, parent.name
    try:
        beside = [entry.name for entry in os.scandir(parent) if os.path.isdir(entry.path)]
        near = None if logged_to_a_file() else nearest(missing, beside)  # it may be called after another patient
    except OSError:
        near = None
    hint = f"did you mean '{parent / near}'?" if near else f"the nearest folder that exists is '{parent}'"
    raise ArgumentError("root", f"there is no folder '{root}'; {hint}")


def walk(root: Path, skipped: Counter[str] | None = None) -> Iterator[os.DirEntry[str]]:
    """Every file below the root, at any depth, in no particular order; links are followed, each folder is entered once.

    skipped: counts what is passed over: hidden files and folders (their name begins with a dot), folders that may
             not be read, links that lead nowhere or where nobody may look.
    """
    skipped = Counter() if skipped is None else skipped
    entered = set()
    folders: list[str] = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(folder))
        except OSError:
            skipped["folder that cannot be read"] += 1
            continue
        for entry in entries:
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself, or into a folder that may not be entered
                is_folder = is_file = False
            if entry.name.startswith("."):
                skipped["hidden"] += 1
            elif is_folder:
                folders.append(entry.path)
            elif is_file:
                yield entry
            else:
                skipped["broken link or special file"] += 1


def listed(root: Path, skipped: Counter[str], picked: Picked) -> list[str]:
    """The files below the root that are picked, sorted; others are counted. Of files that are named, these alone."""
    if picked.files:
        return [path for file in picked.files for path in _files_of(file, skipped)]
    return picked_among(root, sorted(entry.path for entry in walk(root, skipped)), skipped, picked)


def _files_of(path: str, skipped: Counter[str]) -> list[str]:
    return sorted(entry.path for entry in walk(Path(path), skipped)) if os.path.isdir(path) else [path]


def picked_among(root: Path, paths: Sequence[str], skipped: Counter[str], picked: Picked) -> list[str]:
    """Those of some files below the root that are picked; others are counted. Patterns that fit no file are said."""
    if not any(picked):
        return list(paths)
    below = {path: os.path.relpath(path, root).replace(os.sep, "/") for path in paths}
    reasons = {path: picked.refuses(name) for path, name in below.items()}
    skipped.update(reason for reason in reasons.values() if reason)
    for pattern in picked.unused(below.values()):
        log.warning("data.source: the pattern '%s' of include or exclude fits none of %d files", pattern, len(below))
    return [path for path in paths if reasons[path] is None]


def other_kind(path: str) -> str:
    """What a file is that nobody expects below the root, and what to do with it, in fixed words."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        return "file that cannot be opened"
    if not start:
        return "empty file"
    if start[128:132] == b"DICM":
        return "DICOM file"
    return packed_kind(path, start) or _kind(start, KINDS) or "file of another kind"


def fingerprint(root: Path) -> str:
    """sha256 over the sorted (relative path, size in bytes, time of last change in ns) of the files below the root."""
    lines = []
    for entry in walk(root):
        try:
            status = entry.stat()
        except OSError:  # removed since it was listed, or in a folder whose files may be listed and not looked at
            continue
        lines.append(b"%s\0%d\0%d\n" % (os.fsencode(entry.path), status.st_size, status.st_mtime_ns))
    start = len(os.fsencode(str(root)))
    return hashlib.sha256(b"".join(sorted(line[start:] for line in lines))).hexdigest()


def packed_kind(path: str, start: bytes) -> str | None:
    """What a file is that may hold images once it is unpacked, by its first bytes and, of one packed file, its name;
    None of other files, and of packed volumes, which are read as they are.
    """
    kind = _kind(start, PACKED)
    if kind == "gzip file":
        name = path.lower()
        kind = "tar archive" if name.endswith((".tar.gz", ".tgz")) else None if name.endswith(".nii.gz") else kind
    if kind == "zip archive" and path.lower().endswith(ZIPPED):
        kind = None
    return f"{kind}: unpack it" if kind else None


def _kind(start: bytes, kinds: Mapping[tuple[int, bytes], str]) -> str | None:
    return next((kind for (at, magic), kind in kinds.items() if start[at:].startswith(magic)), None)


def nothing_found(root: str, expected: str, reasons: Mapping[str, int], hint: str = "") -> UserError:
    """The error for a root without a single slice: what was found there instead, by reason, and what to do."""
    counts = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    found = ", ".join(f"{count} {reason}" for reason, count in counts) or "no files at all"
    where = f" below '{root}'" if root else ", which the run reads"  # of files that are named
    return ArgumentError("root", f"no {expected}{where}, found: {found}{hint}")
