"""Sets of measurements: what they are made for, what they take together, and the range where a measurement holds."""

import math

import numpy as np
import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import ImageSpec
from medlat.data.modality import CT, GREY, HISTOLOGY
from medlat.measure import ct, histology
from medlat.measure import grey as grey_levels
from medlat.measure import knee as knees
from medlat.measure.ct import chest_ct
from medlat.measure.grey import grey
from medlat.measure.histology import he_tile
from medlat.measure.knee import knee
from medlat.measure.measurement import Measurement, MeasurementSet, joined
from medlat.phantoms.histology.source import render


def mean(images, spacing_mm):
    return images.mean((1, 2))


def bright(images, spacing_mm):
    return (images > 0.5).sum((1, 2)) * spacing_mm**2


MEAN = Measurement("mean", "a.u.", "of all pixels", function=mean, holds=(0.0, 0.6))
AREA = Measurement("area", "mm²", function=bright)
IMAGES = np.stack([np.full((4, 4), value) for value in (0.25, 0.55, 0.75)])


@pytest.mark.parametrize(
    ("found", "module", "modality"),
    [(chest_ct(), ct, CT), (he_tile(), histology, HISTOLOGY), (grey(GREY), grey_levels, GREY), (knee(), knees, GREY)],
)
def test_sets_of_medlat(found, module, modality):
    assert found.names == list(module.NAMES)
    assert len(set(found.names)) == len(found)
    found.check(modality)
    noise = np.random.default_rng(0).uniform(modality.low, modality.high, (3, 16, 16, 3)[: 3 + modality.colour])
    np.testing.assert_array_equal(found.measure(noise, 2.0), module.measure(noise, 2.0))
    few = found.only([found.names[4], found.names[1]])
    assert few.names == [found.names[1], found.names[4]]
    np.testing.assert_array_equal(few.measure(noise, 2.0), module.measure(noise, 2.0)[:, [1, 4]])


@pytest.mark.parametrize("count", [0, 31, 70])
def test_many_threads_measure_what_one_does(count: int):
    images = np.stack([render({}, 32, mpp=2.0, seed=seed).rgb for seed in range(70)])[:count]
    np.testing.assert_array_equal(he_tile().measure(images, 0.002), histology.measure(images, 0.002))


@pytest.mark.parametrize(
    ("found", "modality", "words"),
    [
        (chest_ct(), HISTOLOGY, "made for images in HU, those of H&E histology are in RGB"),
        (he_tile(), CT, "made for images in RGB, those of chest CT are in HU"),
        (knee(), HISTOLOGY, "made for images of 1 channel, those of H&E histology have 3"),
        (grey(CT), HISTOLOGY, "made for images of 1 channel, those of H&E histology have 3"),
    ],
)
def test_images_that_a_set_is_not_made_for(found, modality, words):
    with pytest.raises(UserError, match=words):
        found.check(modality)


def test_grey_levels_of_another_unit_are_those_of_the_display_window():
    levels = np.random.default_rng(0).uniform(0.0, 255.0, (2, 8, 8))
    hu = -1000.0 + levels * 1500.0 / 255.0  # what figures show as these levels
    np.testing.assert_allclose(grey(CT).measure(hu, 2.0), grey_levels.measure(levels, 2.0), rtol=1e-9, atol=1e-9)


def test_each_by_its_own_function_and_not_outside_the_range_where_it_holds():
    values = MeasurementSet([MEAN, AREA]).measure(IMAGES, 2.0)
    np.testing.assert_allclose(values, [[0.25, 0.0], [0.55, 64.0], [math.nan, 64.0]])
    assert MeasurementSet([MEAN, AREA]).measure(IMAGES[:0], 2.0).shape == (0, 2)
    spec = ImageSpec(1, 4, 4, 0.0, 1.0, "a.u.", 0.5)
    images = torch.full((1, 1, 4, 4), 0.1)
    np.testing.assert_allclose(MeasurementSet([MEAN, AREA]).of(images, spec), [[0.55, 4.0]], rtol=1e-6)


def test_several_sets_are_one():
    both = joined([MeasurementSet([MEAN]), MeasurementSet([]), chest_ct(["body_area", "lung_hu"])])
    assert both.names == ["mean", "body_area", "lung_hu"]
    assert both.measure(IMAGES, 2.0)[:, 0].tolist()[:2] == [0.25, 0.55]
    assert both.measurements[1].factor == "body_size"
    assert joined([chest_ct()]).names == chest_ct().names
    nothing = joined([])
    assert (len(nothing), nothing.names, nothing.measure(IMAGES, 1.0).shape) == (0, [], (3, 0))


def test_names_are_unique():
    with pytest.raises(UserError, match=r"^x_position, y_position: more than one measurement has this name"):
        joined([chest_ct(), grey(CT)])
    assert len(joined([chest_ct(), grey(CT, only=["brightness", "sharpness"])])) == 14


def failing(images, spacing_mm):
    return images.mean(7)


def scalar(images, spacing_mm):
    return 3.0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: MeasurementSet([Measurement("m", "1", function=failing)]).measure(IMAGES, 1.0), "m: AxisError: "),
        (
            lambda: MeasurementSet([Measurement("m", "1", function=scalar)]).measure(IMAGES, 1.0),
            r"measurement m: it gave values of shape \[\] for 3 images, expected one an image",
        ),
        (
            lambda: MeasurementSet([MEAN], function=scalar).measure(IMAGES, 1.0),
            r"its function gave values of shape \[\], expected \[3, 1\]: of mean",
        ),
        (lambda: MeasurementSet([Measurement("m", "1")]), "m: no function, and none of the whole set"),
        (lambda: MeasurementSet([MEAN, MEAN]), "mean: more than one measurement has this name"),
        (lambda: Measurement("", "1"), "name: empty"),
        (lambda: Measurement("m", "1", holds=(1.0, 1.0)), r"m: holds=\[1.0, 1.0\], expected two rising numbers"),
        (lambda: chest_ct(["lung_fractoin"]), r"no measurement 'lung_fractoin'; did you mean 'lung_fraction'\?"),
    ],
)
def test_wrong_measurements(wrong, words):
    with pytest.raises(UserError, match=words):
        wrong()
