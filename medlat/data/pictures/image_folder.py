"""A folder of pictures with a CSV of labels and groups: histology tiles, radiographs, photographs."""

import hashlib
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from medlat.core.errors import ArgumentError, ConfigErrors, UserError, key_in
from medlat.core.ranges import Finite, Patterns, Positive
from medlat.data.ct.dicom_start import SUFFIXES
from medlat.data.ct.dicom_tree import OfFiles, checked_root, fingerprint, listed, nothing_found
from medlat.data.ct.plausible import LABELS, WHICH
from medlat.data.groups import called
from medlat.data.modality import HISTOLOGY, RADIOGRAPH
from medlat.data.patterns import Picked
from medlat.data.pictures import decode, dicom
from medlat.data.pictures.files import Table, read_table
from medlat.data.pictures.label_maps import are_labels, named_after
from medlat.data.pictures.labels import Kind, below_zero, classes_of, plain, quantities
from medlat.data.pictures.levels import check_levels
from medlat.data.pictures.listing import Listing, Picture, below, refuse
from medlat.data.pictures.polarity import FEWEST, Polarity, inverted_among
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice

log = logging.getLogger(__name__)

CHUNK = 32  # pictures one worker reads in one go
MOST_INVERTED = 0.4  # share of a set above which nobody can tell which ones are


