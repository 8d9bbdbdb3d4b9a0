"""Every statistic in closed form: perfect, useless, constant, ties, one group, groups of unequal size, by hand."""

import math

import numpy as np
import pytest
from scipy.stats import sem
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score, r2_score, roc_auc_score

from medlat.core.statistics import (
    BOOTSTRAPS,
    auc,
    bootstrap,
    bootstrap_draws,
    bootstrap_means,
    cohen_kappa,
    crossed_mean,
    fleiss_kappa,
    grouped_mean,
    mean_auc,
    nan_mean,
    quadratic_kappa,
    r2,
    r2_of_each,
    ridge,
    ridge_with_intercept,
    spearman_of_rows,
    t_interval,
)

Z = 1.959964  # standard errors from the middle of a normal distribution to an end of its 95%


def mean_of(truth, predicted):
    return float(predicted.mean())


# --- scores ----------------------------------------------------------------------------------------------------------


def test_r2_by_hand():
    truth = np.arange(3.0)
    assert r2(truth, truth) == 1.0
    assert r2(truth, np.ones(3)) == 0.0
    assert r2(np.array([1.0, 2.0]), np.array([1.0, 3.0])) == -1.0
    assert math.isnan(r2(np.ones(3), truth)), "nothing varies"


def test_r2_takes_the_truth_first():
    truth, predicted = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0, 2.0])
    assert r2(truth, predicted) == pytest.approx(1.0 - 2.0 / 5.0)
    assert r2(predicted, truth) == pytest.approx(1.0 - 2.0 / 1.0)
    assert r2(truth, predicted) == pytest.approx(r2_score(truth, predicted))


def test_r2_of_each_keeps_names_and_order():
    truth = {"b": np.arange(3.0), "a": np.arange(3.0), "constant": np.ones(3)}
    found = r2_of_each(truth, np.stack([np.arange(3.0), np.ones(3), np.ones(3)], axis=1))
    assert list(found) == ["b", "a", "constant"]
    assert (found["b"], found["a"]) == (1.0, 0.0)
    assert math.isnan(found["constant"])
    with pytest.raises(AssertionError):
        r2_of_each(truth, np.zeros((3, 2)))


def test_auc_by_hand():
    assert auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    truth = np.array([False, True, True])
    assert auc(truth, np.array([0.0, 1.0, 2.0])) == 1.0
    assert auc(truth, np.array([2.0, 1.0, 0.0])) == 0.0
    assert auc(truth, np.ones(3)) == 0.5, "ties count half"
    assert auc(np.array([False, False, True]), np.array([1.0, 2.0, 2.0])) == 0.75, "a tie counts half"
    for one_class in (np.ones(3, bool), np.zeros(3, bool)):
        assert math.isnan(auc(one_class, np.arange(3.0)))


def test_scores_against_another_library():
    rng = np.random.default_rng(0)
    truth, scores = rng.uniform(size=200) < 0.3, rng.uniform(size=200).round(2)
    assert auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    grade, chosen = rng.integers(4, size=(2, 100))
    assert quadratic_kappa(grade, chosen, 4) == pytest.approx(cohen_kappa_score(grade, chosen, weights="quadratic"))


def test_mean_auc_is_over_the_classes_that_occur():
    truth = np.array([0, 1, 0, 1])
    assert mean_auc(truth, np.eye(3)[truth]) == 1.0
    assert mean_auc(truth, np.full((4, 3), 1 / 3)) == 0.5
    assert mean_auc(truth, np.eye(3)[1 - truth]) == 0.0
    assert math.isnan(mean_auc(np.zeros(4, int), np.eye(3)[truth]))


def test_quadratic_kappa_by_hand():
    grades = np.arange(30) % 3
    assert quadratic_kappa(grades, grades, 3) == 1.0
    assert quadratic_kappa(grades, 2 - grades, 3) == pytest.approx(-1.0)
    assert quadratic_kappa(grades, np.ones(30, int), 3) == 0.0
    assert math.isnan(quadratic_kappa(np.zeros(3, int), np.zeros(3, int), 2))


