"""What readers say of directions: kept beside a run, told apart in its next report."""

import json

import pytest
from report import made

from medlat.core.errors import UserError
from medlat.report.page import Report, write_page
from medlat.report.readers import FILE, keep, read_kept, readers_section

SAID = {"name": "turns <b>", "star": False, "note": "see slice 3"}
ROWS = [{"direction": f"sefa 0{i}", "name": name} for i, name in enumerate(("unnamed", "rotation +3°/σ", "unnamed"))]


def test_what_is_said_is_kept_whole_or_not(tmp_path):
    assert read_kept(tmp_path) == {}
    keep(tmp_path, "sefa 02", SAID | {"name": " turns <b> "})
    assert keep(tmp_path, "sefa 00", SAID | {"star": True}) == {"sefa 02": SAID, "sefa 00": SAID | {"star": True}}
    assert keep(tmp_path, "sefa 02", {"name": "", "star": False, "note": ""}) == {"sefa 00": SAID | {"star": True}}
    (tmp_path / FILE).write_text(json.dumps({"directions": {"sefa 00": {"name": 3}}}))
    with pytest.raises(UserError, match="not what medlat explore writes"):
        read_kept(tmp_path)


def test_readers_names_stand_beside_what_is_measured_and_not_in_its_place():
    kept = {"sefa 02": SAID, "sefa 01": SAID | {"star": True}, "gone 00": SAID}
    (section,) = readers_section(kept, ROWS)
    assert [row[0] for row in section.tables[0].rows] == ["sefa 01", "sefa 02"], "stars first, and none that is gone"
    assert section.tables[0].rows[0] == ["sefa 01", "★", "turns <b>", "see slice 3", "rotation +3°/σ"]
    assert section.tables[0].rows[1][-1] == "unnamed"
    assert readers_section({}, ROWS) == readers_section({"gone 00": SAID}, ROWS) == []


def test_the_page_says_whose_name_it_is(tmp_path):
    sections = readers_section({"sefa 02": SAID}, ROWS)
    write_page(tmp_path / "index.html", Report("What varies?", "Nothing.", {}, made.LOOKS["HU"], sections=sections))
    before, _, after = (tmp_path / "index.html").read_text().partition("<h2>What do readers say?</h2>")
    assert "turns" not in before
    assert "no sentence above rests on it" in after
    assert after.count("turns &lt;b&gt;") == 1, "in one place, and as text"
