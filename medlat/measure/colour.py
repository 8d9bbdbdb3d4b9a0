"""Numbers of an image's colour as a whole, whatever it shows: what another stain, light or camera changes."""

from collections.abc import Sequence

import numpy as np

from medlat.core.errors import ArgumentError, UserError
from medlat.core.ranges import Hue
from medlat.measure.measurement import Measurement, MeasurementSet

MAGENTA = 300.0  # degrees of hue, between haematoxylin's blue and eosin's red; opposite is green, which no tissue is
LEAST_CHROMA = 4.0  # grey levels of the mean colour's distance from grey below which it has no hue
JUMP = 150.0  # degrees from the reference beyond which a hue is not given: at 180 it would jump to -180

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("hue", "deg", "of the mean colour, from magenta: + towards red, - towards blue", holds=(-JUMP, JUMP)),
    Measurement("saturation", "1", "(largest - smallest of R, G, B) / largest, mean over pixels"),
    Measurement("brightness", "grey", "mean of R, G and B, of 255"),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


def colour(only: Sequence[str] | None = None, reference: Hue = MAGENTA) -> MeasurementSet:
    """The set for images in RGB.

    only:      names of the measurements to take; null: all.
    reference: degrees of hue that count as 0: red is at 0, green at 120, blue at 240. Hues further than 150 degrees
               from it count as not measured, so that numbers nearby are colours nearby and means of them are hues.
    """
    if not 0.0 <= reference < 360.0:
        raise ArgumentError("reference", f"{reference}, expected degrees of hue from 0 to below 360")

    def of_reference(images: np.ndarray, spacing_mm: float) -> np.ndarray:
        return measure(images, spacing_mm, reference)

    return MeasurementSet(MEASUREMENTS, of_reference, unit="RGB", channels=3).only(only)


def measure(images: np.ndarray, spacing_mm: float, reference: float = MAGENTA) -> np.ndarray:
    """Every measurement of every image: [N, 3] float64.

    images: [N, H, W, 3] RGB, clipped to 0 ... 255 here; pixels that are not finite count as white.

    Hue is that of the mean colour, by its projection along the grey axis (the hexagon's plane, Hanbury 2008): turning
    every colour about that axis by an angle changes it by this angle, another exposure (all values times a number) or
    a veil (plus a number) not at all. A mean colour less than 4 grey levels from grey has none.
    Saturation is that of HSV: another exposure does not change it, a veil does.

    On 123 real tiles of H&E (every twelfth of 1,476 of LC25000's lung) hue is from -59 to 61, saturation from 0.15 to
    0.55, brightness from 151 to 203.
    Raises UserError for another shape. No image raises or warns.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W, 3]")
    rgb = np.clip(np.nan_to_num(images.astype(np.float32), nan=255.0), 0.0, 255.0)
    mean, largest = rgb.mean((1, 2), dtype=np.float64), rgb.max(axis=3)
    saturation = (largest - rgb.min(axis=3)) / np.maximum(largest, 1e-3)
    return np.stack([hue(mean, reference), saturation.mean((1, 2), dtype=np.float64), mean.mean(axis=1)], axis=1)


def hue(colours: np.ndarray, reference: float = MAGENTA) -> np.ndarray:
    """Of colours [N, 3] from 0 to 255, degrees [N] from the reference, -180 to 180; NaN of nearly grey ones."""
    red, green, blue = colours.T
    along, across = red - (green + blue) / 2, np.sqrt(0.75) * (green - blue)
    angle = (np.degrees(np.arctan2(across, along)) - reference + 180.0) % 360.0 - 180.0
    return np.where(np.hypot(along, across) >= LEAST_CHROMA, angle, np.nan)
