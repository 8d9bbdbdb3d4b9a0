"""Which files are whole slides, what they claim to hold, and how large their pixels are."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medlat.core.errors import ArgumentError, key_in
from medlat.data.pictures.files import number, read_table, some
from medlat.data.source import ParallelMap

if TYPE_CHECKING:
    from openslide import OpenSlide

SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".svslide", ".bif", ".czi")
LIKELY_MPP = (0.05, 20.0)  # of a scanner; a TIFF file that says 72 dpi, as any does, has 353 µm
MPP_TIMES_POWER = 10.0  # of scanners: 0.25 µm at 40x
MOST_TILE = 8192 * 8192  # pixels of a file's own tiles, which OpenSlide unpacks whole
MOST_PIXELS = 1 << 38  # of a slide: 524,288 x 524,288
MOST_PIXELS_A_BYTE = 10_000  # of a file: blank tiles take one byte for some hundred pixels
IN_SEVERAL_FILES = (
    "mirax",
    "hamamatsu",
    "dicom",
)  # formats whose pixels lie in files beside the one that is opened too
TUMOUR = re.compile(r"(?<![a-z])(tumou?rs?|tumou?ral|metastas[ei]s)(?![a-z])")
NO_TUMOUR = re.compile(r"(?<![a-z])(no|non|not|without)[ _-]*$")


def slides_among(paths: Sequence[str], parallel_map: ParallelMap) -> tuple[list[str], int]:
    """The slides among files, in their order, and how many more files belong to one of them.

    A slide is what OpenSlide knows by its content, whatever it is called; what is called as one and is none is damaged,
    and returned too. Files named `*_mask` are none. Of a DICOM slide, each level is a file: the first stands for all.
    """
    looked_at = [path for path in paths if not Path(path).stem.endswith("_mask")]
    found: dict[str, str] = {}
    more = 0
    for path, slide in zip(looked_at, parallel_map(_identity, looked_at, "looking for slides"), strict=True):
        if slide is not None:
            more += slide in found
            found.setdefault(slide, path)
    return list(found.values()), more


def _identity(path: str) -> str | None:
    """What the files of one slide have in common; None of a file that is no slide."""
    from openslide import OpenSlide

    try:
        vendor = OpenSlide.detect_format(path)
        if vendor == "dicom":
            with OpenSlide(path) as slide:
                return f"{os.path.dirname(path)}\0{slide.properties['dicom.SeriesInstanceUID']}"
    except Exception:  # OpenSlide's own errors, and what ctypes raises of a name that no file can have
        vendor = None
    return path if vendor is not None or path.lower().endswith(SUFFIXES) else None


def problem(slide: "OpenSlide", path: str) -> str | None:
    """Why a slide is not read, by what it claims."""
    keys = [(f"openslide.level[{i}].tile-width", f"openslide.level[{i}].tile-height") for i in range(slide.level_count)]
    if any(math.prod(int(slide.properties.get(key, 1)) for key in pair) > MOST_TILE for pair in keys):
        return "tiles of more than 67 million pixels"
    pixels = math.prod(slide.dimensions)
    alone = slide.properties.get("openslide.vendor") not in IN_SEVERAL_FILES
    if pixels > MOST_PIXELS or (alone and pixels > os.path.getsize(path) * MOST_PIXELS_A_BYTE):
        return "more pixels than it can hold"
    return None


def own_mpp(slide: "OpenSlide") -> float | None:
    """Micrometres per level-0 pixel, the mean of both axes; None where the file does not say a likely one."""
    try:
        mpp = (float(slide.properties["openslide.mpp-x"]) + float(slide.properties["openslide.mpp-y"])) / 2.0
    except (KeyError, ValueError):
        return None
    return mpp if LIKELY_MPP[0] <= mpp <= LIKELY_MPP[1] else None


def objective_power(slide: "OpenSlide") -> float | None:
    """The magnification that a file says, e.g. 40; None where it says no likely one."""
    power = number(slide.properties.get("openslide.objective-power", ""))
    return power if power is not None and 1.0 <= power <= 150.0 else None


def named_as_tumour(path: str) -> bool:
    """Whether a slide is called after tumour (`tumor_001`), and not after its absence (`non_tumor_3`)."""
    name = Path(path).stem.lower()
    found = TUMOUR.search(name)
    return found is not None and NO_TUMOUR.search(name[: found.start()]) is None


def read_mpps(of: object, table: str, root: Path, slides: Sequence[str]) -> dict[str, float]:
    """Path of a slide -> micrometres per level-0 pixel, as the CSV `mpp_table` of a source says: a column `slide` (the
    path below the root, or the name of the file, with its suffix or without) and a column `mpp`.

    Raises UserError where it cannot be read, names what is no slide, or holds what is no likely number.
    """
    key = key_in(of, "mpp_table")
    read = read_table(key, root / os.path.expanduser(table))
    for column in ("slide", "mpp"):
        read.check_column(key, column)
    known: dict[str, list[str]] = {}
    for path in slides:
        below = Path(os.path.relpath(path, root))
        for name in {below.as_posix(), below.with_suffix("").as_posix(), below.name, below.stem}:
            known.setdefault(name, []).append(path)
    found: dict[str, float] = {}
    wrong: dict[str, list[str]] = {"no slide": [], "more than one slide": [], "no micrometres per pixel": []}
    for row in read.rows:
        meant, mpp = known.get(row["slide"].replace("\\", "/"), []), number(row["mpp"])
        if len(meant) != 1:
            wrong["more than one slide" if meant else "no slide"].append(row["slide"])
        elif mpp is None or not LIKELY_MPP[0] <= mpp <= LIKELY_MPP[1]:
            wrong["no micrometres per pixel"].append(f"{row['slide']}: {row['mpp']}")
        else:
            found[meant[0]] = mpp
    if said := "; ".join(f"{len(cells)} rows name {what}: {some(cells)}" for what, cells in wrong.items() if cells):
        raise ArgumentError("mpp_table", f"{said}; expected slides below the root and 0.05 to 20 µm", table, of=of)
    return found
