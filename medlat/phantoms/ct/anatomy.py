"""The thorax of the CT phantom, painted tissue by tissue.

Hounsfield units are the usual textbook values: air -1000, lung -850, fat -100, muscle 50, liver 55, blood 40, spongy
bone 200, cortex 700. Lengths are in body units (`phantom_shapes`).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from medlat.phantoms.ct.canvas import Canvas, Contours, Point, Tissue, capsule_distance, ellipse_distance
from medlat.phantoms.ct.person import LENGTH, Person
from medlat.phantoms.ct.shapes import (
    ANGLES,
    Build,
    at_level,
    breast_outline,
    bump,
    domes,
    great_vessels,
    heart_shape,
    lung_distance,
)


@dataclass
class Scene:
    """What the painters share: the canvas, the body's build, and the opacities that limit other shapes."""

    canvas: Canvas
    build: Build
    person: Person
    contours: Contours
    outline: np.ndarray  # [ENTRIES] radii of the body without breasts
    skin: np.ndarray  # [ENTRIES] with breasts
    cage: np.ndarray  # [ENTRIES] radii of the middle of the ribs
    box: tuple[slice, slice]  # of the rib cage
    inside: np.ndarray  # opacity of the chest's inside, whole slice
    lung: np.ndarray  # opacity of the lungs, whole slice

    def lung_point(self, z: float, place: float, radius: float) -> Point:
        """A point of this body's lungs at level z, with `radius` of lung around it where the lungs are wide enough."""
        build = replace(self.build, z=z)
        step = 4.0
        u, v = np.meshgrid(np.arange(-130, 131, step, dtype=np.float32), np.arange(-90, 81, step, dtype=np.float32))
        contours = Contours(u, v, build.cage_v)
        depth = -lung_distance(build, contours, contours.superellipse(build.cage, build.cage_v, 2.2), u, v)
        candidates = np.flatnonzero(depth > min(radius + 3.0, float(depth.max()) - step / 2))
        chosen = candidates[int(place * len(candidates))]
        return float(u.flat[chosen]), float(v.flat[chosen])


def paint_thorax(canvas: Canvas, build: Build, person: Person, table_gap: float) -> Scene:
    """Paint every tissue but noise; `table_gap` in millimetres. Returns the scene for what is put into it later."""
    contours = Contours(canvas.u, canvas.v, replace(build, lung=0.9).cage_v)  # the outline must not know the lungs
    outline = contours.superellipse(build.body, 0.0, 2.4)
    outline = outline * (1 - 0.035 * bump(np.abs(ANGLES), math.pi, 0.14) - 0.02 * bump(ANGLES, 0.0, 0.25))
    cage = contours.superellipse(build.cage, build.cage_v, 2.2)
    box = canvas.box((0.0, build.cage_v), max(build.cage) + 16)
    empty = np.zeros_like(canvas.hu)
    scene = Scene(
        canvas, build, person, contours, outline, breast_outline(build, outline), cage, box, empty, empty.copy()
    )
    paint_table(scene, table_gap)
    paint_wall(scene)
    paint_lungs(scene)
    paint_abdomen(scene)
    paint_mediastinum(scene)
    paint_ribs(scene)
    paint_shoulder_bones(scene)
    paint_spine(scene)
    paint_vessels(scene)
    return scene


