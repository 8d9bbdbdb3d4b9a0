"""Painting smooth shapes on a slice: coordinates of the body, signed distances, antialiased layers.

A shape is a signed distance (negative inside, in units of the body's coordinates); a layer is an opacity in [0, 1],
which is the share of a pixel that the shape covers. Small shapes touch only their bounding box.
"""

import math
from enum import IntEnum
from functools import lru_cache

import numpy as np

Point = tuple[float, float]


class Tissue(IntEnum):
    """Labels of the tissue map that `render` returns."""

    AIR = 0
    TABLE = 1
    SKIN = 2
    FAT = 3
    GLAND = 4
    MUSCLE = 5
    BONE = 6
    LUNG = 7
    LUNG_VESSEL = 8
    AIRWAY = 9
    MEDIASTINUM = 10
    HEART = 11
    LIVER = 12
    ABDOMEN = 13
    NODULE = 14


class Canvas:
    """One slice being painted: Hounsfield units, a tissue map on request, and the body's coordinates of each pixel.

    The body's coordinates (u, v) have their origin at the body's centre: u to the patient's left (right in
    the image), v to the back (down in the image), divided by the body's scale, so that anatomy is written for scale 1.

    size:         pixels a side.
    pixel_mm:     distance between pixels.
    centre_mm:    the body's centre from the image's centre, (x right, y down).
    rotation_deg: of the body, clockwise in the image.
    scale:        millimetres per unit of the body's coordinates.
    """

    def __init__(
        self, size: int, pixel_mm: float, centre_mm: Point, rotation_deg: float, scale: float, with_tissue: bool = False
    ) -> None:
        self.size, self.pixel_mm, self.centre_mm, self.scale = size, pixel_mm, centre_mm, scale
        self.cos, self.sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
        self.axis = ((np.arange(size, dtype=np.float32) + 0.5) - size / 2) * np.float32(pixel_mm)
        dx, dy = (self.axis - centre_mm[0]) / scale, (self.axis - centre_mm[1]) / scale
        self.u = ((self.cos * dx)[None, :] + (self.sin * dy)[:, None]).astype(np.float32, copy=False)
        self.v = ((-self.sin * dx)[None, :] + (self.cos * dy)[:, None]).astype(np.float32, copy=False)
        self.blur = np.float32(max(pixel_mm, 1.2) / scale)  # width of an edge; a scanner resolves no better than 1.2 mm
        self.hu = np.full((size, size), -1000.0, np.float32)
        self.tissue = np.zeros((size, size), np.uint8) if with_tissue else None

    def box(self, centre: Point, radius: float) -> tuple[slice, slice]:
        """Rows and columns within `radius` (body units) of a point, with room for the soft edge."""
        x = self.centre_mm[0] + self.scale * (self.cos * centre[0] - self.sin * centre[1])
        y = self.centre_mm[1] + self.scale * (self.sin * centre[0] + self.cos * centre[1])
        reach = (radius + float(self.blur)) * self.scale / self.pixel_mm + 1.0
        middle = self.size / 2 - 0.5
        column, row = x / self.pixel_mm + middle, y / self.pixel_mm + middle
        rows = slice(max(0, math.floor(row - reach)), max(0, math.ceil(row + reach) + 1))
        return rows, slice(max(0, math.floor(column - reach)), max(0, math.ceil(column + reach) + 1))

    def cover(self, distance: np.ndarray, softness: float = 1.0) -> np.ndarray:
        """Opacity [0, 1] of a shape with this signed distance; softness widens the edge."""
        alpha = distance * np.float32(-1.0 / (float(self.blur) * softness))
        alpha += np.float32(0.5)
        return np.clip(alpha, 0.0, 1.0, out=alpha)

    def paint(
        self, alpha: np.ndarray, hu: float | np.ndarray, label: Tissue | None, box: tuple[slice, slice] | None = None
    ) -> None:
        """Lay `hu` over what is there with opacity `alpha`; where it covers half a pixel, the tissue is `label`."""
        target = self.hu if box is None else self.hu[box]
        change = hu - target
        change *= alpha
        target += change
        if self.tissue is not None and label is not None:
            tissue = self.tissue if box is None else self.tissue[box]
            tissue[alpha > 0.5] = label

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        hu: float,
        label: Tissue | None,
        angle_deg: float = 0.0,
        mask: np.ndarray | None = None,
        softness: float = 1.0,
    ) -> None:
        """A filled ellipse, turned clockwise; `mask`, an opacity map of the whole slice, limits it."""
        box = self.box(centre, max(radii) + float(self.blur) * softness)
        distance = ellipse_distance(self.u[box], self.v[box], centre, radii, angle_deg)
        alpha = self.cover(distance, softness)
        if mask is not None:
            alpha *= mask[box]
        self.paint(alpha, hu, label, box)

    def capsule(
        self, start: Point, end: Point, radius: float, hu: float, label: Tissue | None, mask: np.ndarray | None = None
    ) -> None:
        """A thick line with round ends."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        box = self.box(middle, math.hypot(end[0] - start[0], end[1] - start[1]) / 2 + radius)
        alpha = self.cover(capsule_distance(self.u[box], self.v[box], start, end, radius))
        if 2 * radius < self.blur:
            alpha *= np.float32(2 * radius / self.blur)  # thinner than a pixel: it covers a share of it
        if mask is not None:
            alpha *= mask[box]
        self.paint(alpha, hu, label, box)

    def capsules(self, starts: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Opacity [size, size] of many thick lines at once: starts, ends [S, 2] (u, v), radii [S], body units.

        Long lines are cut into pieces, so that all pieces fit one size of patch and no loop is needed.
        """
        opacity = np.zeros(self.hu.size, np.float32)
        starts, ends, radii = cut_lines(starts, ends, radii, longest=9.0)
        zoom = self.scale / self.pixel_mm  # body units to pixels
        blur = float(self.blur) * zoom
        turn = np.array([[self.cos, self.sin], [-self.sin, self.cos]]) * zoom
        offset = np.array(self.centre_mm) / self.pixel_mm + self.size / 2 - 0.5
        start, move = starts @ turn + offset, (ends - starts) @ turn
        radius = (radii * zoom).astype(np.float32)
        reach = math.ceil(4.5 * zoom + float(radius.max(initial=0)) + blur / 2)
        corner = np.floor(start + move / 2 + 0.5).astype(np.int64) - reach
        patch = np.arange(2 * reach + 1)
        x = (corner[:, 0, None] - start[:, 0, None] + patch).astype(np.float32)[:, None, :]
        y = (corner[:, 1, None] - start[:, 1, None] + patch).astype(np.float32)[:, :, None]
        mx, my = move.astype(np.float32).T[:, :, None, None]
        along = np.clip((x * mx + y * my) / (mx * mx + my * my + np.float32(1e-6)), 0, 1)
        distance = np.sqrt((x - along * mx) ** 2 + (y - along * my) ** 2) - radius[:, None, None]
        alpha = np.clip(0.5 - distance / np.float32(blur), 0, 1)
        alpha *= np.minimum(1, 2 * radius / np.float32(blur))[:, None, None]
        columns, rows = corner[:, 0, None] + patch, corner[:, 1, None] + patch
        shown = ((rows >= 0) & (rows < self.size))[:, :, None] & ((columns >= 0) & (columns < self.size))[:, None, :]
        shown &= alpha > 0
        index = (rows * self.size)[:, :, None] + columns[:, None, :]
        np.maximum.at(opacity, index[shown], alpha[shown])
        return opacity.reshape(self.hu.shape)

    def bone(
        self, distance: np.ndarray, box: tuple[slice, slice], cortex: float, cortex_hu: float, inner_hu: float
    ) -> None:
        """A bone of this signed distance: a compact shell `cortex` thick around spongy bone."""
        self.paint(self.cover(distance), cortex_hu, Tissue.BONE, box)
        self.paint(self.cover(distance + np.float32(cortex)), inner_hu, Tissue.BONE, box)


