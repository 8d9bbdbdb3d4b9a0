"""Numbers read off frontal radiographs of a knee by plain image processing: the joint space, the bone, angles.

Made for pictures of 64² and 128² pixels in which the joint lies across the middle and the whole tibial plateau is seen,
real ones and the blurry samples of generators alike. Dark bone (a negative) is turned over first; no number depends on
brightness and contrast of the whole image. Lengths are in % of the tibia's width, as the pixel of such pictures is
rarely known; widths are to a fraction of a pixel. Medial and lateral are told by the fibula, in each image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medlat.core.errors import UserError, did_you_mean
from medlat.measure.measurement import Measurement, MeasurementSet

SIDE = 128  # pixels of the image's height that lengths below are for; other heights scale them
LEAST_SIDE = 32  # pixels below which no joint can be seen
LEAST_CONTRAST = 1e-6  # standard deviation below which an image is blank, of its largest value
ROWS, SEARCHED = (0.28, 0.92), (0.40, 0.75)  # of the height: what is looked at, and where the joint may be
LOCAL = 10  # pixels around which brightness and contrast are evened out
REACH = 11  # pixels from the middle of the joint space to either edge, at most
CENTRAL = (0.13, 0.30)  # the central third of a compartment: of the tibia's width, from either of its ends
MINIMUM = 10  # percentile of a compartment's widths that stands for its least one
FADING = 0.9  # of the usual depth: a space that is less dark is narrower than the blur, see `_depth_and_widths`
PLATEAU, BELOW = (0.5, 4.0), (8.0, 24.0)  # pixels below the tibia's edge: its dense bone, and the bone under that
GRAIN = 2.0  # pixels of the Gaussian that takes the texture off
FIBULA = (0.78, 0.19)  # from this share of the height on, and of the width from either side: one corner has the fibula
LEAST_DEPTH = 1.3  # local standard deviations by which a joint space is darker than bone; less is no joint
LEAST_SPINES = 3.0  # pixels by which the tibia's edge rises between the condyles; less is no knee, or upside down
NOTCH = (0.38, 0.62)  # of the tibia's width: where its spines are
LEAST_FIBULA = 0.2  # standard deviations by which one corner must be brighter to tell lateral from medial

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("minimum_width", "%", "joint space where it is narrowest / tibia's width", holds=(0.0, 15.0)),
    Measurement("medial_width", "%", "joint space in the medial compartment / tibia's width", holds=(0.0, 15.0)),
    Measurement("lateral_width", "%", "joint space in the lateral compartment / tibia's width", holds=(0.0, 15.0)),
    Measurement("subchondral", "1", "brightness of the plateau - of the tibia under it, in the image's deviations"),
    Measurement("texture", "1", "what is finer than 2 pixels of 128 in the tibia, in the image's deviations"),
    Measurement("edge_sharpness", "1/%", "slope at the joint's edges / contrast, over 1% of the tibia's width"),
    Measurement("tibial_angle", "deg", "of the plateau, positive: lower laterally", holds=(-15.0, 15.0)),
    Measurement("joint_angle", "deg", "between femur and tibia, positive: open laterally", holds=(-15.0, 15.0)),
    Measurement("tibia_width", "%", "of the image's width"),
    Measurement("fibula", "1", "lower right corner - left, in the image's deviations; positive: lateral is right"),
)
NAMES = tuple(measurement.name for measurement in MEASUREMENTS)


@dataclass(frozen=True)
class Joint:
    """Where the joint is in N images, in pixels from the first one's centre.

    femur, tibia: [N, W] rows of the edges above and below the joint space, a column each.
    left, right:  [N] columns of the tibia's ends at the plateau.
    depth:        [N, W] how much darker the space is than the bone on either side, whichever is less.
    edge:         [N, W] steepest rise at the tibia's edge, per pixel. femur_edge: the same at the femur's.
    """

    femur: np.ndarray
    tibia: np.ndarray
    left: np.ndarray
    right: np.ndarray
    depth: np.ndarray
    edge: np.ndarray
    femur_edge: np.ndarray


def knee(lateral: str = "image", only: Sequence[str] | None = None) -> MeasurementSet:
    """The set for frontal radiographs of one knee.

    lateral: where the lateral side is: image (where the fibula is, told from each image), left or right (of all
             images, where the data are mirrored to one side).
    only:    names of the measurements to take; null: all.
    """
    if lateral not in (sides := ("image", "left", "right")):
        raise UserError(f"lateral: {lateral}, expected {', '.join(sides)}{did_you_mean(lateral, sides)}")
    return MeasurementSet(MEASUREMENTS, lambda x, mm: measure(x, mm, lateral), channels=1).only(only)


def measure(images: np.ndarray, spacing_mm: float = 1.0, lateral: str = "image") -> np.ndarray:
    """Every measurement of every image: [N, len(MEASUREMENTS)] float64; a row of NaN where no joint is found.

    images:     [N, H, W] of any unit, bone bright or dark.
    spacing_mm: distance between pixels, the same in both directions; no number depends on it.
    lateral:    image, left or right: see `knee`. What needs a side is NaN where the image does not tell it.
    Raises UserError for another shape. No image raises or warns; pixels that are not finite count as 0.
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise UserError(f"images to measure have shape {list(images.shape)}, expected [N, H, W]")
    table = np.full((len(images), len(NAMES)), np.nan)
    grey = np.nan_to_num(images.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    seen = grey.std((1, 2)) > LEAST_CONTRAST * np.abs(grey).max((1, 2), initial=0.0)
    if min(grey.shape[1:]) >= LEAST_SIDE and seen.any():
        table[seen] = _measure(grey[seen], lateral)
    return table


def _measure(grey: np.ndarray, lateral: str) -> np.ndarray:
    bright = bone_bright(grey)
    bright = (bright - bright.mean((1, 2), keepdims=True)) / bright.std((1, 2), keepdims=True)
    joint, unit = find_joint(bright), grey.shape[1] / SIDE
    tibia_width = (joint.right - joint.left).astype(np.float64)
    across = (np.arange(grey.shape[2]) - joint.left[:, None]) / tibia_width[:, None]
    parts = [(side > CENTRAL[0]) & (side < CENTRAL[1]) for side in (across, 1 - across)]  # left, right
    depth, widths = _depth_and_widths(joint, across)
    widths *= 100 / tibia_width[:, None]
    width = np.stack([_percentile(widths, part, 50) for part in parts])
    rows = np.stack([[_percentile(edge, part, 50) for part in parts] for edge in (joint.tibia, joint.femur)])
    tilt = np.degrees(np.arctan2(rows[:, 1] - rows[:, 0], (1 - sum(CENTRAL)) * tibia_width))  # positive: right is lower
    fibula = _fibula(bright)
    side = np.sign(fibula) if lateral == "image" else np.full(len(grey), 1.0 if lateral == "right" else -1.0)
    side[(np.abs(fibula) < LEAST_FIBULA) & (lateral == "image")] = np.nan
    slopes = (joint.edge + joint.femur_edge) / 2
    both = parts[0] | parts[1]
    subchondral, texture = _bone(bright, joint.tibia, both, unit)
    values = {
        "minimum_width": np.minimum(*(_percentile(widths, part, MINIMUM) for part in parts)),
        "medial_width": np.where(np.isnan(side), np.nan, np.where(side > 0, width[0], width[1])),
        "lateral_width": np.where(np.isnan(side), np.nan, np.where(side > 0, width[1], width[0])),
        "subchondral": subchondral,
        "texture": texture,
        "edge_sharpness": _percentile(slopes, both, 50) / np.maximum(depth, 1e-6) * tibia_width / 100,
        "tibial_angle": side * tilt[0],
        "joint_angle": side * (tilt[0] - tilt[1]),
        "tibia_width": 100 * tibia_width / grey.shape[2],
        "fibula": fibula,
    }
    table = np.stack([values[name] for name in NAMES], axis=1)
    spines = rows[0].mean(0) - _percentile(joint.tibia, (across > NOTCH[0]) & (across < NOTCH[1]), 0)
    table[(depth < LEAST_DEPTH) | (spines < LEAST_SPINES * unit)] = np.nan
    return table


def _percentile(values: np.ndarray, where: np.ndarray, percent: float) -> np.ndarray:
    """Of the columns of [N, W] that are chosen, [N]."""
    return np.nanpercentile(np.where(where, values, np.nan), percent, axis=1)


def _depth_and_widths(joint: Joint, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The usual depth of each joint space [N], and its width [N, W] in pixels.

    A slit that is narrower than the image is blurred never has its edges closer than twice the blur's sigma, and gets
    less dark instead: in proportion to its width. So its width fades with its depth, to 0 where bone lies on bone.
    """
    usual = _percentile(joint.depth, (across > 0.1) & (across < 0.9), 75)
    safe = np.maximum(usual, 1e-6)[:, None]
    return usual, (joint.tibia - joint.femur) * np.clip(joint.depth / (FADING * safe), 0.0, 1.0)


def _fibula(bright: np.ndarray) -> np.ndarray:
    """How much brighter the lower right corner is than the lower left one, [N]: the fibula stands laterally."""
    height, width = bright.shape[1:]
    lower, part = bright[:, round(FIBULA[0] * height) :], round(FIBULA[1] * width)
    return (lower[:, :, -part:].mean((1, 2)) - lower[:, :, :part].mean((1, 2))).astype(np.float64)


def _bone(bright: np.ndarray, tibia: np.ndarray, where: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """How much brighter the plateau is than the bone under it, and the rms of that bone's texture: [N] each."""
    edge = np.round(tibia).astype(int)
    plateau, below = (np.arange(round(a * unit), round(b * unit) + 1) for a, b in (PLATEAU, BELOW))
    step = _along(bright, edge, plateau).mean(1) - _along(bright, edge, below).mean(1)
    grain = bright - ndimage.gaussian_filter(bright, (0, GRAIN * unit, GRAIN * unit))
    energy = np.square(_along(grain, edge, below)).mean(1)
    columns = where.sum(1)
    return (step * where).sum(1) / columns, np.sqrt((energy * where).sum(1) / columns)


def bone_bright(images: np.ndarray) -> np.ndarray:
    """[N, H, W] with dark bone turned over: a knee is brighter than the image's left and right rims."""
    height, width = images.shape[1:]
    rows, rim = slice(height // 4, 3 * height // 4), max(1, width // 16)
    middle = images[:, rows, width // 4 : 3 * width // 4].mean((1, 2))
    rims = (images[:, rows, :rim].mean((1, 2)) + images[:, rows, -rim:].mean((1, 2))) / 2
    return np.where((middle < rims)[:, None, None], -images, images)


def find_joint(bright: np.ndarray) -> Joint:
    """The joint space of images [N, H, W] with bright bone, H and W at least `LEAST_SIDE`.

    The space is a dark valley that crosses the image: the path of the largest second derivative downwards (of two
    scales, Lindeberg 1998). From it each edge is the path of the steepest slope.
    """
    height = bright.shape[1]
    unit = height / SIDE
    first, end = round(ROWS[0] * height), round(ROWS[1] * height)
    even = _even_out(bright[:, first:end], unit)
    low, high = (round(share * height) - first for share in SEARCHED)
    smooth = ndimage.gaussian_filter1d(even, 3 * unit, axis=2)
    valley = sum((s * unit) ** 2 * ndimage.gaussian_filter1d(smooth, s * unit, axis=1, order=2) for s in (1.5, 3.0))
    middle = best_path(np.clip(valley[:, low:high], -0.5, 1.5), 2, 0.12) + low
    fine = max(unit, 0.7)
    slope = ndimage.gaussian_filter(even, (0, 0.9 * fine, 1.5 * fine), order=(0, 1, 0))
    reach = round(REACH * unit)
    around = np.arange(-reach, reach + 1)
    strip = _along(slope, middle, around)
    near = 0.02 / unit * np.arange(reach + 1, dtype=np.float32)[:, None]
    up, down = -strip[:, reach::-1], strip[:, reach:]  # both away from the middle
    femur_at = best_path(np.clip(up, -1, 2) - near, 1, 0.15)
    tibia_at = best_path(np.clip(down, -1, 2) - near, 1, 0.15)
    femur, tibia = middle - sub_pixel(up, femur_at), middle + sub_pixel(down, tibia_at)
    femur_edge, edge = (np.take_along_axis(a, at[:, None], 1)[:, 0] for a, at in ((up, femur_at), (down, tibia_at)))
    left, right = _tibia_ends(even, tibia, edge, unit)
    depth = _depth(even, femur, middle, tibia, unit)
    return Joint(femur + first, tibia + first, left, right, depth, edge, femur_edge)


def _even_out(images: np.ndarray, unit: float) -> np.ndarray:
    """[N, R, W] float32 of local mean 0 and local variance 1, so that a dim knee looks like a bright one."""
    size = (0, 2 * round(LOCAL * unit) + 1, 2 * round(LOCAL * unit) + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(ndimage.uniform_filter(values, size, mode="nearest"), size, mode="nearest")

    scale = np.maximum(images.std((1, 2), keepdims=True), 1e-6)
    centred = images / scale
    centred = centred - mean(centred)
    return centred / np.sqrt(mean(centred**2) + 1e-3)


def best_path(score: np.ndarray, reach: int, cost: float) -> np.ndarray:
    """From the first column to the last, the rows of largest summed score, by dynamic programming.

    score: [N, R, W]. -> [N, W] rows. From column to column it moves by at most `reach` rows, each at this cost.
    """
    n, rows, width = score.shape
    best, steps = score[:, :, 0].copy(), np.zeros((width, n, rows), np.int8)
    for x in range(1, width):
        top = best.copy()
        for step in (s for s in range(-reach, reach + 1) if s):
            moved = (best[:, :-step] if step > 0 else best[:, -step:]) - cost * abs(step)
            place = slice(step, None) if step > 0 else slice(None, step)
            better = moved > top[:, place]
            top[:, place][better] = moved[better]
            steps[x][:, place][better] = step
        best = top + score[:, :, x]
    path, image = np.empty((n, width), np.int64), np.arange(n)
    path[:, -1] = best.argmax(1)
    for x in range(width - 1, 0, -1):
        path[:, x - 1] = path[:, x] - steps[x][image, path[:, x]]
    return path


def sub_pixel(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The top of the parabola through three rows around `at`, within half a row: [N, R, W], [N, W] -> [N, W]."""
    inner = np.clip(at, 1, values.shape[1] - 2)
    before, here, after = (np.take_along_axis(values, (inner + d)[:, None], 1)[:, 0] for d in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
    return np.where(inner == at, at + np.clip(shift, -0.5, 0.5), at)


def _along(images: np.ndarray, path: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Rows of [N, R, W] around a path [N, W]: [N, len(around), W]; beyond the image its outermost row."""
    rows = np.clip(path[:, None] + around[:, None], 0, images.shape[1] - 1)
    return np.take_along_axis(images, rows, 1)


def _tibia_ends(even: np.ndarray, tibia: np.ndarray, edge: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns [N] where the tibia ends, left and right.

    Going outwards, the plateau's edge is lost there, and the bone under it gives way to something darker.
    """
    width = tibia.shape[1]
    x = np.arange(width) - (width - 1) / 2
    height, slope = line(x, tibia, (np.abs(x) > 0.12 * width) & (np.abs(x) < 0.34 * width))
    plateau = np.round(height[:, None] + slope[:, None] * x).astype(int)
    bone = _along(even, plateau, np.arange(int(3 * unit), int(14 * unit))).mean(1)
    bone = bone - ndimage.gaussian_filter1d(bone, 5 * unit, axis=1)
    bone = bone / np.maximum(bone.std(1, keepdims=True), 1e-6)
    rise = 6 * unit * ndimage.gaussian_filter1d(bone, 1.3 * unit, axis=1, order=1)
    usual = np.maximum(np.median(edge[:, np.abs(x) < 0.3 * width], axis=1), 1e-6)[:, None]
    seen = (np.clip(edge / usual, -0.5, 1.0) - 0.4) / unit
    ends = []
    for outwards in (-1, 1):
        score = np.cumsum(np.where(x * outwards > 0, seen, 0)[:, ::outwards], axis=1)[:, ::outwards] - outwards * rise
        ends.append(np.where(x * outwards > 0.25 * width, score, -np.inf).argmax(1))
    return ends[0], ends[1]


def line(x: np.ndarray, y: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line of least absolute distance, by reweighting: x [W], y [N, W], used [W] -> y at 0 and slope, [N] each."""
    weight = np.broadcast_to(used.astype(np.float64), y.shape)
    for _ in range(3):
        total, first, second = weight.sum(1), weight @ x, weight @ x**2
        of_y, of_xy = (weight * y).sum(1), (weight * y) @ x
        determinant = total * second - first**2
        height = (second * of_y - first * of_xy) / determinant
        slope = (total * of_xy - first * of_y) / determinant
        weight = used / np.maximum(np.abs(y - height[:, None] - slope[:, None] * x), 1.0)
    return height, slope


def _depth(even: np.ndarray, femur: np.ndarray, middle: np.ndarray, tibia: np.ndarray, unit: float) -> np.ndarray:
    """How much darker the joint space is than the bone on either side, whichever is less: [N, W]."""
    fine, band = max(unit, 0.7), max(unit, 0.5)  # a band of bone has a row at least
    around = np.arange(-round(REACH * unit + 5 * band), round(REACH * unit + 4 * band) + 1)
    values = _along(ndimage.gaussian_filter(even, (0, 0.9 * fine, 1.5 * fine)), middle, around)
    row = middle[:, None] + around[:, None]
    inside = ((row >= femur[:, None]) & (row <= tibia[:, None])) | (row == middle[:, None])
    above = (row < femur[:, None] - band) & (row > femur[:, None] - 5 * band)
    below = (row > tibia[:, None] + 0.5 * band) & (row < tibia[:, None] + 4 * band)
    darkest = np.where(inside, values, np.inf).min(1)
    femoral = np.where(above, values, 0).sum(1) / np.maximum(above.sum(1), 1)
    tibial = np.where(below, values, -np.inf).max(1)
    return np.minimum(femoral, tibial) - darkest
