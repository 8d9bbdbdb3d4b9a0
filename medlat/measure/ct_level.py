"""At which level of the chest a slice lies, from how far the lungs reach, how far out the ribs lie and the outline."""

import numpy as np

from medlat.measure.ct_outline import ANGLES, Rays

# Sectors in radians from the front, + to the patient's left.
SECTORS = (
    ("front right", -1.2, -0.4),
    ("front left", 0.4, 1.2),
    ("right", -1.9, -1.2),
    ("left", 1.2, 1.9),
    ("back right", -2.7, -1.9),
    ("back left", 1.9, 2.7),
)
FEATURES = ("intercept", *(f"lung {name}" for name, _, _ in SECTORS), "ribs", "aspect")
# Least squares on slices of the CT phantom at 6.25 mm pixels: fitted to invented anatomy, checked on real series only
# for the order of slices. The tests refit nothing.
COEFFICIENTS = np.array([2.56, -0.48, -0.33, -0.24, 0.12, -0.26, -0.28, 0.91, -1.66])
BONE_MM = 3.0  # this much bone at the usual depth is added, so that a slice between ribs is no outlier
BOUNDS = (-0.5, 1.5)  # neck and abdomen lie outside [0, 1]; beyond these the formula means nothing


def slice_level(rays: Rays) -> np.ndarray:
    """0 at the apex of the lungs, 1 at the liver, [N]."""
    return np.clip(level_features(rays) @ COEFFICIENTS, *BOUNDS)


def level_features(rays: Rays) -> np.ndarray:
    """[N, len(FEATURES)], in this order:

    1; for each sector the share of the ray that is lung; the depth of bone on the side rays, from 0 in the
    centre to 1 at the skin; half width / half depth of the outline, within [1.1, 2].
    """
    radius = np.maximum(rays.radius, rays.step_mm)
    lung = rays.lung.sum(2) * rays.step_mm / radius
    away = np.abs(ANGLES)
    side, middle = (away > 1.2) & (away < 1.9), (away < 0.4) | (away > 2.7)
    bone = np.clip((rays.hu[:, side] - 130) / 500, 0, 1)
    distance = np.arange(bone.shape[2]) * rays.step_mm
    amount = bone.sum((1, 2)) * rays.step_mm
    depth = ((bone @ distance) / radius[:, side]).sum(1) * rays.step_mm
    ribs = (depth + 0.75 * BONE_MM) / (amount + BONE_MM)
    aspect = np.clip(radius[:, side].mean(1) / radius[:, middle].mean(1), 1.1, 2.0)
    sectors = [lung[:, np.abs(ANGLES - (low + high) / 2) < (high - low) / 2].mean(1) for _, low, high in SECTORS]
    return np.stack([np.ones(len(lung)), *sectors, ribs, aspect], axis=1)
