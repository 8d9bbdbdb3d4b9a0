"""Numbers with units read off axial chest CT by plain image processing: thresholds, moments, edges, no learning.

Made for phantom images, real slices and the blurry samples of generators alike, at pixels of 1 to 8 mm.
"""

from collections.abc import Sequence

import numpy as np

from medlat.core.errors import UserError
from medlat.measure.ct_level import slice_level
from medlat.measure.ct_masks import Masks, masks, mean_over
from medlat.measure.ct_outline import ANGLES, Pose, Rays, pose, unwrap
from medlat.measure.ct_table import table_height
from medlat.measure.measurement import Measurement, MeasurementSet

COARSE_MM = 6.3  # finer images are averaged towards this, so that numbers do not depend on the pixel: see the tests


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("rotation", "deg", "turn of the outline's long axis, clockwise in the image", "rotation"),
    Measurement("x_position", "mm", "body's centroid from the image's centre, to the right", "x"),
    Measurement("y_position", "mm", "body's centroid from the image's centre, downwards", "y"),
    Measurement("body_area", "cm²", "area within the outline", "body_size"),
    Measurement("fat_thickness", "mm", "fat under the skin, median over directions", "fat_thickness"),
    Measurement("lung_fraction", "1", "lung area / body area", "lung_size"),
    Measurement("table_height", "mm", "smallest vertical gap between the back and the table", "table_height"),
    Measurement("body_hu", "HU", "mean over the body, lungs included"),
    Measurement("lung_hu", "HU", "mean of the lungs' inside, the larger vessels left out"),
    Measurement("mediastinum_width", "mm", "gap between the lungs, median over rows", "heart_size"),
    Measurement("breast", "mm", "how far the outline beside the breastbone stands before it", "breast_size"),
    Measurement("slice_level", "1", "0 apex of the lungs, 1 liver; a formula calibrated on the phantom", "z"),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


def chest_ct(only: Sequence[str] | None = None) -> MeasurementSet:
    """The set for images in Hounsfield units. only: names of the measurements to take; null: all."""
    return MeasurementSet(MEASUREMENTS, measure, unit="HU", channels=1).only(only)


def measure(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Every measurement of every image: [N, len(MEASUREMENTS)] float64, NaN where its anatomy is absent.

    images:     [N, H, W] Hounsfield units, clipped to [-1000, 2000] here; row 0 anterior, column 0 the patient's right.
    spacing_mm: distance between pixels, the same in both directions.
    Raises UserError for another shape or a spacing that is not positive. No image raises or warns; pixels that
    are not finite count as air.
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W]")
    if not spacing_mm > 0:
        raise UserError(f"spacing_mm: {spacing_mm}, expected millimetres, more than 0")
    if not len(images):
        return np.empty((0, len(MEASUREMENTS)))
    factor = max(1, int(COARSE_MM / spacing_mm + 1e-6))
    hu = np.clip(np.nan_to_num(images.astype(np.float32), nan=-1000.0), -1000.0, 2000.0)
    return _measure(_average(hu, factor), spacing_mm * factor)


