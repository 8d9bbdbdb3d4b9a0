"""Names on planted truth: what `experiments/calibration/planted.py` finds in one small world. Its table has 24."""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest

PLANTED = Path(__file__).parents[1] / "experiments" / "calibration" / "planted.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("planted", PLANTED)
    planted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(planted)
    folder = tmp_path_factory.mktemp("planted")
    try:
        planted.PEOPLE = 200
        context = planted.context_of("tissue", "gaussian", 5, Namespace(store=folder / "store", threads=1))
        return list(planted.named(context, "tissue", "gaussian", 5, folder / "tables"))
    finally:
        sys.path[:] = before


@pytest.mark.slow
def test_a_name_is_of_what_moves(rows):
    factors = [row for row in rows if row["kind"] == "factor" and row["planted"] != "nothing"]
    assert len(factors) == 18
    assert [row for row in factors if row["named"] and row["named"] not in row["moved"].split()] == []
    single = {row["moved"]: row["named"] for row in factors if row["planted"] == "single"}
    assert {name for name, found in single.items() if found} >= {"haematoxylin", "eosin"}
    assert set(single.values()) <= {*single, ""}
    equal = [row for row in factors if row["planted"] == "equal" and len(row["readable"].split()) == 2]
    assert [row["named"] for row in equal if row["named"]] == []


@pytest.mark.slow
def test_nothing_has_no_name(rows):
    nothing = [row for row in rows if row["planted"] == "nothing"]
    assert len(nothing) == 32
    assert [row["named"] for row in nothing] == [""] * 32
