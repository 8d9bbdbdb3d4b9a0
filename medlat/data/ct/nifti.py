"""Headers of NIfTI volumes: `.nii`, `.nii.gz`, and pairs of `.hdr` and `.img`."""

import gzip
import os
from typing import IO, Any, cast

from medlat.data.ct.volume import Header, Implausible, Unfit, beside

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")


def read_header(path: str) -> Header:
    """Of NIfTI 1 and 2. Not nibabel's image: opening one reads header extensions of whatever length the file claims.
    Not MONAI's NibabelReader, which makes float64 of a scaled volume: four times what the file holds, in every worker.

    Raises EOFError, `Unfit` (Analyze, which says no orientation; another kind of `.hdr`), `Implausible` and what gzip
    and nibabel raise on damaged files.
    """
    from nibabel.nifti2 import Nifti2Header

    packed = path.lower().endswith(".gz")
    with cast("IO[bytes]", gzip.open(path) if packed else open(path, "rb")) as stream:
        start = stream.read(Nifti2Header.sizeof_hdr)
    header = _parsed(path, start)
    offset = int(header.get_data_offset())
    values = path
    if path.lower().endswith((".hdr", ".hdr.gz")):
        values, packed = _pair(path)
    elif not offset:
        offset = header.single_vox_offset
    slope, intercept = _scaling(header)
    return Header(
        path=values,
        shape=tuple(int(n) for n in header.get_data_shape()),
        dtype=header.get_data_dtype(),
        affine=header.get_best_affine(),
        packing="gzip" if packed else "",
        offset=offset,
        slope=slope,
        intercept=intercept,
        unit=header.get_xyzt_units()[0],
        assumed="" if header["qform_code"] > 0 or header["sform_code"] > 0 else "no orientation: taken as LAS",
    )


def _parsed(path: str, start: bytes) -> Any:
    from nibabel.analyze import AnalyzeHeader
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for kind in (Nifti1Header, Nifti2Header):
        if kind.may_contain_header(start):
            return kind(start[: kind.sizeof_hdr])
    if path.lower().endswith((".hdr", ".hdr.gz")):
        is_analyze = AnalyzeHeader.may_contain_header(start)
        raise Unfit("Analyze volume, which says no orientation" if is_analyze else ".hdr file of another kind")
    raise EOFError if len(start) < Nifti1Header.sizeof_hdr else Implausible("corrupt")


def _pair(path: str) -> tuple[str, bool]:
    """The file with the values of a header, and whether it is packed. Raises Implausible where there is none."""
    stem = os.path.basename(path)[: path.lower().rindex(".hdr") - len(path)]
    there = {name.lower(): name for name in os.listdir(os.path.dirname(path) or ".")}
    for suffix in (".img", ".img.gz"):
        if (name := there.get(stem.lower() + suffix)) is not None:
            return beside(path, name), suffix.endswith(".gz")
    raise Implausible("the file with its values is missing")


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept, 1 and 0 where the header has none. Raises Implausible where one of them is no number."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise Implausible("scl_inter is no number") from error
    return float(slope or 1.0), float(intercept or 0.0)