def paint_table(scene: Scene, gap: float) -> None:
    """A curved shell with a light core whose smallest vertical gap to the body is `gap` millimetres.

    It does not turn with the body.
    """
    canvas, curvature, thickness = scene.canvas, 1 / 620.0, 28.0
    u, v = np.sin(ANGLES) * scene.skin, scene.contours.centre_v - np.cos(ANGLES) * scene.skin
    x = canvas.centre_mm[0] + canvas.scale * (canvas.cos * u - canvas.sin * v)
    y = canvas.centre_mm[1] + canvas.scale * (canvas.sin * u + canvas.cos * v)
    on_table = np.abs(x) < 200
    top = np.max((y + curvature * x * x / 2)[on_table]) + gap
    first = max(0, int((top + canvas.axis[-1] - 40) / canvas.pixel_mm) - 1)
    rows = (slice(min(first, canvas.size - 1), canvas.size), slice(0, canvas.size))
    xx = canvas.axis[None, :]
    below = canvas.axis[rows[0], None] + np.float32(curvature / 2) * xx * xx - np.float32(top)  # depth in the table
    edge = np.abs(xx) - np.float32(205)
    shape = np.maximum(np.abs(below - np.float32(thickness / 2)) - np.float32(thickness / 2), edge)
    shape /= np.float32(canvas.scale)
    canvas.paint(canvas.cover(shape), 90.0, Tissue.TABLE, rows)
    canvas.paint(canvas.cover(shape + np.float32(3.0 / canvas.scale)), -930.0, Tissue.TABLE, rows)


def paint_wall(scene: Scene) -> None:
    """Skin, subcutaneous fat, breasts with gland, muscle with planes of fat between."""
    canvas, build, contours = scene.canvas, scene.build, scene.contours
    skin = contours.distance(scene.skin)
    canvas.paint(canvas.cover(skin), 10.0, Tissue.SKIN)
    canvas.paint(canvas.cover(skin + np.float32(2.0)), -102.0, Tissue.FAT)
    bulge = float(np.max(scene.skin - scene.outline))
    if bulge > 4:
        for side in (-1, 1):
            paint_gland(scene, side, bulge)
    muscle = contours.distance(scene.outline)
    muscle += np.float32(build.fat)
    texture = np.sin(canvas.u * np.float32(0.11) + np.float32(scene.person.phase))
    texture *= np.sin(canvas.v * np.float32(0.13) + np.float32(2 * scene.person.phase))
    canvas.paint(canvas.cover(muscle), texture * np.float32(12.0) + np.float32(50.0), Tissue.MUSCLE)
    # Two planes of fat follow the contour between the layers of muscle, open at the front and along the spine.
    gap = contours.distance(scene.cage)
    share = np.float32(0.5) * (gap + muscle) + np.float32(4.0) * texture  # zero half-way between fat and ribs
    sides = contours.lookup(
        np.clip(1.6 * np.abs(np.sin(ANGLES)) - 0.5, 0, 1) * at_level(build.z, (0, 0.8), (0.8, 0.45))
    )
    room = np.clip((gap - muscle) * np.float32(0.08) - np.float32(0.9), 0, 1)
    canvas.paint(canvas.cover(np.abs(share) - np.float32(1.3)) * sides * room, -85.0, None)
    armpit = at_level(build.z, (0.02, 0), (0.12, 1), (0.3, 0.8), (0.45, 0))
    if armpit > 0.1:
        for side in (-1, 1):
            centre = (side * (build.cage[0] + build.body[0] - build.fat) / 2, -14.0)
            radii = (0.32 * (build.body[0] - build.fat - build.cage[0]), 24.0 * armpit)
            canvas.ellipse(centre, radii, -92.0, Tissue.FAT, side * 16.0, softness=2.0)


def paint_gland(scene: Scene, side: int, bulge: float) -> None:
    """Strands of glandular tissue behind the nipple."""
    entry = round((side * 0.72 / (2 * math.pi) + 0.5) * Contours.ENTRIES)
    reach = scene.outline[entry] - scene.build.fat + 0.45 * (bulge + scene.build.fat)
    for turn, depth, size in ((0.0, 0.0, 0.34), (0.13, 3.0, 0.2), (-0.12, 4.0, 0.22)):
        angle = side * (0.72 + turn)
        centre = (math.sin(angle) * (reach - depth), scene.contours.centre_v - math.cos(angle) * (reach - depth))
        radii = (size * bulge + 2.0, 0.6 * size * bulge + 1.0)
        scene.canvas.ellipse(centre, radii, 15.0, Tissue.GLAND, math.degrees(angle) + 70 * side, softness=2.0)


