"""Numbers with units read off H&E histology by plain image processing: stains, thresholds, blobs, no learning.

Made for phantom tiles, real ones and the blurry samples of generators alike, at pixels of 0.2 to 2.5 µm.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medlat.core.errors import UserError
from medlat.core.stains import stain_vectors, stains
from medlat.measure.colour import colour
from medlat.measure.measurement import Measurement, MeasurementSet, joined

COARSE_UM = 1.0  # finer images are averaged towards this, so that numbers do not depend on the pixel: see the tests
GLASS_OD = 0.13  # the densest of R, G, B is below this where there is no tissue
LEAST_TISSUE = 0.02  # share of an image below which there is nothing to measure
LEAST_CONTRAST = 0.2  # haematoxylin by which nuclei stand out where they can be told
EVEN, PALE = 0.4, 0.2  # tissue that is darker than PALE and rises nowhere by this share of its level has no nuclei
REST, NEGATIVE = (-0.3, 0.4), 0.08  # of an H&E tile's density: the third stain's, and what is below no stain at all
ALIKE = 0.8  # cosine of haematoxylin's vector and of what nuclei add to the density between them
BLOB_UM, APART_UM, BLOB_LEAST = 3.0, 3.5, 0.16  # Laplacian's sigma, least distance of peaks, their least height
FIBROUS = 0.24  # haematoxylin between nuclei, as a share of the nuclei's, below which tissue is stroma
DARK, ROUNDS = 0.97, 4  # quantile of the tissue that is surely nuclei; rounds towards the level between them

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("nuclear_density", "1/mm²", "nuclei counted as blobs of haematoxylin / tissue area", "nuclear_density"),
    Measurement("nuclear_size", "µm", "diameter of the circle of a nucleus's mean area", "nuclear_size"),
    Measurement("nuclear_fraction", "1", "area of nuclei / tissue area"),
    Measurement("haematoxylin", "OD", "mean haematoxylin of the nuclei within their edges", "haematoxylin"),
    Measurement("eosin", "OD", "mean eosin of the tissue between nuclei", "eosin"),
    Measurement("stroma", "1", "tissue with little haematoxylin around its nuclei / tissue area", "stroma"),
    Measurement("tissue", "1", "area that is not glass / area of the image"),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


def he_tile(only: Sequence[str] | None = None) -> MeasurementSet:
    """The set for images in RGB. only: names of the measurements to take; null: all."""
    return MeasurementSet(MEASUREMENTS, measure, unit="RGB", channels=3).only(only)


def tile() -> MeasurementSet:
    """What tiles are measured by unless something else is asked for: nuclei and stains, and their colour as a whole, so
    that what changes the colour alone is not said of nuclei.

    The two overlap: a straight line through the seven of `he_tile` tells hue, saturation and brightness of 123 real
    tiles of lung (LC25000) with R² 0.80, 0.89 and 0.82, of 120 of the phantom with 0.98 to 0.99.
    """
    return replace(joined([he_tile(), colour()]), unit="RGB", channels=3)


def measure(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Every measurement of every image: [N, len(MEASUREMENTS)] float64, NaN where there is nothing to measure.

    images:     [N, H, W, 3] RGB from 0 to 255.
    spacing_mm: distance between pixels, the same in both directions: 0.001 for 1 µm.
    Without nuclei, density and fraction are 0, size, haematoxylin and stroma NaN; without tissue, all but `tissue` are
    NaN. What is of nuclei is NaN, too, where they cannot be told by their colour: haematoxylin in them less than 0.2 OD
    above that between them, in tissue that is not even; or what they add to it is no haematoxylin. Where the colours
    are not those of H&E (much below no stain, or of a third colour), so is eosin.
    Nuclei that cover less than 3% of the tissue are not seen.
    Of 123 real tiles of lung (every twelfth of 1,476 of LC25000, 0.5 µm) 3 are outside; of 31 of them turned by
    60 degrees of hue 28 are, and all of them turned by 120 or 180, made grey, or left a quarter of their density.
    Raises UserError for another shape or a spacing that is not positive. No image raises or warns; pixels that
    are not finite count as glass.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W, 3]")
    if not spacing_mm > 0:
        raise UserError(f"spacing_mm: {spacing_mm}, expected millimetres, more than 0")
    micrometres = spacing_mm * 1000
    factor = max(1, min(int(COARSE_UM / micrometres + 1e-6), *images.shape[1:3]))
    rgb = np.clip(np.nan_to_num(images.astype(np.float32), nan=255.0), 0.0, 255.0)
    return _measure(_average(rgb, factor), micrometres * factor)


def _average(rgb: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor x factor blocks; a remainder at the right and lower border is left out."""
    if factor == 1:
        return rgb
    n, height, width = len(rgb), rgb.shape[1] // factor, rgb.shape[2] // factor
    blocks = rgb[:, : height * factor, : width * factor].reshape(n, height, factor, width, factor, 3)
    return blocks.mean((2, 4), dtype=np.float32)


