"""Numbers of how fine an image is, whatever it shows: blur, noise, local contrast, the slope of its spectrum.

For images of one channel, and of the mean of three (noise is of each channel). Lengths are in pixels of the image that
is measured: a generator's blur is a matter of its pixels.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from medlat.core.errors import UserError
from medlat.data.modality import Modality
from medlat.measure.measurement import Measurement, MeasurementSet

FINE, COARSE = 1.0, 2.0  # pixels: the two scales that edges are seen at
EDGES = 0.98  # quantile of the gradient above which a ridge of it is an edge
SHARPEST, SOFTEST = 0.25, 4.0  # pixels of blur that can be told at these scales
MAD = 0.6744897501960817  # median of |x| of a standard normal number
LEAST_BLOCKS = 0.02  # share of 2 x 2 blocks that must not be flat for noise to be told
BAND = (0.04, 0.35)  # cycles per pixel that the spectrum's slope is taken over
LEAST_SIDE = 16  # pixels


def texture(modality: Modality, only: Sequence[str] | None = None) -> MeasurementSet:
    """The set for any image. modality: says the values' unit. only: names of the measurements to take; null: all."""
    unit = "grey" if modality.colour else modality.unit
    low, high = modality.display_window()
    measurements = [
        Measurement("blur", "px", "standard deviation of the Gaussian that blurs the sharpest edges"),
        Measurement("noise", unit, "standard deviation of what differs from pixel to pixel alone"),
        Measurement("local_contrast", unit, "standard deviation of structure between about 3 and 8 pixels"),
        Measurement("spectral_slope", "1", "fall of power with frequency: 0 white noise, larger smoother"),
    ]
    return MeasurementSet(measurements, partial(measure, step=(high - low) / 255.0)).only(only)


def measure(images: np.ndarray, spacing_mm: float, step: float = 1.0) -> np.ndarray:
    """Every measurement of every image: [N, 4] float64, NaN where there is nothing to measure.

    images: [N, H, W] or [N, H, W, 3] in any unit; pixels that are not finite count as the image's smallest.
    step:   the smallest difference that counts: an image whose standard deviation is below has only noise.

    blur:           from the heights of the same edges at two scales s: both fall as 1/sqrt(blur² + s²) (after Zhuo &
                    Sim 2011); a pixel's own width is 0.29. Right to 5% on drawn edges from 0.5 to 3 pixels, to 10% up
                    to 2 with noise of a twentieth of their height. NaN outside of 0.25 to 4 pixels: images of thin
                    lines may seem sharper than that.
    noise:          median of the finest diagonal Haar coefficients / 0.6745 (Donoho & Johnstone 1994), blocks of four
                    equal pixels left out (air, glass). Right to 5% for white noise of three steps or more on a smooth
                    image; fine texture counts as noise.
    local_contrast: root of the variance between Gaussians of 1 and 3 pixels.
    spectral_slope: of log power on log frequency from 0.04 to 0.35 cycles per pixel, the mean over directions, sign
                    turned; Hann window. Where power falls as a power it is right to 0.05, and one image of 64² says it
                    to 0.2 (one standard deviation), one of 128² to 0.14.

    An offset changes none of them; a gain multiplies noise and local contrast and leaves blur and slope.
    On 123 real tiles of H&E (every twelfth of 1,476 of LC25000's lung) at 224²: blur from 0.26 to 0.96 in half of them
    (the other half is sharper), noise 0.7 to 4.4 grey levels, local contrast 6 to 18, slope 2.7 to 4.3; averaged to
    64² all are sharper than can be told, noise is 0.8 to 13 and slope 0.7 to 3.4.
    Images of less than 16 pixels a side are all NaN. Raises UserError for another shape. No image raises or warns.
    """
    images = np.asarray(images, np.float64)
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W] or [N, H, W, 3]")
    if not len(images) or min(images.shape[1:3]) < LEAST_SIDE:
        return np.full((len(images), 4), np.nan)
    channels = images if images.ndim == 4 else images[..., None]
    known = np.isfinite(channels)
    lowest = np.where(known, channels, np.inf).min(axis=(1, 2, 3), keepdims=True)
    channels = np.where(known, channels, np.where(np.isfinite(lowest), lowest, 0.0))
    grey = channels.mean(axis=3)
    table = np.stack([blur(grey), noise(channels), local_contrast(grey), spectral_slope(grey)], axis=1)
    table[np.ix_(grey.std((1, 2)) < step, [0, 3])] = np.nan
    return table


def blur(images: np.ndarray) -> np.ndarray:
    """Pixels, [N, H, W] -> [N]."""
    from scipy import ndimage

    def slope(scale: float) -> np.ndarray:
        parts = [ndimage.gaussian_filter(images, (0, scale, scale), order=o) for o in ((0, 1, 0), (0, 0, 1))]
        return np.hypot(*parts)

    fine, coarse = slope(FINE), slope(COARSE)
    ridge = fine >= ndimage.maximum_filter(fine, (0, 3, 3)) - 1e-9
    inner = np.zeros(images.shape[1:], bool)
    inner[4:-4, 4:-4] = True
    strongest = np.quantile(fine[:, inner], EDGES, axis=1)
    found = np.full(len(images), np.nan)
    for i, (a, b, top) in enumerate(zip(fine, coarse, strongest, strict=True)):
        edge = ridge[i] & inner & (a >= top) & (a > 0)
        if edge.any():
            ratio = np.median(a[edge] / np.maximum(b[edge], 1e-12)) ** 2
            if ratio > 1.0:
                squared = (COARSE**2 - ratio * FINE**2) / (ratio - 1.0)
                found[i] = np.sqrt(max(squared, 0.0))
    return np.where((found >= SHARPEST) & (found <= SOFTEST), found, np.nan)


def noise(channels: np.ndarray) -> np.ndarray:
    """In the values' unit, [N, H, W, C] -> [N]."""
    height, width = (side // 2 * 2 for side in channels.shape[1:3])
    a, b = channels[:, 0:height:2, 0:width:2], channels[:, 0:height:2, 1:width:2]
    c, d = channels[:, 1:height:2, 0:width:2], channels[:, 1:height:2, 1:width:2]
    diagonal = np.abs(a - b - c + d) / 2
    flat = (a == b) & (c == d) & (a == c)
    found = np.full(len(channels), np.nan)
    for i, (values, out) in enumerate(zip(diagonal, flat, strict=True)):
        if (~out).mean() >= LEAST_BLOCKS:
            found[i] = np.median(values[~out]) / MAD
    return found


def local_contrast(images: np.ndarray) -> np.ndarray:
    """In the values' unit, [N, H, W] -> [N]."""
    from scipy import ndimage

    fine, coarse = (ndimage.gaussian_filter(images, (0, sigma, sigma)) for sigma in (1.0, 3.0))
    return (fine - coarse).std(axis=(1, 2))


def spectral_slope(images: np.ndarray) -> np.ndarray:
    """[N, H, W] -> [N]: power falls as frequency to minus this."""
    height, width = images.shape[1:]
    window = np.hanning(height)[:, None] * np.hanning(width)
    centred = images - (images * window).sum((1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.fft2(centred * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    edges = np.geomspace(*BAND, 9)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(edges)]
    rings = [ring for ring in rings if ring.any()]
    x = np.array([np.log(frequency[ring]).mean() for ring in rings])
    y = np.log(np.maximum(np.stack([power[:, ring].mean(axis=1) for ring in rings], axis=1), 1e-12))
    x = x - x.mean()
    return -(y @ x) / (x @ x)
