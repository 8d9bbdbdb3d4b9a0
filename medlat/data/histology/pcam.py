"""PatchCamelyon: 96² tiles of lymph nodes in HDF5 files (Veeling et al., MICCAI 2018, arXiv 1806.03962)."""

import csv
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, UserError
from medlat.core.ranges import Positive
from medlat.data.ct.dicom_tree import checked_root, fingerprint, nothing_found, walk
from medlat.data.modality import HISTOLOGY, Modality
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan, Slice, check_installed

if TYPE_CHECKING:
    from h5py import Dataset

CHUNK = 64  # tiles one worker reads in one go
PARTS = ("train", "valid", "test")
MOST_TILES = 1 << 22  # of a part; the largest that was published has 262,144
MOST_BYTES = 1 << 27  # that are unpacked to read one tile: 4,800 tiles of 96² in one block of the file
NAME = re.compile(r"split_(train|valid|test)_(x\.h5|y\.h5|meta\.csv)$")


class Patch(NamedTuple):
    """The row-th tile of a file."""

    path: str
    row: int


class PatchCamelyon:
    """All tiles of the PatchCamelyon files below a folder, with the split they were published in (column `split`).

    root: the folder; `~` is expanded. It holds camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5, unpacked: `x`
          [N, 96, 96, 3] uint8 and `y` [N, 1, 1, 1], whether the central 32² hold tumour (`label.tumour`). Where
          ..._meta.csv lies beside them its column `wsi` is the group; else each part is one group.
    mpp:  micrometres per pixel: level 2 of slides scanned at 0.243.

    Tiles are read one by one: memory does not grow with the files. Raises UserError where the root or a file is wrong.
    """

    modality = HISTOLOGY

    def __init__(self, root: str, mpp: Positive = 0.972) -> None:
        if not 0 < mpp < np.inf:
            raise ArgumentError("mpp", "expected more than 0 micrometres per pixel, e.g. 0.972", mpp)
        check_installed("h5py", "h5py")
        self.root, self.folder, self.mpp = root, checked_root(root), mpp

    @classmethod
    def of_files(cls, files: Sequence[str], modality: Modality, mpp: float = 0.972, **_: Any) -> ImageFolder:
        """Tiles as pictures."""
        return ImageFolder.of_files(files, modality, root="", mpp=mpp)

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file."""
        return fingerprint(self.folder)

    def expected(self) -> int | None:
        """Unknown before the files are opened; 0 where there is none of them."""
        return None if self._files()[0] else 0

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read the labels and, where they are there, the slides' names."""
        files, others = self._files()
        if not files:
            expected = "PatchCamelyon file (camelyonpatch_level_2_split_train_x.h5, ...)"
            raise nothing_found(self.root, expected, {"other files": len(others)} if others else {}, _unpack(others))
        scan = Scan(
            classes={"tumour": ("normal", "tumour")},
            skipped=dict(+Counter({"not PatchCamelyon": len(others)})),
            groups="slides",
        )
        for number, part in enumerate(PARTS):
            if part not in files:
                continue
            if missing := sorted({"x.h5", "y.h5"} - set(files[part])):
                lacks = " and no ".join(f"..._{part}_{name}" for name in missing)
                raise ArgumentError("root", f"the part '{part}' below '{self.root}' has no {lacks}{_unpack(others)}")
            labels = _labels(files[part]["x.h5"], files[part]["y.h5"])
            groups = _groups(files[part].get("meta.csv"), part, len(labels))
            scan.chunks += list(_chunks(files[part]["x.h5"], labels, groups, number))
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """The chunk's tiles, in order; those that cannot be decoded are `Damaged`."""
        import h5py

        spacing = (self.mpp / 1000.0,) * 2
        with ExitStack() as stack:
            try:
                images = stack.enter_context(h5py.File(chunk.items[0].path, "r"))["x"]
            except Exception:  # HDF5 raises anything on damaged files, here and below
                yield from [Damaged(chunk.items[0].path, "corrupt")] * len(chunk.items)
                return
            for item in chunk.items:
                try:
                    tile = images[item.row]
                except Exception:
                    yield Damaged(item.path, "corrupt pixel data")
                else:
                    yield Slice(tile, spacing)

    def _files(self) -> tuple[dict[str, dict[str, str]], list[str]]:
        """part -> x.h5, y.h5, meta.csv -> path; and all other files. Raises UserError where there are two of one."""
        files: defaultdict[str, dict[str, str]] = defaultdict(dict)
        others = []
        for path in sorted(entry.path for entry in walk(self.folder)):
            match = NAME.search(os.path.basename(path))
            if match is None:
                others.append(path)
            elif match[2] in files[match[1]]:
                raise ArgumentError(
                    "root",
                    f"two files of one part below '{self.root}': '{files[match[1]][match[2]]}' and "
                    f"'{path}'; expected one copy",
                )
            else:
                files[match[1]][match[2]] = path
        return files, others