def _measure(rgb: np.ndarray, pixel_um: float) -> np.ndarray:
    tissue = _tissue(rgb, pixel_um)
    found = stains(rgb)
    haematoxylin, eosin = _blur(found[..., 0], 0.6, pixel_um), found[..., 1]
    between, inside = levels(haematoxylin, tissue)
    contrast = inside - between
    scale = np.where(contrast >= LEAST_CONTRAST, contrast, np.inf)[:, None, None].astype(np.float32)
    share = np.clip((haematoxylin - between[:, None, None].astype(np.float32)) / scale, 0.0, 1.0)
    nuclei, background = tissue & (share > 0.5), tissue & (share < 0.25)
    pixels = np.maximum(tissue.sum((1, 2)), 1)
    count = (_blobs(share, pixel_um) & nuclei).sum((1, 2))
    part = np.where(tissue, np.clip(3 * share - 1, 0, 1), 0)  # of a pixel, so that few large pixels still tell the area
    covered = part.sum((1, 2), dtype=np.float64)
    per_nucleus = np.where(count > 0, covered, np.nan) / np.maximum(count, 1)
    is_he, tells, has_none = _holds(found, tissue, nuclei, background, contrast, pixel_um)
    values = {
        "nuclear_density": np.where(tells | has_none, count / pixels * (1000 / pixel_um) ** 2, np.nan),
        "nuclear_size": np.where(tells, 2 * np.sqrt(per_nucleus / np.pi) * pixel_um, np.nan),
        "nuclear_fraction": np.where(tells | has_none, covered / pixels, np.nan),
        "haematoxylin": np.where(tells, _mean_over(haematoxylin, nuclei & (share > 0.8)), np.nan),
        "eosin": np.where(is_he, _mean_over(eosin, background), np.nan),
        "stroma": np.where(tells, _stroma(haematoxylin, background, tissue, inside, pixel_um), np.nan),
        "tissue": tissue.mean((1, 2)),
    }
    table = np.stack([values[name] for name in NAMES], axis=1)
    table[values["tissue"] < LEAST_TISSUE, : NAMES.index("tissue")] = np.nan
    return table