class ImageFolder(OfFiles):
    """Pictures (PNG, JPEG, TIFF, BMP, DICOM) below a folder, of at most 8192² pixels: those that a CSV lists, one row
    each, or all.

    root:         the folder; `~` is expanded. Nothing outside of it is read.
    labels:       the CSV, relative to the root, or its absolute path; separated by comma, semicolon, tab or |, UTF-8.
                  None: there is none; every picture below the root is read, without labels.
    path_column:  names the picture, relative to the root (or absolute, below it). A name is looked for in all folders,
                  and one without a suffix finds its file too (`medlat.data.pictures.files.Tree`).
    label_column: the label. Columns of the image store are named after it: `label.<label_column>`. None: no label.
    group_column: who it is of (patient, slide, original): a split never divides a group. None: the patient of a DICOM
                  file (PatientID, else the study); any other file is its own.
    split_column: the part that whoever published the data gave it to: train, validation or test. None: there is none.
    classes:      the classes in their order (of an ordinal label: rising). None: all that occur, sorted, numbers as
                  numbers.
    colour:       RGB as of histology; else greyscale, as of radiographs.
    mpp:          micrometres per pixel, above 0, of files that do not say it themselves (all but DICOM).
    white, black: the stored values that are white and black in greyscale files, e.g. 4095 of 12-bit radiographs in
                  16-bit files; None: 0 and what the numbers of the file can hold (255, 65535, ...), or in DICOM what
                  its VOI LUT or window says. White lies above black.
    kind:         "class", or "quantity": the label is a number to regress.
    unlabelled:   rows without a label: "stop" counts them as damaged, "drop" leaves out any number of them.
    leave_out_labels: labels whose rows are left out, any number of them, e.g. [-1], uncertain in CheXpert; None: none.
    polarity:     greyscale images among the others that are negatives: "as_stored" does not look, "checked" counts
                  them, "mended" turns them about (`medlat.data.pictures.polarity`).
    include, exclude: which files, as of `medlat.data.patterns.Picked`; None: all, none.

    Without a CSV, label maps beside the pictures (`medlat.data.pictures.label_maps`) are left out, unless `include`
    says which files are images. Raises UserError where an argument is wrong; the CSV is checked by `scan`, which names
    all that is wrong with it.
    """

    alone: ClassVar[Mapping[str, Any]] = {"labels": None, "split_column": None}

    def __init__(
        self,
        root: str,
        labels: str | None = "labels.csv",
        path_column: str = "path",
        label_column: str | int | None = "label",
        group_column: str | int | None = "group",
        split_column: str | None = None,
        classes: list[str | int] | None = None,
        colour: bool = True,
        mpp: Positive = 0.5,
        white: Finite | None = None,
        black: Finite | None = None,
        kind: Kind = "class",
        unlabelled: Literal["stop", "drop"] = "stop",
        leave_out_labels: list[str | int] | None = None,
        polarity: Polarity = "as_stored",
        include: Patterns = None,
        exclude: Patterns = None,
    ) -> None:
        if not 0 < mpp < math.inf:
            raise ArgumentError("mpp", "expected more than 0 micrometres per pixel, e.g. 0.5", mpp)
        if white is not None and not (black or 0.0) < white < math.inf:
            raise ArgumentError("white", f"expected a stored value above black ({black or 0:g}), e.g. 4095", white)
        for name, value, choices in (
            ("kind", kind, ("class", "quantity")),
            ("unlabelled", unlabelled, ("stop", "drop")),
            ("polarity", polarity, ("as_stored", "checked", "mended")),
        ):
            if value not in choices:
                raise ArgumentError(name, f"expected {', '.join(choices[:-1])} or {choices[-1]}", value)
        if polarity != "as_stored" and colour:
            raise ArgumentError("polarity", "colours have none; expected as_stored", polarity)
        if labels is not None and not labels.strip():
            raise ArgumentError("labels", "empty (an unset variable?), expected a CSV file, or null")
        if labels is None and split_column is not None:
            raise ArgumentError(
                "split_column", "a column of a CSV, and labels=null says that there is none", split_column
            )
        self.modality = HISTOLOGY if colour else RADIOGRAPH
        self.root, self.folder = root, checked_root(root)
        self.labels = None if labels is None else self.folder / os.path.expanduser(labels)
        self.path_column, self.split_column = path_column, split_column
        has_labels = self.labels is not None and label_column is not None
        self.label_column = str(label_column) if has_labels else None
        self.group_column = None if group_column is None or self.labels is None else str(group_column)
        self.classes = [plain(str(name)) for name in classes] if classes is not None else None
        self.colour, self.mpp, self.white, self.black = colour, mpp, white, black
        self.kind, self.unlabelled, self.polarity = kind, unlabelled, polarity
        self.leave_out_labels = {plain(str(name)) for name in leave_out_labels or ()}
        self.picked = Picked.of(include, exclude)

    @property
    def has_labels(self) -> bool:
        """Whether images get a label."""
        return self.label_column is not None

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file, and the content of the CSV."""
        table = b""
        if self.labels is not None:
            self._table()
            table = self.labels.read_bytes()
        return hashlib.sha256(fingerprint(self.folder).encode() + table).hexdigest()

    def expected(self) -> int:
        """Rows of the CSV; without one, the pictures below the root."""
        return len(self._table().rows) if self.labels is not None else len(self._paths(Counter()))

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Find the pictures; chunks of one group each. Raises UserError with all that is wrong in the CSV, and where
        stored values fill too little of their range.
        """
        scan = Scan(groups=called(self.group_column) if self.group_column else "patients")
        pictures = self._all(scan, parallel_map) if self.labels is None else self._listed(scan, parallel_map)
        value_of: dict[str, float] = {}
        if self.label_column is not None:
            names, value_of = self._values(pictures)
            scan.classes = {self.label_column: names} if names else {}
        named = {one.path for one in pictures if one.named_after is not None}
        if not self.picked.files:  # few files say little of the range that all of the others fill
            check_levels(self, [one.path for one in pictures], parallel_map, named)
        groups: defaultdict[str, list[Picture]] = defaultdict(list)
        for one in pictures:
            groups[one.group].append(one)
        for group, members in groups.items():
            known = self.group_column is not None or group != below(self.folder, members[0].path)
            parts = [members[i : i + CHUNK] for i in range(0, len(members), CHUNK)]
            scan.chunks += [Chunk(group, tuple(part), self._columns(part, value_of), known) for part in parts]
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged | Remark]:
        """Decode the chunk's pictures, in order; a file that cannot be is `Damaged`."""
        for item in chunk.items:
            try:
                found = self._read(item.path)
                if item.named_after is not None and self._is_label_map(found.pixels, item.named_after):
                    yield Remark(item.path, LABELS, False, advice=WHICH)
                else:
                    yield found._replace(pixels=np.float32(255.0) - found.pixels) if item.inverted else found
            except dicom.NotAnImage as error:
                yield Remark(item.path, str(error), False)
            except ValueError as error:
                yield Damaged(item.path, str(error))

    def compare(self, images: Any, rows: np.ndarray, scan: Scan) -> dict[int, Picture]:
        """The images that are negatives of most others: counted, and where `polarity` asks for it, to be read again.

        images: [M, 1, S, S], as the chunks of the scan stand in the store; rows: those that hold an image.
        Returns row -> what to read in its place. Raises UserError where so many are that nobody can tell which ones.
        """
        if self.polarity == "as_stored":
            return {}
        found, key = inverted_among(images, rows), key_in(self, "polarity")
        if found.inverted is None:
            if len(rows) >= FEWEST:
                log.info("%s: images too different from each other to tell negatives (r %.2f)", key, found.alike)
            return {}
        picked = rows[found.inverted]
        if len(picked) == 0:
            return {}
        count = f"{len(picked)} of {len(rows)} images are negatives of what the others look like"
        items = [item for chunk in scan.chunks for item in chunk.items]
        reason = "negative" if self.polarity == "checked" else "negative, turned about"
        scan.remarks += [Remark(items[row].path, reason, True) for row in picked]
        if self.polarity == "checked":
            log.warning("%s; %s=mended turns them about", count, key)
            return {}
        if len(picked) > MOST_INVERTED * len(rows):
            raise ArgumentError("polarity", f"{count}: too many to tell which ones are wrong", "mended", of=self)
        log.warning("%s, and were turned about (%s=mended)", count, key)
        return {int(row): items[row]._replace(inverted=True) for row in picked}

    def _is_label_map(self, pixels: np.ndarray, named_after: str) -> bool:
        """By its values; not where the picture that it is named after has such values too."""
        if not are_labels(pixels):
            return False
        try:
            return named_after == "" or not are_labels(self._read(named_after).pixels)
        except ValueError:
            return True

    def _read(self, path: str) -> Slice:
        mm = self.mpp / 1000.0
        if not dicom.is_dicom(path):
            return Slice(decode.read_picture(path, self.colour, self.white, self.black), (mm, mm))
        shown = dicom.read_dicom(path, self.colour, self.white, self.black)
        remarks = tuple(Remark(path, doubt, True, advice=advice) for doubt, advice in shown.doubts)
        return Slice(shown.pixels, shown.spacing_mm or (mm, mm), remarks)

    def columns(self) -> tuple[str, ...]:
        """The names of the CSV's columns, one of which may name the groups (`group_column`); none without a CSV."""
        return () if self.labels is None else self._read_table().columns

    def _read_table(self) -> Table:
        assert self.labels is not None
        key = key_in(self, "labels")
        hint = f"; {key}=null reads all pictures below '{self.root}', without labels"
        return read_table(key, self.labels, hint)

    def _table(self) -> Table:
        """As `_read_table`. Raises UserError with all columns that are not there."""
        table, problems = self._read_table(), list[str]()
        for argument in ("path_column", "label_column", "group_column", "split_column"):
            key, name = key_in(self, argument), getattr(self, argument)
            otherwise = "" if argument == "path_column" else f" ({key}=null: none)"
            try:
                if name is not None:
                    table.check_column(key, name, otherwise)
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError(problems[0]) if len(problems) == 1 else ConfigErrors(problems)
        return table

    def _paths(self, skipped: Counter[str]) -> list[str]:
        """Every file below the root that may be a picture: by its name, or as DICOM."""
        found = []
        for path in listed(self.folder, skipped, self.picked):
            if path.lower().endswith((*decode.SUFFIXES, *SUFFIXES)) or dicom.is_dicom(path):
                found.append(path)
            else:
                skipped["no picture"] += 1
        return found

    def _all(self, scan: Scan, parallel_map: ParallelMap) -> list[Picture]:
        """Every picture below the root."""
        skipped: Counter[str] = Counter()
        paths = self._paths(skipped)
        owners = self._owners(paths, scan, parallel_map)
        relative = {path: below(self.folder, path).replace(os.sep, "/") for path in paths}
        after = {} if self.picked.include else named_after(list(relative.values()))  # the user knows better
        pictures = []
        for path, (owner, reason) in zip(paths, owners, strict=True):
            if reason is None:
                one = Picture(path, "", owner or below(self.folder, path), math.nan)
                other = after.get(relative[path])
                pictures.append(one._replace(named_after=str(self.folder / other) if other else other))
            else:
                scan.remarks.append(Remark(path, reason, False))
        if not pictures:
            found = skipped + Counter(one.reason for one in scan.remarks)
            raise nothing_found(self.root, "picture (PNG, JPEG, TIFF, BMP, DICOM)", found)
        scan.skipped = dict(+skipped)
        return pictures

    def _owners(self, paths: Sequence[str], scan: Scan, parallel_map: ParallelMap) -> list[tuple[str, str | None]]:
        """Of each file the patient, "" where it does not say, and why it holds no image, None where it may. Studies are
        added to the scan.
        """
        found = list(parallel_map(_owner, paths, "reading headers"))
        scan.studies |= {path: study for path, (_, study, _) in zip(paths, found, strict=True) if study}
        return [(patient or study, reason) for patient, study, reason in found]

    def _listed(self, scan: Scan, parallel_map: ParallelMap) -> list[Picture]:
        """Every picture that the CSV lists; the patient of a DICOM file where no column names it."""
        found = Listing(self, self._table(), scan).pictures()
        if self.group_column is None:
            owners = self._owners([one.path for one in found], scan, parallel_map)
            found = [one._replace(group=owner or one.group) for one, (owner, _) in zip(found, owners, strict=True)]
        return found

    def _values(self, pictures: list[Picture]) -> tuple[tuple[str, ...], dict[str, float]]:
        """The names of the classes (none of a quantity), and the number that each text of a label stands for."""
        counts, problems, names = Counter(one.label for one in pictures), list[str](), tuple[str, ...]()
        texts, kind_key = sorted(counts), key_in(self, "kind")
        if self.kind == "quantity":
            values = quantities(texts, kind_key, problems)
        else:
            classes_key, without = key_in(self, "classes"), f"{key_in(self, 'leave_out_labels')}=[{{}}]"
            if self.classes is None and (doubt := below_zero(counts, classes_key, without)):
                problems.append(doubt)
            names, values = classes_of(texts, self.classes, (classes_key, kind_key), problems)
        refuse(self, problems)
        if len(set(values.values())) == 1:
            log.warning("every %s is '%s': there is nothing to learn from it", self.label_column, texts[0])
        return names, values

    def _columns(self, pictures: list[Picture], value_of: dict[str, float]) -> dict[str, np.ndarray]:
        columns = {"position_mm": np.zeros(len(pictures))}
        if self.label_column is not None:
            columns[f"label.{self.label_column}"] = np.array([value_of[one.label] for one in pictures])
        return columns | ({"split": np.array([one.part for one in pictures])} if self.split_column else {})


def _owner(path: str) -> dicom.Header:
    """Of a file that may be DICOM."""
    is_named = path.lower().endswith(decode.SUFFIXES)
    return dicom.Header("", "", None) if is_named or not dicom.is_dicom(path) else dicom.read_identity(path)
