"""Charts and tables of scores, responses and quality: their numbers by hand, and input at its worst."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from report.made import scores

from medlat.explain.scorecard import SCORES, flip_curve
from medlat.explain.scorecard import responses as measured
from medlat.report import scorecard
from medlat.report.explanation import Question
from medlat.report.page import Cell
from medlat.report.style import CONTROL_SHADE, MUTED

QUESTION = Question("nodule", 0.5, True)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_response_curves_have_a_panel_per_method_with_controls_last_on_grey():
    rng = np.random.default_rng(0)
    responses = {"random": rng.random((80, 3)), **{f"m{i}": rng.random((5, 3)) for i in range(4)}}
    table = [
        row.row() for m, values in responses.items() for row in measured(m, values, [-1, 0, 1], np.arange(len(values)))
    ]
    figure = scorecard.response_curves(responses, [-1, 0, 1], table, QUESTION, ["random"])
    panels = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [*(f"m{i}, n = 5" for i in range(4)), "random (control), n = 80"]
    assert [len(axes.lines) for axes in panels] == [7, 7, 7, 7, 62], "images, mean and threshold; at most 60 images"
    grey = matplotlib.colors.to_rgba(CONTROL_SHADE)
    assert [axes.get_facecolor() == grey for axes in panels] == [False] * 4 + [True]
    assert panels[0].lines[-1].get_ydata()[0] == 0.5
    assert panels[0].lines[-2].get_ydata() == pytest.approx(responses["m0"].mean(axis=0))
    assert "no responses" in texts(scorecard.response_curves({}, [0], [], QUESTION))


def test_scorecard_has_a_panel_per_score_that_decides_and_says_which_way_is_better():
    rows = [{**row, "control": row["method"] == "linear"} for row in scores()]
    figure = scorecard.scorecard_chart(rows)
    panel = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panel) == ["flips in range", "flip area", "realism", "agreement, second"]
    assert panel["flips in range"].xaxis.label.get_text() == "better →"
    assert panel["realism"].xaxis.label.get_text() == "← better"
    assert [t.get_text() for t in panel["flips in range"].get_yticklabels()] == ["svm", "random", "linear"], (
        "controls last"
    )
    dots = [line.get_xdata()[0] for line in panel["flips in range"].lines if line.get_marker() == "o"]
    assert dots == [0.9, 0.2, 0.9]
    low, high = panel["flips in range"].get_xlim()
    assert low < 0
    assert high > 1


FOLLOWED = [
    {"method": "linear", "name": "nuclear density", "range": 4.0},
    {"method": "svm", "name": "unnamed", "range": None},
    {"method": "random", "name": None, "range": 2.5},
]


def test_scorecard_of_one_method_without_intervals_and_of_nothing():
    row = {**scores()[0], "low": math.nan, "high": math.nan}
    assert len(scorecard.scorecard_chart([row]).axes) == 1
    lost = {**row, "value": math.nan, "images": 0}
    assert "no scores" in texts(scorecard.scorecard_chart([lost]))
    cell = scorecard.deciding_table([lost], FOLLOWED, "linear").rows[0][3]
    assert cell.text == "–, n = 0"
    assert math.isnan(cell.sort)


def test_what_decides_stands_by_method_and_all_else_by_score():
    table = scorecard.deciding_table(scores(), FOLLOWED, "linear")
    heads = ["flips in range ↑", "flip area ↑", "realism ↓", "agreement, second ↑"]
    assert table.columns == ["method", "what moves", "range (σ)", *heads]
    assert table.rows[0] == ["linear", "nuclear density", 4.0, *[Cell("0.9 [0.85, 0.95], n = 20", 0.9)] * 4]
    assert [row[:3] for row in table.rows[1:]] == [["svm", "unnamed", None], ["random (control)", None, 2.5]]
    assert "None here" not in table.caption
    table = scorecard.further_table(scores(), "linear", "factors")
    assert table.columns == ["score", "linear", "svm", "random (control)", "what it says"]
    assert len(table.rows) == len(SCORES) - 4
    named = {row[0]: row for row in table.rows}
    assert named["proximity (HU) ↓"][1:4] == [
        *[Cell("0.9 [0.85, 0.95], n = 20", 0.9)] * 2,
        Cell("0.2 [0.15, 0.25], n = 20", 0.2),
    ]
    assert "of: factors" in table.caption


def test_what_several_other_classifiers_say_stands_by_score():
    """So that the table of methods does not grow with them."""
    rows = scores() + [row | {"score": "agreement/third"} for row in scores() if row["score"] == "agreement/second"]
    assert scorecard.deciding_table(rows, FOLLOWED, "linear").columns[3:] == [
        "flips in range ↑",
        "flip area ↑",
        "realism ↓",
    ]
    named = [row[0] for row in scorecard.further_table(rows, "linear", "factors").rows]
    assert named[:2] == ["agreement, second ↑", "agreement, third ↑"]
    assert len(scorecard.scorecard_chart(rows).axes) == 3


def test_a_score_that_a_run_has_not_is_a_dash_with_its_reason():
    lacking = ("cout", "agreement/second", "effectiveness/second")
    rows = [
        row for row in scores() if row["score"] not in lacking and (row["method"], row["score"]) != ("svm", "diversity")
    ]
    assert scorecard.deciding_table(rows, FOLLOWED, "linear").rows[0][-1] is None
    assert "None here: no other classifier is compared" in scorecard.deciding_table(rows, FOLLOWED, "linear").caption
    named = {row[0]: row for row in scorecard.further_table(rows, "linear", "factors").rows}
    assert named["COUT ↑"][1:4] == [None] * 3
    assert named["COUT ↑"][-1].endswith("None here: the prediction is no probability.")
    assert named["diversity ↑"][2] is None
    assert "None here" not in named["diversity ↑"][-1]


def test_curves_of_flips_have_controls_in_grey_and_the_area_beside_the_name():
    far = {"random": np.array([0.5, 2.0]), "linear": np.array([0.0, 0.2])}
    rows = [row.row() for m, x in far.items() for row in flip_curve(m, x, np.arange(2))]
    figure = scorecard.flip_curves(rows, {"linear": 0.9, "random": 0.25}, ["random"])
    linear, random = figure.axes[0].lines
    assert linear.get_label() == "linear: 0.90, n = 2"
    assert random.get_label() == "random (control): 0.25, n = 2"
    assert random.get_color() == MUTED
    assert (linear.get_ydata()[0], linear.get_ydata()[-1]) == (0.5, 1.0)
    assert (random.get_ydata()[0], random.get_ydata()[-1]) == (0.0, 0.5)
    assert "no editing range" in texts(scorecard.flip_curves([], {}))


def test_reliability_shows_points_counts_and_quality():
    rows = [
        {"low": 0.0, "high": 0.5, "predicted": 0.2, "observed": 0.1, "count": 30},
        {"low": 0.5, "high": 1.0, "predicted": math.nan, "observed": math.nan, "count": 0},
    ]
    figure = scorecard.reliability_plot(rows, {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "ece": 0.1, "mae": None})
    above, below = figure.axes
    assert above.lines[1].get_xydata().tolist() == [[0.2, 0.1]]
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in below.patches] == [(0.25, 30)]
    assert "AUC 0.900 [0.800, 0.950]\ncalibration error (ECE) 0.100" in texts(figure)
    assert "AUC 0.900" in texts(scorecard.reliability_plot(rows, {"auc": 0.9}))
    assert "AUC" not in texts(scorecard.reliability_plot(rows, {"auc": None}))
    assert "no predictions" in texts(scorecard.reliability_plot(rows[1:], {}))


def test_inversion_table_sorts_by_number():
    table = scorecard.inversion_table(
        [{"method": "encoder", "psnr": 24.0, "ms_ssim": 0.9, "drift": 0.05, "seconds": 2}]
    )
    assert table.rows == [["encoder", Cell("24 dB", 24.0), Cell("0.9", 0.9), Cell("0.05", 0.05), Cell("2 s", 2)]]
