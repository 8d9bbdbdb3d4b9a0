"""Counterfactual alignment in closed form: classifiers whose every change is known."""

import math

import numpy as np
import pytest

from medlat.core.tables import read_table, write_table
from medlat.explain.alignment import DRAWN, Cell, Shown, matrix, relative_change, told

PEOPLE = 40


def shown(of: str, own: float, noise: float = 0.02, **others: float) -> Shown:
    """Counterfactuals of one, whose prediction changes by `own` up and down, and others' by so much of that; along
    random directions all change by `noise` of it, whichever way.
    """
    rng = np.random.default_rng([len(of), *map(ord, of)])
    sign = np.where(np.arange(PEOPLE) % 2, 1.0, -1.0)
    share = {of: 1.0} | others
    drawn = np.random.default_rng(0).normal(size=DRAWN)
    jitter = {name: 0.0 if name == of else 0.02 * rng.normal(size=PEOPLE) for name in share}
    changes = {name: sign * own * (value + jitter[name]) for name, value in share.items()}
    random = dict.fromkeys(share, sign * own * noise * drawn[:, None])
    return Shown(changes, random, np.arange(PEOPLE))


def by_pair(cells: list[Cell]) -> dict[tuple[str, str], Cell]:
    return {(cell.of, cell.asked): cell for cell in cells}


def test_the_relative_change_by_hand():
    """Of predictions 0.2 -> 0.9 another's 0.5 -> 0.85 is half, whichever way; what does not change has none."""
    own = np.array([0.7, -0.7, 0.0])
    found = relative_change(np.array([[0.35, -0.35, 0.1], [-0.7, 0.0, 0.1]]), own)
    assert found[:, :2] == pytest.approx(np.array([[0.5, 0.5], [-1.0, 0.0]]))
    assert np.isnan(found[:, 2]).all()


def test_who_shares_a_reason_and_who_has_its_own():
    given = {
        "a": shown("a", 0.6, b=0.9, c=0.0),
        "b": shown("b", 0.7, a=0.8, c=0.0),
        "c": shown("c", 0.5, a=0.3, b=0.0),
    }
    cells = by_pair(matrix(given))
    assert [cells[of, of].change for of in given] == [1.0] * 3
    assert all(math.isnan(cells[of, of].p) and cells[of, of].told == "" for of in given)
    assert cells["a", "b"].change == pytest.approx(0.9, abs=0.01)
    assert cells["a", "b"].low < 0.9 < cells["a", "b"].high
    assert cells["a", "b"].told == cells["b", "a"].told == "goes along"
    assert cells["c", "a"].told == "goes along in part", "above random, and surely less than half"
    assert {cells[pair].told for pair in (("a", "c"), ("b", "c"), ("c", "b"))} == {"does not go along"}
    assert cells["a", "b"].p == pytest.approx(1 / (DRAWN + 1))
    assert cells["a", "b"].images == cells["a", "b"].people == PEOPLE
    said = told(list(cells.values()))
    assert said.startswith("a and b share a reason (change of the prediction, of that of the one whose")
    assert "b along counterfactuals of a 0.90 [" in said
    assert "c does not go by the reason of a and b (" in said
    assert "What c goes by" not in said, "in part it is that of a"
    assert "does not go by the reason of c" not in said
    own = matrix(given | {"c": shown("c", 0.5, a=0.0, b=0.0)})
    assert "What c goes by is its own, and not that of a and b (" in told(own)


def test_the_level_is_that_of_the_largest_of_all_pairs():
    """All pairs change alike along a random direction: the largest is that of one, and 5% of draws exceed the level."""
    cells = by_pair(matrix({"a": shown("a", 0.6, b=0.9), "b": shown("b", 0.6, a=0.0)}))
    drawn = np.abs(0.02 * np.random.default_rng(0).normal(size=DRAWN))
    assert cells["a", "b"].level == pytest.approx(np.quantile(drawn, 0.95))
    assert cells["b", "a"].level == pytest.approx(np.quantile(drawn, 0.95))
    assert 0.0 < cells["a", "b"].false_alarms < 0.12
    below = by_pair(matrix({"a": shown("a", 0.6, b=0.03, noise=0.1), "b": shown("b", 0.6, a=0.0, noise=0.1)}))
    assert below["a", "b"].p > 0.3
    assert below["a", "b"].told == "does not go along"


def test_pairs_that_have_nothing_in_common_are_found_in_five_percent():
    """Six pairs of classifiers that change along counterfactuals as along random directions, which differ by pair: some
    pair is found in about 5% of draws, and each of them in fewer.
    """
    rng, lots, found = np.random.default_rng(1), 100, 0
    names, groups = ("a", "b", "c"), np.arange(20)
    for lot in range(lots):
        given = {}
        for of in names:
            changes = {name: np.full(20, rng.normal()) for name in names} | {of: np.ones(20)}
            random = {name: np.repeat(rng.normal(size=(DRAWN, 1)), 20, axis=1) for name in names}
            given[of] = Shown(changes, random, groups)
        cells = [cell for cell in matrix(given, lot) if cell.told]
        found += any(cell.p <= 0.05 for cell in cells)
    assert found <= 12, "of 100; above that with p = 0.001"


def test_against_one_another_and_too_few_people():
    cells = by_pair(matrix({"a": shown("a", 0.6, b=-0.8), "b": shown("b", 0.6, a=-0.8)}))
    assert cells["a", "b"].told == "goes against"
    assert "share" not in told(list(cells.values()))
    few = Shown({"a": np.ones(5), "b": np.ones(5)}, {n: np.zeros((DRAWN, 5)) for n in "ab"}, np.arange(5))
    cells = matrix({"a": few, "b": few})
    assert {cell.told for cell in cells} == {"", "not sure"}
    assert told(cells) == ""


def test_one_without_counterfactuals_judges_nobody():
    """It may not see what the generator's images show."""
    nothing = Shown({n: np.zeros(0) for n in "ab"}, {n: np.zeros((DRAWN, 0)) for n in "ab"}, np.zeros(0))
    cells = by_pair(matrix({"a": shown("a", 0.6, b=0.0), "b": nothing}))
    assert cells["a", "b"].told == "not sure"
    assert cells["b", "a"].images == 0
    assert math.isnan(cells["b", "a"].change)
    assert told(list(cells.values())) == ""


def test_cells_are_read_as_they_were_written(tmp_path):
    cells = matrix({"a": shown("a", 0.6, b=0.9), "b": shown("b", 0.6, a=0.0)})
    write_table(tmp_path / "alignment.csv", [cell.row() for cell in cells])
    again = [Cell.from_row(row) for row in read_table(tmp_path / "alignment.csv", Cell)]
    assert [cell.row() for cell in again if cell.told] == [cell.row() for cell in cells if cell.told]
    assert math.isnan(again[0].p)
