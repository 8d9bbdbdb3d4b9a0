"""The two stains of an H&E image as it was stained: their colours and strengths, estimated from the image itself.

Macenko et al. 2009 (*A method for normalizing histology slides for quantitative analysis*): the optical densities of
stained pixels lie in a plane, between the two stains' own.
"""

from collections.abc import Sequence

import numpy as np

from medlat.core.errors import UserError
from medlat.core.stains import DARKEST
from medlat.measure.colour import JUMP, hue
from medlat.measure.measurement import Measurement, MeasurementSet

LEAST_DENSITY = 0.15  # of the three channels on average, below which a pixel is not stained (the paper's)
ENDS = (1.0, 99.0)  # percentiles of the angle in the plane that the stains lie at, and of their strength (the paper's)
LEAST_PIXELS = 64  # that must be stained
LEAST_ANGLE = 12.0  # degrees between the two densities: below it there is one stain, or none

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("haematoxylin_hue", "deg", "of light through haematoxylin, from magenta", holds=(-JUMP, JUMP)),
    Measurement("eosin_hue", "deg", "of light through eosin, from magenta", holds=(-JUMP, JUMP)),
    Measurement("haematoxylin_strength", "OD", "99th percentile of the haematoxylin of stained pixels"),
    Measurement("eosin_strength", "OD", "99th percentile of the eosin of stained pixels"),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


def stain(only: Sequence[str] | None = None) -> MeasurementSet:
    """The set for images in RGB. only: names of the measurements to take; null: all."""
    return MeasurementSet(MEASUREMENTS, measure, unit="RGB", channels=3).only(only)


def measure(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Every measurement of every image: [N, 4] float64.

    images: [N, H, W, 3] RGB from 0 to 255; pixels that are not finite count as white.

    Haematoxylin is the one of the two that takes away more red. Hue is that of light after a density of 1, in degrees
    from magenta (see `colour`): Ruifrok & Johnston's haematoxylin is at -56, their eosin at 4. All are NaN where fewer
    than 64 pixels are stained, or their densities have less than 12 degrees between them, as of one stain.
    Strengths double where both densities do; hues stay. On 123 real tiles (every twelfth of 1,476 of LC25000's lung)
    hues are from -64 to 48 and from -48 to 62 and strengths from 0.4 to 2.6: red blood cells and dust are not left out.
    Raises UserError for another shape. No image raises or warns.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W, 3]")
    light = np.clip(np.nan_to_num(images.astype(np.float64), nan=255.0) / 255.0, DARKEST, 1.0)
    return np.array([_of_one(-np.log10(pixels.reshape(-1, 3))) for pixels in light]).reshape(-1, len(NAMES))


def _of_one(density: np.ndarray) -> np.ndarray:
    """Of the densities [P, 3] of an image's pixels, [4]."""
    found = stains_of(density)
    if found is None:
        return np.full(len(NAMES), np.nan)
    vectors, strength = found
    return np.concatenate([hue(255.0 * 10.0**-vectors), strength])


def stains_of(density: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the densities [P, 3] of an image's pixels the unit densities of haematoxylin and eosin [2, 3] and the 99th
    percentile of each of them [2] in stained pixels; None where there are not two stains.
    """
    stained = density[density.mean(axis=1) > LEAST_DENSITY]
    if len(stained) < LEAST_PIXELS:
        return None
    vectors = _vectors(stained)
    if np.degrees(np.arccos(np.clip(vectors[0] @ vectors[1], -1.0, 1.0))) < LEAST_ANGLE:
        return None
    return vectors, np.percentile(stained @ np.linalg.pinv(vectors), ENDS[1], axis=0)


def _vectors(stained: np.ndarray) -> np.ndarray:
    """Unit densities of haematoxylin and eosin, [2, 3], none below 0."""
    _, axes = np.linalg.eigh(stained.T @ stained)
    plane = axes[:, [2, 1]] * np.where(axes[:, [2, 1]].sum(axis=0) < 0.0, -1.0, 1.0)
    along, across = (stained @ plane).T
    angles = np.percentile(np.arctan2(across, along), ENDS)
    found = np.maximum(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T, 0.0)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found[np.argsort(-found[:, 0])]
