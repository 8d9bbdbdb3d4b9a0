"""Axial CT slices from a folder of volumes: NIfTI, MetaImage, NRRD."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from medlat.core.errors import ArgumentError, UserError, key_in
from medlat.core.ranges import Finite, Patterns, Positive
from medlat.data.ct import metaimage, nifti, nrrd
from medlat.data.ct.dicom_tree import OfFiles, checked_root, fingerprint, listed, nothing_found, other_kind
from medlat.data.ct.plausible import LABELS, WHICH, hu_doubt, is_label_map, size_remarks
from medlat.data.ct.volume import Implausible, Unfit, Volume
from medlat.data.modality import CT
from medlat.data.patterns import Picked
from medlat.data.source import Chunk, Damaged, ParallelMap, Remark, Scan, Slice
from medlat.data.unpacked import forget_pages

READERS = {suffix: kind.read_header for kind in (nifti, metaimage, nrrd) for suffix in kind.SUFFIXES}
VALUES = (".img", ".img.gz", ".raw", ".zraw", ".raw.gz", ".raw.bz2")  # beside a header
LOOKED_AT = 16  # slices of a volume, for what its values are


class CTVolumes(OfFiles):
    """Every slice of the CT volumes below a folder, at any depth: NIfTI (`.nii`, `.nii.gz`, `.hdr` with `.img`),
    MetaImage (`.mha`, `.mhd`) and NRRD (`.nrrd`, `.nhdr`).

    root:      the folder; `~` is expanded.
    include, exclude: which files, as of `medlat.data.patterns.Picked`; None: all, none.
    slope, intercept: HU = value · slope + intercept, of volumes whose values (after the header's own scaling) are no
               Hounsfield units; for all volumes alike.

    Each file is one patient: its identity is the path below the root without the extension. Orientation comes from the
    header, to the nearest axes: slices are the planes most nearly axial, feet to head, whatever the order in the file.
    What is below -1024 HU or no number becomes -1024, air. `position_mm` is the plane's place along its normal, in mm
    of the file's space; `series` numbers the volumes.

    Label maps (few distinct whole numbers) beside the images are left out, unless `include` names them. Files that are
    no volume of three dimensions of plain numbers are skipped and counted; broken ones, and those that claim what no CT
    has (`medlat.data.ct.plausible`), are `Damaged`. A volume is memory-mapped, a compressed one from a temporary file:
    memory does not grow with it. Raises UserError where the root is missing or no folder, or the slope not above 0.
    """

    modality = CT

    def __init__(
        self,
        root: str,
        include: Patterns = None,
        exclude: Patterns = None,
        slope: Positive = 1.0,
        intercept: Finite = 0.0,
    ) -> None:
        if not 0 < slope < math.inf:
            raise ArgumentError("slope", "expected a number above 0; 1 leaves values as they are", slope)
        self.root = root
        self.folder = checked_root(root)
        self.picked = Picked.of(include, exclude)
        self.slope, self.intercept = np.float32(slope), np.float32(intercept)

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file."""
        return fingerprint(self.folder)

    def expected(self) -> int | None:
        """Unknown before the volumes' headers are read; 0 where no file is called as one."""
        return None if any(map(_suffix, listed(self.folder, Counter(), self.picked))) else 0

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read every volume's header; one chunk per volume. Raises UserError where there is none."""
        skipped: Counter[str] = Counter()
        paths = listed(self.folder, skipped, self.picked)
        volumes = [path for path in paths if _suffix(path)]
        skipped.update(_others(paths))
        scan = Scan()
        for path, result in zip(volumes, parallel_map(_header, volumes, "reading headers"), strict=True):
            if isinstance(result, str):
                skipped[result] += 1
            elif isinstance(result, Damaged):
                scan.damaged.append(result)
            else:
                patient = os.path.relpath(path, self.folder)[: -len(_suffix(path))].replace(os.sep, "/")
                columns = result.columns | {"series": np.full(len(result.items), float(len(scan.chunks)))}
                scan.chunks.append(replace(result, patient=patient, columns=columns))
        if not scan.chunks:
            reasons = skipped + Counter(one.reason for one in scan.damaged)
            kinds = "CT volume (.nii, .nii.gz, .hdr and .img, .mha, .mhd, .nrrd, .nhdr)"
            hint = "; DICOM is read by data=ct_dicom" if any(reason.startswith("DICOM") for reason in reasons) else ""
            raise nothing_found(self.root, kinds, reasons, hint)
        scan.skipped = dict(+skipped)
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged | Remark]:
        """The chunk's slices, in order: float32 HU of at least -1024; all of a damaged volume are `Damaged`."""
        path, count = chunk.items[0].path, len(chunk.items)
        try:
            volume = open_volume(path)
            if volume.count != count:
                raise ValueError("another volume than was found")
            stored, mapped = volume.stored()
        except UserError:  # no room to unpack it is no damage
            raise
        except Exception as error:  # what unpacks and parses raises anything on damaged files
            yield from [Damaged(path, _reason(error))] * count
            return
        looked_at = np.unique(np.linspace(0, volume.count - 1, LOOKED_AT).round().astype(int))
        middle_first = sorted(looked_at.tolist(), key=lambda level: abs(level - volume.count // 2))
        named = bool(self.picked.include)  # as images by the user, who knows better
        if not named and is_label_map(volume.values(stored, level) for level in middle_first):
            yield from [Remark(path, LABELS, False, advice=WHICH)] * count
            return
        remarks = self._remarks(path, volume, (self._hounsfield(volume, stored, level) for level in middle_first))
        for item in chunk.items:
            values = np.nan_to_num(self._hounsfield(volume, stored, item.level), nan=CT.fill, copy=False)
            forget_pages(mapped)
            clipped = np.ascontiguousarray(np.maximum(values, np.float32(CT.fill)))
            yield Slice(clipped, volume.spacing_mm, remarks)

    def _hounsfield(self, volume: Volume, stored: np.ndarray, level: int) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return volume.values(stored, level) * self.slope + self.intercept

    def _remarks(self, path: str, volume: Volume, slices: Iterable[np.ndarray]) -> tuple[Remark, ...]:
        """What is odd about a volume that is read all the same."""
        keys = f"{key_in(self, 'slope')} and {key_in(self, 'intercept')}"
        advice = f"HU = value · slope + intercept, for every volume alike, by {keys}"
        doubt, assumed = hu_doubt(path, slices, advice), volume.header.assumed
        own = (doubt, Remark(path, assumed, True) if assumed else None)
        return (*(one for one in own if one), *size_remarks(path, volume.shape, volume.spacing_mm))


class VolumeSlice(NamedTuple):
    """The level-th axial slice of a volume, counted from 0 at the feet."""

    path: str
    level: int


def open_volume(path: str) -> Volume:
    """Raises what `Volume` and the readers of headers raise."""
    return Volume(READERS[_suffix(path)](path))


def _suffix(path: str) -> str:
    """The ending of a volume's name, in lower case; empty of another file."""
    return max((suffix for suffix in READERS if path.lower().endswith(suffix)), key=len, default="")


def _header(path: str) -> Chunk | Damaged | str:
    """The volume's chunk as far as its header says (the patient is named by the caller), or why there is none."""
    try:
        if os.path.getsize(path) == 0:
            return Damaged(path, "empty file")
        volume = open_volume(path)
    except Unfit as error:
        return str(error)
    except Exception as error:
        return Damaged(path, _reason(error))
    items = tuple(VolumeSlice(path, level) for level in range(volume.count))
    return Chunk("", items, {"position_mm": volume.positions}, known=False)


def _others(paths: list[str]) -> Counter[str]:
    """What the files are that are no volumes; values beside their header are a part of one."""
    stems = {path[: -len(suffix)].lower() for path in paths if (suffix := _suffix(path))}
    found: Counter[str] = Counter()
    for path in paths:
        values = max((suffix for suffix in VALUES if path.lower().endswith(suffix)), key=len, default="")
        if not _suffix(path) and not (values and path[: -len(values)].lower() in stems):
            found["values without a header" if values else other_kind(path)] += 1
    return found


def _reason(error: Exception) -> str:
    """In fixed words: the messages of the libraries quote paths."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, EOFError):
        return "truncated"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    return str(error) if isinstance(error, Implausible | Unfit) else "corrupt"