def test_cohens_kappa_by_hand():
    """Of 50 cases both said yes to 20 and no to 15: 0.7 alike, by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.5."""
    one = np.array(["yes"] * 25 + ["no"] * 25)
    other = np.array(["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15)
    assert cohen_kappa(one, other) == pytest.approx((0.7 - 0.5) / (1.0 - 0.5))
    assert cohen_kappa(one, one) == 1.0
    assert cohen_kappa(one, np.where(one == "yes", "no", "yes")) == pytest.approx(-1.0)
    assert cohen_kappa(one, np.full(50, "yes")) == 0.0
    assert math.isnan(cohen_kappa(one[:25], one[:25]))
    assert math.isnan(cohen_kappa(one[:0], one[:0]))
    words = np.random.default_rng(0).integers(0, 4, (2, 200))
    assert cohen_kappa(*words) == pytest.approx(cohen_kappa_score(*words))


def test_fleiss_kappa_by_hand():
    """Three readers, three cases: all alike, all alike, two against one. Seen (1 + 1 + 1/3) / 3 = 7/9, by chance
    (4/9)² + (5/9)² = 41/81.
    """
    said = np.array([["a", "a", "a"], ["b", "b", "b"], ["a", "b", "b"]])
    assert fleiss_kappa(said) == pytest.approx((7 / 9 - 41 / 81) / (1 - 41 / 81))
    assert fleiss_kappa(said[:2]) == 1.0
    assert math.isnan(fleiss_kappa(said[:1]))
    assert math.isnan(fleiss_kappa(said[:0]))
    assert fleiss_kappa(np.array([["a", "b"], ["b", "a"]])) == pytest.approx(-1.0)


def test_fleiss_kappa_of_many_readers():
    """Ten cases by fourteen readers with five answers: 0.210 (a worked example that is widely reproduced)."""
    counts = """0 0 0 0 14  0 2 6 4 2  0 0 3 5 6  0 3 9 2 0  2 2 8 1 1
                7 7 0 0 0  3 2 6 3 0  2 5 3 2 2  6 5 2 1 0  0 2 2 3 7"""
    table = np.array(counts.split(), int).reshape(10, 5)
    said = np.stack([np.repeat(np.arange(5), row) for row in table])
    assert fleiss_kappa(said) == pytest.approx(0.210, abs=5e-4)


def test_spearman_of_rows_is_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 30)), rng.normal(size=(4, 30))
    a[1], b[2] = np.exp(b[1]), -(a[2] ** 3)
    found = spearman_of_rows(a, b)
    np.testing.assert_allclose(found, [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)], atol=1e-12)
    assert found[1:3].tolist() == pytest.approx([1.0, -1.0])
    assert spearman_of_rows(np.ones((1, 5)), b[:1, :5]).tolist() == [0.0]


# --- ridge regression ------------------------------------------------------------------------------------------------


