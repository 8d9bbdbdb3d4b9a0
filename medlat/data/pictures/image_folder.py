"""A folder of pictures with a CSV of labels and groups: histology tiles, radiographs, photographs."""

import hashlib
import math
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, key_in, nearest
from medlat.core.ranges import Positive
from medlat.data.ct.dicom_tree import checked_root, fingerprint
from medlat.data.modality import HISTOLOGY, RADIOGRAPH
from medlat.data.pictures.files import MISSING, Table, below, number, read_picture, read_table, some
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice

CHUNK = 32  # pictures one worker reads in one go
MOST_CLASSES = 100
PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
Kind = Literal["class", "quantity"]


class Picture(NamedTuple):
    """One row of the CSV: the file, its label as text, its group and its part of a published split."""

    path: str
    label: str
    group: str
    part: float


class ImageFolder:
    """The pictures (PNG, JPEG, TIFF, BMP) that a CSV below a folder lists, one row each, of at most 8192² pixels.

    root:         the folder; `~` is expanded. Nothing outside of it is read.
    labels:       the CSV, relative to the root, or its absolute path; separated by comma, semicolon or tab, UTF-8.
    path_column:  names the picture, relative to the root.
    label_column: the label. Columns of the slice store are named after it: `label.<label_column>`.
    group_column: who it is of (patient, slide, original): a split never divides a group. None: each file is its own.
    split_column: the part that whoever published the data gave it to: train, validation or test. None: there is none.
    classes:      the classes in their order (of an ordinal label: rising). None: all that occur, sorted, numbers as
                  numbers.
    colour:       RGB as of histology; else greyscale, as of radiographs.
    mpp:          micrometres per pixel, above 0.
    white:        the stored value that is white in greyscale files, e.g. 4095 of 12-bit radiographs in 16-bit files;
                  None: 255 or 65535.
    kind:         "class", or "quantity": the label is a number to regress.

    Raises UserError where root or mpp is wrong; the CSV is checked by `scan`, which names all that is wrong with it.
    """

    def __init__(
        self,
        root: str,
        labels: str = "labels.csv",
        path_column: str = "path",
        label_column: str = "label",
        group_column: str | None = "group",
        split_column: str | None = None,
        classes: list[str | int] | None = None,
        colour: bool = True,
        mpp: Positive = 0.5,
        white: Positive | None = None,
        kind: Kind = "class",
    ) -> None:
        if not 0 < mpp < math.inf:
            raise ArgumentError("mpp", "expected more than 0 micrometres per pixel, e.g. 0.5", mpp)
        if white is not None and not 0 < white < math.inf:
            raise ArgumentError("white", "expected a stored value above 0, e.g. 4095, or null", white)
        if kind not in ("class", "quantity"):
            raise ArgumentError("kind", "expected class or quantity", kind)
        self.modality = HISTOLOGY if colour else RADIOGRAPH
        self.root, self.folder = root, checked_root(root)
        if not labels.strip():
            raise ArgumentError("labels", "empty (an unset variable?), expected a CSV file")
        self.labels = self.folder / os.path.expanduser(labels)
        self.path_column, self.label_column = path_column, label_column
        self.group_column, self.split_column = group_column, split_column
        self.classes = [_plain(str(name)) for name in classes] if classes is not None else None
        self.colour, self.mpp, self.white, self.kind = colour, mpp, white, kind

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file, and the content of the CSV."""
        self._table()
        return hashlib.sha256(fingerprint(self.folder).encode() + self.labels.read_bytes()).hexdigest()

    def expected(self) -> int:
        """Rows of the CSV."""
        return len(self._table().rows)

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read the CSV; chunks of one group each. Raises UserError with all that is wrong in it."""
        table = self._table()
        problems: list[str] = []
        pictures = self._pictures(table, problems)
        names, value_of = self._values(pictures, problems)
        if problems:
            lines = "".join(f"\n  {line}" for line in problems)
            raise ArgumentError(
                "labels", f"{len(problems)} problem{'s' * (len(problems) > 1)} in '{self.labels}':{lines}"
            )
        groups: defaultdict[str, list[Picture]] = defaultdict(list)
        for one in pictures:
            groups[one.group].append(one)
        scan = Scan(classes={self.label_column: names} if names else {}, patients_known=self.group_column is not None)
        scan.skipped = dict(+Counter({"listed twice": len(table.rows) - len(pictures)}))
        for group, members in groups.items():
            parts = [members[i : i + CHUNK] for i in range(0, len(members), CHUNK)]
            scan.chunks += [Chunk(group, tuple(part), self._columns(part, value_of)) for part in parts]
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """Decode the chunk's pictures, in order; a file that cannot be is `Damaged`."""
        spacing = self.mpp / 1000.0
        for item in chunk.items:
            try:
                yield Slice(read_picture(item.path, self.colour, self.white), (spacing, spacing))
            except ValueError as error:
                yield Damaged(item.path, str(error))

    def _table(self) -> Table:
        table = read_table(key_in(self, "labels"), self.labels)
        table.check_column(key_in(self, "path_column"), self.path_column)
        table.check_column(key_in(self, "label_column"), self.label_column)
        if self.group_column is not None:
            table.check_column(key_in(self, "group_column"), self.group_column)
        if self.split_column is not None:
            table.check_column(key_in(self, "split_column"), self.split_column)
        return table

    def _pictures(self, table: Table, problems: list[str]) -> list[Picture]:
        """The rows, each file once; what is wrong with paths, labels, groups and parts is added to the problems."""
        outside: list[str] = []
        faults: dict[str, list[str]] = {
            word: [] for word in ("no such file", "no label", "no group", "two rows", "part")
        }
        found: dict[str, Picture] = {}
        for row in table.rows:
            cell = row[self.path_column]
            path = below(self.folder, cell)
            if path is None:
                outside.append(cell)
                continue
            group = row[self.group_column] if self.group_column else cell
            part = PARTS.get(row[self.split_column].lower(), math.nan) if self.split_column else math.nan
            one = Picture(str(path), row[self.label_column], group, part)
            known = found.setdefault(one.path, one)
            wrong = {
                "no such file": known is one and _is_missing(path),
                "no label": one.label.lower() in MISSING,
                "no group": group.lower() in MISSING,
                "two rows": known[:3] != one[:3] or str(known.part) != str(part),
                "part": self.split_column is not None and math.isnan(part),
            }
            for word, is_so in wrong.items():
                if is_so:
                    faults[word].append(cell)
        texts = {
            "no such file": "listed but not there, below the root",
            "no label": f"without a {self.label_column}",
            "no group": f"without a {self.group_column}",
            "two rows": "listed twice with different label, group or part",
            "part": f"with a {self.split_column} that is none of train, validation, test",
        }
        if outside:
            problems.append(f"{len(outside)} paths that leave the root: {some(outside)}")
        problems += [f"{len(cells)} {texts[word]}: {some(cells)}" for word, cells in faults.items() if cells]
        return list(found.values())

    def _values(self, pictures: list[Picture], problems: list[str]) -> tuple[tuple[str, ...], dict[str, float]]:
        """The names of the classes (none of a quantity), and the number that each text of a label stands for."""
        texts = sorted({one.label for one in pictures if one.label.lower() not in MISSING})
        if self.kind == "quantity":
            if words := [text for text in texts if number(text) is None]:
                problems.append(f"{len(words)} labels that are no numbers: {some(words)}; data.kind=class takes names")
            elif len(texts) == 1:
                problems.append(f"every label is '{texts[0]}', expected a quantity that varies")
            return (), {text: number(text) or 0.0 for text in texts}
        name_of = {text: _plain(text) if all(number(t) is not None for t in texts) else text for text in texts}
        occurring = sorted(set(name_of.values()), key=lambda name: (number(name) is None, number(name) or 0.0, name))
        names = occurring if self.classes is None else self.classes
        if unknown := [name for name in occurring if name not in names]:
            near = nearest(unknown[0], names)
            hint = f"; did you mean '{near}'?" if near else ""
            problems.append(f"labels that are not among data.classes {names}: {some(unknown)}{hint}")
        if len(occurring) == 1:
            problems.append(f"every label is '{occurring[0]}', expected at least two classes")
        if len(names) > MOST_CLASSES:
            problems.append(
                f"{len(names)} different labels, expected at most {MOST_CLASSES} classes; a number is read "
                f"by data.kind=quantity"
            )
        return tuple(names), {text: float(names.index(name)) for text, name in name_of.items() if name in names}

    def _columns(self, pictures: list[Picture], value_of: dict[str, float]) -> dict[str, np.ndarray]:
        columns = {
            "position_mm": np.zeros(len(pictures)),
            f"label.{self.label_column}": np.array([value_of[one.label] for one in pictures]),
        }
        return columns | ({"split": np.array([one.part for one in pictures])} if self.split_column else {})


def _is_missing(path: Path) -> bool:
    """Whether there is no such file. What cannot even be looked at (the name is too long for a disk, the folder may not
    be entered) is left to `read`, where it counts as damaged.
    """
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # ValueError: the name holds a NUL
        return False


def _plain(text: str) -> str:
    """A number in its shortest form, so that 1, 1.0 and 01 are one class; other text as it is."""
    value = number(text)
    return text if value is None else f"{value:.12g}"
