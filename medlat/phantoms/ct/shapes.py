"""The shapes of the CT phantom's anatomy at each level, from the apex of the lungs (z = 0) to the liver (z = 1).

All lengths are in body units: millimetres for a body of size 1, origin at the body's centre, u to the patient's
left, v to the back. The numbers are anatomy by eye from chest CT.
"""

import math
from dataclasses import dataclass

import numpy as np

from medlat.phantoms.ct.canvas import Contours, Point, ellipse_distance

ANGLES = Contours.ANGLES
BACK = 69.0  # v of the rib cage's back, the same at every level


def at_level(z: float, *knots: Point) -> float:
    """Piecewise linear function of the level."""
    return float(np.interp(z, [k[0] for k in knots], [k[1] for k in knots]))


def bump(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A bell of height 1."""
    return np.exp(-0.5 * ((x - centre) / width) ** 2)


@dataclass(frozen=True)
class Build:
    """The factors that shape a body at one level, lengths in body units."""

    z: float
    fat: float
    lung: float
    breast: float
    heart: float

    @property
    def body(self) -> Point:
        """Half width and half depth of the outline."""
        width = at_level(self.z, (0, 172), (0.15, 170), (0.4, 164), (0.7, 161), (1, 158))
        return width, at_level(self.z, (0, 98), (0.15, 104), (0.4, 112), (1, 112))

    @property
    def cage(self) -> Point:
        """Half width and half depth of the ring of ribs; `lung` shrinks it towards the spine."""
        width = at_level(self.z, (0, 52), (0.06, 72), (0.15, 98), (0.3, 122), (0.5, 133), (0.75, 134), (1, 130))
        depth = at_level(self.z, (0, 40), (0.1, 54), (0.3, 72), (0.5, 79), (1, 80))
        return width * self.lung, depth * (1 + self.lung) / 2

    @property
    def cage_v(self) -> float:
        return BACK - self.cage[1]


def breast_outline(build: Build, outline: np.ndarray) -> np.ndarray:
    bulge = build.breast * at_level(build.z, (0.24, 0), (0.42, 0.85), (0.52, 1), (0.64, 0.8), (0.8, 0))
    return outline + bulge * (bump(ANGLES, -0.72, 0.3) + bump(ANGLES, 0.72, 0.3))


def lung_distance(build: Build, contours: Contours, cage: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to the lungs: inside the ribs, beside the mediastinum and the heart, above the diaphragm."""
    apex = 45.0 * max(0.0, 0.07 - build.z) / 0.07
    distance = contours.distance(cage) + np.float32(5.5 + apex)
    left, right = mediastinum_edges(build)
    row = np.clip((v + np.float32(110)) * np.float32(2), 0, len(left) - 1).astype(np.intp)
    beside = np.minimum(left[row] - u, right[row] + u)
    np.maximum(distance, beside, out=distance)
    heart = heart_shape(build)
    if heart is not None:
        centre, radii, angle = heart
        around = ellipse_distance(u, v, centre, (radii[0] + 5.0, radii[1] + 5.0), angle)
        np.maximum(distance, -around, out=distance)
    for centre, radii in domes(build):
        np.maximum(distance, -ellipse_distance(u, v, centre, radii), out=distance)
    return distance


def mediastinum_edges(build: Build) -> tuple[np.ndarray, np.ndarray]:
    """Where the left and the right lung end medially: distance from the midline at v = -110, -109.5 ... 110."""
    v, z = np.arange(-110, 110.1, 0.5, dtype=np.float32), build.z
    vessels = at_level(z, (0, 16), (0.2, 26), (0.5, 25), (0.8, 14), (1, 12)) * bump(v, -8, 24)
    spine = 15 * bump(v, 44, 17)
    front = 7 + 5 * bump(v, build.cage_v - build.cage[1], 10)
    aorta = at_level(z, (0.2, 0), (0.3, 15), (1, 12)) * bump(v, 29, 11)
    return (front + vessels + spine + aorta).astype(np.float32), (front + vessels + spine).astype(np.float32)


def heart_shape(build: Build) -> tuple[Point, Point, float] | None:
    """Centre, radii and angle of the heart at this level, None above and below it."""
    level = (build.z - 0.63) / 0.24
    if abs(level) >= 0.97:
        return None
    share = math.sqrt(1 - level * level) * build.heart
    centre = (13.0 + 8.0 * build.heart + 6 * level, build.cage_v - 0.36 * build.cage[1])
    return centre, (58.0 * share, 40.0 * share), -33.0


def domes(build: Build) -> list[tuple[Point, Point]]:
    """Centres and radii of the diaphragm's domes at this level: the right one, the lower left one, the middle."""
    result = []
    middle = build.cage_v - 0.13 * build.cage[1]
    for place, start, wide in ((-0.48, 0.62, 0.58), (0.48, 0.69, 0.58), (0.0, 0.76, 0.6)):
        depth = (build.z - start) / (1.03 - start)
        if depth > 0.01:
            share = math.sqrt(depth * (2 - depth))
            centre = (place * build.cage[0], middle)
            result.append((centre, (wide * build.cage[0] * share, 0.88 * build.cage[1] * share)))
    return result


def great_vessels(z: float) -> list[tuple[Point, Point, float]]:
    """Start, end and radius of the vessels that cross this level."""
    found: list[tuple[Point, Point, float]] = []
    if z < 0.22:
        for u, v, radius in ((-17, -2, 6), (15, 4, 5), (1, -12, 6), (-24, -14, 6.5), (22, -12, 6)):
            found.append(((u, v), (u, v), radius))
    if 0.2 <= z < 0.29:
        found.append(((-10.0, -22.0), (20.0, 22.0), 12.5))
    if 0.29 <= z < 0.5:
        found.append(((-10.0, -22.0), (-10.0, -22.0), 16.0))
    if z >= 0.27:
        aorta = (at_level(z, (0.27, 21), (0.6, 20), (1, 9)), at_level(z, (0.27, 28), (1, 27)))
        found.append((aorta, aorta, at_level(z, (0.3, 12), (1, 10))))
    if 0.18 <= z < 0.5:
        found.append(((-29.0, -10.0), (-29.0, -10.0), 8.0))
    if 0.37 <= z < 0.47:
        found.append(((14.0, -24.0), (13.0, -6.0), 13.0))
        found.append(((11.0, -4.0), (-40.0, 2.0), 8.0))
        found.append(((16.0, -2.0), (42.0, 8.0), 8.0))
    if 0.44 <= z < 0.54:
        found.extend([((-34.0, 8.0), (-44.0, 14.0), 7.0), ((38.0, 12.0), (46.0, 18.0), 7.0)])
    return found
