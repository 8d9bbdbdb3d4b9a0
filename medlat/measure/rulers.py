"""Which measurements a kind of image has: Hounsfield units, histology in RGB, or grey levels."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from importlib import import_module
from itertools import repeat
from typing import NamedTuple

import numpy as np

from medlat.core.machine import cores
from medlat.measure.ct import Measurement

PART = 32  # images that a thread measures at once, so that their arrays stay in the processor's cache
MODULES = {"HU": "medlat.measure.ct", "RGB": "medlat.measure.histology", "grey": "medlat.measure.grey"}


class Ruler(NamedTuple):
    """measure: images [N, H, W] or, in RGB, [N, H, W, 3] in physical values, and mm a pixel -> [N, M] float64."""

    measurements: tuple[Measurement, ...]
    measure: Callable[[np.ndarray, float], np.ndarray]


def ruler(unit: str) -> Ruler:
    """The ruler for images of that unit (`ImageSpec.unit`)."""
    assert unit in MODULES, unit
    module = import_module(MODULES[unit])
    return Ruler(module.MEASUREMENTS, in_threads(module.measure))


def in_threads(
    measure: Callable[[np.ndarray, float], np.ndarray],
) -> Callable[[np.ndarray, float], np.ndarray]:
    """The same, on all cores: most of it is filters and arithmetic, for which NumPy and SciPy let other threads run."""

    @wraps(measure)
    def measured(images: np.ndarray, spacing_mm: float) -> np.ndarray:
        parts = [images[start : start + PART] for start in range(0, max(len(images), 1), PART)]
        with ThreadPoolExecutor(cores()) as pool:
            return np.concatenate(list(pool.map(measure, parts, repeat(spacing_mm))))

    return measured
