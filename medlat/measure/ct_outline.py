"""The body unwrapped around its centre: rays from the centroid, in the patient's own frame.

On a ray everything is one-dimensional: the outline's radius is the integral of the body's share, which is exact for
soft and blurred edges alike.
"""

import math
from typing import NamedTuple

import numpy as np

from medlat.measure.ct_masks import Masks

RAYS = 72
ANGLES = np.linspace(-math.pi, math.pi, RAYS, endpoint=False)  # 0 is the patient's front, + the patient's left


class Pose(NamedTuple):
    """x, y: centroid from the image's centre, mm; rotation: deg, clockwise; area: mm². All [N] float64."""

    x: np.ndarray
    y: np.ndarray
    rotation: np.ndarray
    area: np.ndarray


class Rays(NamedTuple):
    """What lies on each ray: hu, body share, lung share, each [N, RAYS, steps] float32, `step_mm` apart."""

    hu: np.ndarray
    body: np.ndarray
    lung: np.ndarray
    step_mm: float

    @property
    def radius(self) -> np.ndarray:
        """Distance from the centre to the outline, mm, [N, RAYS]."""
        return (self.body.sum(2) - 0.5 * self.body[:, :, 0]) * self.step_mm


def pose(body: np.ndarray, spacing_mm: float) -> Pose:
    """First and second moments of the body's share [N, H, W]. The rotation is that of the long axis of the outline, in
    (-90, 90]; NaN where the body is so round (axes within 4%) that it has none."""
    height, width = body.shape[1:]
    x = (np.arange(width) - (width - 1) / 2) * spacing_mm
    y = (np.arange(height) - (height - 1) / 2) * spacing_mm
    columns, rows = body.sum(1, dtype=np.float64), body.sum(2, dtype=np.float64)
    count = columns.sum(1)
    total = np.where(count > 0, count, np.nan)
    mx, my = columns @ x / total, rows @ y / total
    xx, yy = columns @ x**2 / total - mx**2, rows @ y**2 / total - my**2
    xy = (np.einsum("nhw,w->nh", body, x.astype(np.float32)) @ y) / total - mx * my
    angle = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy))
    spread = np.hypot(xx - yy, 2 * xy) / (xx + yy)
    round_ = ~(spread > 0.04)  # (a² - b²) / (a² + b²)
    return Pose(mx, my, np.where(round_, np.nan, angle), count * spacing_mm**2)


def unwrap(hu: np.ndarray, masks: Masks, at: Pose, spacing_mm: float) -> Rays:
    """Sample the images [N, H, W] along the rays, bilinearly; what is not of the body counts as air."""
    n, height, width = hu.shape
    step = 0.8 * spacing_mm
    steps = math.ceil(0.62 * max(height, width) * spacing_mm / step)
    turn = np.radians(np.nan_to_num(at.rotation))[:, None] + ANGLES[None, :]
    distance = np.arange(steps) * (step / spacing_mm)
    cx = np.nan_to_num(at.x) / spacing_mm + (width - 1) / 2
    cy = np.nan_to_num(at.y) / spacing_mm + (height - 1) / 2
    x = (cx[:, None, None] + np.sin(turn)[:, :, None] * distance).astype(np.float32)
    y = (cy[:, None, None] - np.cos(turn)[:, :, None] * distance).astype(np.float32)
    shown = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    fx, fy = (x - column)[..., None], (y - row)[..., None]
    index = row * width + column + (np.arange(n) * height * width)[:, None, None]
    layers = np.stack([np.where(masks.body > 0, hu, np.float32(-1000)), masks.body, masks.lung], axis=-1).reshape(-1, 3)
    top = layers[index] * (1 - fx) + layers[index + 1] * fx
    low = layers[index + width] * (1 - fx) + layers[index + width + 1] * fx
    top += (low - top) * fy
    return Rays(np.where(shown, top[..., 0], np.float32(-1000)), top[..., 1] * shown, top[..., 2] * shown, step)
