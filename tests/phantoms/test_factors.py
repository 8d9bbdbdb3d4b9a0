"""How phantoms draw their factors: today's draws by default, and closed forms of margins and correlations."""

import numpy as np
import pytest
from scipy.stats import kurtosis, norm, rankdata, truncnorm

from medlat.core.errors import ArgumentError
from medlat.phantoms.ct.source import FACTORS, HABITUS, JITTER, NAMES, CTPhantom
from medlat.phantoms.factors import Draws
from medlat.phantoms.histology.source import BY_CLASS, HistologyPhantom
from medlat.phantoms.histology.source import FACTORS as TILE_FACTORS
from medlat.phantoms.histology.source import JITTER as TILE_JITTER

PATIENTS = 2000
OF_PATIENTS = [name for name in NAMES if name != "z"]


def drawn(source: CTPhantom | HistologyPhantom, column: str = "factor.") -> dict[str, np.ndarray]:
    """Columns of all patients, [patients, slices] each."""
    chunks = source.scan(lambda function, items, _: map(function, items)).chunks
    names = [name for name in chunks[0].columns if name.startswith(column)]
    return {name.removeprefix(column): np.stack([chunk.columns[name] for chunk in chunks]) for name in names}


def rank_correlations(table: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """Of every pair, in the order of `np.triu_indices`; patients' means, so that jitter hardly counts."""
    ranks = rankdata(np.stack([table[name].mean(axis=1) for name in names]), axis=1)
    return np.corrcoef(ranks)[np.triu_indices(len(names), 1)]


def expected_spearman(correlation: float) -> float:
    return 6.0 / np.pi * np.arcsin(correlation / 2.0)


def test_by_default_factors_are_independent_uniform_numbers_in_the_order_of_the_list():
    """What is drawn must not change with what can be asked for: the generator's own numbers, to the bit."""
    table, low, high = drawn(CTPhantom(5, 3, 32, seed=7)), [f.low for f in FACTORS], [f.high for f in FACTORS]
    for patient in range(5):
        rng = np.random.Generator(np.random.SFC64([7, patient, 2, 0]))
        factors = np.tile(rng.uniform(low, high), (3, 1))
        for name, deviation in JITTER.items():
            factors[:, NAMES.index(name)] += rng.normal(0.0, deviation, 3)
        for name in OF_PATIENTS:
            np.testing.assert_array_equal(table[name][patient], factors[:, NAMES.index(name)])
    tiles = HistologyPhantom(4, 6, 128, seed=7)
    table, tumour = drawn(tiles), drawn(tiles, "label.")["tumour"].astype(int)
    for patient in range(4):
        rng = np.random.Generator(np.random.SFC64([7, patient, 1, 0]))
        rng.permutation((np.arange(6) + rng.integers(2)) % 2)
        for factor in TILE_FACTORS:
            if factor.name in BY_CLASS:
                values = rng.uniform(*np.array(BY_CLASS[factor.name])[tumour[patient]].T)
            elif factor.name in TILE_JITTER:
                values = rng.uniform(factor.low, factor.high) + rng.normal(0, TILE_JITTER[factor.name], 6)
            else:
                values = rng.uniform(factor.low, factor.high, 6)
            if factor.name == "nuclear_density":
                values = np.round(values * 0.128**2) / 0.128**2
            np.testing.assert_array_equal(table[factor.name][patient], values)


@pytest.mark.parametrize("margin", ["uniform", "gaussian"])
@pytest.mark.parametrize("correlation", [0.3, 0.8])
def test_rank_correlation_of_every_pair_is_the_copulas_whatever_the_margin(margin: str, correlation: float):
    table = drawn(CTPhantom(PATIENTS, 2, 32, margin=margin, correlation=correlation))  # type: ignore[arg-type]
    found = rank_correlations(table, OF_PATIENTS)
    np.testing.assert_allclose(found, expected_spearman(correlation), atol=4.5 / PATIENTS**0.5)
    assert found.mean() == pytest.approx(expected_spearman(correlation), abs=0.025)


def test_only_the_habitus_goes_together_where_that_is_asked():
    table = drawn(CTPhantom(PATIENTS, 2, 32, correlation=0.6, correlated="habitus"))
    rest = [name for name in OF_PATIENTS if name not in HABITUS]
    within = rank_correlations(table, list(HABITUS))
    np.testing.assert_allclose(within, expected_spearman(0.6), atol=4.5 / PATIENTS**0.5)
    across = [rank_correlations(table, [a, b])[0] for a in HABITUS for b in rest]
    outside = [*across, *rank_correlations(table, rest)]
    np.testing.assert_allclose(outside, 0.0, atol=4.5 / PATIENTS**0.5)
    plain = drawn(CTPhantom(PATIENTS, 2, 32))
    for name in rest:  # the others are those of the same patients without a correlation
        np.testing.assert_array_equal(table[name], plain[name])


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("margin", ["uniform", "gaussian"])
def test_margins_have_their_quantiles_within_the_range(margin: str, correlation: float):
    table = drawn(CTPhantom(PATIENTS, 1, 32, margin=margin, correlation=correlation))  # type: ignore[arg-type]
    shape = truncnorm(-3, 3, 0.5, 1 / 6) if margin == "gaussian" else None
    at = np.array([0.02, 0.25, 0.5, 0.75, 0.98])
    for factor in FACTORS:
        if factor.name in JITTER or factor.name == "z":
            continue
        values = (table[factor.name] - factor.low) / (factor.high - factor.low)
        assert 0.0 <= values.min() < values.max() <= 1.0
        quantiles = at if shape is None else shape.ppf(at)
        density = 1.0 if shape is None else shape.pdf(quantiles)
        error = np.sqrt(at * (1 - at) / PATIENTS) / density  # the standard error of a quantile
        np.testing.assert_array_less(np.abs(np.quantile(values, at) - quantiles), 4.5 * error)
        bell = -1.2 if shape is None else shape.stats("k")
        assert kurtosis(values.ravel()) == pytest.approx(float(bell), abs=0.35)


def test_factors_are_a_patients_but_for_jitter_and_level():
    source = CTPhantom(6, 5, 32, margin="gaussian", correlation=0.7)
    for name, values in drawn(source).items():
        if name not in (*JITTER, "z"):
            np.testing.assert_array_equal(values, values[:, :1] * np.ones(5))
    levels, plain = drawn(source)["z"], drawn(CTPhantom(6, 5, 32))["z"]
    np.testing.assert_array_equal(levels, plain)  # evenly spread over the chest, as ever


def test_tiles_correlate_within_a_class_and_stay_in_its_range():
    source = HistologyPhantom(PATIENTS, 2, 512, margin="gaussian", correlation=0.6)
    table, tumour = drawn(source), drawn(source, "label.")["tumour"].astype(int)
    one = {name: values[np.arange(PATIENTS), tumour.argmax(axis=1)][:, None] for name, values in table.items()}
    found = rank_correlations(one, [factor.name for factor in TILE_FACTORS])
    np.testing.assert_allclose(found, expected_spearman(0.6), atol=0.1)
    for name, (_, (low, high)) in BY_CLASS.items():
        rounding = 4.0 if name == "nuclear_density" else 0.0
        assert low - rounding <= one[name].min() < one[name].max() <= high + rounding


def test_a_gaussian_margin_is_cut_off_at_three_standard_deviations():
    draws = Draws("gaussian")
    found = draws.between(-3.0, 3.0, np.array([0.0, norm.cdf(-1.0), 0.5, norm.cdf(2.0), 1.0]))
    np.testing.assert_allclose(found, [-3.0, -1.0, 0.0, 2.0, 3.0], atol=0.06)
    np.testing.assert_allclose(found[[0, 2, 4]], [-3.0, 0.0, 3.0], atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": "gausian"}, "gausian, expected uniform or gaussian; did you mean 'gaussian'"),
        ({"correlation": 1.0}, "correlation: 1.0, expected 0 to below 1"),
        ({"correlation": -0.1}, "correlation: -0.1"),
        ({"correlated": "habit"}, "habit, expected all or habitus; did you mean 'habitus'"),
    ],
)
def test_bad_draws(arguments: dict, message: str):
    with pytest.raises(ArgumentError, match=message):
        CTPhantom(1, 1, 32, **arguments)
