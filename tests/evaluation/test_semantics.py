import numpy as np
import pytest

from medlat.evaluation.semantics import (
    Quantity,
    common_slopes,
    coverage,
    effects,
    gain,
    purity,
    summary,
)

STEPS = [-2.0, -1.0, 0.0, 1.0, 2.0]
QUANTITIES = [Quantity("rotation", "deg", "measurement", 5.0), Quantity("area", "cm²", "measurement", 100.0)]


def line(slopes, noise=0.0, n=50, seed=0):
    """[N, S, M]: straight lines from different base values."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 10, (n, 1, len(slopes)))
    return base + np.array(STEPS)[None, :, None] * np.array(slopes) + rng.normal(0, noise, (n, len(STEPS), len(slopes)))


def test_a_perfect_direction():
    rows = effects(line([3.0, 0.0]), STEPS, QUANTITIES, "m", "m 00")
    assert [r.effect for r in rows] == pytest.approx([3.0, 0.0], abs=1e-9)
    assert rows[0].effect_low == pytest.approx(3.0)
    assert rows[0].r2 == pytest.approx(1.0)
    assert rows[0].standardised == pytest.approx(0.6)
    assert [r.share for r in rows] == pytest.approx([1.0, 0.0])
    assert rows[0].significant


def test_shares_by_hand():
    rows = effects(line([1.0, -60.0]), STEPS, QUANTITIES, "m", "d")  # 0.2 and -0.6 standard deviations
    assert [r.share for r in rows] == pytest.approx([0.25, 0.75])


def test_noise_lowers_r2_as_it_should():
    rows = effects(line([1.0, 0.0], noise=1.0, n=4000), STEPS, QUANTITIES, "m", "d")
    # variance of the line over the steps: 2; of the noise about a code's mean: 1 · 4/5
    assert rows[0].r2 == pytest.approx(2.0 / 2.8, abs=0.01)
    assert rows[0].effect == pytest.approx(1.0, abs=0.03)


def test_a_useless_direction_is_not_significant():
    hits = [
        effects(line([0.0, 0.0], 1.0, seed=s), STEPS, QUANTITIES, "m", "d", seed=s)[0].significant for s in range(200)
    ]
    assert np.mean(hits) < 0.12, "5% are expected by chance"


def test_the_interval_covers_the_truth():
    inside = 0
    for seed in range(200):
        row = effects(line([0.7, 0.0], 1.0, seed=seed), STEPS, QUANTITIES, "m", "d", seed=seed)[0]
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
    rows = effects(np.full((4, 5, 2), np.nan), STEPS, QUANTITIES, "m", "d")
    assert all(np.isnan([r.effect, r.effect_low, r.share, r.r2]).all() for r in rows)
    assert not rows[0].significant
    assert summary(rows, "measurement")["coverage"] == 0.0


@pytest.mark.filterwarnings("error")
def test_constant_images():
    rows = effects(np.ones((4, 5, 2)), STEPS, [Quantity("a", "", "measurement", 0.0)] * 2, "m", "d")
    assert np.isnan(rows[0].share)


def test_purity_and_coverage():
    rows = [
        *effects(line([5.0, 0.0]), STEPS, QUANTITIES, "m", "pure"),
        *effects(line([5.0, 100.0]), STEPS, QUANTITIES, "m", "mixed"),
        *effects(line([0.0, 0.0], 1.0, seed=1), STEPS, QUANTITIES, "m", "nothing"),
    ]
    best = purity(rows, "measurement")
    assert best["pure"].share == pytest.approx(1.0)
    assert best["mixed"].share == pytest.approx(0.5)
    assert coverage(rows[:2], "measurement") == {"rotation"}
    assert coverage(rows[4:], "measurement") == set(), "a large share of nothing covers nothing"
    assert summary(rows[:4], "measurement")["purity"] == pytest.approx(0.75)
    assert coverage(rows, "factor") == set()
    weak = effects(line([0.4, 0.0]), STEPS, QUANTITIES, "m", "weak")
    assert (weak[0].share, weak[0].significant) == (pytest.approx(1.0), True)
    assert coverage(weak, "measurement") == set(), "0.08 standard deviations per σ move nothing"


def test_gain_over_chance():
    pure = [r for i in range(8) for r in effects(line([5.0, 0.0]), STEPS, QUANTITIES, "m", f"m {i}")]
    half = [r for i in range(8) for r in effects(line([5.0, 100.0]), STEPS, QUANTITIES, "random", f"r {i}")]
    found = gain(pure, half, "measurement")
    assert found == {"gain": pytest.approx(0.5), "gain_low": pytest.approx(0.5), "gain_high": pytest.approx(0.5)}
    same = gain(half, half, "measurement")
    assert same["gain_low"] <= 0.0 <= same["gain_high"]
    assert np.isnan(gain(pure, [], "measurement")["gain"])
