"""Which measurements a kind of image has: Hounsfield units, histology in RGB, or grey levels."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import numpy as np

from medlat.measure.ct import Measurement

MODULES = {"HU": "medlat.measure.ct", "RGB": "medlat.measure.histology", "grey": "medlat.measure.grey"}


class Ruler(NamedTuple):
    """measure: images [N, H, W] or, in RGB, [N, H, W, 3] in physical values, and mm a pixel -> [N, M] float64."""

    measurements: tuple[Measurement, ...]
    measure: Callable[[np.ndarray, float], np.ndarray]


def ruler(unit: str) -> Ruler:
    """The ruler for images of that unit (`ImageSpec.unit`)."""
    assert unit in MODULES, unit
    module = import_module(MODULES[unit])
    return Ruler(module.MEASUREMENTS, module.measure)
