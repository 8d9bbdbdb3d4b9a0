"""What a measurement is, and a set of them: numbers with units read off images by plain image processing.

Adding a measurement = one function, one YAML in a folder `measure/` of the user's configuration.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from torch import Tensor

from medlat.core.errors import UserError, did_you_mean
from medlat.core.machine import cores
from medlat.core.spaces import ImageSpec
from medlat.data.modality import Modality

PART = 32  # images that a thread measures at once, so that their arrays stay in the processor's cache
Function = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Measurement:
    """A number with a unit.

    name:        as tables have it, e.g. "lung_fraction".
    unit:        "mm", "cm²", "HU", ...; "1" for a plain number, "deg" for degrees.
    description: what it is, in a few words.
    factor:      the phantom's factor that it reads, if there is one.
    function:    images [N, H, W], in colour [N, H, W, 3], in physical values, and mm a pixel -> [N], NaN where there is
                 nothing to measure. None in a set that measures all of its measurements at once.
    holds:       the smallest and largest value that it is right for; what lies outside counts as not measured.
    """

    name: str
    unit: str
    description: str = ""
    factor: str | None = None
    function: Function | None = None
    holds: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("name: empty, expected what the measurement is called, e.g. lung_fraction")
        if len(self.holds) != 2 or not self.holds[0] < self.holds[1]:
            raise UserError(f"{self.name}: holds={list(self.holds)}, expected two rising numbers")

    def of(self, images: np.ndarray, spacing_mm: float) -> np.ndarray:
        """[N] float64 by its own function. Raises UserError where that fails, or does not give a number an image."""
        assert self.function is not None, self.name
        try:
            values = np.asarray(self.function(images, spacing_mm), np.float64)
        except Exception as error:  # whatever the user's function does
            raise UserError(f"measurement {self.name}: {type(error).__name__}: {error}") from error
        if values.shape != (len(images),):
            found = f"values of shape {list(values.shape)} for {len(images)} images"
            raise UserError(f"measurement {self.name}: it gave {found}, expected one an image")
        return values


@dataclass(frozen=True)
class MeasurementSet:
    """Measurements that are taken together.

    measurements: in the order of the columns.
    function:     images and mm a pixel, as those of a measurement -> [N, M], where all are measured at once; None: each
                  by its own function.
    unit:         of the images that it is made for; None: any. channels: the same, 1 or 3.

    Raises UserError where names are not unique or a measurement has no function.
    """

    measurements: Sequence[Measurement]
    function: Function | None = None
    unit: str | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise UserError(f"{', '.join(repeated)}: more than one measurement has this name")
        missing = [m.name for m in self.measurements if m.function is None]
        if self.function is None and missing:
            raise UserError(f"{', '.join(missing)}: no function, and none of the whole set")

    @property
    def names(self) -> list[str]:
        return [measurement.name for measurement in self.measurements]

    def __len__(self) -> int:
        return len(self.measurements)

    def check(self, modality: Modality) -> None:
        """Raises UserError for images that it is not made for."""
        if self.unit is not None and modality.unit != self.unit:
            raise UserError(f"made for images in {self.unit}, those of {modality.name} are in {modality.unit}")
        if self.channels is not None and modality.channels != self.channels:
            found = f"those of {modality.name} have {modality.channels}"
            raise UserError(f"made for images of {self.channels} channel{'s' * (self.channels > 1)}, {found}")

    def only(self, names: Sequence[str] | None) -> "MeasurementSet":
        """Some of its measurements, in its order; None: all. Raises UserError for a name that it does not have."""
        if names is None:
            return self
        for name in names:
            if name not in self.names:
                raise UserError(f"only={list(names)}: no measurement '{name}'{did_you_mean(name, self.names)}")
        columns = [i for i, name in enumerate(self.names) if name in names]
        chosen = [self.measurements[i] for i in columns]
        if (whole := self.function) is None:
            return MeasurementSet(chosen, None, self.unit, self.channels)
        return MeasurementSet(chosen, lambda x, mm: whole(x, mm)[:, columns], self.unit, self.channels)

    def of(self, images: Tensor, spec: ImageSpec) -> np.ndarray:
        """Network images [N, C, H, W] in [-1, 1] -> [N, M] float64."""
        return self.measure(spec.pictures(images), spec.spacing_mm)

    def measure(self, images: np.ndarray, spacing_mm: float) -> np.ndarray:
        """Images [N, H, W], in colour [N, H, W, 3], in physical values, and mm a pixel -> [N, M] float64; NaN where
        there is nothing to measure or a value is outside the range where its measurement holds.

        On all cores: most of it is filters and arithmetic, for which NumPy and SciPy let other threads run.
        """
        if not self.measurements:
            return np.empty((len(images), 0))
        parts = [images[start : start + PART] for start in range(0, max(len(images), 1), PART)]
        with ThreadPoolExecutor(cores()) as pool:
            values = np.concatenate(list(pool.map(self._part, parts, repeat(spacing_mm))))
        low, high = np.array([measurement.holds for measurement in self.measurements]).T
        return np.where((values < low) | (values > high), np.nan, values)

    def _part(self, images: np.ndarray, spacing_mm: float) -> np.ndarray:
        if self.function is None:
            return np.stack([measurement.of(images, spacing_mm) for measurement in self.measurements], axis=1)
        values = np.asarray(self.function(images, spacing_mm), np.float64)
        if values.shape != (len(images), len(self)):
            expected = f"expected {[len(images), len(self)]}: of {', '.join(self.names)}"
            raise UserError(f"its function gave values of shape {list(values.shape)}, {expected}")
        return values


def joined(sets: Iterable[MeasurementSet]) -> MeasurementSet:
    """Several sets as one, their measurements in order. Raises UserError where two have a name in common."""
    parts = [part for part in sets if len(part)]
    if len(parts) == 1:
        return parts[0]

    def function(images: np.ndarray, spacing_mm: float) -> np.ndarray:
        return np.concatenate([part._part(images, spacing_mm) for part in parts], axis=1)

    return MeasurementSet([m for part in parts for m in part.measurements], function)
