"""The metrics on codes whose answer is known: perfect, useless, duplicated, mixed."""

import numpy as np
import pytest
from scipy.stats import entropy

from medlat.evaluation.disentanglement import all_metrics, dci, mig, of_importances, sap

FACTORS = np.random.default_rng(0).uniform(-1.0, 1.0, (1500, 4))
NOISE = np.random.default_rng(1).normal(size=(1500, 4))
TURN = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]


def test_perfect_codes():
    found = all_metrics(FACTORS, FACTORS)
    assert found["mig"] > 0.9
    assert found["sap"] > 0.97
    assert min(found[f"dci_{name}"] for name in ("disentanglement", "completeness", "informativeness")) > 0.9


def test_order_sign_and_scale_do_not_count():
    other = -3.0 * FACTORS[:, ::-1] + 1.0
    assert sap(other, FACTORS) == pytest.approx(sap(FACTORS, FACTORS))
    assert mig(other, FACTORS) == pytest.approx(mig(FACTORS, FACTORS), abs=0.02)


def test_useless_codes():
    found = all_metrics(NOISE, FACTORS)
    assert abs(found["mig"]) < 0.02
    assert abs(found["sap"]) < 0.02
    assert found["dci_informativeness"] < 0.05
    assert found["dci_disentanglement"] < 0.2


def test_duplicated_codes_have_no_gap_but_are_informative():
    twice = np.concatenate([FACTORS, FACTORS], axis=1)
    found = all_metrics(twice, FACTORS)
    assert found["mig"] == pytest.approx(0.0, abs=1e-9)
    assert found["sap"] == pytest.approx(0.0, abs=1e-9)
    assert found["dci_disentanglement"] > 0.9
    assert found["dci_completeness"] < 0.7
    assert found["dci_informativeness"] > 0.9


def test_turned_codes_lie_between():
    turned, perfect, useless = (dci(x, FACTORS)[0] for x in (FACTORS @ TURN, FACTORS, NOISE))
    assert useless < turned < perfect
    assert sap(FACTORS @ TURN, FACTORS) < 0.7


def test_degenerate_factors():
    constant = np.zeros((1500, 2))
    assert all(np.isnan(value) for value in all_metrics(FACTORS, constant).values())
    mixed = np.concatenate([FACTORS[:, :1], constant], axis=1)
    assert sap(FACTORS, mixed) == pytest.approx(sap(FACTORS, FACTORS[:, :1]))


def test_one_coordinate():
    assert mig(FACTORS[:, :1], FACTORS[:, :1]) == pytest.approx(1.0)
    assert sap(FACTORS[:, :1], FACTORS[:, :1]) == pytest.approx(1.0)


# --- the formulas of Locatello et al. 2019, written from their definitions -------------------------------------------


def joint(code: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Probabilities of the pairs of bins, 20 of equal width each."""
    edges = [np.histogram_bin_edges(x, 20)[:-1] for x in (code, factor)]
    places = [np.digitize(x, e) - 1 for x, e in zip((code, factor), edges, strict=True)]
    table = np.zeros((20, 20))
    np.add.at(table, tuple(places), 1.0)
    return table / table.sum()


def expected_mig(codes: np.ndarray, factors: np.ndarray) -> float:
    gaps = []
    for factor in factors.T:
        found = []
        for code in codes.T:
            p = joint(code, factor)
            found.append(entropy(p.sum(0)) + entropy(p.sum(1)) - entropy(p.ravel()))
        first, second = sorted(found)[:-3:-1]
        gaps.append((first - second) / entropy(joint(factor, factor).sum(0)))
    return float(np.mean(gaps))


def expected_sap(codes: np.ndarray, factors: np.ndarray) -> float:
    scores = np.empty((codes.shape[1], factors.shape[1]))
    for i, code in enumerate(codes.T):
        for j, factor in enumerate(factors.T):
            c = np.cov(code, factor, ddof=1)
            scores[i, j] = c[0, 1] ** 2 / (c[0, 0] * c[1, 1])
    ordered = np.sort(scores, axis=0)
    return float(np.mean(ordered[-1] - ordered[-2]))


def expected_dci(importances: np.ndarray) -> tuple[float, float]:
    per_code = 1.0 - entropy(importances.T + 1e-11, base=importances.shape[1])
    per_factor = 1.0 - entropy(importances + 1e-11, base=importances.shape[0])
    of_codes, of_factors = (importances.sum(axis) / importances.sum() for axis in (1, 0))
    return float((per_code * of_codes).sum()), float((per_factor * of_factors).sum())


@pytest.mark.parametrize("seed", range(5))
def test_they_are_the_papers_on_any_codes(seed: int):
    rng = np.random.default_rng(seed)
    factors = rng.uniform(-1, 1, (800, 3))
    codes = factors @ rng.normal(size=(3, 5)) + rng.normal(0, rng.uniform(0.1, 1), (800, 5))
    assert mig(codes, factors) == pytest.approx(expected_mig(codes, factors), abs=1e-9)
    assert sap(codes, factors) == pytest.approx(expected_sap(codes, factors), abs=1e-9)
    importances = rng.uniform(size=(5, 3)) ** 3
    assert of_importances(importances) == pytest.approx(expected_dci(importances), abs=1e-8)
    importances[2] = 0.0  # a code that nothing needs
    assert of_importances(importances) == pytest.approx(expected_dci(importances), abs=1e-8)


def test_patients_are_not_recognised():
    """A code that tells whose image it is tells nothing of a factor of other patients, where that is a patient's."""
    patient = np.repeat(np.arange(40), 25)
    factor = np.random.default_rng(0).uniform(size=40)[patient][:, None]
    names = patient[:, None].astype(float)
    assert dci(names, factor)[2] > 0.9
    assert dci(names, factor, patient)[2] < 0.3
    assert np.isnan(dci(names[:25], factor[:25] + names[:25], np.zeros(25))[2])