def paint_lungs(scene: Scene) -> None:
    """The chest's inside: mediastinal fat, and on either side of it lung, down to the domes of the diaphragm."""
    canvas, build, box = scene.canvas, scene.build, scene.box
    u, v, contours = canvas.u[box], canvas.v[box], scene.contours.within(box)
    inside = canvas.cover(contours.distance(scene.cage) + np.float32(5.0))
    canvas.paint(inside, -95.0, Tissue.MEDIASTINUM, box)
    lung = canvas.cover(lung_distance(build, contours, scene.cage, u, v), 1.3)
    posterior = (v - np.float32(build.cage_v)) * np.float32(0.45)  # gravity: the back of the lung is denser
    canvas.paint(lung, posterior + np.float32(scene.person.lung_hu), Tissue.LUNG, box)
    scene.inside[box], scene.lung[box] = inside, lung


def paint_abdomen(scene: Scene) -> None:
    """Liver under the right dome and across the midline, stomach with its air and spleen under the left."""
    canvas, build, box = scene.canvas, scene.build, scene.box
    found = domes(build)
    if not found:
        return
    u, v = canvas.u[box], canvas.v[box]
    below = scene.inside[box] * (1 - scene.lung[box])
    depth = min(1.0, max(0.0, (build.z - 0.76) / 0.16))
    within = [canvas.cover(ellipse_distance(u, v, centre, radii), 1.8) for centre, radii in found]
    liver = within[0]
    if depth > 0:  # the left lobe reaches over the midline, in front of the stomach
        lobe = (u - np.float32(70 * depth - 25)) * np.float32(0.8) + (v + np.float32(22)) * np.float32(0.6)
        liver = np.maximum(liver, canvas.cover(np.maximum(lobe, v - np.float32(18))) * np.float32(depth))
    if len(within) > 1:
        canvas.paint(within[1] * below, -98.0, Tissue.ABDOMEN, box)
        paint_left_organs(scene, depth)
    canvas.paint(liver * below, 56.0, Tissue.LIVER, box)
    mask = np.zeros_like(scene.inside)
    mask[box] = liver * below
    for a, b, c, d, r in (
        (-70, -20, -48, -6, 3.5),
        (-86, 6, -62, 16, 3.0),
        (-40, -34, -22, -26, 2.6),
        (-60, 20, -44, 2, 3),
    ):
        swing = 9 * math.sin(9 * build.z + 0.1 * a)
        canvas.capsule((a * build.lung + swing, b), (c * build.lung, d - swing), r, 34.0, None, mask)


def paint_left_organs(scene: Scene, depth: float) -> None:
    canvas, build = scene.canvas, scene.build
    mask = scene.inside * (1 - scene.lung)
    wide, middle = build.cage[0], build.cage_v
    stomach = ((0.46 * wide, middle - 8.0), (0.37 * wide * max(depth, 0.3), 40.0 * max(depth, 0.3)))
    canvas.ellipse(*stomach, 38.0, Tissue.ABDOMEN, 8.0, mask)
    canvas.ellipse(stomach[0], (stomach[1][0] - 4, stomach[1][1] - 4), 14.0, Tissue.ABDOMEN, 8.0, mask)
    if depth > 0.5:
        centre, radii = (stomach[0][0] - 4, stomach[0][1] - 18), (0.5 * stomach[1][0], 9.0)
        canvas.ellipse(centre, radii, -960.0, Tissue.ABDOMEN, 0.0, mask)
    if depth > 0.2:
        size = min(1.0, depth * 1.2)
        canvas.ellipse((0.74 * wide, middle + 24.0), (17.0 * size, 34.0 * size), 50.0, Tissue.ABDOMEN, 24.0, mask)


