"""Tables as CSV: what is written is read again."""

import math

import numpy as np
import pytest

from medlat.core.errors import UserError
from medlat.core.tables import read_table, write_table


def test_what_is_written_is_read_again(tmp_path):
    rows = [
        {"name": "=danger", "n": 3, "share": 0.1, "left": True, "id": "1_000", "-sign": "−1", "grade": "1"},
        {"name": "it's", "n": None, "share": math.inf, "left": False, "id": "2", "-sign": "-1", "grade": "b"},
        {
            "name": None,
            "n": np.int64(-4),
            "share": np.float32(0.5),
            "left": None,
            "id": "3",
            "-sign": "'a",
            "grade": "",
        },
    ]
    write_table(tmp_path / "a.csv", rows)
    assert read_table(tmp_path / "a.csv") == [
        *rows[:2],
        {"name": None, "n": -4, "share": 0.5, "left": None, "id": "3", "-sign": "'a", "grade": None},
    ]
    first = read_table(tmp_path / "a.csv")[0]
    assert [type(value) for value in first.values()] == [str, int, float, bool, str, str, str]


def test_a_number_that_is_not_known(tmp_path):
    write_table(tmp_path / "a.csv", [{"r2": math.nan}, {"r2": 1.0}])
    first, second = read_table(tmp_path / "a.csv")
    assert math.isnan(first["r2"])
    assert second["r2"] == 1.0


def test_no_rows_and_no_table(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    assert read_table(tmp_path / "a.csv") == []
    for text in ("", "a,b\n1,2\n3\n"):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(UserError, match="not a readable table"):
            read_table(tmp_path / "a.csv")
    with pytest.raises(UserError, match="not a readable table"):
        read_table(tmp_path / "none.csv")