def ellipse_distance(u: np.ndarray, v: np.ndarray, centre: Point, radii: Point, angle_deg: float = 0.0) -> np.ndarray:
    """Signed distance to an ellipse, exact to first order at its edge."""
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    du, dv = u - np.float32(centre[0]), v - np.float32(centre[1])
    p = du * np.float32(cos / radii[0]) + dv * np.float32(sin / radii[0])
    q = dv * np.float32(cos / radii[1]) - du * np.float32(sin / radii[1])
    p *= p
    q *= q
    level = np.sqrt(p + q + np.float32(1e-8))  # the small numbers keep the very centre inside
    gradient = np.sqrt(p * np.float32(radii[0] ** -2) + q * np.float32(radii[1] ** -2)) + np.float32(1e-6)
    return level * (level - 1) / gradient


def capsule_distance(u: np.ndarray, v: np.ndarray, start: Point, end: Point, radius: float) -> np.ndarray:
    """Signed distance to the points within `radius` of a segment."""
    du, dv = u - np.float32(start[0]), v - np.float32(start[1])
    a, b = end[0] - start[0], end[1] - start[1]
    length2 = a * a + b * b
    if length2 > 1e-6:
        along = du * np.float32(a / length2) + dv * np.float32(b / length2)
        np.clip(along, 0.0, 1.0, out=along)
        du -= along * np.float32(a)
        dv -= along * np.float32(b)
    return np.sqrt(du * du + dv * dv) - np.float32(radius)


