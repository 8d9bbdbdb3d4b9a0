"""The body unwrapped around its centre: rays from the centroid, in the patient's own frame.

On a ray everything is one-dimensional: the outline's radius is the integral of the body's share, which is exact for
soft and blurred edges alike.
"""

import math
from typing import NamedTuple

import numpy as np

from medlat.measure.ct_masks import AIR, Masks

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
    step = spacing_mm
    steps = math.ceil(0.62 * max(height, width) * spacing_mm / step)
    turn = np.radians(np.nan_to_num(at.rotation))[:, None] + ANGLES[None, :]
    distance = np.arange(steps) * (step / spacing_mm)
    cx = np.nan_to_num(at.x) / spacing_mm + (width - 1) / 2
    cy = np.nan_to_num(at.y) / spacing_mm + (height - 1) / 2
    x = (cx[:, None, None] + np.sin(turn)[:, :, None] * distance).astype(np.float32)
    y = (cy[:, None, None] - np.cos(turn)[:, :, None] * distance).astype(np.float32)
    shown = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, down = x - column, y - row
    index = row * np.int32(width) + column + (np.arange(n, dtype=np.int32) * (height * width))[:, None, None]
    near, far = (1 - right) * (1 - down), right * down
    right, down = right - far, down - far
    corners = ((index, near), (index + 1, right), (index + width, down), (index + width + 1, far))

    def sample(layer: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(layer).reshape(-1)
        return sum(flat.take(at_corner, mode="clip") * weight for at_corner, weight in corners)

    solid = sample(np.where(masks.body > 0, hu, np.float32(AIR)))
    return Rays(np.where(shown, solid, np.float32(AIR)), sample(masks.body) * shown, sample(masks.lung) * shown, step)
