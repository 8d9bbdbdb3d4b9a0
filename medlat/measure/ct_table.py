"""Where the scanner's table lies under the back."""

import numpy as np

from medlat.measure.ct_masks import AIR, Masks, dilate
from medlat.measure.ct_outline import Pose, Rays

SHELL_HU = 110.0  # what must rise over air for a row to be the table; foam and noise stay below
REACH_MM = 170.0  # to either side of the patient's middle


def table_height(hu: np.ndarray, found: Masks, at: Pose, rays: Rays, spacing_mm: float) -> np.ndarray:
    """Smallest vertical gap between the body's lower edge and the table's surface, [N] mm; NaN where no table shows.

    The surface is found column by column where it stands clear of the body, and a parabola through these points
    carries it under the back, where body and table share pixels.
    """
    height, width = hu.shape[1:]
    y = np.arange(height, dtype=np.float32)[None, :, None]
    solid = found.body > 0.5
    bottom_row = np.where(solid, y, -1).max(1)  # [N, W], -1 where the column has no body
    bottom = lower_edge(found, bottom_row)
    surface = table_surface(hu, found, bottom_row)
    x = (np.arange(width) - (width - 1) / 2)[None, :] * spacing_mm
    near = np.abs(x - np.nan_to_num(at.x)[:, None]) < REACH_MM
    clear = continuous(np.where(near, surface, np.nan))
    fit = parabola(x / 100, surface, clear)
    span = np.maximum.accumulate(clear, axis=1) & np.maximum.accumulate(clear[:, ::-1], axis=1)[:, ::-1]
    gap = np.where((bottom_row >= 0) & span, fit - bottom, np.inf)
    lowest = np.sort(gap, axis=1)[:, :3].mean(1)  # of three columns: one alone is noise
    return np.where(np.isfinite(lowest) & (lowest > -1), lowest * spacing_mm, np.nan)


def lower_edge(found: Masks, bottom_row: np.ndarray) -> np.ndarray:
    """Row coordinate of the body's lower edge in each column [N, W], from the shares of the pixels around it."""
    height = found.body.shape[1]
    rows = np.arange(height)[None, :, None]
    edge = np.where(rows > bottom_row[:, None, :] - 2, found.body, 0).sum(1)
    return bottom_row - 1.5 + edge


def table_surface(hu: np.ndarray, found: Masks, bottom_row: np.ndarray) -> np.ndarray:
    """Row coordinate of the first thing under the body in each column [N, W], NaN where there is none."""
    height = hu.shape[1]
    rows = np.arange(height)[None, :, None]
    last = np.where(dilate(found.body > 0.5), rows, -1).max(1)
    centre = np.where(found.core, rows, 0).max((1, 2))[:, None] - 0.35 * found.core.any(2).sum(1)[:, None]
    start = np.maximum(last, centre)  # beside the body only what lies lower than its lower third
    excess = np.where(rows > start[:, None, :], hu - np.float32(AIR), 0)
    peak = excess > SHELL_HU
    peak[:, :-1] &= hu[:, :-1] >= hu[:, 1:]
    peak[:, 1:] &= hu[:, 1:] >= hu[:, :-1]
    first = peak.argmax(1)
    weights = place = np.zeros(first.shape)
    for shift in (-1, 0, 1):
        row = np.clip(first + shift, 0, height - 1)
        value = np.maximum(np.take_along_axis(excess, row[:, None], 1)[:, 0] - 70.0, 0)
        weights, place = weights + value, place + value * (first + shift)
    found_one = peak.any(1) & (first < height - 1)
    return np.where(found_one, place / np.maximum(weights, 1e-6), np.nan)


def continuous(surface: np.ndarray) -> np.ndarray:
    """Which columns [N, W] belong to one smooth surface: coming from either side it never drops by a step. Where the
    body hides the surface, the first thing seen under it is the table's underside, which is such a step."""
    kept = np.isfinite(surface)
    for columns in (range(surface.shape[1]), range(surface.shape[1] - 1, -1, -1)):
        level = np.full(len(surface), np.inf)
        since = np.zeros(len(surface))
        for column in columns:
            y = surface[:, column]
            follows = y < level + 0.8 + np.minimum(0.2 * since, 1.7)  # NaN does not follow
            kept[:, column] &= follows
            level = np.where(follows, y, level)
            since = np.where(follows, 0, since + 1)
    return kept


def parabola(x: np.ndarray, y: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Least-squares parabola through the points that are used, twice, the second time without outliers; its values at
    every x, [N, W]; NaN where fewer than six points are left."""
    powers = np.broadcast_to(np.stack([np.ones_like(x), x, x * x], axis=-1), (*y.shape, 3))
    y = np.where(use, y, 0.0)
    for _ in range(2):
        weight = use.astype(np.float64)
        normal = np.einsum("nw,nwi,nwj->nij", weight, powers, powers) + 1e-4 * np.eye(3)
        sums = np.einsum("nw,nwi->ni", weight * y, powers)
        values = np.einsum("nwi,ni->nw", powers, np.linalg.solve(normal, sums[..., None])[..., 0])
        use = use & (np.abs(values - y) < 1.0)
    return np.where(use.sum(1, keepdims=True) >= 6, values, np.nan)
