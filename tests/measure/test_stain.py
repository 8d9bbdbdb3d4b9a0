"""The colours and strengths of two stains come back from images drawn with them."""

import warnings

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.core.stains import EOSIN, HAEMATOXYLIN
from medlat.measure.colour import hue
from medlat.measure.stain import NAMES, measure

RUIFROK = np.array([HAEMATOXYLIN, EOSIN])
BLUER = np.array([(0.75, 0.55, 0.2), (0.15, 0.85, 0.35)])  # another laboratory's


def drawn(vectors: np.ndarray, strength: tuple[float, float] = (0.8, 0.4), seed: int = 0) -> np.ndarray:
    """A tile [64, 64, 3]: a third of pixels has either stain alone, a third both, with other amounts in each."""
    rng = np.random.default_rng(seed)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    amount = rng.uniform(0.5, 1.0, (64 * 64, 2)) * strength
    kind = rng.integers(0, 3, 64 * 64)
    amount[kind == 0, 1] = 0.0
    amount[kind == 1, 0] = 0.0
    light = 255.0 * 10.0 ** -(amount @ unit)
    return light.reshape(64, 64, 3)


def one(image: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, measure(image[None], 0.001)[0].tolist(), strict=True))


def hues(vectors: np.ndarray) -> np.ndarray:
    return hue(255.0 * 10.0 ** -(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))


@pytest.mark.parametrize("vectors", [RUIFROK, BLUER])
@pytest.mark.parametrize("strength", [(0.8, 0.4), (0.5, 0.6)])
def test_colours_and_strengths_of_both_stains_come_back(vectors: np.ndarray, strength: tuple[float, float]):
    found, expected = one(drawn(vectors, strength)), hues(vectors)
    assert found["haematoxylin_hue"] == pytest.approx(expected[0], abs=1.0)
    assert found["eosin_hue"] == pytest.approx(expected[1], abs=1.0)
    assert found["haematoxylin_strength"] == pytest.approx(strength[0], rel=0.03)
    assert found["eosin_strength"] == pytest.approx(strength[1], rel=0.03)


def test_hues_of_the_published_vectors():
    np.testing.assert_allclose(hues(RUIFROK), [-55.8, 4.3], atol=0.1)


def test_noise_moves_them_little():
    tile = drawn(RUIFROK) + np.random.default_rng(1).normal(0, 2.0, (64, 64, 3))
    plain, noisy = one(drawn(RUIFROK)), one(tile)
    for name in ("haematoxylin_hue", "eosin_hue"):
        assert noisy[name] == pytest.approx(plain[name], abs=4.0)


def test_twice_the_density_is_twice_the_strength_and_the_same_hue():
    plain = one(drawn(RUIFROK, (0.5, 0.3)))
    double = one(drawn(RUIFROK, (1.0, 0.6)))
    assert double["haematoxylin_strength"] == pytest.approx(2 * plain["haematoxylin_strength"], rel=0.02)
    assert double["haematoxylin_hue"] == pytest.approx(plain["haematoxylin_hue"], abs=1.0)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(drawn(np.stack([RUIFROK[1]] * 2)), id="eosin alone"),
        pytest.param(np.full((64, 64, 3), 250.0), id="glass"),
        pytest.param(np.full((64, 64, 3), 90.0), id="grey"),
        pytest.param(np.zeros((64, 64, 3)), id="black"),
        pytest.param(np.full((64, 64, 3), np.nan), id="not finite"),
        pytest.param(np.zeros((1, 1, 3)), id="one pixel"),
    ],
)
def test_one_stain_or_none_is_absent(image: np.ndarray):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(measure(image[None], 0.001)).all()


def test_no_images_and_other_shapes():
    assert measure(np.zeros((0, 8, 8, 3)), 0.001).shape == (0, 4)
    with pytest.raises(UserError, match=r"\[8, 8, 3\], expected \[N, H, W, 3\]"):
        measure(np.zeros((8, 8, 3)), 0.001)
