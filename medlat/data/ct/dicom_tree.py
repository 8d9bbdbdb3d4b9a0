"""Folders of image files as users have them: checking the root, listing what is below it, and its fingerprint."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from medlat.core.errors import ArgumentError, UserError, nearest
from medlat.core.machine import logged_to_a_file

ARCHIVES = {"zip": b"PK\x03\x04", "7z": b"7z\xbc\xaf\x27\x1c", "rar": b"Rar!", "xz": b"\xfd7zXZ", "bzip2": b"BZh"}


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
    """What kind of archive a file is that may hold images, by its first bytes and, of one packed file, its name; None
    of other files.
    """
    if start.startswith(b"\x1f\x8b"):
        tar = path.lower().endswith((".tar.gz", ".tgz"))
        inner = os.path.splitext(os.path.splitext(path)[0])[1].lower()
        return "tar archive: unpack it" if tar else None if inner == ".nii" else "gzip file: unpack it"
    return next((f"{name} archive: unpack it" for name, magic in ARCHIVES.items() if start.startswith(magic)), None)


def nothing_found(root: str, expected: str, reasons: Mapping[str, int], hint: str = "") -> UserError:
    """The error for a root without a single slice: what was found there instead, by reason, and what to do."""
    counts = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    found = ", ".join(f"{count} {reason}" for reason, count in counts) or "no files at all"
    return ArgumentError("root", f"no {expected} below '{root}', found: {found}{hint}")
