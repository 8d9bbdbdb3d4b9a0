"""LIDC-IDRI as TCIA delivers it: chest CT in DICOM with the readers' marks in XML (Armato et al. 2011)."""

import math
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Patterns, Tilt
from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.dicom_headers import quiet
from medlat.data.ct.dicom_tree import walk
from medlat.data.source import Chunk, Damaged, ParallelMap, Scan

PLACE_MM = 0.05  # positions that differ by less are the same slice
READERS = 4
SERIES = ("SeriesInstanceUid", "CTSeriesInstanceUid")  # how a file calls the series that it is of
AGAIN = "reading that another file has too"
MOST_BYTES = 1 << 24  # of a file of marks: the largest of LIDC-IDRI has 0.6 MB


class Reading(NamedTuple):
    """What one reader said of a series.

    positions: in mm, of the slices in which a nodule of 3 mm or more is outlined, rising.
    said:      all that the reader's part of the file says: equal in two copies of it, however these are laid out.
    """

    series: str
    positions: np.ndarray
    said: tuple[str, ...]


class LIDC(CTDicom):
    """Every axial CT slice below the folder, as of `CTDicom`; with marks also the label `nodule`: whether at least so
    many of the four readers outlined a nodule of 3 mm or more in the slice.

    A mark belongs to a slice by the series that its file names and the position along the patient axis, which holds
    too where files were renamed. What a reader says in two copies of a file counts once. Slices of a series without a
    file of marks, or with a damaged one, are left out, as nothing is known of them.

    root: the folder that the NBIA Data Retriever made, LIDC-IDRI-0001/... with DICOM and XML files.
    nodules: read the marks. readers: how many must agree, 1 to 4. include, exclude: which images; marks are read from
    all files.
    """

    alone: ClassVar[Mapping[str, Any]] = {"nodules": False}

    def __init__(
        self,
        root: str,
        max_tilt_deg: Tilt = 30.0,
        nodules: bool = False,
        readers: Literal[1, 2, 3, 4] = 1,
        include: Patterns = None,
        exclude: Patterns = None,
    ) -> None:
        super().__init__(root, max_tilt_deg, include, exclude)
        if not 1 <= readers <= READERS:
            raise ArgumentError("readers", f"expected 1 to {READERS}, the readers who must agree", readers)
        self.nodules, self.readers = nodules, readers

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """The slices, with `label.nodule` where marks are read. Raises UserError where there are none."""
        found = super().scan(parallel_map)
        if not self.nodules:
            return found
        marks, again = self._marks(found.damaged)
        if not marks:
            raise ArgumentError(
                "nodules",
                f"no XML file with readings of LIDC-IDRI below '{self.root}'; expected the "
                f"files that TCIA delivers with the images, or false",
                True,
            )
        kept, left = [], 0
        for chunk in found.chunks:
            places = marks.get(self._series(chunk))
            if places is None:
                left += len(chunk.items)
            else:
                kept.append(replace(chunk, columns=chunk.columns | {"label.nodule": self._labels(chunk, places)}))
        if not kept:
            raise ArgumentError("nodules", f"no XML file below '{self.root}' is of a CT series found there", True)
        skipped = dict(Counter(found.skipped) + Counter({"slice without a reading": left, AGAIN: again}))
        return replace(found, chunks=kept, skipped=skipped, classes={"nodule": ("none", "nodule")})

    def _series(self, chunk: Chunk) -> str:
        """The SeriesInstanceUID of a chunk, which the file names; it stays within the program."""
        from pydicom import dcmread

        try:
            with quiet():
                path, tags = chunk.items[0].path, ["SeriesInstanceUID"]
                header = dcmread(path, specific_tags=tags, stop_before_pixels=True, force=True)  # prefix or none
                return str(header.get("SeriesInstanceUID", ""))
        except Exception:  # changed since it was found; pydicom's message may quote tags
            return ""

    def _labels(self, chunk: Chunk, places: list[np.ndarray]) -> np.ndarray:
        """[len(chunk)] 1 where enough readers outlined a nodule at the slice's position, else 0."""
        here = chunk.columns["position_mm"][:, None]
        agree = sum((np.abs(here - reader[None]) < PLACE_MM).any(axis=1).astype(int) for reader in places)
        return (np.asarray(agree) >= self.readers).astype(np.float64) * np.ones(len(here))

    def _marks(self, damaged: list[Damaged]) -> tuple[dict[str, list[np.ndarray]], int]:
        """Series -> for each reader the positions of the slices with outlines of nodules, in mm; and how many readings
        stand in another file too. Files of marks that are damaged are added to those.
        """
        found: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        positions: dict[tuple[str, ...], np.ndarray] = {}
        again = 0
        for entry in walk(self.folder):
            if not entry.name.lower().endswith(".xml"):
                continue
            try:
                here = readings(Path(entry.path))
            except ValueError as error:
                damaged.append(Damaged(entry.path, str(error)))
                continue
            positions |= {one.said: one.positions for one in here}
            for series in {one.series for one in here}:
                # two readers of one file may say the same; what two files say is of the same readers
                of_file, known = Counter(one.said for one in here if one.series == series), found[series]
                again += (of_file & known).total()
                found[series] = known | of_file
        return {series: [positions[said] for said in counts.elements()] for series, counts in found.items()}, again


def readings(path: Path) -> list[Reading]:
    """The readings in a file, one for each reader; none where the file is of another kind, as LIDC-IDRI's readings of
    radiographs are.

    A nodule of 3 mm or more has outlines of several points; a smaller one is marked by a single point, what an outline
    excludes (`inclusion` FALSE) is a hole. Raises ValueError, in fixed words, where a file of marks is damaged.
    """
    root = _parsed(path)
    if root is None:
        return []
    named = (root.findtext(f"{{*}}ResponseHeader/{{*}}{tag}", "").strip() for tag in SERIES)
    series = next(filter(None, named), "")
    if not series:
        return []
    found = []
    for session in root.iterfind("{*}readingSession"):
        outlines = session.iterfind("{*}unblindedReadNodule/{*}roi")
        positions = np.array(sorted({_position(o) for o in outlines if _is_outline(o)}), dtype=np.float64)
        found.append(Reading(series, positions, tuple(filter(None, map(str.strip, session.itertext())))))
    return found


class _NoDocumentType(ElementTree.TreeBuilder):
    """Builds a tree of elements, and none where there is a document type: LIDC has none, and its entities could fill
    the memory.
    """

    def doctype(self, *declaration: object) -> None:
        raise ElementTree.ParseError


def _parsed(path: Path) -> ElementTree.Element | None:
    """The root element of a file of marks; None of another file. Raises ValueError where such a file is damaged."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                return None
            content = file.read()
    except OSError as error:
        raise ValueError("permission denied" if isinstance(error, PermissionError) else "cannot be opened") from error
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDocumentType()))
    except Exception as error:  # beside its own errors the parser raises what Python's decoders do
        if b"LidcReadMessage" in content and b"<!DOCTYPE" not in content:
            raise ValueError("corrupt file of readings") from error
        return None


def _is_outline(roi: ElementTree.Element) -> bool:
    return roi.findtext("{*}inclusion", "TRUE").strip().upper() == "TRUE" and len(roi.findall("{*}edgeMap")) > 1


def _position(roi: ElementTree.Element) -> float:
    try:
        position = float(roi.findtext("{*}imageZposition", ""))
    except ValueError:
        position = math.nan
    if not math.isfinite(position):
        raise ValueError("reading without the position of its slice")
    return position
