"""Effects, their intervals and purity, on straight lines whose slopes are known."""

import numpy as np
import pytest

from medlat.evaluation.semantics import Quantity, common_slopes, effects, mean_purity, per_person, purity, summary

STEPS = [-2.0, -1.0, 0.0, 1.0, 2.0]
QUANTITIES = [Quantity("rotation", "deg", "measurement", 5.0, 0), Quantity("area", "cm²", "measurement", 100.0, 1)]
STD = np.array([5.0, 100.0])


def measured(values, direction="d", quantities=QUANTITIES, people=True, seed=0):
    """The effects of values [N, S, M], each of another patient."""
    slopes, r2 = common_slopes(values, np.array(STEPS))
    return effects(slopes / STD, r2, quantities, "m", direction, people, seed)


def line(slopes, noise=0.0, n=50, seed=0):
    """[N, S, M]: straight lines from different base values."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 10, (n, 1, len(slopes)))
    return base + np.array(STEPS)[None, :, None] * np.array(slopes) + rng.normal(0, noise, (n, len(STEPS), len(slopes)))


def test_a_perfect_direction():
    rows = measured(line([3.0, 0.0]))
    assert [r.effect for r in rows] == pytest.approx([3.0, 0.0], abs=1e-9)
    assert rows[0].effect_low == pytest.approx(3.0)
    assert rows[0].r2 == pytest.approx(1.0)
    assert rows[0].standardised == pytest.approx(0.6)
    assert [r.share for r in rows] == pytest.approx([1.0, 0.0])
    assert rows[0].significant


def test_shares_by_hand():
    rows = measured(line([1.0, -60.0]))  # 0.2 and -0.6 standard deviations
    assert [r.share for r in rows] == pytest.approx([0.25, 0.75])


def test_noise_lowers_r2_as_it_should():
    rows = measured(line([1.0, 0.0], noise=1.0, n=4000))
    # variance of the line over the steps: 2; of the noise about a code's mean: 1 · 4/5
    assert rows[0].r2 == pytest.approx(2.0 / 2.8, abs=0.01)
    assert rows[0].effect == pytest.approx(1.0, abs=0.03)


def test_a_useless_direction_is_not_significant():
    hits = [measured(line([0.0, 0.0], 1.0, seed=s), seed=s)[0].significant for s in range(200)]
    assert np.mean(hits) < 0.12, "5% are expected by chance"


def test_the_interval_covers_the_truth():
    inside = 0
    for seed in range(200):
        row = measured(line([0.7, 0.0], 1.0, seed=seed), seed=seed)[0]
        inside += row.effect_low <= 0.7 <= row.effect_high
    assert inside / 200 > 0.88


def test_missing_values():
    values = line([2.0, 1.0])
    values[:, 0, 0] = np.nan  # one step never measured
    values[3, :, :] = np.nan  # one code never
    values[4, 2:, 1] = np.nan  # two steps left: no slope
    slopes, r2 = common_slopes(values, np.array(STEPS))
    assert np.isnan(slopes[3]).all()
    assert np.isnan(slopes[4, 1])
    assert np.nanmin(slopes[:, 0]) == pytest.approx(2.0)
    assert r2 == pytest.approx([1.0, 1.0])


@pytest.mark.filterwarnings("error")
def test_nothing_measured_at_all():
    rows = measured(np.full((24, 5, 2), np.nan))
    assert all(np.isnan([r.effect, r.effect_low, r.share, r.r2]).all() for r in rows)
    assert not rows[0].significant
    assert purity(rows, "measurement") == {}


def test_no_interval_over_few_patients_or_samples():
    assert np.isfinite(measured(line([3.0, 0.0], n=20))[0].effect_low)
    for few in (measured(line([3.0, 0.0], n=19)), measured(line([3.0, 0.0]), people=False)):
        assert few[0].effect == pytest.approx(3.0)
        assert np.isnan([few[0].effect_low, few[0].effect_high]).all()


def test_a_patient_counts_once():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [7.0, 5.0]])
    found = per_person(values, np.array([4, 4, 2]))
    assert found[:, 0].tolist() == [7.0, 2.0], "by rising owner"
    assert found[0, 1] == 5.0
    assert np.isnan(found[1, 1])


def test_quantities_that_say_the_same_share_a_denominator():
    same = [Quantity("area", "cm²", "measurement", 5.0, 0), Quantity("diameter", "mm", "measurement", 100.0, 0)]
    assert [r.share for r in measured(line([1.0, -60.0]), quantities=same)] == pytest.approx([1 / 3, 1.0])


def test_purity():
    rows = [*measured(line([5.0, 0.0]), "pure"), *measured(line([5.0, 100.0]), "mixed")]
    best = purity(rows, "measurement")
    assert {name: row.share for name, row in best.items()} == pytest.approx({"pure": 1.0, "mixed": 0.5})
    assert purity(rows, "factor") == {}


def of_method(*directions):
    """Slopes [K, G, Q] of directions that move the two quantities by these, a little differently in each of 30."""
    noise = np.random.default_rng(0).normal(0.0, 0.05, (len(directions), 30, 2))
    return np.array(directions)[:, None] + noise


def test_mean_purity_and_its_interval_over_patients():
    groups = np.arange(2)
    value, drawn = mean_purity(of_method([1.0, 0.0], [1.0, 1.0]), groups)
    assert value == pytest.approx(0.75, abs=0.02)
    assert drawn.shape == (1000,)
    assert drawn.std() < 0.02
    found = summary(of_method([1.0, 0.0]), of_method([1.0, 1.0]), groups, people=True)
    assert found["gain"] == pytest.approx(0.5, abs=0.03)
    assert found["gain_low"] < found["gain"] < found["gain_high"]
    same = summary(of_method([1.0, 1.0]), of_method([1.0, 1.0]), groups, people=True)
    assert (same["gain"], same["gain_low"], same["gain_high"]) == (0.0, 0.0, 0.0), "the same on the same patients"
    assert np.isnan(summary(of_method([1.0, 0.0]), None, groups, people=False)["purity_low"])
    assert "gain" not in summary(of_method([1.0, 0.0]), None, groups, people=True)