def test_ridge_by_hand():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    y = 3.0 * x[:, 0] - x[:, 1]
    assert ridge(x, y, 0.0) == pytest.approx([3.0, -1.0])
    assert ridge(x, y, 2.0) == pytest.approx([3.0 * 2 / 4, -8 / 10])  # a²/(a² + λ) of each
    assert ridge(x, y, np.array([0.0, 8.0])) == pytest.approx([3.0, -0.5]), "a penalty for each weight"
    both = ridge(x, np.stack([y, 2.0 * y], axis=1), 2.0)
    assert both[:, 1] == pytest.approx(2.0 * both[:, 0])
    assert ridge_with_intercept(x, y + 5.0, 2.0) == pytest.approx([1.5, -0.8, 5.0])


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_ridge_against_another_library(shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(2.0, 1.0, shape), rng.normal(size=shape[0])
    theirs = Ridge(alpha=3.0).fit(x, y)
    assert ridge_with_intercept(x, y, 3.0) == pytest.approx([*theirs.coef_, theirs.intercept_])
    assert ridge(x, y, 3.0) == pytest.approx(Ridge(alpha=3.0, fit_intercept=False).fit(x, y).coef_)
    assert ridge(x, y, np.full(shape[1], 3.0)) == pytest.approx(ridge(x, y, 3.0))


def test_ridge_of_a_constant_predicts_it():
    assert ridge_with_intercept(np.random.default_rng(0).normal(size=(9, 2)), np.full(9, 4.0), 1.0) == pytest.approx(
        [0.0, 0.0, 4.0]
    )


# --- intervals -------------------------------------------------------------------------------------------------------


def test_t_interval_by_hand():
    mean, low, high = t_interval([1.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - 12.7062, 2.0 + 12.7062), abs=1e-3)  # one degree of freedom
    assert t_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    one = t_interval([2.0])
    assert one.value == 2.0
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_draws_are_those_of_the_seed():
    draws = bootstrap_draws(5)
    assert draws.shape == (BOOTSTRAPS, 5)
    assert (draws.min(), draws.max()) == (0, 4)
    assert np.array_equal(draws, bootstrap_draws(5, 0))
    assert not np.array_equal(draws, bootstrap_draws(5, 1))


def test_bootstrap_of_means_against_the_standard_error():
    values = np.random.default_rng(0).normal(1.0, 2.0, (400, 1))
    mean, low, high = bootstrap_means(values)
    assert mean[0] == pytest.approx(values.mean())
    assert (high - low)[0] / 2 == pytest.approx(Z * sem(values)[0], rel=0.1)
    assert (high - low)[0] / 2 == pytest.approx(Z * 2.0 / 20.0, rel=0.1)
    assert low[0] < mean[0] < high[0]
    assert (high + low)[0] / 2 == pytest.approx(values.mean(), abs=0.1 * sem(values)[0])


def test_bootstrap_of_means_leaves_out_what_is_not_known():
    values = np.array([[1.0, np.nan, 7.0], [3.0, np.nan, np.nan], [2.0, np.nan, 7.0]])
    mean, low, high = bootstrap_means(values)
    assert mean == pytest.approx([2.0, np.nan, 7.0], nan_ok=True)
    assert low == pytest.approx([1.0, np.nan, 7.0], nan_ok=True)
    assert high == pytest.approx([3.0, np.nan, 7.0], nan_ok=True)
    assert nan_mean(values) == pytest.approx([2.0, np.nan, 7.0], nan_ok=True)


def test_means_and_intervals_are_over_groups():
    """Copies of a patient's image say no more than one."""
    values = np.random.default_rng(0).normal(size=400)
    mean, low, high = grouped_mean(values, np.arange(400))
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20.0, rel=0.1)
    copies = grouped_mean(np.repeat(values, 4), np.repeat(np.arange(400), 4))
    assert copies == pytest.approx((mean, low, high))


def test_what_is_not_known_is_left_out():
    values = np.tile([1.0, np.nan, 3.0], 20)
    mean, low, high = grouped_mean(values, np.arange(60))
    assert mean == 2.0
    assert low < 2.0 < high
    assert np.isnan(grouped_mean(np.full(3, np.nan), np.arange(3))).all()


