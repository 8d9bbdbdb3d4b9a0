"""Measurements of texture against drawn edges, white noise and spectra of known slope."""

import warnings

import numpy as np
import pytest
from scipy import ndimage

from medlat.core.errors import UserError
from medlat.data.modality import CT, HISTOLOGY
from medlat.measure.texture import measure, texture

NAMES = texture(CT).names


def columns(images: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(NAMES, measure(images, 1.0).T, strict=True))


def discs(blur: float, count: int = 8, size: int = 64, fine: int = 8) -> np.ndarray:
    """Four discs an image, each 60 levels higher, blurred by so many pixels; drawn finer and averaged."""
    y, x = np.mgrid[: size * fine, : size * fine] / fine
    images = []
    for seed in range(count):
        rng, image = np.random.default_rng(seed), np.zeros((size * fine,) * 2)
        for _ in range(4):
            image += 60.0 * (np.hypot(x - rng.uniform(12, 52), y - rng.uniform(12, 52)) < rng.uniform(8, 16))
        images.append(ndimage.gaussian_filter(image, blur * fine).reshape(size, fine, size, fine).mean((1, 3)))
    return np.stack(images)


def power_law(slope: float, count: int = 40, size: int = 128) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    frequency[0, 0] = 1.0
    white = np.random.default_rng(0).normal(size=(count, size, size))
    return 1e3 * np.fft.ifft2(np.fft.fft2(white) * frequency ** (-slope / 2)).real


def smooth(count: int = 20) -> np.ndarray:
    return 128.0 + ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 400, (count, 64, 64)), (0, 4, 4))


def test_blur_of_drawn_edges_comes_back_in_pixels():
    blurs = [0.5, 0.7, 1.0, 1.5, 2.0, 3.0]
    found = [float(np.median(columns(discs(blur))["blur"])) for blur in blurs]
    assert found == pytest.approx([np.hypot(blur, 12**-0.5) for blur in blurs], rel=0.05)  # with a pixel's own width


def test_blur_is_read_through_noise():
    noisy = discs(1.0) + np.random.default_rng(0).normal(0, 3.0, (8, 64, 64))
    assert np.median(columns(noisy)["blur"]) == pytest.approx(1.04, rel=0.1)


def test_blur_outside_of_its_range_is_absent():
    assert np.isnan(columns(ndimage.gaussian_filter(discs(1.0), (0, 6, 6)))["blur"]).all()


@pytest.mark.parametrize("sigma", [3.0, 10.0, 30.0])
def test_noise_comes_back_whatever_lies_under_it(sigma: float):
    noisy = smooth() + np.random.default_rng(2).normal(0, sigma, (20, 64, 64))
    assert columns(noisy)["noise"].mean() == pytest.approx(sigma, rel=0.05)
    assert columns(np.round(noisy))["noise"].mean() == pytest.approx(sigma, rel=0.05)
    colour = noisy[..., None] + np.random.default_rng(3).normal(0, 1e-9, (20, 64, 64, 3))
    assert columns(colour)["noise"].mean() == pytest.approx(sigma, rel=0.05)


def test_noise_of_each_channel_and_not_of_their_mean():
    noisy = np.full((10, 64, 64, 3), 100.0) + np.random.default_rng(2).normal(0, 5.0, (10, 64, 64, 3))
    assert columns(noisy)["noise"].mean() == pytest.approx(5.0, rel=0.05)


def test_air_around_does_not_thin_the_noise():
    noisy = smooth() + np.random.default_rng(2).normal(0, 10.0, (20, 64, 64))
    noisy[:, :, :40] = -1000.0
    assert columns(noisy)["noise"].mean() == pytest.approx(10.0, rel=0.05)
    assert np.isnan(columns(np.full((1, 64, 64), -1000.0))["noise"]).all()


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0, 3.0])
def test_slope_of_a_power_law_comes_back(slope: float):
    assert columns(power_law(slope))["spectral_slope"].mean() == pytest.approx(slope, abs=0.1)


def test_local_contrast_of_waves_is_what_two_gaussians_leave_of_them():
    waves = 50.0 * np.sin(2 * np.pi * np.arange(96) / 6.0)[None, None, :] * np.ones((1, 96, 1))
    of_gaussian = [np.exp(-((2 * np.pi / 6.0 * sigma) ** 2) / 2) for sigma in (1.0, 3.0)]
    expected = 50.0 / 2**0.5 * (of_gaussian[0] - of_gaussian[1])
    assert columns(waves)["local_contrast"][0] == pytest.approx(expected, rel=0.05)


def test_gain_and_offset():
    images = discs(1.0) + np.random.default_rng(0).normal(0, 2.0, (8, 64, 64))
    plain, changed = columns(images), columns(3.0 * images - 500.0)
    for name, factor in {"blur": 1.0, "spectral_slope": 1.0, "noise": 3.0, "local_contrast": 3.0}.items():
        np.testing.assert_allclose(changed[name], factor * plain[name], rtol=1e-6, err_msg=name)


def test_units_are_those_of_the_images():
    assert [m.unit for m in texture(CT).measurements] == ["px", "HU", "HU", "1"]
    assert [m.unit for m in texture(HISTOLOGY).measurements] == ["px", "grey", "grey", "1"]
    assert texture(CT, only=["noise"]).names == ["noise"]


@pytest.mark.parametrize("shape", [(0, 64, 64), (2, 1, 1), (2, 7, 64), (2, 33, 20), (2, 33, 20, 3)])
@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_any_image_is_answered_without_warning(shape: tuple, value: float):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blank = measure(np.full(shape, value), 1.0)
        noise = measure(np.random.default_rng(0).uniform(0, 255, shape), 1.0)
    assert blank.shape == noise.shape == (shape[0], 4)
    assert np.isnan(blank[:, [0, 1, 3]]).all()


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match=r"\[64, 64\], expected \[N, H, W\] or \[N, H, W, 3\]"):
        measure(np.zeros((64, 64)), 1.0)