def _holds(
    found: np.ndarray,
    tissue: np.ndarray,
    nuclei: np.ndarray,
    background: np.ndarray,
    contrast: np.ndarray,
    pixel_um: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether a tile's colours are H&E's at all, whether its nuclei can be told, and whether it has none, [N] bool.

    Too little haematoxylin to tell nuclei by is not yet none: a pale or a recoloured tile has dark things all the same.
    """
    density = found @ stain_vectors().astype(np.float32)  # [N, H, W, 3] of R, G, B
    length = np.linalg.norm(density, axis=3)
    total = np.maximum(_mean_over(length, tissue), 1e-6)
    rest = _mean_over(found[..., 2], tissue) / total
    negative = _mean_over(np.maximum(-found[..., :2], 0).sum(3), tissue) / total
    is_he = (rest > REST[0]) & (rest < REST[1]) & (negative < NEGATIVE)
    added = np.stack([_mean_over(d, nuclei) - _mean_over(d, background) for d in np.moveaxis(density, 3, 0)], axis=1)
    cosine = added @ stain_vectors()[0] / np.maximum(np.linalg.norm(added, axis=1), 1e-6)
    stands_out = contrast >= LEAST_CONTRAST
    between, darkest = levels(_blur(length, 0.6, pixel_um), tissue)
    even = (between > PALE) & (darkest < (1 + EVEN) * between)
    return is_he, is_he & stands_out & (cosine > ALIKE), is_he & ~stands_out & even


def _tissue(rgb: np.ndarray, pixel_um: float) -> np.ndarray:
    """Where light is taken away, [N, H, W] bool: the densest colour of the image blurred by 2 µm."""
    darkest = _blur(rgb.min(axis=3), 2.0, pixel_um)
    return darkest < 255.0 * 10.0**-GLASS_OD


def _blur(images: np.ndarray, sigma_um: float, pixel_um: float) -> np.ndarray:
    """Gaussian; nothing where its sigma is below half a pixel."""
    from scipy import ndimage

    sigma = sigma_um / pixel_um
    return ndimage.gaussian_filter(images, (0, sigma, sigma), mode="nearest") if sigma >= 0.5 else images


def _mean_over(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[N, H, W] -> [N] float64, NaN where the mask is empty."""
    count = mask.sum((1, 2))
    total = np.where(mask, values, 0).sum((1, 2), dtype=np.float64)
    return np.where(count > 0, total, np.nan) / np.maximum(count, 1)


def levels(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Haematoxylin between nuclei and in them: [N, H, W] -> two [N] float64, both 0 where the mask is empty.

    A high quantile finds the nuclei, however few they are; the level between them is the mean of what lies below the
    middle of the two, repeated (Ridler & Calvard 1978, the upper class held fast), and then the level in them the mean
    of what lies above. Otsu's threshold would part stroma from cytoplasm where nuclei are few.
    """
    between, inside = np.zeros((2, len(values)))
    for i, (image, where) in enumerate(zip(values, mask, strict=True)):
        chosen = image[where]
        if not len(chosen):
            continue
        rank = round(DARK * (len(chosen) - 1))
        low, high = float(chosen.min()), float(np.partition(chosen, rank)[rank])
        if low < high:
            low = float(chosen.mean())
            for _ in range(ROUNDS):
                low = float(chosen[chosen <= (low + high) / 2].mean())
            high = float(chosen[chosen > (low + high) / 2].mean())
        between[i], inside[i] = low, high
    return between, inside


def _blobs(share: np.ndarray, pixel_um: float) -> np.ndarray:
    """Peaks of the Laplacian of Gaussian (Lindeberg 1998: scaled by sigma²), one a nucleus, touching ones apart."""
    from scipy import ndimage

    sigma = max(BLOB_UM / pixel_um, 0.7)
    scales, second = (0, sigma, sigma), ((0, 2, 0), (0, 0, 2))
    curvature = -(sigma**2) * sum(ndimage.gaussian_filter(share, scales, order=o, mode="nearest") for o in second)
    rows, columns = np.ogrid[: share.shape[1], : share.shape[2]]
    curvature += np.float32(1e-6) * (rows + 2 * columns)  # of pixels that are equally high, one is the peak
    reach = max(APART_UM / pixel_um, 1.0)
    steps = np.arange(-int(reach), int(reach) + 1)
    near = steps[:, None] ** 2 + steps**2 <= reach**2
    return (curvature > BLOB_LEAST) & (curvature == ndimage.maximum_filter(curvature, footprint=near[None]))


def _stroma(
    haematoxylin: np.ndarray, background: np.ndarray, tissue: np.ndarray, inside: np.ndarray, pixel_um: float
) -> np.ndarray:
    """Share of the tissue around whose nuclei is little haematoxylin, [N]: fibres take eosin alone, cytoplasm both.

    Between nuclei it is averaged over 4 µm, and carried on into them from their surroundings.
    """
    weight = background.astype(np.float32)
    around = _blur(weight * haematoxylin, 4.0, pixel_um) / np.maximum(_blur(weight, 4.0, pixel_um), 1e-3)
    return _mean_over(around < FIBROUS * inside[:, None, None], tissue)
