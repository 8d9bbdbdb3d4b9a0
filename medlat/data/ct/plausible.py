"""What no CT image has: sizes, spacings, scalings and values that somebody got wrong, or that are a file's damage."""

import math
from collections.abc import Iterable

import numpy as np

from medlat.data.modality import CT
from medlat.data.source import Remark

MOST_PIXELS = 4096 * 4096  # of a slice: a decoder takes some twenty bytes for each, so about 0.3 GB
LIKELY_MM = (0.02, 20.0)  # between pixels; less are metres, more are micrometres
NARROWEST_MM, FINE_MM = 60.0, 0.3  # of a slice whose pixels are finer than that; less are cm
WIDEST_MM = 1200.0  # of a slice; a scanner's bore is 700 to 850 mm wide
RANGE_HU = CT.high - CT.low
LABELS = "few distinct whole numbers: a label map, not an image"
WHICH = (  # what to do about label maps
    "data.source.exclude=PATTERN leaves such files out before they are read, "
    "data.source.include=PATTERN says which are images"
)
MOST_LABELS = 128  # of a label map: TotalSegmentator has 117 classes; a CT slice holds many hundred values
HIGHEST_LABEL, MOST_HIGH_LABELS = 255, 10  # of more labels than those (MM-WHS: 205, 420 ... 850) the highest
VOXELS_A_LABEL = 50  # at least: an image of a few voxels has few values too
AIR_HU = -200.0  # every CT has darker values (air, lung) and brighter ones (tissue)


def size_problem(rows: int, columns: int) -> str | None:
    """Why no slice of so many pixels is read, or None."""
    return "more than 16.8 million pixels in a slice" if rows * columns > MOST_PIXELS else None


def spacing_problem(spacing_mm: tuple[float, float]) -> str | None:
    """Why a distance between pixels cannot be one of a CT image, or None."""
    likely = all(LIKELY_MM[0] <= mm <= LIKELY_MM[1] for mm in spacing_mm)
    return None if likely else "pixel spacing outside {:g} to {:g} mm".format(*LIKELY_MM)


def size_doubt(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> str | None:
    """Why a slice of [rows, columns] pixels is as large as none of a patient, or None."""
    widest = max(count * mm for count, mm in zip(shape, spacing_mm, strict=True))
    if widest > WIDEST_MM:
        return f"slices of more than {WIDEST_MM:g} mm: is their pixel spacing in mm?"
    if widest < NARROWEST_MM and max(spacing_mm) < FINE_MM:
        return f"slices of less than {NARROWEST_MM:g} mm: is their pixel spacing in cm?"
    return None


def size_remarks(path: str, shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> tuple[Remark, ...]:
    """The same, of a file that is read all the same."""
    doubt = size_doubt(shape, spacing_mm)
    return (Remark(path, doubt, True, advice="they are read as if in mm"),) if doubt else ()


def scaling_problem(slope: float, intercept: float, bits: int) -> str | None:
    """Why stored values of so many bits do not become Hounsfield units by stored · slope + intercept, or None.

    A slope is absurd where two neighbouring values are further apart than all of CT, or all values that 32 bits hold
    are less than 1 HU apart; an intercept, where no stored value comes into the range of CT.
    """
    if slope == 0:
        return "rescale slope is 0"
    if not 2.0**-32 <= abs(slope) <= RANGE_HU:
        return "rescale slope is absurd"
    if not abs(intercept) <= abs(slope) * 2.0 ** min(bits, 64) + RANGE_HU:
        return "rescale intercept is absurd"
    return None


def is_label_map(slices: Iterable[np.ndarray]) -> bool:
    """Whether values, as a file means them, are few distinct whole numbers of at least -1 and 0 among them, or all the
    same. Of an image the first slice is mostly enough to say no.
    """
    found, count = np.empty(0), 0
    for values in slices:
        if not values.min() >= -1.0:  # air, or no number
            return False
        found, count = np.union1d(found, values), count + values.size
        if len(found) > MOST_LABELS or (found != np.rint(found)).any():
            return False
    low_or_few = found.max(initial=0.0) <= HIGHEST_LABEL or len(found) <= MOST_HIGH_LABELS
    background = 0.0 in found or len(found) == 1
    return low_or_few and background and len(found) * VOXELS_A_LABEL <= count


def hu_doubt(path: str, slices: Iterable[np.ndarray], advice: str) -> Remark | None:
    """That values of a file lie where those of a CT volume in Hounsfield units cannot all lie, or None.

    slices: some of a volume, of which no more are asked for than it takes to know; what is no number or below -1024
            (padding) does not count.
    """
    low, high = math.inf, -math.inf
    for values in slices:
        known = values[values >= CT.low]
        low, high = min(low, float(known.min(initial=math.inf))), max(high, float(known.max(initial=-math.inf)))
        if low <= AIR_HU <= high:
            return None
    if low > high:
        return Remark(path, "no value of at least -1024 HU, so all becomes air", True, advice=advice)
    lacks = "below -200 HU, as air has" if low > AIR_HU else "above -200 HU, as tissue has"
    return Remark(path, f"no value {lacks}: are these Hounsfield units?", True, (low, high), advice)