def paint_mediastinum(scene: Scene) -> None:
    """Airways, great vessels, oesophagus and heart, painted over mediastinal fat."""
    canvas, z, mask = scene.canvas, scene.build.z, scene.inside
    for start, end, radius in great_vessels(z):
        if start == end:
            canvas.ellipse(start, (radius, radius), 42.0, Tissue.MEDIASTINUM, 0.0, mask)
        else:
            canvas.capsule(start, end, radius, 42.0, Tissue.MEDIASTINUM, mask)
    canvas.ellipse((5.0, 29.0), (6.5, 5.0), 32.0, Tissue.MEDIASTINUM, 0.0, mask)
    heart = heart_shape(scene.build)
    if heart is not None:
        centre, radii, angle = heart
        canvas.ellipse(centre, (radii[0] + 4.5, radii[1] + 4.5), -85.0, Tissue.MEDIASTINUM, angle, mask, 1.3)
        canvas.ellipse(centre, radii, 44.0, Tissue.HEART, angle, mask, 1.3)
    if z < 0.36:
        for grow, hu, label in ((1.6, 30.0, Tissue.MEDIASTINUM), (0.0, -990.0, Tissue.AIRWAY)):
            canvas.ellipse((-1.0, 12.0), (8.5 + 12 * max(0.0, z - 0.31) + grow, 9.0 + grow), hu, label)
    if 0.33 <= z < 0.45:
        spread = 9 + 170 * (z - 0.33)
        for side in (-1, 1):
            centre = (side * spread, 12.0 + 40 * (z - 0.33))
            for grow, hu, label in ((1.5, 30.0, Tissue.MEDIASTINUM), (0.0, -985.0, Tissue.AIRWAY)):
                canvas.ellipse(centre, (8.0 + grow, 6.0 + grow), hu, label, side * 20.0)


def paint_ribs(scene: Scene) -> None:
    """Ribs run downwards from the spine to the front, so a slice crosses several of them in short arcs."""
    canvas, build, box = scene.canvas, scene.build, scene.box
    contours = scene.contours.within(box)
    from_spine = 1 - np.abs(ANGLES) / math.pi
    pitch, height, thickness = 26.0, 7.5, 4.6
    along = build.z * LENGTH - 84.0 * from_spine + scene.person.rib_offset
    offset = (
        np.abs((along / pitch) % 1.0 - 0.5) * pitch
    )  # millimetres, along the patient, from the nearest rib's middle
    half = np.where(offset < height, thickness * np.sqrt(np.clip(1 - (offset / height) ** 2, 0, 1)), -(offset - height))
    half = np.where(from_spine > 0.93, -9.0, half)
    cartilage = np.clip((from_spine - 0.76) * 25, 0, 1)
    distance = np.abs(contours.distance(scene.cage)) - contours.lookup(half)
    soft = contours.lookup(cartilage)
    canvas.paint(canvas.cover(distance), 760.0 - 640.0 * soft, Tissue.BONE, box)
    canvas.paint(canvas.cover(distance + np.float32(1.8)), 230.0 - 130.0 * soft, Tissue.BONE, box)


def paint_shoulder_bones(scene: Scene) -> None:
    """Shoulder blades beside the upper ribs, collar bones at the top, breastbone in front."""
    canvas, build = scene.canvas, scene.build
    front = build.cage_v - build.cage[1]
    if 0.1 < build.z < 0.8:
        width = at_level(build.z, (0.1, 26), (0.2, 19), (0.7, 14))
        box = canvas.box((0.0, front - 1), width)
        distance = ellipse_distance(canvas.u[box], canvas.v[box], (0.0, front - 1.0), (width, 6.0))
        canvas.bone(distance, box, 1.8, 560.0, 130.0)
    if build.z < 0.5:
        for side in (-1, 1):
            for first, last, radius in ((2.0, 2.42, 2.6), (2.02, 1.84, 3.6)):
                ends = (_behind_ribs(scene, side * first), _behind_ribs(scene, side * last))
                _bone_bar(canvas, *ends, radius * at_level(build.z, (0, 1.25), (0.35, 1), (0.5, 0.7)))
    if build.z < 0.12:
        for side in (-1, 1):
            _bone_bar(canvas, (side * 20.0, front - 6.0), (side * (48.0 + 260 * build.z), front - 17.0), 4.8)


