"""The metrics on codes whose answer is known: perfect, useless, duplicated, mixed."""

import numpy as np
import pytest

from medlat.evaluation.disentanglement import all_metrics, dci, mig, sap

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
