"""Measurements of greyscale images against closed forms, and on images that have nothing to measure."""

import warnings

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.measure.grey import MEASUREMENTS, NAMES, measure


def one(image: np.ndarray, spacing_mm: float = 1.0) -> dict[str, float]:
    return dict(zip(NAMES, measure(image[None], spacing_mm)[0].tolist(), strict=True))


def bar(left: int, right: int, top: int = 0, bottom: int = 40, level: float = 200.0) -> np.ndarray:
    image = np.zeros((40, 60))
    image[top:bottom, left:right] = level
    return image


def test_bar_has_its_place_width_and_levels():
    found = one(bar(10, 30, 6, 26), 0.5)
    share = 20 * 20 / (40 * 60)
    assert found["brightness"] == pytest.approx(200 * share)
    assert found["contrast"] == pytest.approx(200 * np.sqrt(share * (1 - share)))
    assert found["x_position"] == pytest.approx(-10 * 0.5)
    assert found["y_position"] == pytest.approx(-4 * 0.5)
    assert found["width"] == pytest.approx(0.5 * np.sqrt(20**2 - 1))


def test_background_does_not_move_the_centroid():
    assert one(bar(10, 30) + 50)["x_position"] == pytest.approx(one(bar(10, 30))["x_position"])


def test_ramp_has_the_sharpness_of_its_slope():
    ramp = np.tile(np.arange(41.0) * 5, (30, 1))
    found = one(ramp, 2.0)
    assert found["sharpness"] == pytest.approx(5 / (5 * np.sqrt((41**2 - 1) / 12)) / 2.0)
    assert found["symmetry"] == pytest.approx(-1.0)
    assert one(ramp / 3, 2.0)["sharpness"] == pytest.approx(found["sharpness"])  # contrast does not matter


def test_blur_lowers_sharpness():
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).uniform(0, 255, (64, 64))
    assert one(gaussian_filter(noise, 1.5))["sharpness"] < 0.7 * one(noise)["sharpness"]


def test_symmetry_is_one_in_a_mirror_and_none_in_noise():
    assert one(bar(20, 40))["symmetry"] == pytest.approx(1.0)
    assert abs(one(np.random.default_rng(0).uniform(0, 255, (128, 128)))["symmetry"]) < 0.03


def test_mirror_turns_the_sign_of_x_alone():
    image = np.random.default_rng(1).uniform(0, 255, (20, 30)) + bar(3, 9)[:20, :30] * 0.2
    found, mirrored = one(image), one(image[:, ::-1])
    assert mirrored.pop("x_position") == pytest.approx(-found.pop("x_position"))
    assert mirrored == pytest.approx(found)


@pytest.mark.parametrize("level", [0.0, 90.0, 255.0, np.nan, np.inf])
def test_blank_images_have_brightness_and_contrast_alone(level: float):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(np.full((2, 16, 16), level), 1.0)
    expected = 255.0 if level == np.inf else np.nan_to_num(level)
    np.testing.assert_allclose(found[:, 0], expected)
    np.testing.assert_allclose(found[:, 1], 0.0)
    assert np.isnan(found[:, 2:]).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 64)])
def test_any_size_of_image_is_answered(height: int, width: int):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise = np.random.default_rng(0).uniform(0, 255, (3, height, width))
        assert measure(noise, 1.0).shape == (3, len(MEASUREMENTS))
        assert measure(noise[:0], 1.0).shape == (0, len(MEASUREMENTS))


@pytest.mark.parametrize(
    ("images", "spacing", "message"),
    [(np.zeros((64, 64)), 1.0, r"\[64, 64\], expected \[N, H, W\]"), (np.zeros((1, 8, 8)), -1.0, "spacing_mm: -1.0")],
)
def test_bad_arguments(images: np.ndarray, spacing: float, message: str):
    with pytest.raises(UserError, match=message):
        measure(images, spacing)
