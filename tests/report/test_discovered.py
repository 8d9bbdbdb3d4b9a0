"""The section on what directions are: tables, names, the atlas and the editing range."""

import math

import numpy as np
import pytest
from report import made

from medlat.report.discovered import atlas_figure, discovered_section, editing_chart, methods_table, names_table
from medlat.report.style import Figures

NUMBERS = {
    "semantics/ica/factor_purity": 0.6,
    "semantics/ica/factor_coverage": 7.0,
    "semantics/ica/named": 5.0,
    "semantics/random/factor_purity": 0.3,
    "semantics/random/factor_coverage": 0.0,
    "directions/shift/held_out_rca_corrected": 0.9,
}


def test_methods_stand_side_by_side_and_empty_columns_are_left_out():
    table = methods_table(NUMBERS, ["ica", "shift", "random"], "factor", ["random"])
    assert table.columns == ["method", "mean purity", "coverage", "named", "RCA of the held-out probe, corrected"]
    assert table.rows[0] == ["ica", 0.6, 7, 5, None]
    assert table.rows[1] == ["shift", None, None, None, 0.9]
    assert table.rows[2][0] == "random (control)"
    assert "MIG" not in table.caption
    assert "RCA" not in methods_table(NUMBERS, ["ica"], "factor", []).columns


def named(method, evidence, name="unnamed", why="no straight line (R² 0.20)"):
    row = {"method": method, "direction": f"{method} 00", "rank": 1.0, "name": name, "measurement": "x", "why": why}
    return row | {"evidence": evidence, "p": 0.3, "share": 0.5, "normalised": math.nan, "r2": 0.2, "range": 3.0}


def test_names_come_by_evidence_and_say_what_is_lacking():
    rows = [named("pca", 0.2), named("ica", 0.8, "x +3 mm/σ", ""), named("random", 0.3)]
    table = names_table(rows, {"chance/z/false_alarms": 0.048}, "slides")
    assert [row[0] for row in table.rows] == ["ica", "random", "pca"]
    assert table.rows[0][2] == "x +3 mm/σ"
    assert table.rows[2][4] == "no straight line (R² 0.20)"
    assert table.rows[2][6] is None
    assert "4.8% have one that passes" in table.caption
    assert "False alarms" not in names_table(rows, {}, "slides").caption


def places(clusters, name="x +1 mm/σ, purity 0.9"):
    return [
        {"method": "ica" if i % 2 else "pca", "direction": f"d {i:02d}", "cluster": c, "name": name, "measurement": "x"}
        for i, c in enumerate(clusters)
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_atlas_names_clusters_and_leaves_controls_out():
    alike = np.full((5, 5), 0.5)
    control = {"method": "random", "direction": "r", "cluster": 1.0, "name": "unnamed", "measurement": "y"}
    found = [*places([0.0, 0.0, 1.0, 2.0]), control]
    figure = atlas_figure(alike, alike, np.arange(5), found, ["random"])
    axes = figure.axes[0]
    assert axes.images[0].get_array().shape == (4, 4)
    assert texts(axes)[:5] == ["d 00", "d 01", "d 02", "d 03", "x  2 methods"]
    unnamed = atlas_figure(alike, alike, np.arange(4), places([0.0] * 4, "unnamed"), [])
    assert texts(unnamed.axes[0]) == ["d 00", "d 01", "d 02", "d 03"]


def test_directions_of_two_spaces_have_no_angle_in_the_atlas():
    angles = np.full((3, 3), np.nan)
    shown = (
        atlas_figure(np.ones((3, 3)), angles, np.arange(3), places([0.0, 1.0, 2.0]), []).axes[0].images[0].get_array()
    )
    assert shown.mask.sum() == 3  # above the diagonal


def test_many_methods_have_colours_of_their_own_and_are_called_by_what_tells_them_apart():
    found = [row | {"method": f"sefa width {i}"} for i, row in enumerate(places([0.0] * 12))]
    figure = atlas_figure(np.ones((12, 12)), np.ones((12, 12)), np.arange(12), found, [])
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [str(i) for i in range(12)]
    assert len({patch.get_facecolor() for patch in legend.get_patches()}) == 12


def test_fewer_than_two_directions():
    assert atlas_figure(np.ones((1, 1)), np.ones((1, 1)), np.arange(1), places([0.0]), []).axes == []


def test_the_range_stands_above_each_method():
    rows = [
        {"method": m, "direction": f"{m} 0", "step": s, "distance": 0.5 * abs(s), "range": 2.0}
        for m in ("ica", "random")
        for s in (-4.0, -2.0, 0.0, 2.0, 4.0)
    ]
    figure = editing_chart(rows, ["random"])
    assert [axes.get_title("left") for axes in figure.axes] == ["ica: ±2σ", "random: ±2σ"]


@pytest.mark.parametrize("unit", ["HU", "RGB"])
def test_the_section_is_made_from_what_an_evaluation_leaves(tmp_path, unit):
    folder = made.evaluation(tmp_path / "evaluation", unit)
    section = discovered_section(folder, {}, "measurement", ["random"], "groups", Figures(tmp_path / "figures"))
    assert [table.title for table in section.tables][1:] == ["Names, by measurement", "What is found again"]
    for stem in ("atlas", "editing_range"):
        for suffix in ("png", "pdf", "csv"):
            assert (tmp_path / "figures" / f"{stem}.{suffix}").stat().st_size > 0