def _behind_ribs(scene: Scene, angle: float) -> Point:
    """A point in the muscle between the ribs and the subcutaneous fat."""
    entry = round((angle / (2 * math.pi) + 0.5) * Contours.ENTRIES)
    room = scene.outline[entry] - scene.build.fat - scene.cage[entry]
    radius = scene.cage[entry] + 4.0 + 0.35 * room
    return math.sin(angle) * radius, scene.contours.centre_v - math.cos(angle) * radius


def _bone_bar(canvas: Canvas, start: Point, end: Point, radius: float) -> None:
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    box = canvas.box(middle, math.dist(start, end) / 2 + radius)
    distance = capsule_distance(canvas.u[box], canvas.v[box], start, end, radius)
    canvas.bone(distance, box, 1.6, 750.0, 260.0)


def paint_spine(scene: Scene) -> None:
    """A vertebra: body, canal with cord, arch, transverse and spinous processes."""
    canvas, build = scene.canvas, scene.build
    box = canvas.box((0.0, 60.0), 44.0)
    u, v = canvas.u[box], canvas.v[box]
    tip = min(90.0, build.body[1] - build.fat - 5.0)
    swing = math.sin(
        build.z * LENGTH / 26.0 * 2 * math.pi + scene.person.phase
    )  # processes come and go with each vertebra
    side = np.abs(u)
    body = ellipse_distance(u, v, (0.0, 42.0), (17.5, 14.5))
    arch = np.abs(ellipse_distance(u, v, (0.0, 61.0), (12.0, 10.0))) - np.float32(3.2)
    arms = capsule_distance(side, v, (11.0, 63.0), (26.0 + 5 * swing, 69.0), 4.2)
    spine = capsule_distance(u, v, (0.0, 71.0), (0.0, max(tip - 4 + 4 * swing, 74.0)), 3.4)
    bone = np.minimum(np.minimum(body, arch), np.minimum(arms, spine))
    canvas.paint(canvas.cover(bone), 620.0, Tissue.BONE, box)
    canvas.paint(canvas.cover(bone + np.float32(1.7)), 230.0, Tissue.BONE, box)
    canvas.ellipse((0.0, 61.0), (9.0, 7.5), -10.0, Tissue.MUSCLE)
    canvas.ellipse((0.0, 61.0), (5.0, 4.0), 35.0, Tissue.MUSCLE)


def paint_vessels(scene: Scene) -> None:
    """The branches of the lung's vessels that lie within a slab of a few millimetres around this level."""
    depth, slab = scene.build.z * LENGTH, 3.5
    levels = scene.person.branches[:, [2, 5]]
    near = scene.person.branches[(levels.min(1) < depth + slab) & (levels.max(1) > depth - slab)]
    start, move, radii = near[:, :3], near[:, 3:6] - near[:, :3], near[:, 6]
    rise = np.where(np.abs(move[:, 2]) > 1e-3, move[:, 2], 1e-3)
    cuts = np.clip(
        (depth - start[:, 2, None] + np.array([-slab, slab])) / rise[:, None], 0, 1
    )  # the slab's share of a branch
    narrow = np.array([scene.build.lung, 1.0])
    first, last = ((start + cuts[:, [i]] * move)[:, :2] * narrow for i in (0, 1))
    opacity = scene.canvas.capsules(first, last, radii)[scene.box]
    opacity *= scene.lung[scene.box]
    scene.canvas.paint(opacity, 10.0, Tissue.LUNG_VESSEL, scene.box)
