"""Measurements of colour against closed forms."""

import warnings

import numpy as np
import pytest

from medlat.core.errors import ArgumentError, UserError
from medlat.measure.colour import NAMES, colour, measure
from medlat.phantoms.histology.source import render


def one(image: np.ndarray, reference: float = 300.0) -> dict[str, float]:
    return dict(zip(NAMES, measure(image[None], 1.0, reference)[0].tolist(), strict=True))


def turned(images: np.ndarray, degrees: float) -> np.ndarray:
    """Every colour turned about the grey axis (Rodrigues)."""
    axis = np.full(3, 3**-0.5)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return images @ rotation.T


def tile(seed: int = 0) -> np.ndarray:
    """A tile away from black and white, so that no turn is clipped."""
    return 90.0 + 0.3 * render({}, 64, 2.0, seed).rgb.astype(np.float64)


@pytest.mark.parametrize(
    ("rgb", "hue"),
    [((200, 50, 50), 60.0), ((200, 50, 200), 0.0), ((50, 50, 200), -60.0), ((200, 200, 50), 120.0)],
)
def test_hue_of_plain_colours_from_magenta(rgb: tuple, hue: float):
    found = one(np.broadcast_to(np.array(rgb, float), (8, 8, 3)))
    assert found["hue"] == pytest.approx(hue)
    assert found["saturation"] == pytest.approx(0.75)
    assert found["brightness"] == pytest.approx(sum(rgb) / 3)


@pytest.mark.parametrize("degrees", [-100.0, -30.0, -3.0, 3.0, 45.0, 100.0])
def test_a_turn_of_all_hues_comes_back_in_degrees(degrees: float):
    plain, changed = one(tile()), one(turned(tile(), degrees))
    assert changed["hue"] - plain["hue"] == pytest.approx(degrees, abs=1e-3)
    assert changed["brightness"] == pytest.approx(plain["brightness"], abs=1e-3)


def test_exposure_leaves_hue_and_saturation_and_a_veil_leaves_hue():
    plain, darker, veiled = one(tile()), one(0.6 * tile()), one(tile() + 40.0)
    assert darker["hue"] == pytest.approx(plain["hue"], abs=1e-3)
    assert veiled["hue"] == pytest.approx(plain["hue"], abs=1e-3)
    assert darker["saturation"] == pytest.approx(plain["saturation"], abs=1e-6)
    assert veiled["saturation"] < plain["saturation"]
    assert darker["brightness"] == pytest.approx(0.6 * plain["brightness"])
    assert veiled["brightness"] == pytest.approx(plain["brightness"] + 40.0)


@pytest.mark.parametrize("level", [0.0, 120.0, 255.0])
def test_grey_has_no_hue(level: float):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = one(np.full((4, 4, 3), level))
    assert np.isnan(found["hue"])
    assert found["saturation"] == 0.0
    assert found["brightness"] == level


def test_hues_near_the_jump_are_absent_and_the_reference_moves_it():
    green = np.broadcast_to(np.array([60.0, 200.0, 50.0]), (1, 8, 8, 3))
    assert np.isnan(colour().measure(green, 1.0)[0, 0])
    assert colour(reference=120.0).measure(green, 1.0)[0, 0] == pytest.approx(-3.418, abs=0.001)  # a little towards red
    with pytest.raises(ArgumentError, match=r"reference: 360\.0, expected degrees of hue"):
        colour(reference=360.0)


def test_odd_images_are_answered_and_other_shapes_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure(np.full((2, 1, 1, 3), np.nan), 1.0)[:, 2].tolist() == [255.0, 255.0]
        assert measure(np.zeros((0, 4, 4, 3)), 1.0).shape == (0, 3)
    with pytest.raises(UserError, match=r"\[2, 4, 4\], expected \[N, H, W, 3\]"):
        measure(np.zeros((2, 4, 4)), 1.0)
