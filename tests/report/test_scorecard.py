"""Charts and tables of scores, responses and quality: their numbers by hand, and input at its worst."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from report.made import scores

from medlat.explain.scorecard import SCORES
from medlat.explain.scorecard import responses as measured
from medlat.report import scorecard
from medlat.report.explanation import Question
from medlat.report.page import Cell
from medlat.report.style import CONTROL_SHADE

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


def test_scorecard_has_a_panel_per_score_and_says_which_way_is_better():
    rows = [{**row, "control": row["method"] == "linear"} for row in scores()]
    figure = scorecard.scorecard_chart(rows)
    assert sum(axes.get_visible() for axes in figure.axes) == len(SCORES) == 12
    panel = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert panel["flip rate"].xaxis.label.get_text() == "better →"
    assert panel["proximity (HU)"].xaxis.label.get_text() == "← better"
    assert [t.get_text() for t in panel["flip rate"].get_yticklabels()] == ["svm", "random", "linear"], "controls last"
    dots = [line.get_xdata()[0] for line in panel["flip rate"].lines if line.get_marker() == "o"]
    assert dots == [0.9, 0.2, 0.9]
    low, high = panel["flip rate"].get_xlim()
    assert low < 0
    assert high > 1


def test_scorecard_of_one_method_without_intervals_and_of_nothing():
    row = {**scores()[0], "low": math.nan, "high": math.nan}
    assert len(scorecard.scorecard_chart([row]).axes) == 1
    lost = {**row, "value": math.nan}
    assert "no scores" in texts(scorecard.scorecard_chart([lost]))
    assert scorecard.scorecard_table([lost]).rows == [["linear", Cell("–", pytest.approx(math.nan, nan_ok=True))]]


def test_scorecard_table_has_methods_and_scores():
    table = scorecard.scorecard_table([row for row in scores() if row["score"] in ("flip_rate", "proximity")])
    assert table.columns == ["method", "flip rate ↑", "proximity (HU) ↓"]
    assert table.rows[0] == ["linear", *[Cell("0.9 [0.85, 0.95], n = 20", 0.9)] * 2]
    assert [row[0] for row in table.rows] == ["linear", "svm", "random (control)"]
    assert "crosses the threshold" in table.caption
    only = scorecard.scorecard_table([row for row in scores() if (row["score"], row["method"]) != ("realism", "svm")])
    assert None in only.rows[1]


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
