"""Where there is tissue on a slide: colour, Otsu's threshold and morphology on a small image of the whole."""

import numpy as np
from scipy import ndimage

from medlat.core.stains import DARKEST

# Colour (see `colour`) that is glass below the first, tissue above the second, whatever the slide's own threshold says:
# without these, noise is tissue on an empty slide, and pale tissue is glass on a full one.
SURELY_GLASS, SURELY_TISSUE = 0.06, 0.2
SPECK_MM2 = 0.01  # tissue and holes below this area are dirt and gaps between cells


def colour(rgb: np.ndarray) -> np.ndarray:
    """RGB [..., 3] from 0 to 255 -> [...] float32: the largest less the smallest optical density of the three channels.

    Stains have colour; glass, shadows, dirt and black borders have none, however dark they are.
    """
    density = -np.log10(np.maximum(rgb.astype(np.float32) / np.float32(255.0), np.float32(DARKEST)))
    return np.asarray(density.max(axis=-1) - density.min(axis=-1))


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that divides values into two groups with the largest variance between them (Otsu 1979, eq. 12).

    Where all values are equal, that value.
    """
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2.0
    if values.max() <= values.min():
        return float(values.max())
    below = np.cumsum(counts).astype(np.float64)
    sums = np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    best = np.nan_to_num(between)
    # any threshold in an empty stretch between the groups is as good: the middle one
    return float(edges[1:][np.flatnonzero(best >= best.max() * (1.0 - 1e-12))].mean())


def tissue_mask(rgb: np.ndarray, mpp: float) -> np.ndarray:
    """A small image of a slide [H, W, 3] from 0 to 255, `mpp` micrometres per pixel -> [H, W] bool, where tissue is."""
    smooth = ndimage.median_filter(colour(rgb), 3)
    tissue = smooth > np.clip(otsu(smooth), SURELY_GLASS, SURELY_TISSUE)
    smallest = SPECK_MM2 / (mpp / 1000.0) ** 2
    tissue = _without_specks(tissue, smallest)
    return ~_without_specks(~tissue, smallest)


def _without_specks(mask: np.ndarray, smallest: float) -> np.ndarray:
    """Connected pieces of at least so many pixels."""
    pieces, _ = ndimage.label(mask)
    large = np.bincount(pieces.ravel()) >= smallest
    large[0] = False
    return large[pieces]


def shares(mask: np.ndarray, side: float, rows: int, columns: int) -> np.ndarray:
    """[rows, columns] float64: the share of each tile of a grid that lies in the mask.

    mask: [H, W]; side: of a tile, in pixels of the mask, any positive number. The grid begins at the upper left corner.
    """
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = mask.cumsum(0, dtype=np.float64).cumsum(1)
    for axis, count in enumerate((rows, columns)):
        edges = np.minimum(np.arange(count + 1) * side, mask.shape[axis])
        low = np.minimum(edges.astype(int), mask.shape[axis] - 1)
        part = np.expand_dims(edges - low, 1 - axis)
        at = np.take(total, low, axis) * (1.0 - part) + np.take(total, low + 1, axis) * part
        total = np.diff(at, axis=axis)
    return np.clip(total / side**2, 0.0, 1.0)