def cut_lines(
    starts: np.ndarray, ends: np.ndarray, radii: np.ndarray, longest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same lines in pieces no longer than `longest`."""
    moves = ends - starts
    pieces = np.maximum(1, np.ceil(np.hypot(*moves.T) / longest)).astype(np.int64)
    line = np.repeat(np.arange(len(starts)), pieces)
    number = np.arange(len(line)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = (number / pieces[line])[:, None]
    last = ((number + 1) / pieces[line])[:, None]
    return starts[line] + first * moves[line], starts[line] + last * moves[line], radii[line]


class Contours:
    """Closed curves around one centre, given by their radius at each angle, and the distance of every pixel to them.

    Angles run from the front (0) to the patient's left (+) and the back (±pi). Shares the polar
    coordinates, which cost most, between all contours of a slice.
    """

    ENTRIES = 1024
    ANGLES = np.linspace(-math.pi, math.pi, ENTRIES, endpoint=False)

    def __init__(self, u: np.ndarray, v: np.ndarray, centre_v: float) -> None:
        self.centre_v = centre_v
        forward = np.float32(centre_v) - v
        self.radius = np.sqrt(u * u + forward * forward)
        index = np.arctan2(u, forward)
        index *= np.float32(self.ENTRIES / (2 * math.pi))
        index += np.float32(self.ENTRIES / 2 + 0.5)
        self.index = index.astype(np.intp)
        self.index &= self.ENTRIES - 1

    def within(self, box: tuple[slice, slice]) -> "Contours":
        """The same for a part of the slice."""
        part = object.__new__(Contours)
        part.centre_v, part.radius, part.index = self.centre_v, self.radius[box], self.index[box]
        return part

    def lookup(self, table: np.ndarray) -> np.ndarray:
        """Values of a function of the angle, [ENTRIES], at every pixel."""
        return table.astype(np.float32, copy=False)[self.index]

    def distance(self, radii: np.ndarray) -> np.ndarray:
        """Signed distance to the contour with these radii [ENTRIES], exact to first order at the contour."""
        slope = np.empty_like(radii)
        slope[1:-1], slope[[0, -1]] = radii[2:] - radii[:-2], radii[[1, 0]] - radii[[-1, -2]]
        slope *= self.ENTRIES / (4 * math.pi) / radii
        result = self.radius - self.lookup(radii)
        result *= self.lookup(1.0 / np.sqrt(1.0 + slope**2))
        return result

    def superellipse(self, radii: Point, centre_v: float, exponent: float) -> np.ndarray:
        """Radii [ENTRIES], seen from this object's centre, of |u/a|^n + |(v - centre_v)/b|^n = 1."""
        sin, cos = _unit_superellipse(exponent)
        u, forward = radii[0] * sin, self.centre_v - centre_v + radii[1] * cos
        return np.interp(self.ANGLES, np.arctan2(u, forward), np.hypot(u, forward))


@lru_cache(maxsize=8)
def _unit_superellipse(exponent: float) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(-math.pi + 1e-9, math.pi - 1e-9, 513)
    sin, cos = np.sin(t), np.cos(t)
    return np.sign(sin) * np.abs(sin) ** (2 / exponent), np.sign(cos) * np.abs(cos) ** (2 / exponent)