def _average(hu: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor x factor blocks; a remainder at the border is padded with air on both sides."""
    if factor == 1:
        return hu
    n, height, width = hu.shape
    (top, bottom), (left, right) = (
        (-size % factor // 2, -size % factor - -size % factor // 2) for size in (height, width)
    )
    padded = np.pad(hu, ((0, 0), (top, bottom), (left, right)), constant_values=-1000.0)
    blocks = padded.reshape(n, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    return blocks.mean((2, 4), dtype=np.float32)


def _measure(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    found = masks(hu, spacing_mm)
    at = pose(found.body, spacing_mm)
    rays = unwrap(hu, found, at, spacing_mm)
    lung_area = found.lung.sum((1, 2), dtype=np.float64) * spacing_mm**2
    values = {
        "rotation": at.rotation,
        "x_position": at.x,
        "y_position": at.y,
        "body_area": at.area / 100,
        "fat_thickness": fat_thickness(rays),
        "lung_fraction": lung_area / np.where(found.found, at.area, np.nan),
        "table_height": table_height(hu, found, at, rays, spacing_mm),
        "body_hu": mean_over(hu, found.core),
        "lung_hu": mean_over(hu, found.lung_core),
        "mediastinum_width": mediastinum_width(found, at, spacing_mm),
        "breast": breast(rays),
        "slice_level": slice_level(rays),
    }
    table = np.stack([values[name] for name in NAMES], axis=1)
    return np.where(found.found[:, None], table, np.nan)


def fat_thickness(rays: Rays) -> np.ndarray:
    """Length of fat on each ray from the outline inwards to the first muscle or lung, along the outline's normal;
    the median over rays, so that breasts and the fold at the spine do not count. [N] mm."""
    hu, body = rays.hu[:, :, ::-1], rays.body[:, :, ::-1]
    edge = body < 0.98
    share = np.clip((20.0 - hu) / 120.0, 0, 1)
    share = np.where(edge, body, np.where(hu < -250, 0, share))
    stop = ~edge & (share < 0.3)
    passed = np.logical_and.accumulate(~stop, axis=2)
    counted = np.concatenate([np.ones_like(passed[:, :, :1]), passed[:, :, :-1]], axis=2)
    length = (share * counted).sum(2) * rays.step_mm
    radius = np.maximum(rays.radius, rays.step_mm)
    slope = (np.roll(radius, -1, 1) - np.roll(radius, 1, 1)) / (2 * (ANGLES[1] - ANGLES[0])) / radius
    return np.median(length / np.sqrt(1 + slope**2), axis=1)


def breast(rays: Rays) -> np.ndarray:
    """Most anterior point of the outline beside the midline (20 to 63 degrees), less that of the midline, mean of both
    sides. [N] mm; a chest without breasts has about -10."""
    front = rays.radius * np.cos(ANGLES)
    sides = [front[:, (side * ANGLES > 0.35) & (side * ANGLES < 1.1)].max(1) for side in (-1, 1)]
    return (sides[0] + sides[1]) / 2 - front[:, np.abs(ANGLES) < 0.14].mean(1)


def mediastinum_width(found: Masks, at: Pose, spacing_mm: float) -> np.ndarray:
    """From the midline outwards to the first lung on either side, row by row; the median of rows with lung on both
    sides, NaN where fewer than three rows have. [N] mm."""
    height, width = found.lung.shape[1:]
    turn = np.radians(np.nan_to_num(at.rotation))[:, None]
    rows = np.arange(height)[None, :] - (height - 1) / 2 - np.nan_to_num(at.y)[:, None] / spacing_mm
    middle = np.nan_to_num(at.x)[:, None] / spacing_mm + (width - 1) / 2 - np.tan(turn) * rows
    columns = np.arange(width)
    left = np.where(columns > middle[:, :, None], found.lung, 0)
    right = np.where(columns <= middle[:, :, None], found.lung, 0)[:, :, ::-1]
    gaps = _first_edge(left) + _first_edge(right) - width + 1
    enough = np.isfinite(gaps).sum(1) >= 3
    gaps[~enough] = np.nan
    return _median_of_finite(gaps) * np.cos(turn[:, 0]) * spacing_mm


def _median_of_finite(values: np.ndarray) -> np.ndarray:
    """Along the last axis; NaN where nothing is finite (np.nanmedian would warn, and is slow)."""
    ordered, count = np.sort(values, axis=-1), np.isfinite(values).sum(-1)
    pick = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)], axis=-1)
    return np.take_along_axis(ordered, pick, -1).mean(-1)


def _first_edge(share: np.ndarray) -> np.ndarray:
    """Position along the last axis at which the share first rises through a half, NaN where it does not."""
    above = share > 0.5
    first = above.argmax(-1)
    before = np.maximum(first - 1, 0)
    high = np.take_along_axis(share, first[..., None], -1)[..., 0]
    low = np.take_along_axis(share, before[..., None], -1)[..., 0]
    rise = np.where(high - low > 1e-6, high - low, 1.0)
    return np.where(above.any(-1) & (first > 0), first - (high - 0.5) / rise, np.nan)
