"""Charts and tables of an explanation made of numbers: how predictions answer, the scorecard, the classifier's quality.

Methods that know nothing (controls) stand last and on grey.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medlat.explain.scorecard import SCORES
from medlat.report.explanation import Question
from medlat.report.page import Cell, Table
from medlat.report.style import (
    BLUE,
    COLUMN,
    CONTROL_SHADE,
    INK,
    MUTED,
    PAGE,
    RULE,
    in_order,
    message_figure,
    new_figure,
    number,
    styled,
    with_unit,
)

Row = Mapping[str, Any]
INVERSION_UNITS = {"psnr": "dB", "ms_ssim": "", "drift": "", "seconds": "s"}
LINES = 60  # of single images in a panel of response curves
TITLES = {  # what the name alone does not say
    "ms_ssim": "MS-SSIM",
    "identity": "identity change",
    "seconds": "time per image",
}
RANGES = dict.fromkeys(("flip_rate", "reach_rate", "oracle_rate", "monotonicity", "sparsity"), (0.0, 1.0))


@styled
def response_curves(
    responses: Mapping[str, np.ndarray],  # method -> predictions [N, S]
    steps: Sequence[float],  # [S]
    table: Sequence[Row],  # {"method", "step", "mean", "low", "high", "images"} of each method and step
    question: Question,
    controls: Collection[str] = (),
) -> Figure:
    """How the prediction answers to a step: a panel per method, controls last and on grey; thin lines are images, the
    bold one their mean with its 95% interval, the dashed one the threshold.
    """
    drawn = {row["method"] for row in table}
    order = sorted((method for method in responses if method in drawn), key=lambda method: method in controls)
    if not order:
        return message_figure("no responses to show")
    columns = min(4, len(order))
    lines = -(-len(order) // columns)
    figure = new_figure(min(PAGE, 2.1 * columns + 0.5), 1.75 * lines + 0.2, constrained=True)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(grid.flat, order, strict=False):
        rows = [row for row in table if row["method"] == method]
        _response(axes, responses[method], steps, rows, question, method in controls)
    for index, axes in enumerate(grid.flat[len(order) :], start=len(order)):
        axes.set_visible(False)
        grid.flat[index - columns].tick_params(labelbottom=True)
    if question.probability:
        grid[0, 0].set_ylim(-0.03, 1.03)
    figure.supxlabel("step along the direction (σ)", fontsize=7)
    figure.supylabel(question.axis, fontsize=7)
    return figure


def _response(
    axes: Axes, values: np.ndarray, steps: Sequence[float], rows: Sequence[Row], question: Question, control: bool
) -> None:
    known = [row["step"] for row in rows]
    colour = MUTED if control else BLUE
    if control:
        axes.set_facecolor(CONTROL_SHADE)
    shown = np.unique(np.linspace(0, len(values) - 1, min(LINES, len(values))).round().astype(int))
    axes.plot(steps, np.asarray(values)[shown].T, color=colour, linewidth=0.4, alpha=0.3)
    axes.fill_between(known, [r["low"] for r in rows], [r["high"] for r in rows], color=colour, alpha=0.3, linewidth=0)
    axes.plot(known, [row["mean"] for row in rows], color=colour, linewidth=2)
    axes.axhline(question.threshold, color=INK, linewidth=0.7, linestyle=(0, (4, 2)))
    name = rows[0]["method"] + (" (control)" if control else "")
    axes.set_title(f"{name}, n = {rows[0]['images']}", loc="left", fontsize=7.5)
    axes.grid(axis="y", color=RULE, linewidth=0.4)


@styled
def scorecard_chart(rows: Sequence[Row]) -> Figure:
    """A panel per score, in each a dot with its 95% interval per method; an arrow points to where it is better.

    rows: {"method", "score", "value", "low", "high", "unit", "better", "control", "images"}.
    """
    rows = [row for row in rows if math.isfinite(row["value"])]
    if not rows:
        return message_figure("no scores to show")
    methods = _in_order_of_control(rows)
    scores = [score.key for score in SCORES if any(row["score"] == score.key for row in rows)]
    lines = -(-len(scores) // 5)
    columns = -(-len(scores) // lines)
    figure = new_figure(PAGE, lines * (0.17 * len(methods) + 0.62), constrained=True)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, score in zip(grid.flat, scores, strict=False):
        _score(axes, [row for row in rows if row["score"] == score], methods)
    for axes in grid.flat[len(scores) :]:
        axes.set_visible(False)
    return figure


def _in_order_of_control(rows: Sequence[Row]) -> dict[str, bool]:
    """Methods in order of appearance, controls last -> whether each is one."""
    control = {row["method"]: bool(row["control"]) for row in rows}
    return {method: control[method] for method in sorted(in_order(control), key=lambda method: control[method])}


def _score(axes: Axes, rows: Sequence[Row], methods: Mapping[str, bool]) -> None:
    for y, (method, control) in enumerate(methods.items()):
        if control:
            axes.axhspan(y - 0.5, y + 0.5, color=CONTROL_SHADE, zorder=0, linewidth=0)
        for row in (row for row in rows if row["method"] == method):
            ends = [end if math.isfinite(end) else row["value"] for end in (row["low"], row["high"])]
            colour = MUTED if control else BLUE
            axes.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
            axes.plot(row["value"], y, "o", color=colour, markersize=4)
    key, unit, better = (rows[0][name] for name in ("score", "unit", "better"))
    arrow = "better →" if better == "higher" else "← better"
    title = TITLES.get(key, key.replace("_", " ")) + (f" ({unit})" if unit else "")
    axes.set_title(title, loc="left", fontsize=7)
    axes.set_xlabel(arrow, fontsize=6, color=MUTED, labelpad=1, loc="right" if better == "higher" else "left")
    low, high = RANGES.get(key, (0.0, 0.0))
    known = [row[name] for row in rows for name in ("value", "low", "high") if math.isfinite(row[name])]
    low, high = min(low, *known), max(high, *known)
    margin = 0.05 * ((high - low) or 1.0)
    axes.set(ylim=(len(methods) - 0.5, -0.5), xlim=(low - margin, high + margin))
    axes.set_yticks(range(len(methods)), list(methods))
    axes.tick_params(axis="y", length=0)
    if key in RANGES:
        axes.set_xticks([0.0, 0.5, 1.0])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.grid(axis="x", color=RULE, linewidth=0.4)


def scorecard_table(rows: Sequence[Row]) -> Table:
    """Methods × scores, each with its 95% interval."""
    methods = _in_order_of_control(rows)
    scores = [score for score in SCORES if any(row["score"] == score.key for row in rows)]
    known = {(row["method"], row["score"]): row for row in rows}
    lines = [
        [method + (" (control)" if control else "")]
        + [_scored(known[method, score.key]) if (method, score.key) in known else None for score in scores]
        for method, control in methods.items()
    ]
    heads, meanings = [], []
    for score in scores:
        unit = next(row["unit"] for row in rows if row["score"] == score.key)
        title = TITLES.get(score.key, score.key.replace("_", " "))
        heads.append(f"{title}{f' ({unit})' if unit else ''} {'↑' if score.better == 'higher' else '↓'}")
        meanings.append(f"{title}: {score.meaning}.")
    caption = (
        "In brackets the 95% interval; n: images, of a control times directions; the arrow says which way is better. "
        + " ".join(meanings)
    )
    return Table("Every method, every score", ["method", *heads], lines, caption)


def _measured(value: float, unit: str) -> Cell:
    return Cell(with_unit(number(value), unit), value)


def _scored(row: Row) -> Cell:
    if not math.isfinite(row["value"]):
        return Cell("–", math.nan)
    interval = f" [{number(row['low'], 2)}, {number(row['high'], 2)}]" if math.isfinite(row["low"]) else ""
    return Cell(f"{number(row['value'])}{interval}, n = {row['images']}", row["value"])


@styled
def reliability_plot(
    rows: Sequence[Row],  # {"low", "high", "predicted", "observed", "count"} of each bin of predictions
    quality: Mapping[str, float | None],  # auc, auc_low, auc_high, ece, ...; what is not there is left out
) -> Figure:
    """How often it is true where the classifier says so: observed against predicted frequency, below it how often each
    prediction is made. On the diagonal the predictions are frequencies.
    """
    rows = [row for row in rows if row["count"] > 0]
    if not rows:
        return message_figure("no predictions to compare with the truth")
    figure = new_figure(COLUMN, 4.15)
    # Placed by hand: the upper panel is to be square and as wide as the lower.
    side, left = 2.85, 0.5
    above = figure.add_axes((left / COLUMN, 1.2 / 4.15, side / COLUMN, side / 4.15))
    below = figure.add_axes((left / COLUMN, 0.4 / 4.15, side / COLUMN, 0.65 / 4.15), sharex=above)
    above.tick_params(labelbottom=False)
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=(0, (4, 2)))
    x, y = [row["predicted"] for row in rows], [row["observed"] for row in rows]
    above.plot(x, y, color=BLUE, marker="o", markersize=4)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed frequency")
    above.grid(color=RULE, linewidth=0.4)
    text = "\n".join(_quality_lines(quality))
    above.text(0.04, 0.96, text, transform=above.transAxes, va="top", fontsize=7, linespacing=1.4)
    middles, widths = [(row["low"] + row["high"]) / 2 for row in rows], [row["high"] - row["low"] for row in rows]
    below.bar(middles, [row["count"] for row in rows], width=[0.92 * width for width in widths], color=BLUE, alpha=0.6)
    below.set(xlabel="predicted probability", ylabel="images")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def _quality_lines(quality: Mapping[str, float | None]) -> list[str]:
    """AUC with its interval and the calibration error, of what is known."""
    known = {key: value for key, value in quality.items() if isinstance(value, int | float) and math.isfinite(value)}
    lines = []
    if "auc" in known:
        interval = (
            f" [{known['auc_low']:.3f}, {known['auc_high']:.3f}]" if {"auc_low", "auc_high"} <= set(known) else ""
        )
        lines.append(f"AUC {known['auc']:.3f}{interval}")
    if "ece" in known:
        lines.append(f"calibration error (ECE) {known['ece']:.3f}")
    return lines


def inversion_table(rows: Sequence[Row]) -> Table:
    """Inversion methods × what they cost and keep. rows: {"method", "psnr", "ms_ssim", "drift", "seconds"}, means."""
    lines = [[row["method"]] + [_measured(row[key], unit) for key, unit in INVERSION_UNITS.items()] for row in rows]
    columns = ["inversion", "PSNR ↑", "MS-SSIM ↑", "prediction drift ↓", "time per image ↓"]
    caption = "Means over held-out images. Drift: how far the prediction moves by inversion alone."
    return Table("How near inversion comes", columns, lines, caption)
