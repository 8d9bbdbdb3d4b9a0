"""From the rows of a CSV to the pictures that they list."""

import logging
import math
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from medlat.core.errors import ArgumentError, key_in
from medlat.data.ct.dicom_tree import picked_among
from medlat.data.pictures.files import Table, Tree, some
from medlat.data.pictures.labels import PARTS, is_blank, plain, whole
from medlat.data.source import Damaged, Remark, Scan

log = logging.getLogger(__name__)


class Picture(NamedTuple):
    """One file: its label as text ("" for none), its group, its part of a published split, whether its grey levels are
    turned about, and, where it is named like a label map, after which file ("": it says so itself; None: it is not).
    """

    path: str
    label: str
    group: str
    part: float
    inverted: bool = False
    named_after: str | None = None


def below(folder: Path, path: str) -> str:
    """The path below the root, so that the same files elsewhere are the same."""
    return os.path.relpath(path, folder)


def refuse(source: Any, problems: list[str]) -> None:
    """Raises UserError with all that is wrong in the CSV, where anything is."""
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise ArgumentError("labels", f"{count} in '{source.labels}':{lines}", of=source)


class Listing:
    """The pictures of a table.

    source: an `ImageFolder`, for its folder, the names of its columns, and what is done with rows without a label.
    scan:   counts what is left out: files that are not there, and rows without a label.
    """

    def __init__(self, source: Any, table: Table, scan: Scan) -> None:
        self.source, self.table, self.scan = source, table, scan
        self.problems: list[str] = []

    def pictures(self) -> list[Picture]:
        """Each file once. Raises UserError with all that is wrong, and where no row is left."""
        rows, blank = self._rows(), Counter[str]()
        found: dict[str, Picture] = {}
        faults: defaultdict[str, list[str]] = defaultdict(list)
        for path, row in rows:
            one = self._picture(path, row)
            if self.source.has_labels and is_blank(one.label):
                blank[path] += 1
                continue
            for fault in self._faults(one, found.setdefault(path, one)):
                faults[fault].append(row[self.source.path_column])
        self.problems += [f"{len(cells)} {fault}: {some(cells)}" for fault, cells in faults.items()]
        refuse(self.source, self.problems)
        self._leave_out_blank(blank)
        if repeated := len(rows) - len(found) - sum(blank.values()):
            self.scan.skipped["listed twice"] = repeated
        if not found:
            raise ArgumentError("labels", f"no row of '{self.source.labels}' has a label", of=self.source)
        return self._wanted(list(found.values()))

    def _rows(self) -> list[tuple[str, dict[str, str]]]:
        """The rows whose file is there, each with it. Others are damaged; it is a problem where all are."""
        tree, outside = Tree(self.source.folder), []
        places: list[tuple[str, str | None, dict[str, str]]] = []
        for row in self.table.rows:
            cell = row[self.source.path_column]
            place = tree.place(cell)
            if place is None:
                outside.append(cell)
                continue
            path, reason = tree.find(place)
            places.append((str(path), reason, row))
        skipped: Counter[str] = Counter()
        paths = dict.fromkeys(path for path, _, _ in places)
        picked = set(picked_among(self.source.folder, list(paths), skipped, self.source.picked))
        self.scan.skipped |= skipped
        rows = [(path, row) for path, reason, row in places if reason is None and path in picked]
        column = self.source.path_column
        absent = {row[column]: Damaged(path, reason) for path, reason, row in places if reason and path in picked}
        root = self.source.root
        if outside:
            self.problems.append(f"{len(outside)} paths that leave the root: {some(outside)}")
        if places and not picked:
            self.problems.append(f"include and exclude leave none of the {len(paths)} files listed")
        if absent and not rows:
            self.problems.append(f"none of the {len(absent)} files listed is below '{root}': {some(absent)}")
        for way, count in tree.ways.items():
            log.info("%d listed files were found %s", count, way)
        self.scan.damaged += absent.values()
        return rows

    def _picture(self, path: str, row: dict[str, str]) -> Picture:
        source = self.source
        label = row[source.label_column] if source.has_labels else ""
        group = whole(row[source.group_column]) if source.group_column else below(source.folder, path)
        part = PARTS.get(row[source.split_column].lower(), math.nan) if source.split_column else math.nan
        return Picture(path, label, group, part)

    def _faults(self, one: Picture, known: Picture) -> list[str]:
        """What is wrong with a row; `known`: the first of the same file."""
        source = self.source
        found = {
            f"without a {source.group_column}": is_blank(one.group),
            "listed twice with different label, group or part": str(one) != str(known),
            f"with a {source.split_column} that is none of train, validation, test": source.split_column is not None
            and math.isnan(one.part),
        }
        return [fault for fault, is_so in found.items() if is_so]

    def _leave_out_blank(self, blank: Counter[str]) -> None:
        """Files without a label: left out, or counted as damaged."""
        source = self.source
        if source.unlabelled == "drop" and blank:
            self.scan.remarks += [Remark(path, f"without a {source.label_column}", False) for path in blank]
        elif blank:
            reason = f"without a {source.label_column}, which {key_in(source, 'unlabelled')}=drop leaves out"
            self.scan.damaged += [Damaged(path, reason) for path in blank]

    def _wanted(self, pictures: list[Picture]) -> list[Picture]:
        """Those without a label that `leave_out_labels` names. Raises UserError where none is left."""
        source, key = self.source, key_in(self.source, "leave_out_labels")
        labels = [plain(one.label) for one in pictures]
        if unmet := sorted(source.leave_out_labels - set(labels)):
            log.warning("%s: no row has the label %s", key, some(unmet))
        wanted = []
        for one, label in zip(pictures, labels, strict=True):
            if label in source.leave_out_labels:
                self.scan.remarks.append(Remark(one.path, f"{source.label_column} is {label}, as {key} says", False))
            else:
                wanted.append(one)
        if not wanted:
            raise ArgumentError("leave_out_labels", f"no row of '{source.labels}' has another label", of=source)
        return wanted