def _unpack(others: list[str]) -> str:
    """What to do where files lie there packed, as they are delivered."""
    packed = sum(path.lower().endswith(".h5.gz") for path in others)
    return f"; unpack the {packed} .h5.gz files first (gunzip)" if packed else ""


def _labels(images: str, labels: str) -> np.ndarray:
    """[N] float64, 0 or 1. Raises UserError where the files are no PatchCamelyon or do not fit together."""
    import h5py

    try:
        with h5py.File(images, "r") as pictures, h5py.File(labels, "r") as numbers:
            _check(images, pictures["x"])
            count, there = pictures["x"].shape[0], numbers["y"].size
            if there != count:
                raise ArgumentError("root", f"'{images}' holds {count} tiles, '{labels}' {there} labels")
            values = np.asarray(numbers["y"][()]).reshape(-1).astype(np.float64)
    except UserError:
        raise
    except Exception as error:  # HDF5 raises anything on damaged files
        raise ArgumentError(
            "root", f"'{images}' or '{labels}' is damaged or no PatchCamelyon file (keys x, y)"
        ) from error
    if not np.isin(values, (0.0, 1.0)).all():
        raise ArgumentError("root", f"y in '{labels}' holds other values than 0 and 1")
    return values


def _check(path: str, images: "Dataset") -> None:
    """Raises UserError where these are no tiles, or more than can be read one by one."""
    shape, dtype, block = images.shape, images.dtype, images.chunks
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8:
        raise ArgumentError(
            "root", f"x in '{path}' is {dtype} of shape {shape}, expected uint8 of shape (N, 96, 96, 3)"
        )
    unit = max(math.prod(shape[1:]), math.prod(block or ()))
    if shape[0] > MOST_TILES or unit > MOST_BYTES or 0 in shape[1:]:
        packed = f", packed in blocks of {block}" if block else ""
        raise ArgumentError("root", f"x in '{path}' claims the shape {shape}{packed}; expected tiles of 96²")


def _groups(meta: str | None, part: str, count: int) -> list[str]:
    """The slide of each tile; without the list of them, the part."""
    if meta is None:
        return [part] * count
    try:
        with open(meta, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError("root", f"'{meta}' cannot be read as CSV in UTF-8 ({type(error).__name__})") from error
    if len(rows) != count or any(not row.get("wsi") for row in rows):
        raise ArgumentError(
            "root", f"'{meta}' has {len(rows)} rows, expected {count} with the slide's name in a column wsi"
        )
    return [row["wsi"] for row in rows]


def _chunks(path: str, labels: np.ndarray, groups: list[str], part: int) -> Iterator[Chunk]:
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    for group, rows in rows_of.items():
        for start in range(0, len(rows), CHUNK):
            taken = rows[start : start + CHUNK]
            columns = {"position_mm": np.zeros(len(taken)), "label.tumour": labels[taken]}
            columns["split"] = np.full(len(taken), float(part))
            yield Chunk(group, tuple(Patch(path, row) for row in taken), columns)
