"""What no CT image has: sizes, spacings and scalings that somebody got wrong, or that are a file's damage."""

from medlat.data.modality import CT

MOST_PIXELS = 4096 * 4096  # of a slice: a decoder takes some twenty bytes for each, so about 0.3 GB
LIKELY_MM = (0.02, 20.0)  # between pixels; less are metres, more are micrometres
RANGE_HU = CT.high - CT.low


def size_problem(rows: int, columns: int) -> str | None:
    """Why no slice of so many pixels is read, or None."""
    return "more than 16.8 million pixels in a slice" if rows * columns > MOST_PIXELS else None


def spacing_problem(spacing_mm: tuple[float, float]) -> str | None:
    """Why a distance between pixels cannot be one of a CT image, or None."""
    likely = all(LIKELY_MM[0] <= mm <= LIKELY_MM[1] for mm in spacing_mm)
    return None if likely else "pixel spacing outside {:g} to {:g} mm".format(*LIKELY_MM)


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
