"""What the colours of an H&E image mean: light, optical density, and how much of each stain (Ruifrok & Johnston 2001).

Beer-Lambert: light that passes tissue falls by 10^-(concentration times the stain's density), in each of R, G, B.
"""

import numpy as np

# Optical density per unit of haematoxylin (nuclei) and of eosin (cytoplasm, stroma), in R, G, B.
HAEMATOXYLIN, EOSIN = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105)
DARKEST = 1.0 / 255.0  # transmitted light below one grey level has no measurable density


def stain_vectors() -> np.ndarray:
    """Unit vectors in optical density: haematoxylin, eosin, the rest (at right angles to both), [3, 3] float64."""
    vectors = np.array([HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN)])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stains(images: np.ndarray) -> np.ndarray:
    """RGB [..., 3] from 0 to 255 -> concentrations of haematoxylin, eosin and the rest [..., 3] float32, in units of
    optical density.
    """
    light = np.asarray(images, np.float32) / np.float32(255.0)
    density = -np.log10(np.maximum(light, np.float32(DARKEST)))
    return density @ np.linalg.inv(stain_vectors()).astype(np.float32)


def stained(concentrations: np.ndarray) -> np.ndarray:
    """The inverse of `stains`: [..., 3] -> RGB [..., 3] float32 from 0 to 255."""
    density = np.asarray(concentrations, np.float32) @ stain_vectors().astype(np.float32)
    return np.clip(255.0 * np.power(np.float32(10.0), -density), 0.0, 255.0)
