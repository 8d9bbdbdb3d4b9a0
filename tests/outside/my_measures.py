"""What a user measures on brain MR."""

import numpy as np

from medlat.measure.measurement import Measurement, MeasurementSet


def brain_area(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    return (images > 0.7).sum((1, 2)) * spacing_mm**2 / 100


def ventricle_area(images: np.ndarray, spacing_mm: float) -> np.ndarray:
    middle = images[:, 8:24, 8:24]
    return ((middle > 0.1) & (middle < 0.6)).sum((1, 2)) * spacing_mm**2 / 100


def brain(largest_cm2: float = 400.0) -> MeasurementSet:
    return MeasurementSet(
        [
            Measurement("brain_area", "cm²", "brighter than 0.7", function=brain_area, holds=(1.0, largest_cm2)),
            Measurement("ventricle_area", "cm²", "dark in the middle", function=ventricle_area),
        ],
        unit="a.u.",
    )


def failing() -> MeasurementSet:
    return MeasurementSet([Measurement("sum", "1", function=lambda images, mm: images.sum(7))])


def of_another_shape() -> MeasurementSet:
    return MeasurementSet([Measurement("sum", "1", function=lambda images, mm: images.sum())])


def no_set() -> str:
    return "brain"
