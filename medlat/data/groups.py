"""Who an image is of (its group: patient, slide, original): as the user says, for every source alike."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medlat.core.errors import ArgumentError, did_you_mean, key_in, nearest
from medlat.data.equal import equal_pixels
from medlat.data.modality import Modality
from medlat.data.pictures.files import MISSING, Tree, read_table, some
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice, SliceSource

log = logging.getLogger(__name__)

WORDS = ("folder", "study")
TABLES = (".csv", ".tsv")
OTHERWISE = (
    "expected null (what the data say themselves), a folder level (1: the first below the root), folder, study, a "
    "pattern with one group in parentheses, e.g. '(patient_[0-9]+)', or a CSV with the columns path and group"
)
COLUMN = "group"  # of the CSV of pictures, where there is one, unless the user names another
NO_FILES = "these data are not files below a folder, whose paths could tell; expected null"


def is_table(group: str | int) -> bool:
    """Whether `data.group` names a CSV file."""
    return isinstance(group, str) and group.lower().endswith(TABLES)


def rule(source: SliceSource, group: str | int | None) -> str | int | None:
    """What `Grouped` is to go by; None where the source finds its groups itself.

    group: as `data.group`: the name of a column, where the source has a table (`ImageFolder.columns`), which it then
           reads itself; anything else as of `Grouped`. Raises ArgumentError of `group` where it is no column and cannot
           be anything else.
    """
    if group is None or not hasattr(source, "columns"):
        return group
    if group == COLUMN:
        return None
    columns = source.columns()
    if isinstance(group, str) and not is_table(group):
        if group in columns:
            return None
        if columns and group not in WORDS and "(" not in group:
            near = nearest(group, [*columns, *WORDS])
            hint = f"did you mean '{near}'? " if near else ""
            raise ArgumentError(
                "group", f"no column of the CSV, which has {', '.join(columns)}; {hint}{OTHERWISE}", group
            )
    source.group_column = None  # type: ignore[attr-defined]
    return group


class Grouped:
    """A source whose groups are those that the user names, whatever the source itself says.

    group: how the group of a file is found by its path below the root, written with forward slashes:
           a number   the name of the folder at that level, 1 the first below the root;
           "folder"   the folder that holds the file, as the path to it;
           "study"    the examination that it belongs to, where the source knows it (DICOM);
           a pattern  a regular expression with one group in parentheses, searched in the path: what the group matches;
           a CSV      its path, relative to the root or absolute, ending in .csv or .tsv; in column `path` a file, or a
                      folder, which stands for all below it, in column `group` who it is of.

    Raises ArgumentError of `group` where it is none of these, or the source reads no files below a folder; and in
    `scan` where some file gets no group: a few are named.
    """

    def __init__(self, source: SliceSource, group: str | int) -> None:
        self.source, self.group = source, group
        self.pattern = None if isinstance(group, int) or group in WORDS or is_table(group) else _pattern(group)
        self.folder = getattr(source, "folder", None)
        if group != "study" and self.folder is None:
            raise ArgumentError("group", NO_FILES, group)
        if isinstance(group, int) and group < 1:
            raise ArgumentError("group", OTHERWISE, group)

    @property
    def modality(self) -> Modality:
        return self.source.modality

    def fingerprint(self) -> str:
        """The source's, and that of the CSV where there is one."""
        own = self.source.fingerprint()
        if not is_table(self.group):
            return own
        self._table()  # says what is wrong with it
        return hashlib.sha256(own.encode() + self._table_path.read_bytes()).hexdigest()

    def expected(self) -> int | None:
        return self.source.expected()

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """What the source finds, its chunks divided anew so that each is of one group."""
        scan = self.source.scan(parallel_map)
        if not all(hasattr(item, "path") for chunk in scan.chunks for item in chunk.items):
            raise ArgumentError("group", NO_FILES, self.group, of=self)
        paths = sorted({item.path for chunk in scan.chunks for item in chunk.items})
        find = self._finder(scan.studies)
        groups = {path: find(path) for path in paths}
        if unknown := [self._below(path) for path in paths if not groups[path]]:
            raise ArgumentError("group", self._unknown(unknown, len(paths)), self.group, of=self)
        log.info("data.group: %d files in %d groups", len(paths), len(set(groups.values())))
        if is_table(self.group):
            self._say_unread(paths)
        scan.chunks, scan.groups = [part for chunk in scan.chunks for part in _divided(chunk, groups)], "groups"
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged | Remark]:
        return self.source.read(chunk)

    @property
    def has_labels(self) -> bool:
        return getattr(self.source, "has_labels", True)

    def compare(self, images: Any, rows: np.ndarray, scan: Scan) -> dict[int, Any]:
        """As the source's, where it has it."""
        return self.source.compare(images, rows, scan) if hasattr(self.source, "compare") else {}

    def _below(self, path: str) -> str:
        return os.path.relpath(path, self.folder or "").replace(os.sep, "/")

    def _finder(self, studies: Mapping[str, str]) -> Callable[[str], str | None]:
        """path -> its group; None or empty where it has none."""
        group = self.group
        if group == "study":
            return studies.get
        if group == "folder":
            return lambda path: self._below(path).rpartition("/")[0]
        if isinstance(group, int):
            return lambda path: _at(self._below(path).split("/")[:-1], group - 1)
        if self.pattern is not None:
            found = self.pattern.search
            return lambda path: match[1] if (match := found(self._below(path))) else None
        table = self._table()
        return lambda path: next((table[part] for part in _above(self._below(path)) if part in table), None)

    def _unknown(self, paths: Sequence[str], count: int) -> str:
        whose = {
            "study": "are of no study that the source knows",
            "folder": "lie in no folder below the root",
        }.get(str(self.group))
        if whose is None:
            level = f"lie in no folder at level {self.group} below the root"
            whose = (
                level if isinstance(self.group, int) else "do not match it" if self.pattern else "are not listed there"
            )
        return f"{len(paths)} of {count} files {whose}, so that nobody knows who they are of: {some(paths)}"

    def _say_unread(self, paths: Sequence[str]) -> None:
        """A log line where rows of the CSV name no file that is read: the CSV may be of another folder."""
        there = {part for path in paths for part in _above(self._below(path))}
        table = self._table()
        if unread := len(set(table) - there):
            log.warning("data.group: %d of %d rows of the CSV name no file that is read", unread, len(table))

    @property
    def _table_path(self) -> Path:
        return Path(self.folder or "") / os.path.expanduser(str(self.group))

    def _table(self) -> dict[str, str]:
        """Path below the root, of a file or a folder -> group."""
        key, root = key_in(self, "group"), Path(self.folder or "")
        table = read_table(key, self._table_path)
        for column in ("path", "group"):
            table.check_column(key, column)
        found: dict[str, str] = {}
        twice, outside, empty = [], [], []
        tree = Tree(root)
        for row in table.rows:
            path = tree.place(row["path"])
            if path is None:
                outside.append(row["path"])
                continue
            name = path.relative_to(root).as_posix()
            if row["group"].lower() in MISSING:
                empty.append(row["path"])
            if found.setdefault(name, row["group"]) != row["group"]:
                twice.append(row["path"])
        problems = {
            "are listed with different groups": twice,
            "are not below the root": outside,
            "have no group": empty,
        }
        for problem, wrong in problems.items():
            if wrong:
                raise ArgumentError("group", f"{len(wrong)} paths {problem}: {some(wrong)}", self.group, of=self)
        return found