def test_few_groups_have_no_interval():
    assert np.isfinite(grouped_mean(np.arange(20.0), np.arange(20)).low)
    for values, groups in ((np.arange(19.0), np.arange(19)), (np.arange(40.0), np.arange(40) // 4)):
        found = grouped_mean(values, groups)
        assert found.value == values.mean()
        assert np.isnan([found.low, found.high]).all()
        assert math.isnan(bootstrap(mean_of, values, values, groups).low)


def test_groups_of_unequal_size_count_by_their_values():
    """The mean is over images, and a draw's a ratio of sums."""
    sizes = np.random.default_rng(0).integers(1, 9, 300)
    groups = np.repeat(np.arange(300), sizes)
    values = np.random.default_rng(1).normal(size=300)[groups]
    mean, low, high = grouped_mean(values, groups)
    assert mean == values.mean()
    sums = np.bincount(groups, values - values.mean())
    error = math.sqrt(np.square(sums).sum()) / len(values)  # of a ratio (Cochran 1977, equation 6.13)
    assert (high - low) / 2 == pytest.approx(Z * error, rel=0.1)


def test_names_are_groups_too():
    names = np.array([f"patient {i // 2:02d}" for i in range(60)])
    assert grouped_mean(np.arange(60.0), names) == grouped_mean(np.arange(60.0), np.arange(60) // 2)


def test_crossed_mean_against_its_standard_error():
    """Of rows and columns that add up, the variance of the mean is that of the rows' mean and of the columns' mean."""
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(0.0, 0.5, 30), rng.normal(0.0, 1.0, 60)
    found = crossed_mean(rows[:, None] + columns, np.arange(60))
    half = Z * math.hypot(sem(rows, ddof=0), sem(columns, ddof=0))
    assert found.value == pytest.approx(rows.mean() + columns.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_crossed_mean_of_one_row_is_over_the_groups():
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=90), np.arange(90) // 3
    one, other = crossed_mean(values[None], groups), grouped_mean(values, groups)
    assert one.value == pytest.approx(other.value)
    assert (one.high - one.low) == pytest.approx(other.high - other.low, rel=0.1)
    assert crossed_mean(np.ones((3, 90)), groups) == (1.0, 1.0, 1.0)


def test_crossed_mean_leaves_out_what_is_not_known():
    values = np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, 1.0]])
    found = crossed_mean(values, np.arange(3))
    assert found.value == pytest.approx(2 / 3)
    assert math.isnan(found.low), "of two groups"
    assert all(map(math.isnan, crossed_mean(np.full((2, 30), np.nan), np.arange(30))))
    wide = np.where(np.arange(40) < 21, np.array([[0.0], [1.0]]), np.nan)
    assert not math.isnan(crossed_mean(wide, np.arange(40)).low)
    assert math.isnan(crossed_mean(wide[:, 2:], np.arange(38)).low), "19 groups have a value"


def test_bootstrap_of_any_score():
    """Of a mean it is `grouped_mean`, and the standard error's interval; of a perfect score it has no width."""
    values = np.random.default_rng(0).normal(size=200)
    value, low, high = bootstrap(mean_of, np.zeros(200), values, np.arange(200))
    assert (value, low, high) == pytest.approx(grouped_mean(values, np.arange(200)))
    assert (high - low) / 2 == pytest.approx(Z * sem(values), rel=0.1)
    assert bootstrap(r2, values, values, np.arange(200) // 10) == (1.0, 1.0, 1.0)


def test_bootstrap_of_a_score_draws_groups():
    """Copies of each patient's image say no more than one, and unequal groups count by their images."""
    values = np.random.default_rng(0).normal(size=30)
    copies = np.repeat(values, 40), np.repeat(np.arange(30), 40)
    one = bootstrap(mean_of, np.zeros(30), values, np.arange(30), seed=1)
    many = bootstrap(mean_of, np.zeros(1200), *copies, seed=1)
    assert many == pytest.approx(one)


def test_bootstrap_of_a_score_that_is_often_undefined():
    rare = np.zeros(60, bool)
    rare[0] = True  # of one group: more than a third of all draws hold one class only
    most = bootstrap(auc, rare, np.arange(60.0), np.arange(60))
    assert (most.value, most.low) == (0.0, 0.0)
    assert math.isnan(bootstrap(lambda *_: math.nan, rare, np.arange(60.0), np.arange(60)).low)
