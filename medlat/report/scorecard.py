"""Charts and tables of an explanation made of numbers: how predictions answer, the scorecard, the classifier's quality.

Methods that know nothing (controls) stand last and on grey.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medlat.explain.scorecard import SCORES, Score, keys_of
from medlat.report.explanation import Question
from medlat.report.page import Cell, Table
from medlat.report.style import (
    BLUE,
    COLUMN,
    CONTROL_SHADE,
    INK,
    MUTED,
    PAGE,
    PALETTE,
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
    "composition_1": "composition, 1 cycle",
    "composition_10": "composition, 10 cycles",
    "minimality": "minimality (CLD)",
    "cout": "COUT",
    "correlation_difference": "correlation difference (CD)",
    "ms_ssim": "MS-SSIM",
    "identity": "identity change",
    "seconds": "time per image",
}
DASHES = ((0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)), (0, (9, 2)))  # of controls
RANGES = dict.fromkeys(("flips_in_range", "flip_area", "agreement"), (0.0, 1.0))  # of scores that are drawn


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
    axes.set_title(f"{name}, n = {rows[0]['images']:.0f}", loc="left", fontsize=7.5)
    axes.grid(axis="y", color=RULE, linewidth=0.4)


@styled
def flip_curves(
    rows: Sequence[Row],  # {"method", "share", "flips", "low", "high", "images"} of each method and share
    areas: Mapping[str, float],  # below each method's curve
    controls: Collection[str] = (),
) -> Figure:
    """How many images flip when a share of the editing range is gone: a line per method with its 95% interval, controls
    in grey, each with the area below it.
    """
    methods = sorted(in_order(row["method"] for row in rows), key=lambda method: method in controls)
    if not methods:
        return message_figure("no editing range is known")
    figure = new_figure(0.75 * PAGE, 2.3, constrained=True)
    axes = figure.subplots()
    colours, lines = iter(itertools.cycle(PALETTE)), iter(itertools.cycle(DASHES))
    for method in methods:
        own, control = [row for row in rows if row["method"] == method], method in controls
        colour = MUTED if control else next(colours)
        x, low, high = ([row[key] for row in own] for key in ("share", "low", "high"))
        label = f"{method}{' (control)' if control else ''}: {areas[method]:.2f}, n = {own[0]['images']:.0f}"
        axes.plot(
            x, [row["flips"] for row in own], color=colour, linestyle=next(lines) if control else "-", label=label
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="share of the editing range", ylabel="images that flip")
    axes.grid(axis="y", color=RULE, linewidth=0.4)
    figure.legend(title="area below", loc="outside right center", title_fontsize=6.5)
    return figure


@styled
def scorecard_chart(rows: Sequence[Row]) -> Figure:
    """A panel per score that decides, a dot with its 95% interval per method; an arrow points to where it is better.

    rows: {"method", "score", "value", "low", "high", "unit", "better", "control", "images"}.
    """
    deciding = list(_deciding(rows))
    rows = [row for row in rows if row["score"] in deciding and math.isfinite(row["value"])]
    if not rows:
        return message_figure("no scores to show")
    methods = _in_order_of_control(rows)
    scores = [key for key in deciding if key in _keys(rows)]
    figure = new_figure(PAGE, 0.17 * len(methods) + 0.62, constrained=True)
    for axes, score in zip(figure.subplots(1, len(scores), sharey=True, squeeze=False).flat, scores, strict=True):
        _score(axes, [row for row in rows if row["score"] == score], methods)
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
    axes.set_title(_title(key) + (f" ({unit})" if unit else ""), loc="left", fontsize=7)
    axes.set_xlabel(arrow, fontsize=6, color=MUTED, labelpad=1, loc="right" if better == "higher" else "left")
    low, high = RANGES.get(key.partition("/")[0], (0.0, 0.0))
    known = [row[name] for row in rows for name in ("value", "low", "high") if math.isfinite(row[name])]
    low, high = min(low, *known), max(high, *known)
    margin = 0.05 * ((high - low) or 1.0)
    axes.set(ylim=(len(methods) - 0.5, -0.5), xlim=(low - margin, high + margin))
    axes.set_yticks(range(len(methods)), list(methods))
    axes.tick_params(axis="y", length=0)
    if key.partition("/")[0] in RANGES:
        axes.set_xticks([0.0, 0.5, 1.0])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.grid(axis="x", color=RULE, linewidth=0.4)


def deciding_table(rows: Sequence[Row], followed: Sequence[Row], main: str) -> Table:
    """Methods × the scores that decide, each with its 95% interval, what moves, and how far images stay near the data.

    rows: as of `scorecard_chart`. followed: {"method", "name", "range"}, None where there is none.
    """
    scores = _deciding(rows)
    told = {row["method"]: row for row in followed}
    known = {(row["method"], row["score"]): row for row in rows}
    lines = [
        [method + (" (control)" if control else ""), told[method]["name"], told[method]["range"]]
        + [_cell(known.get((method, key))) for key in scores]
        for method, control in _in_order_of_control(rows).items()
    ]
    heads = [_title(key) + _arrow(score.better) for key, score in scores.items()]
    caption = (
        "Range: how far along a direction half of the images stay as near to training images as held-out ones. In "
        "brackets the 95% interval; n: images, of a control times directions; the arrow says which way is better. "
        + " ".join(f"{_title(score.key).capitalize()}: {_meaning(score, rows, main)}" for score in scores.values())
    )
    return Table("What decides", ["method", "what moves", "range (σ)", *heads], lines, caption)


def further_table(rows: Sequence[Row], main: str, features: str) -> Table:
    """All other scores × methods, with a sentence on what each says, or why there is none. features: whose they are."""
    methods = _in_order_of_control(rows)
    known = {(row["method"], row["score"]): row for row in rows}
    units = {row["score"]: row["unit"] for row in rows}
    lines = []
    for score in SCORES:
        for key in sorted({*(keys_of(score, _keys(rows)) or [score.key])} - {*_deciding(rows)}):
            unit = f" ({units[key]})" if units.get(key) else ""
            cells = [_cell(known.get((method, key))) for method in methods]
            lines.append([_title(key) + unit + _arrow(score.better), *cells, _meaning(score, rows, main)])
    heads = [method + (" (control)" if control else "") for method, control in methods.items()]
    caption = f"From minimality to diversity over counterfactuals; the run's own features are those of: {features}."
    return Table("Every other score", ["score", *heads, "what it says"], lines, caption)


def _deciding(rows: Sequence[Row]) -> dict[str, Score]:
    """The scores that decide, by key. One that several other classifiers have would make the table too wide."""
    found = {score: keys_of(score, _keys(rows)) or [score.key] for score in SCORES if score.decides}
    return {keys[0]: score for score, keys in found.items() if len(keys) == 1}


def _keys(rows: Sequence[Row]) -> list[str]:
    return [row["score"] for row in rows]


def _title(key: str) -> str:
    score, _, other = key.partition("/")
    return TITLES.get(score, score.replace("_", " ")) + (f", {other}" if other else "")


def _arrow(better: str) -> str:
    return " ↑" if better == "higher" else " ↓"


def _meaning(score: Score, rows: Sequence[Row], main: str) -> str:
    there = keys_of(score, [row["score"] for row in rows if row["method"] == main])
    return f"{score.meaning}." if there else f"{score.meaning}. None here: {score.absent}."


def _measured(value: float, unit: str) -> Cell:
    return Cell(with_unit(number(value), unit), value)


def _cell(row: Row | None) -> Cell | None:
    if row is None:
        return None
    if not math.isfinite(row["value"]):
        return Cell(f"–, n = {row['images']:.0f}", math.nan)
    interval = f" [{number(row['low'], 2)}, {number(row['high'], 2)}]" if math.isfinite(row["low"]) else ""
    return Cell(f"{number(row['value'])}{interval}, n = {row['images']:.0f}", row["value"])


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