def called(column: str) -> str:
    """What groups that a column or key of that name tells apart are called."""
    return "patients" if re.search("patient|person|subject", column, re.IGNORECASE) else "groups"


def _pattern(group: str) -> re.Pattern[str]:
    if "(" not in group:
        near = did_you_mean(group, WORDS)
        raise ArgumentError("group", (f"{near[2:]} " if "mean" in near else "") + OTHERWISE, group)
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ArgumentError("group", f"no regular expression ({error})", group) from error
    if pattern.groups != 1:
        raise ArgumentError("group", f"{pattern.groups} groups in parentheses, expected one; (?:...) is none", group)
    return pattern


def _at(parts: Sequence[str], index: int) -> str | None:
    return parts[index] if index < len(parts) else None


def _above(path: str) -> Iterator[str]:
    """The path and the folders above it, the nearest first."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _divided(chunk: Chunk, groups: Mapping[str, str | None]) -> Iterator[Chunk]:
    """The chunk, cut so that each part is of one group; the order of the items is kept."""
    members: dict[str, list[int]] = {}
    for index, item in enumerate(chunk.items):
        members.setdefault(groups[item.path] or "", []).append(index)
    for group, indices in members.items():
        columns = {name: values[indices] for name, values in chunk.columns.items()}
        yield replace(chunk, patient=group, known=True, items=tuple(chunk.items[i] for i in indices), columns=columns)


def joined(chunks: Sequence[Chunk], images: Any, rows: np.ndarray, are_files: bool = True) -> list[Chunk]:
    """The same chunks; of files that nothing says whose they are, those that share an image with another one, pixel for
    pixel, are one patient with it. Patients that are named stay apart.

    images: [N, C, H, W], the items of all chunks in order; rows: of `images` that hold one, rising;
    are_files: whether they are of files below a folder, so that `data.group` could say more.
    """
    if len(rows) == 0:
        return list(chunks)
    owner = [chunk.patient for chunk in chunks for _ in chunk.items]
    alone = {chunk.patient for chunk in chunks if not chunk.known}
    first: dict[str, str] = {}

    def of(patient: str) -> str:
        while first.get(patient, patient) != patient:
            patient = first[patient]
        return patient

    log.info(
        "nothing says who the images are of: each of %d %s counts as a group of its own%s",
        len({owner[row] for row in rows.tolist()} & alone),
        "files" if are_files else "images",
        "; data.group=... says which belong together" if are_files else "",
    )
    for same in equal_pixels(images, rows):
        whose = [of(owner[row]) for row in same]
        of_whom = next((one for one in whose if one not in alone), whose[0])
        first |= {one: of_whom for one in whose if one in alone and one != of_whom}
    if merged := len({patient for patient in owner if of(patient) != patient}):
        log.info("%d of them hold an image of another one, pixel for pixel, and count as one group with it", merged)
    return [replace(chunk, patient=of(chunk.patient)) for chunk in chunks]
