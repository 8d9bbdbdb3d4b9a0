import math

from medlat.evaluation.semantics import Effect
from medlat.explain.audit import exposure, planted


def effect(name, share, low=1.0, high=2.0, direction="linear 00", kind="measurement"):
    return Effect("linear", direction, kind, name, "mm", 1.5, low, high, 3.0 * share, share, 0.9)


ROWS = [
    effect("lung_fraction", 0.1),
    effect("table_height", 0.6),
    effect("rotation", 0.3, low=-1.0),
    effect("z", 0.9, kind="factor"),
    effect("breast", math.nan),
    effect("body_area", 0.95, direction="linear 01"),
]


def test_what_moves_most_is_named():
    found = exposure(ROWS, "linear 00")
    assert [row.measurement for row in found.moved] == ["table_height", "rotation", "lung_fraction"]
    assert found.names("table_height")
    assert not found.names("rotation")
    assert found.sentence.startswith("What moves with the prediction: table height (share 0.60 of what changes, +1.80")
    assert "lung fraction" in found.sentence
    assert "rotation" not in found.sentence  # its interval holds 0


def test_nothing_is_named_where_nothing_moves():
    nothing = exposure([effect("rotation", 1.0, low=-1.0)], "linear 00")
    assert not nothing.names("rotation")
    assert nothing.sentence == "No measurement moves with the prediction for certain."
    assert not exposure([], "linear 00").names("rotation")


def test_the_measurement_of_a_planted_factor():
    read = {"x_position": "x", "table_height": "table_height", "body_hu": None}
    assert planted(read, "factor.table_height") == "table_height"
    assert planted(read, "factor.x") == "x_position"
    assert planted(read, "label.nodule") is None
