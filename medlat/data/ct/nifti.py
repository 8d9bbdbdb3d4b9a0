"""Axial CT slices from a folder of NIfTI volumes."""

import gzip
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from medlat.data.ct.dicom_tree import checked_root, fingerprint, nothing_found, walk
from medlat.data.source import CT, Chunk, Damaged, ParallelMap, Scan, Slice

SUFFIXES = (".nii", ".nii.gz")


class VolumeSlice(NamedTuple):
    """The level-th axial slice of a volume, counted from 0 at the feet."""

    path: str
    level: int


class CTNifti:
    """Every slice of the CT volumes below a folder: `.nii` and `.nii.gz`, at any depth.

    root: the folder; `~` is expanded. Label maps cannot be told from images: name the folder that holds the images.

    Each file is one patient: its identity is the path below the root without the extension. Values are Hounsfield units
    (after the header's own scaling); what is below -1024 or no number becomes -1024, air. Orientation comes from the
    affine, to the nearest axes: slices are the planes most nearly axial, feet to head, whatever the order in the file.
    `position_mm` is the plane's place along its normal, in mm of the affine's space; `series` numbers the volumes.

    Files that are no volume of three dimensions of plain numbers are skipped and counted; broken ones are `Damaged`.
    One volume is in memory at a time, as stored in the file. Raises UserError where the root is missing or no folder.
    """

    modality = CT

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = checked_root(root)

    def fingerprint(self) -> str:
        """sha256 over path below the root, size and time of change of every file."""
        return fingerprint(self.folder)

    def expected(self) -> None:
        """Unknown before the volumes' headers are read."""

    def scan(self, parallel_map: ParallelMap) -> Scan:
        """Read every volume's header; one chunk per volume. Raises UserError where there is none."""
        skipped: Counter[str] = Counter()
        paths = sorted(entry.path for entry in walk(self.folder, skipped))
        volumes = [path for path in paths if path.lower().endswith(SUFFIXES)]
        skipped["not NIfTI"] += len(paths) - len(volumes)
        scan = Scan()
        for path, result in zip(volumes, parallel_map(_header, volumes, "reading NIfTI headers"), strict=True):
            if isinstance(result, str):
                skipped[result] += 1
            elif isinstance(result, Damaged):
                scan.damaged.append(result)
            else:
                patient = os.path.relpath(path, self.folder)
                patient = patient[: patient.lower().rindex(".nii")].replace(os.sep, "/")
                columns = result.columns | {"series": np.full(len(result.items), float(len(scan.chunks)))}
                scan.chunks.append(replace(result, patient=patient, columns=columns))
        if not scan.chunks:
            reasons = skipped + Counter(one.reason for one in scan.damaged)
            raise nothing_found(self.root, "CT volume (.nii, .nii.gz)", reasons, "; DICOM is read by data=ct_dicom")
        scan.skipped = dict(+skipped)
        return scan

    def read(self, chunk: Chunk) -> Iterator[Slice | Damaged]:
        """The chunk's slices, in order: float32 HU of at least -1024; all of a damaged volume are `Damaged`."""
        from nibabel.orientations import apply_orientation

        path = chunk.items[0].path
        try:
            image, stored = _load(path)
            turn, affine = _orientation(image)
            stored = apply_orientation(stored, turn)
        except Exception as error:  # gzip, zlib and nibabel raise anything on damaged files
            yield from [Damaged(path, _reason(error))] * len(chunk.items)
            return
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        rows, columns = (float(mm) for mm in np.linalg.norm(affine[:3, :2], axis=0))
        for item in chunk.items:
            values = stored[:, :, item.level].astype(np.float32) * np.float32(slope) + np.float32(intercept)
            values = np.nan_to_num(values, nan=CT.fill, copy=False)
            yield Slice(np.ascontiguousarray(np.maximum(values, np.float32(CT.fill))), (rows, columns))


def _header(path: str) -> Chunk | Damaged | str:
    """The volume's chunk as far as its header says (the patient is named by the caller), or why there is none."""
    import nibabel

    try:
        if os.path.getsize(path) == 0:
            return Damaged(path, "empty file")
        image = nibabel.load(path)
        if image.get_data_dtype().kind not in "iuf":
            return "not plain numbers (colour or complex)"
        if len(image.shape) != 3:
            return f"{len(image.shape)}D"
        turn, affine = _orientation(image)
    except Exception as error:
        return Damaged(path, _reason(error))
    count = image.shape[[int(axis) for axis in turn[:, 0]].index(2)]
    if not count:
        return Damaged(path, "no slices")
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal *= np.sign(normal @ affine[:3, 2]) / np.linalg.norm(normal)
    positions = (affine[:3, 3] + np.arange(count)[:, None] * affine[:3, 2]) @ normal
    return Chunk("", tuple(VolumeSlice(path, level) for level in range(count)), {"position_mm": positions})


def _load(path: str) -> tuple[Any, np.ndarray]:
    """The nibabel image and its stored values, unscaled.

    nibabel and not MONAI's NibabelReader, which makes float64 of a scaled volume: four times what the file holds, in
    every worker. A compressed file is read to its end, where gzip checks that nothing is damaged.
    """
    import nibabel

    image: Any = nibabel.load(path)
    if not path.lower().endswith(".gz"):
        return image, image.dataobj.get_unscaled()
    with gzip.open(path) as stream:
        image = type(image).from_stream(stream)
        stored = image.dataobj.get_unscaled()
        while stream.read(1 << 20):
            pass
    return image, stored


def _orientation(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """How the axes are permuted and flipped to (row: to the back, column: to the left, slice: up), and the affine then.

    Raises ValueError where the affine leaves an axis without direction.
    """
    from nibabel import orientations

    turn = orientations.io_orientation(image.affine)
    if not (np.isfinite(turn).all() and np.isfinite(image.affine).all()):
        raise ValueError("degenerate affine")
    turn = orientations.ornt_transform(turn, orientations.axcodes2ornt(("P", "L", "S")))
    return turn, image.affine @ orientations.inv_ornt_aff(turn, image.shape)


def _reason(error: Exception) -> str:
    """In fixed words: the messages of the libraries quote paths."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, EOFError):
        return "truncated"
    return "degenerate affine" if str(error) == "degenerate affine" else "corrupt"
