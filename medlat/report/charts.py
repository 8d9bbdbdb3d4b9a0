"""Figures made of numbers: purity, training curves, latent usage, distances. `heatmap.py` has the semantics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medlat.evaluation.semantics import Effect, purity
from medlat.report.style import (
    BLUE,
    COLUMN,
    CONTROL_SHADE,
    CONTROLS,
    INK,
    MUTED,
    ORANGE,
    PAGE,
    PALETTE,
    RULE,
    VERMILION,
    in_order,
    message_figure,
    new_figure,
    number,
    styled,
    with_unit,
)

Row = Mapping[str, Any]
PURITY = ("purity", "purity_low", "purity_high")
QUANTITIES = {  # titles that a name alone does not give
    "psnr": "PSNR (dB)",
    "kl": "KL (nats per latent dimension)",
    "discriminator": "loss of the discriminator",
    "generator": "loss of the generator",
    "r1": "R1 penalty, as weighted in its steps",
    "path_length": "path-length penalty, as weighted",
    "augment_p": "probability p of an augmentation",
    "patch_distance": "patch distance (sliced Wasserstein, ×10⁻³)",
    "spread": "spread of samples, relative to real",
    "discriminator_real": "mean logit of held-out images",
}


def purity_table(
    rows_per_method: Mapping[str, Sequence[Row]],
    numbers: Mapping[str, float],
    kind: str,
    controls: Sequence[str] = CONTROLS,
) -> list[dict]:
    """Per method the mean purity of its directions with its 95% interval over patients, and coverage; controls last.

    rows_per_method: of semantics.csv. numbers: metrics.json. kind: which rows count, "factor" or "measurement".
    """
    table = []
    for method, rows in rows_per_method.items():
        own = [row for row in rows if row["kind"] == kind]
        found = {key: numbers.get(f"semantics/{method}/{kind}_{key}", math.nan) for key in PURITY}
        directions = len({row["direction"] for row in own if math.isfinite(row["share"])})
        shown = {"method": method, "control": method in controls, "kind": kind, "directions": directions}
        covers = int(numbers.get(f"semantics/{method}/{kind}_coverage", 0))
        table.append(shown | found | {"coverage": covers, "of": len({row["measurement"] for row in own})})
    return sorted(table, key=lambda row: row["control"])


@styled
def purity_chart(rows_per_method: Mapping[str, Sequence[Row]], table: Sequence[Row]) -> Figure:
    """A point per direction, the mean with its 95% interval per method; methods first, then the controls on grey.

    table: of `purity_table`.
    """
    table = [row for row in table if row["directions"]]
    if not table:
        return message_figure("no measured directions to show")
    kind = table[0]["kind"]
    figure = new_figure(min(PAGE, max(COLUMN, 0.9 * len(table) + 0.7)), 2.7, constrained=True)
    axes = figure.add_subplot()
    draw = np.random.default_rng(0)
    for x, row in enumerate(table):
        colour = MUTED if row["control"] else BLUE
        if row["control"]:
            axes.axvspan(x - 0.5, x + 0.5, color=CONTROL_SHADE, zorder=0, linewidth=0)
        strongest = purity([Effect.from_row(r) for r in rows_per_method[row["method"]]], kind)
        points = [best.share for best in strongest.values()]
        axes.scatter(
            x - 0.18 + draw.uniform(-0.1, 0.1, len(points)), points, s=9, color=colour, alpha=0.55, linewidths=0
        )
        span = [[row["purity"] - row["purity_low"]], [row["purity_high"] - row["purity"]]]
        axes.errorbar(x + 0.15, row["purity"], span, fmt="D", color=colour, markersize=4, capsize=2.5, elinewidth=1.2)
        axes.annotate(
            number(row["purity"], 2), (x + 0.15, row["purity"]), (6, 0), textcoords="offset points", va="center"
        )
    what = "known factors" if kind == "factor" else "measurements"
    labels = [
        f"{r['method']}{' (control)' if r['control'] else ''}\ncovers {r['coverage']} of {r['of']}" for r in table
    ]
    axes.set_xticks(range(len(table)), labels)
    axes.set(ylim=(0, 1.03), xlim=(-0.5, len(table) - 0.5), ylabel=f"purity ({what})")
    axes.tick_params(axis="x", length=0)
    return figure


@styled
def training_curves(records: Sequence[Mapping[str, Any]], images_per_step: float = 1.0) -> Figure:
    """Small multiples: a panel per quantity, a line per split.

    records: {"name": "train/loss", "step": int, "value": float, ...}; what follows the first "/" is the quantity, what
    stands before it the split. step * images_per_step = images seen.
    """
    series = _series(records, images_per_step)
    if not series:
        return message_figure("nothing was logged")
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure = new_figure(PAGE if columns > 1 else COLUMN, 1.55 * rows + 0.25, constrained=True)
    splits = in_order(split for lines in series.values() for split in lines)
    for index, (quantity, lines) in enumerate(series.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for split, (x, y) in lines.items():
            _curve(axes, x, y, PALETTE[splits.index(split) % len(PALETTE)], split)
        axes.set_title(QUANTITIES.get(quantity, quantity.replace("_", " ")), loc="left", fontsize=7.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", color=RULE, linewidth=0.4)
        if len(lines) > 1 or splits != [""]:
            axes.legend(handlelength=1.2, borderaxespad=0.1)
        if index >= len(series) - columns:
            axes.set_xlabel("thousands of images")
    return figure


def _series(records: Sequence[Mapping[str, Any]], images_per_step: float) -> dict[str, dict[str, tuple]]:
    """quantity -> split -> (thousands of images [n], values [n]), in order of first appearance, sorted by step."""
    found: dict[str, dict[str, list]] = {}
    for record in records:
        if not math.isfinite(record["value"]):
            continue
        split, slash, quantity = record["name"].partition("/")
        split, quantity = (split, quantity) if slash else ("", split)
        point = (record["step"] * images_per_step / 1000.0, record["value"])
        found.setdefault(quantity, {}).setdefault(split, []).append(point)
    return {
        quantity: {split: tuple(np.array(sorted(points), np.float64).T) for split, points in lines.items()}
        for quantity, lines in found.items()
    }


def _curve(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str) -> None:
    """A line; a long, noisy one is drawn faint under its running mean."""
    if len(x) < 60:
        axes.plot(x, y, color=colour, label=label, marker="o" if len(x) < 15 else None, markersize=2.2)
        return
    reach = len(x) // 40
    padded = np.pad(y, reach, mode="edge")
    smooth = np.convolve(padded, np.full(2 * reach + 1, 1.0 / (2 * reach + 1)), mode="valid")
    axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.5)
    axes.plot(x, smooth, color=colour, label=label)
    # The first steps of a loss can dwarf all that follows.
    low, high = min(smooth.min(), np.percentile(y, 1)), np.percentile(y, 98)
    if y.max() > high + 3 * (high - low):
        axes.set_ylim(low - 0.05 * (high - low), high + 0.3 * (high - low))


def usage_table(kl_per_dimension: Sequence[float], active_threshold: float) -> list[dict]:
    """The numbers behind `latent_usage`, sorted by falling KL."""
    values = np.asarray(kl_per_dimension, np.float64)
    order = np.argsort(-np.nan_to_num(values), kind="stable")
    return [
        {
            "rank": rank + 1,
            "dimension": int(i),
            "kl_nats": float(values[i]),
            "active": bool(values[i] >= active_threshold),
        }
        for rank, i in enumerate(order)
    ]


@styled
def latent_usage(kl_per_dimension: Sequence[float], active_threshold: float) -> Figure:
    """KL to the prior per latent dimension, in nats, sorted: how many dimensions the encoder uses."""
    table = usage_table(kl_per_dimension, active_threshold)
    if not table:
        return message_figure("no latent dimensions to show")
    figure = new_figure(COLUMN, 2.0, constrained=True)
    axes = figure.add_subplot()
    colours = [BLUE if row["active"] else RULE for row in table]
    axes.bar(range(1, len(table) + 1), [np.nan_to_num(row["kl_nats"]) for row in table], width=0.85, color=colours)
    axes.axhline(active_threshold, color=VERMILION, linewidth=0.8, linestyle=(0, (4, 2)))
    active, total = sum(row["active"] for row in table), float(np.nansum(kl_per_dimension))
    title = f"{active} of {len(table)} active (KL ≥ {number(active_threshold, 2)} nats); {number(total)} nats in all"
    axes.set_title(title, loc="left", fontsize=7)
    axes.set(xlabel="latent dimension, sorted", ylabel="KL to the prior (nats)", xlim=(0.3, len(table) + 0.7))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def distance_chart(rows: Sequence[Row]) -> Figure:
    """How far samples are from real images (filled) against how far real images are from each other (open).

    rows: {"name", "value", "floor", "unit"}; each distance has an axis of its own, logarithmic where the value is more
    than 30 times a positive floor.
    """
    rows = [row for row in rows if math.isfinite(row["value"])]
    if not rows:
        return message_figure("no distances to show")
    figure = new_figure(PAGE * 0.7, 0.42 * len(rows) + 0.35, constrained=True)
    for index, row in enumerate(rows):
        axes = figure.add_subplot(len(rows), 1, index + 1)
        _distance(axes, row)
        if index == 0:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1.1), ncols=2, handletextpad=0.2, borderaxespad=0)
    return figure


def _distance(axes: Axes, row: Row) -> None:
    value, floor = float(row["value"]), float(row["floor"])
    known = math.isfinite(floor)
    logarithmic = known and floor > 0 and value > 30 * floor
    if known:
        axes.plot([floor, value], [0, 0], color=ORANGE, linewidth=2, alpha=0.6, zorder=1)
        axes.scatter([floor], [0], s=28, facecolor="white", edgecolor=INK, linewidths=1, label="real to real (floor)")
    axes.scatter([value], [0], s=28, color=VERMILION, label="samples to real", zorder=3)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(floor / 2, value * 3)
    else:
        ends = [0.0, value, floor] if known else [0.0, value]
        margin = 0.12 * (max(ends) - min(ends) or 1.0)
        axes.set_xlim(min(ends) - (margin if min(ends) < 0 else 0), max(ends) + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set(yticks=[], ylim=(-1, 1))
    axes.spines["left"].set_visible(False)
    text = f"{with_unit(number(value), row['unit'])}\nfloor {with_unit(number(floor), row['unit'])}"
    axes.text(-0.02, 0.5, row["name"], transform=axes.transAxes, ha="right", va="center", fontsize=7)
    axes.text(1.02, 0.5, text, transform=axes.transAxes, va="center", fontsize=6.5, linespacing=1.3)
