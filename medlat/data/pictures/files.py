"""Tables of files as users have them: reading a CSV, and finding the files that it names below a folder."""

import csv
import math
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from medlat.core.errors import UserError, did_you_mean
from medlat.data.ct.dicom_tree import walk

SEPARATORS = ",;\t|"
MISSING = {"", "nan", "na", "n/a", "null"}
ABSENT = "listed but not there"


class Table(NamedTuple):
    """A CSV file: its column names, its rows as text, and the names that several columns with different values have."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    ambiguous: frozenset[str] = frozenset()

    def check_column(self, key: str, name: str, otherwise: str = "") -> None:
        """Raises UserError where there is no column of that name, or several. key: the configuration's word;
        otherwise: what to do where there is none.
        """
        if name not in self.columns:
            raise UserError(f"{key}: the CSV has no column '{name}'{did_you_mean(name, self.columns)}{otherwise}")
        if name in self.ambiguous:
            count = self.columns.count(name)
            raise UserError(f"{key}: the CSV has {count} columns '{name}' with different values; expected one")


def read_table(key: str, path: Path, otherwise: str = "") -> Table:
    """A CSV file with a header, separated by comma, semicolon, tab or |, in UTF-8. Blanks about a value are dropped,
    and so are lines of blanks and a first line `sep=;` as Excel writes it.

    Raises UserError, beginning with the configuration's key, where it is absent (`otherwise`: what to do then),
    unreadable or without rows.
    """
    if not os.path.isfile(path):
        try:
            there = [name for name in os.listdir(path.parent) if name.endswith(".csv")]
        except OSError:
            there = []
        raise UserError(f"{key}: there is no file '{path}'{did_you_mean(path.name, there)}{otherwise}")
    try:
        lines = _lines(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{key}: '{path}' cannot be read as a CSV file in UTF-8 ({type(error).__name__})") from error
    if len(lines) < 2:
        raise UserError(f"{key}: '{path}' has no rows, expected a line of column names and one line per image")
    (_, columns), rows = lines[0], lines[1:]
    for number, cells in rows:
        while len(cells) > len(columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(columns):
            raise UserError(
                f"{key}: line {number} of '{path}' has {len(cells)} values, "
                f"expected one for each of the {len(columns)} columns"
            )
    named: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(columns):
        named[name].append(place)
    ambiguous = (name for name, at in named.items() if any(len({cells[i] for i in at}) > 1 for _, cells in rows))
    found = [dict(zip(columns, cells, strict=True)) for _, cells in rows]
    return Table(tuple(columns), found, frozenset(ambiguous))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that hold anything, each with its number in the file."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        said = header.strip().strip('"').lower()
        if said.startswith("sep=") and len(said) == 5:
            separator, before = said[4], 1
        else:
            separator, before = max(SEPARATORS, key=header.count), 0
            file.seek(0)
        reader = csv.reader(file, delimiter=separator)
        cut = ((before + reader.line_num, [cell.strip() for cell in line]) for line in reader)
        return [(number, cells) for number, cells in cut if any(cells)]


class Tree:
    """The files below a folder, found by what a table calls them.

    A cell is a path relative to the root, or to the folder that it lies in, with either slash, or an absolute one
    below the root. Where no such file is there,
    it is looked for in all folders below the root by the end of its path; then in another spelling (case, or another
    Unicode form of the same letters); then without its suffix, which tables of DICOM files leave out. It counts as
    found where one file fits; `ways` counts how often each of these ways was needed.
    """

    WAYS = ("in another folder below the root", "in another spelling (case, or Unicode form)", "without the suffix")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ways: Counter[str] = Counter()

    def place(self, cell: str) -> Path | None:
        """Where the file of a cell would lie; None where that is not below the root."""
        for root in {str(self.root), os.path.realpath(self.root)}:
            if cell.startswith(root.rstrip("/") + "/"):
                cell = cell[len(root) :].lstrip("/")
        relative = PureWindowsPath(cell)
        if relative.is_absolute() or relative.anchor or ".." in relative.parts or not relative.parts:
            return None
        name = self.root.name
        if len(relative.parts) > 1 and relative.parts[0] == name and not os.path.isdir(self.root / name):
            relative = relative.relative_to(name)
        return self.root / relative.as_posix()

    def find(self, path: Path) -> tuple[Path, str | None]:
        """The file of a place, and None; the place itself, and the reason, where none is there or several fit."""
        if not is_missing(path):
            return path, None
        parts = path.relative_to(self.root).parts
        folded = tuple(map(_folded, parts))
        tails = [(one, one.parts[-len(parts) :]) for one in self._named.get(folded[-1], ())]
        fitting = (
            [one for one, tail in tails if tail == parts],
            [one for one, tail in tails if tuple(map(_folded, tail)) == folded],
            [one for one, tail in tails if (*map(_folded, tail[:-1]), _folded(Path(tail[-1]).stem)) == folded],
        )
        for way, found in zip(self.WAYS, fitting, strict=True):
            if len(found) > 1:
                return path, f"{ABSENT} (and {len(found)} files in other folders fit)"
            if found:
                self.ways[way] += 1
                return self.root / found[0], None
        return path, ABSENT

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        """Every file below the root, relative to it, by its folded name with and without the suffix."""
        named: defaultdict[str, list[Path]] = defaultdict(list)
        for entry in walk(self.root):
            one = Path(os.path.relpath(entry.path, self.root))
            for name in {_folded(one.name), _folded(one.stem)}:
                named[name].append(one)
        return named


def _folded(text: str) -> str:
    """Without regard to case and to how Unicode writes a letter with its accent."""
    return unicodedata.normalize("NFC", text).casefold()


def is_missing(path: Path) -> bool:
    """Whether there is no such file. What cannot even be looked at (the name is too long for a disk, the folder may not
    be entered) is left to whoever reads it, where it counts as damaged.
    """
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # ValueError: the name holds a NUL
        return False


def some(names: Sequence[str] | Mapping[str, object], most: int = 3) -> str:
    """The first few names, quoted, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def number(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
