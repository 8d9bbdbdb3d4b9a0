"""Copies of training images are caught, new images of the same kind are not."""

import numpy as np
import pytest
from scipy import ndimage

from medlat.core.statistics import Interval
from medlat.data.source import Slice
from medlat.evaluation.copying import Copying, copying, nearness, warning, whitening
from medlat.measure.ct import measure
from medlat.phantoms.ct.source import CTPhantom


def slices(patients: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Slices [N, 32, 32] in HU, and whose each is."""
    source = CTPhantom(patients, each, 32, seed=seed)
    chunks = source.scan(lambda function, items, _: map(function, items)).chunks
    images = [one.pixels for chunk in chunks for one in source.read(chunk) if isinstance(one, Slice)]
    return np.stack(images), np.repeat(np.arange(patients), each)


def pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 16, 2, 16, 2).mean((2, 4)).reshape(len(images), -1)


@pytest.fixture(scope="module")
def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"train": slices(10, 4, 1), "held out": slices(60, 4, 2), "new": slices(100, 2, 3)}


def measured(images: np.ndarray) -> np.ndarray:
    return measure(images, 12.5)


def both_spaces(data, samples: np.ndarray) -> dict:
    """What is found in pixels and in whitened measurements."""
    (train, patients), (held_out, groups) = data["train"], data["held out"]
    found = {"pixels": copying(pixels(samples), pixels(held_out), groups, pixels(train), patients)}
    middle = np.nanmedian(measured(train), axis=0)
    parts = [np.where(np.isfinite(m), m, middle) for m in map(measured, (samples, held_out, train))]
    centre, matrix = whitening(parts[2])
    ours, theirs, learnt = ((part - centre) @ matrix for part in parts)
    return found | {"measurements": copying(ours, theirs, groups, learnt, patients)}


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_a_generator_that_returns_its_forty_training_images_is_caught(data, noise: float):
    train = data["train"][0]
    rng = np.random.default_rng(0)
    samples = train[rng.integers(0, len(train), 200)] + rng.normal(0, noise, (200, 32, 32))
    for name, found in both_spaces(data, samples).items():
        assert found.copies, name
        assert found.share.value > 0.7, name
        assert found.closer > 0.9, name
        assert found.held_out.value < 0.05, name


def test_one_that_draws_new_slices_is_not(data):
    for name, found in both_spaces(data, data["new"][0]).items():
        assert not found.copies, name
        assert found.share.value < 0.05, name
        assert found.closer == pytest.approx(0.5, abs=0.08), name


def test_one_that_draws_blurred_new_slices_is_not(data):
    """Blurred images are nearer to all others: that is no copying."""
    blurred = ndimage.gaussian_filter(data["new"][0], (0, 1.5, 1.5))
    for name, found in both_spaces(data, blurred).items():
        assert not found.copies, name


def test_a_tenth_of_copies_is_seen(data):
    samples = np.concatenate([data["new"][0][:180], data["train"][0][:20]])
    found = both_spaces(data, samples)["pixels"]
    assert found.copies
    assert found.share.value == pytest.approx(0.1, abs=0.03)
    assert found.share.low > found.held_out.high


def test_nearness_by_hand():
    train, patients = np.array([[0.0], [1.0], [10.0]]), np.array([0, 0, 1])
    found = nearness(np.array([[0.0], [2.0], [6.0], [10.0], [5.5]]), train, patients)
    np.testing.assert_allclose(found, [0.0, 1 / 8, 4 / 5, 0.0, 1.0])
    assert nearness(np.array([[1.0]]), np.array([[1.0], [1.0]]), np.array([0, 1]))[0] == 1.0  # two patients, one image


def test_what_cannot_be_told_is_none():
    one = np.zeros((4, 2))
    assert copying(one, one, np.arange(4), one, np.zeros(4)) is None
    assert copying(one[:0], one, np.arange(4), one, np.arange(4)) is None


def test_few_held_out_patients_prove_little():
    """None of three patients is alike, and still one in three could be: the bound is wide."""
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(50, 8)), rng.normal(size=(3, 8))
    found = copying(
        np.concatenate([train[:10], rng.normal(size=(30, 8))]), held_out, np.arange(3), train, np.arange(50)
    )
    assert found is not None
    assert found.share.value == pytest.approx(0.25)
    assert (found.held_out.value, found.held_out.high) == (0.0, 1.0)
    assert not found.copies


def test_whitened_measurements_have_no_correlation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3))
    x = np.column_stack([x, x[:, 0] + x[:, 1]])  # said twice
    centre, matrix = whitening(x)
    assert matrix.shape == (4, 3)
    np.testing.assert_allclose(np.cov((x - centre) @ matrix, rowvar=False, ddof=0), np.eye(3), atol=1e-9)


def test_a_generator_that_copies_is_said_with_its_numbers():
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(50, 8)), rng.normal(size=(60, 8))
    found = copying(train[:40], held_out, np.arange(60), train, np.arange(50))
    assert found is not None
    said = warning(found.numbers("pixels"), "tile")
    assert said is not None
    assert "100% [100%, 100%] of its samples are one training tile (told by pixels; of held-out tiles 0%" in said
    fair = copying(rng.normal(size=(40, 8)), held_out, np.arange(60), train, np.arange(50))
    assert fair is not None
    assert warning(fair.numbers("pixels"), "tile") is None
    assert warning({}, "tile") is None


def test_what_measurements_tell_is_said_where_pixels_do_not():
    fair = Copying(Interval(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.1), 0.5).numbers("pixels")
    found = Copying(Interval(0.4, 0.3, 0.5), Interval(0.01, 0.0, 0.1), 0.8).numbers("measurements")
    said = warning(fair | found, "slice")
    assert said is not None
    assert "40% [30%, 50%] of its samples are one training slice (told by measurements; of held-out slices 1%" in said
