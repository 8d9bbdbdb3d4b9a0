"""What a classifier uses: closed forms, and how often something is found where nothing is."""

import numpy as np
import pytest

from medlat.evaluation.chance import LEVEL, Answers
from medlat.evaluation.semantics import Quantity
from medlat.explain.audit import HELD, Response, alone, planted, responses

AXES, PATIENTS = 30, 24


def quantities(count: int, groups=None) -> list[Quantity]:
    return [Quantity(f"q{i}", "mm", "factor", 2.0, group) for i, group in enumerate(groups or range(count))]


def world(found: np.ndarray, spread=None) -> Answers:
    """Where quantities [Q, A] answer alike for all patients, for a standard deviation of the codes along each axis."""
    spread = np.ones(AXES) if spread is None else spread
    return Answers(np.tile(found / spread, (PATIENTS, 1, 1)), np.eye(AXES), spread)


def answered(g: np.ndarray, spread: np.ndarray | float = 1.0, noise: float = 0.0) -> np.ndarray:
    """The classifier's slopes [G, A], that rise by `g` [A] for a standard deviation of the codes."""
    return g / spread + noise * np.random.default_rng(7).standard_normal((PATIENTS, AXES))


def test_each_quantity_alone_where_axes_mix_them():
    mixed = np.zeros((2, AXES))
    mixed[:, :2] = [[0.8, 0.6], [0.0, 1.0]]  # q0 moves along both axes, q1 along the second
    g = 0.5 * mixed[0] + 0.3 * mixed[1]
    spread = np.linspace(2.0, 0.1, AXES)
    found = {r.quantity: r for r in responses(answered(g, spread), world(mixed, spread), quantities(2), True, 0)}
    assert found["q0"].response == pytest.approx(0.5)
    assert found["q1"].response == pytest.approx(0.3)
    assert found["q0"].length == pytest.approx(1.25), "along the first axis alone"
    assert found["q1"].length == pytest.approx(np.hypot(1.0, 0.75)), "the first axis takes back what q0 would do"
    assert (found["q0"].low, found["q0"].high) == pytest.approx((0.5, 0.5)), "all patients answer alike"


def test_what_is_used_is_told_from_what_is_not():
    basis = np.eye(AXES)[:4]
    used, *others = responses(answered(0.9 * basis[2], noise=0.01), world(basis), quantities(4), True, 0)
    assert (used.quantity, used.is_used, used.lacks) == ("q2", True, [])
    assert used.p == pytest.approx(4 / 20_001), "none of the random changes does as much; four are tried"
    assert used.response == pytest.approx(0.9, abs=3 * 0.01 / np.sqrt(PATIENTS))
    assert used.high - used.low == pytest.approx(2 * 1.96 * 0.01 / np.sqrt(PATIENTS), rel=0.5)
    assert not any(row.is_used for row in others)


def test_a_classifier_that_looks_at_nothing_in_particular_uses_nothing():
    rng, basis, false = np.random.default_rng(0), np.eye(AXES)[:6], 0
    for number in range(200):
        g = rng.standard_normal(AXES)
        false += any(row.is_used for row in responses(answered(g), world(basis), quantities(6), True, number))
    assert false / 200 <= LEVEL + 2.0 * np.sqrt(LEVEL * (1.0 - LEVEL) / 200), "family-wise"


def test_quantities_that_say_the_same_do_not_hold_each_other_still():
    same = np.array([np.eye(AXES)[0], np.eye(AXES)[0] + 0.01 * np.eye(AXES)[1]])
    together = alone(same, np.array([0, 0]))
    assert np.linalg.norm(together, axis=1) == pytest.approx([1.0, 1.0], abs=1e-3)
    assert np.linalg.norm(alone(same, np.array([0, 1])), axis=1).max() > 50.0


def test_what_the_generator_does_not_change_is_not_said_to_be_used():
    basis = np.array([np.eye(AXES)[0], np.zeros(AXES), 0.1 * np.eye(AXES)[1]])
    found = {r.quantity: r for r in responses(answered(3.0 * np.eye(AXES)[1]), world(basis), quantities(3), True, 0)}
    assert (found["q1"].length, found["q1"].response, found["q1"].p) == (0.0, 0.0, 1.0)
    assert found["q2"].length == pytest.approx(10.0)
    assert HELD < 10.0
    for name in ("q1", "q2"):
        assert found[name].lacks[0] == "the generator does not change it alone"


@pytest.mark.parametrize(("patients", "people"), [(19, True), (PATIENTS, False)])
def test_of_few_patients_or_none_there_is_no_interval_and_nothing_is_used(patients, people):
    basis = np.eye(AXES)[:2]
    answers = Answers(world(basis).slopes[:patients], np.eye(AXES), np.ones(AXES))
    row = responses(answered(basis[0])[:patients], answers, quantities(2), people, 0)[0]
    assert np.isnan([row.low, row.high]).all()
    assert row.lacks == ["not sure: its interval holds 0"]
    assert row.told("logits") == "q0 (+1.00 logits a standard deviation, p = 0.0001)"


def test_in_words():
    row = Response("factor", "table_height", -0.5, -0.6, -0.4, 1.0, 0.004)
    assert row.told("logits") == "table height (-0.50 [-0.60, -0.40] logits a standard deviation, p = 0.004)"


def test_what_stands_for_a_planted_factor():
    read = {"x_position": "x", "table_height": "table_height", "body_hu": None}
    assert planted(read, "factor.table_height") == {"table_height"}
    assert planted(read, "factor.x") == {"x", "x_position"}
    assert planted(read, "label.nodule") == set()
