"""LIDC-IDRI as TCIA delivers it: chest CT in DICOM with the readers' marks in XML (Armato et al. 2011)."""

import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from medlat.data.ct.dicom import CTDicom
from medlat.data.ct.dicom_tree import walk
from medlat.data.source import Chunk, ParallelMap, Scan
from medlat.errors import UserError

PLACE_MM = 0.05  # positions that differ by less are the same slice
READERS = 4


class LIDC(CTDicom):
    """Every axial CT slice below the folder, as of `CTDicom`; with marks also the label `nodule`: whether at least so
    many of the four readers outlined a nodule of 3 mm or more in the slice.

    A mark belongs to a slice by the series that its file names and the position along the patient axis, which holds
    too where files were renamed. Slices of a series without a file of marks are left out, as nothing is known of them.

    root: the folder that the NBIA Data Retriever made, LIDC-IDRI-0001/... with DICOM and XML files.
    nodules: read the marks. readers: how many must agree, 1 to 4.
    """

    def __init__(self, root: str, max_tilt_deg: float = 30.0, nodules: bool = False, readers: int = 1) -> None:
        super().__init__(root, max_tilt_deg)
        if not 1 <= readers <= READERS:
            raise UserError(f"data.source.readers={readers}: expected 1 to {READERS}, the readers who must agree")
        self.nodules, self.readers = nodules, readers

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """The slices, with `label.nodule` where marks are read. Raises UserError where there are none."""
        found = super().scan(parallel_map)
        if not self.nodules:
            return found
        marks = self._marks()
        if not marks:
            raise UserError(
                f"data.source.nodules=true: no XML file with readings of LIDC-IDRI below '{self.root}'; expected the "
                f"files that TCIA delivers with the images, or data.source.nodules=false"
            )
        kept, left = [], 0
        for chunk in found.chunks:
            places = marks.get(self._series(chunk))
            if places is None:
                left += len(chunk.items)
            else:
                kept.append(replace(chunk, columns=chunk.columns | {"label.nodule": self._labels(chunk, places)}))
        if not kept:
            raise UserError(f"data.source.nodules=true: no XML file below '{self.root}' is of a CT series found there")
        skipped = dict(Counter(found.skipped) + Counter({"slice without a reading": left}))
        return replace(found, chunks=kept, skipped=skipped, classes={"nodule": ("none", "nodule")})

    def _series(self, chunk: Chunk) -> str:
        """The SeriesInstanceUID of a chunk, which the file names; it stays within the program."""
        from pydicom import dcmread

        header = dcmread(chunk.items[0].path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
        return str(header.get("SeriesInstanceUID", ""))

    def _labels(self, chunk: Chunk, places: list[np.ndarray]) -> np.ndarray:
        """[len(chunk)] 1 where enough readers outlined a nodule at the slice's position, else 0."""
        here = chunk.columns["position_mm"][:, None]
        agree = sum((np.abs(here - reader[None]) < PLACE_MM).any(axis=1).astype(int) for reader in places)
        return (np.asarray(agree) >= self.readers).astype(np.float64) * np.ones(len(here))

    def _marks(self) -> dict[str, list[np.ndarray]]:
        """Series -> for each reader the positions of the slices with outlines of nodules, in mm."""
        found: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        for entry in walk(self.folder):
            if entry.name.lower().endswith(".xml"):
                for series, positions in readings(Path(entry.path)):
                    found[series].append(positions)
        return dict(found)


def readings(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """For each reader of a file: the series, and the positions in mm of the slices in which a nodule of 3 mm or more is
    outlined. Nothing where the file is of another kind, as LIDC-IDRI's readings of radiographs are.

    Such a nodule has outlines of several points; a smaller one is marked by a single point, what an outline excludes
    (`inclusion` FALSE) is a hole.
    """
    content = path.read_bytes()
    if b"<!" in content.replace(b"<!--", b""):  # a document type, whose entities could fill the memory; LIDC has none
        return
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        return
    series = root.findtext("{*}ResponseHeader/{*}SeriesInstanceUid", "").strip()
    if not series:
        return
    for session in root.iterfind("{*}readingSession"):
        outlines = session.iterfind("{*}unblindedReadNodule/{*}roi")
        yield series, np.array(sorted({_position(o) for o in outlines if _is_outline(o)}), dtype=np.float64)


def _is_outline(roi: ElementTree.Element) -> bool:
    return roi.findtext("{*}inclusion", "TRUE").strip().upper() == "TRUE" and len(roi.findall("{*}edgeMap")) > 1


def _position(roi: ElementTree.Element) -> float:
    return float(roi.findtext("{*}imageZposition", "nan"))
