"""Numbers read off radiographs and other images of one channel by plain image processing, whatever they show."""

from collections.abc import Sequence

import numpy as np

from medlat.core.errors import UserError
from medlat.data.modality import Modality
from medlat.measure.measurement import Measurement, MeasurementSet

LEAST_CONTRAST = 1.0  # grey levels of standard deviation below which an image is blank

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("brightness", "grey", "mean"),
    Measurement("contrast", "grey", "standard deviation"),
    Measurement("sharpness", "1/mm", "mean length of the gradient / contrast"),
    Measurement("x_position", "mm", "centroid of what is brighter than the darkest, from the centre, to the right"),
    Measurement("y_position", "mm", "centroid of what is brighter than the darkest, from the centre, downwards"),
    Measurement("width", "mm", "of the bright object: of a uniform bar with the same horizontal variance"),
    Measurement("symmetry", "1", "correlation with the mirror image, left to right"),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


def grey(modality: Modality, only: Sequence[str] | None = None) -> MeasurementSet:
    """The set for images of one channel, whatever their unit.

    modality: the ends of its first display window count as grey levels 0 and 255.
    only:     names of the measurements to take; null: all.
    """
    low, high = modality.display_window()
    scale = 255.0 / (high - low)

    def levels(images: np.ndarray, spacing_mm: float) -> np.ndarray:
        return measure((np.asarray(images, np.float64) - low) * scale, spacing_mm)

    return MeasurementSet(MEASUREMENTS, levels, channels=1).only(only)


def measure(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Every measurement of every image: [N, len(MEASUREMENTS)] float64; of a blank image all but the first two NaN.

    images:     [N, H, W] grey levels, clipped to 0 ... 255 here.
    spacing_mm: distance between pixels, the same in both directions.
    Raises UserError for another shape or a spacing that is not positive. No image raises or warns; pixels that
    are not finite count as black.
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W]")
    if not spacing_mm > 0:
        raise UserError(f"spacing_mm: {spacing_mm}, expected millimetres, more than 0")
    grey = np.clip(np.nan_to_num(images.astype(np.float64), nan=0.0), 0.0, 255.0)
    brightness, contrast = grey.mean((1, 2)), grey.std((1, 2))
    blank = contrast < LEAST_CONTRAST
    spread = np.where(blank, 1.0, contrast)
    weight = grey - grey.min((1, 2), keepdims=True)
    total = np.where(blank, 1.0, weight.sum((1, 2)))
    x, width = _centre_and_width(weight.sum(1), total)
    y, _ = _centre_and_width(weight.sum(2), total)
    shifted = grey - brightness[:, None, None]
    values = {
        "brightness": brightness,
        "contrast": contrast,
        "sharpness": _gradient(grey) / spread / spacing_mm,
        "x_position": x * spacing_mm,
        "y_position": y * spacing_mm,
        "width": width * spacing_mm,
        "symmetry": (shifted * shifted[:, :, ::-1]).mean((1, 2)) / spread**2,
    }
    table = np.stack([values[name] for name in NAMES], axis=1)
    table[blank, 2:] = np.nan
    return table


def _gradient(grey: np.ndarray) -> np.ndarray:
    """Mean length of the gradient by central differences over the pixels that have neighbours, [N] per pixel."""
    if min(grey.shape[1:]) < 3:
        return np.full(len(grey), np.nan)
    across = (grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]) / 2
    down = (grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]) / 2
    return np.hypot(across, down).mean((1, 2))


def _centre_and_width(profile: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of weights [N, L] along one axis, in pixels: the mean from the middle, and the width of a bar so spread."""
    place = np.arange(profile.shape[1]) - (profile.shape[1] - 1) / 2
    centre = profile @ place / total
    variance = profile @ place**2 / total - centre**2
    return centre, np.sqrt(12 * np.maximum(variance, 0.0))
