"""Every score of a counterfactual: perfect, useless, degenerate, in closed form."""

import numpy as np
import pytest
import torch

from medlat.explain import scores

STEPS = [-4.0, -2.0, 0.0, 2.0, 4.0]


def test_an_image_flips_where_its_line_crosses_the_threshold():
    """Of values x + step the threshold 0 is crossed at a step of -x, in the asked sense alone."""
    x = np.array([-1.0, 3.0, -9.0, 0.0, 1.5])
    found = scores.first_flip(x[:, None] + np.array(STEPS), STEPS, 0.0)
    assert found.tolist() == [1.0, 3.0, np.inf, 0.0, 1.5]
    assert scores.first_flip(x[:, None] - np.array(STEPS), STEPS, 0.0).tolist() == [np.inf] * 3 + [np.inf, np.inf]
    back = scores.first_flip(np.array([[9.0, 9.0, -1.0, 1.0, -1.0]]), STEPS, 0.0)
    assert back.tolist() == [1.0], "the first time counts"


def test_the_area_is_that_of_the_curve_of_flips():
    flips = np.array([0.0, 1.0, 2.0, 4.0, np.inf])
    inside, area = scores.flips_within(flips, 2.0)
    assert inside.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert area.tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]
    rng = np.random.default_rng(0)
    many, shares = rng.uniform(0.0, 3.0, 2000), np.linspace(0.0, 1.0, 1001)
    curve = [(many <= 2.0 * share).mean() for share in shares]
    assert scores.flips_within(many, 2.0)[1].mean() == pytest.approx(np.trapezoid(curve, shares), abs=1e-3)
    assert scores.flips_within(many, 2.0)[1].mean() == pytest.approx(1.0 / 3.0, abs=0.02), "∫ 2s/3 ds"
    assert [x.sum() for x in scores.flips_within(flips, 0.0)] == [0.0, 0.0], "no range, no flips"


def first_pixel(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0, 0, 0]


def half(pixel: float) -> torch.Tensor:
    """[1, 1, 4, 5], 0.1 everywhere but in the first pixel."""
    images = torch.full((1, 1, 4, 5), 0.1)
    images[0, 0, 0, 0] = pixel
    return images


def test_cout_of_a_pixel_that_decides_of_even_growth_and_of_what_never_goes_over():
    before, rising = torch.zeros(1, 1, 4, 5), np.array([True])
    decides = scores.cout(before, half(1.0), rising, first_pixel, parts=20)
    assert decides.tolist() == pytest.approx([1.0 - 1.0 / 20]), "it is replaced in the first of 20 parts"
    even = scores.cout(before, torch.ones(1, 1, 4, 5), rising, lambda x: x.mean((1, 2, 3)), parts=10)
    assert even.tolist() == pytest.approx([0.0], abs=1e-7)
    last = scores.cout(before, half(0.01), rising, lambda x: (x[:, 0, 0, 0] > 0).float(), parts=20)
    assert last.tolist() == pytest.approx([-1.0 + 1.0 / 20]), "the pixel that decides changes least"
    never = scores.cout(before, half(1.0), rising, lambda x: torch.zeros(len(x)))
    assert never.tolist() == [-1.0]
    falls = scores.cout(before, half(1.0), ~rising, lambda x: 1.0 - x[:, 0, 0, 0], parts=20)
    assert falls.tolist() == pytest.approx(decides.tolist()), "downwards as upwards"


def test_minimality_is_least_between_the_own_side_and_the_other():
    real = np.array([[0.0], [0.1], [0.2], [5.0], [6.0]])
    upper = np.array([False, False, False, True, True])
    start = np.zeros((4, 1))
    moved = np.array([[1.0], [0.0], [9.0], [np.nan]])
    found = scores.minimality(start, moved, np.zeros(4, dtype=bool), real, upper)
    assert found[0] == pytest.approx(0.0), "beyond all of its own, nearer than all others"
    assert found[1] == pytest.approx(np.log(0.8 + 0.2 * np.e)), "nothing changed"
    assert found[2] == pytest.approx(np.log(0.8 * np.e + 0.2)), "farther than all"
    assert np.isnan(found[3])
    assert np.isnan(scores.minimality(start, moved, np.zeros(4, dtype=bool), real, np.ones(5, dtype=bool))).all()


def test_correlation_difference_of_counterfactuals_that_change_what_goes_along_and_of_others():
    flips = np.array([1.0, 1.0, -1.0, -1.0])
    along, against, never = flips, -flips, np.zeros(4)
    apart = np.array([1.0, -1.0, 1.0, -1.0])
    real = np.array([1.0, 0.0])
    for changes, expected in (
        ((along, apart), 0.0),
        ((along, never), 0.0),
        ((never, along), 2.0),
        ((against, along), 3.0),
    ):
        found = scores.correlation_difference(flips, np.stack(changes, axis=1), real)
        assert found == pytest.approx(expected)
    assert scores.correlation_difference(np.ones(4), np.stack([along, apart], axis=1), real) == 1.0, "all the same way"
    rng = np.random.default_rng(0)
    query, others = rng.normal(size=50), rng.normal(size=(50, 3))
    expected = [np.corrcoef(query, column)[0, 1] for column in others.T]
    np.testing.assert_allclose(scores.correlations_with(query, others), expected, atol=1e-12)


def test_feature_distance_is_one_for_two_real_images():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 5))
    unit = scores.unit_distance(real, seed=0)
    assert scores.feature_distance(real, real, unit).max() == 0.0
    other = scores.feature_distance(real[:200], real[200:], unit)
    assert other.mean() == pytest.approx(1.0, abs=0.06)
    moved = real + np.array([unit, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(scores.feature_distance(real, moved, unit), 1.0)
    assert np.isnan(scores.unit_distance(real[:1], 0))
    assert np.isnan(scores.unit_distance(np.ones((9, 2)), 0)), "all the same"


def test_diversity_is_over_pairs_that_were_reached():
    at = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    one, two = at + np.array([3.0, 0.0]), at + np.array([0.0, 4.0])
    one[1], one[2], two[2] = np.nan, np.nan, np.nan
    found = scores.diversity([at, one, two], unit=2.0)
    assert found[:2].tolist() == pytest.approx([(3.0 + 4.0 + 5.0) / 3.0 / 2.0, 4.0 / 2.0])
    assert np.isnan(found[2]), "one is not several"
    assert scores.diversity([at, at], 2.0).tolist() == [0.0] * 3, "the same twice"
    assert np.isnan(scores.diversity([at], 2.0)).all()


def test_real_images_are_as_real_as_each_other():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 4))
    assert scores.realism(rng.normal(size=(500, 4)), real).mean() == pytest.approx(1.0, abs=0.08)
    assert scores.realism(rng.normal(size=(50, 4)) + 10.0, real).mean() > 5.0
    assert np.isnan(scores.realism(real[:3], real[:5])).all()
    gone = np.full((2, 4), np.nan)
    middle = np.tile(np.median(real, axis=0), (2, 1))
    np.testing.assert_allclose(scores.realism(gone, real), scores.realism(middle, real))


def test_measurements_that_have_nothing_to_do_with_it():
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=300)
    measured = np.stack([predictions**3, rng.normal(size=300), np.ones(300), np.full(300, np.nan)], axis=1)
    assert scores.unrelated(measured, predictions).tolist() == [False, True, False, False]


def test_identity_and_sparsity():
    before = np.array([[0.0, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    after = np.array([[1.0, 1.0], [2.5, 3.0], [0.0, 0.0]])
    found = scores.identity(before, after)
    assert found[:2].tolist() == [0.5, 0.5]
    assert np.isnan(found[2])
    images = np.zeros((2, 1, 4, 4))
    changed = images.copy()
    changed[1, 0, :2] = 0.5
    changed[0, 0, 0, 0] = 0.039  # just under 2% of a range of 2
    assert scores.sparsity(images, changed).tolist() == [1.0, 0.5]


def test_another_that_is_the_classifier_goes_along_and_one_that_is_constant_does_not():
    before, after = np.array([0.2, 0.9, 0.4, 0.5]), np.array([0.8, 0.1, 0.3, 0.51])
    rising = before <= 0.5
    np.testing.assert_array_equal(scores.crossed(before, after, rising, 0.5), [1, 1, 0, 1])
    for constant in (np.zeros(4), np.ones(4)):
        assert not scores.crossed(constant, constant, rising, 0.5).any()
    assert not scores.crossed(after, before, rising, 0.5).any()  # the other way
