"""What every direction does to every measurement, beside what chance does: one heat map, one scale."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from medlat.report.style import (
    CONTROLS,
    DIVERGING,
    MUTED,
    PAGE,
    bare_name,
    in_order,
    message_figure,
    new_figure,
    number,
    styled,
    unit_sign,
)

Row = Mapping[str, Any]
MOST_DIRECTIONS = 24  # rows of a panel; beyond it only the strongest are drawn, and the heading says so
NOTABLE = 0.25  # |standardised effect per σ| from which a significant cell has its effect printed
CELL = 0.235  # inches: the height of a cell
ROOM = 0.28  # inches: the width of a cell that an effect can be printed in


def is_significant(row: Row) -> bool:
    """The 95% interval of the effect excludes 0."""
    low, high = row["effect_low"], row["effect_high"]
    return math.isfinite(low) and math.isfinite(high) and (low > 0 or high < 0)


@styled
def semantics_heatmap(rows: Sequence[Row], controls: Sequence[str] = CONTROLS) -> Figure:
    """Directions x measurements, coloured by the standardised effect per σ; the controls beside, on the same scale.

    rows: {"method", "direction", "measurement", "unit", "effect", "effect_low", "effect_high", "standardised", "share",
    "r2", "kind"}; effect: per σ, in `unit`; low, high: its 95% interval; standardised: effect / standard deviation of
    the measurement over real images; kind: "measurement" or "factor". Cells whose interval excludes 0 are marked: in
    the method's own panel by the effect itself where there is room and it is a direction's strongest or from 0.25 on,
    else by a dot.
    """
    finite = np.array([row["standardised"] for row in rows if math.isfinite(row["standardised"])])
    if not len(finite):
        return message_figure("no measured effects to show")
    columns = _columns(rows)
    methods = in_order(row["method"] for row in rows)
    beside = [method for method in methods if method in controls]
    main = [method for method in methods if method not in controls]
    if not main:
        main, beside = beside[:1], beside[1:]
    scale = Normalize(-(limit := max(0.5, float(np.percentile(np.abs(finite), 99)))), limit)
    panels = {method: [row for row in rows if row["method"] == method] for method in methods}
    heights = [
        max(len(_directions(panels[m])[0]) for m in ([method, *beside] if i == 0 else [method]))
        for i, method in enumerate(main)
    ]
    figure, axes = _panels(heights, len(columns), len(beside), max(len(label) for label in columns.values()))
    for index, method in enumerate(main):
        _draw(axes[index][0], method, panels[method], columns, scale, printed=True)
        for panel, control in zip(axes[index][1:], beside if index == 0 else [], strict=False):
            _draw(panel, control, panels[control], columns, scale, printed=False)
    _legend(figure, scale, any(kind == "factor" for kind, _ in columns))
    return figure


def _columns(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(kind, measurement) -> label with unit; measurements first, then known factors."""
    found = in_order(f"{row['kind']}\0{row['measurement']}\0{row['unit']}" for row in rows)
    split = sorted((entry.split("\0") for entry in found), key=lambda entry: entry[0] != "measurement")
    return {(kind, name): _label(kind, name, unit_sign(unit)) for kind, name, unit in split}


def _label(kind: str, name: str, unit: str) -> str:
    return name.replace("_", " ") + (f" ({unit})" if unit else "") + (" ✱" if kind == "factor" else "")


def _directions(rows: Sequence[Row]) -> tuple[list[str], int]:
    """The directions to draw, in their own order, and how many there are: the strongest where they are too many."""
    names = in_order(row["direction"] for row in rows)
    strength = dict.fromkeys(names, 0.0)
    for row in rows:
        strength[row["direction"]] = max(strength[row["direction"]], float(np.nan_to_num(abs(row["standardised"]))))
    kept = set(sorted(names, key=lambda name: -strength[name])[:MOST_DIRECTIONS])
    return [name for name in names if name in kept], len(names)


def _panels(heights: list[int], columns: int, beside: int, longest: int) -> tuple[Figure, list[list[Axes]]]:
    """Per method a wide panel, and right of the first one a narrow panel for each control. Lengths in inches."""
    left, gap, top, bottom = 0.45, 0.38, 0.25 + 0.043 * min(longest, 34), 0.78
    share = 0.36  # a control's cell is this wide, relative to a method's
    cell = min(0.5, (PAGE - left - 0.15 - gap * beside) / (columns * (1 + share * beside)))
    narrow = max(share * cell * columns, 0.6)
    width = max(left + 0.15 + cell * columns + (gap + narrow) * beside, 4.6)  # 4.6: room for the legend
    total = sum(top + CELL * height for height in heights) + bottom
    figure, axes, y = new_figure(width, total), [], total
    for index, height in enumerate(heights):
        y -= top + CELL * height
        spans = [cell * columns, *([narrow] * beside if index == 0 else [])]
        line, x = [], left
        for span in spans:
            line.append(figure.add_axes((x / width, y / total, span / width, CELL * height / total)))
            x += span + gap
        axes.append(line)
    return figure, axes


def _draw(
    axes: Axes,
    method: str,
    rows: Sequence[Row],
    columns: Mapping[tuple[str, str], str],
    scale: Normalize,
    printed: bool,  # a method's own panel; otherwise a control's
) -> None:
    names, count = _directions(rows)
    position = {key: index for index, key in enumerate(columns)}
    values = np.full((len(names), len(columns)), np.nan)
    cells = {}
    for row in rows:
        if row["direction"] in names:
            at = names.index(row["direction"]), position[row["kind"], row["measurement"]]
            values[at], cells[at] = row["standardised"], row
    figure = axes.get_figure(root=True)
    assert figure is not None
    room = printed and figure.get_figwidth() * axes.get_position().width / len(columns) >= ROOM
    axes.imshow(values, cmap=_colours(), norm=scale, aspect="auto", interpolation="nearest")
    for (y, x), row in cells.items():
        _cell(axes, x, y, row, scale, room and _is_notable(row, values[y]))
    tilted = {"rotation": 50, "ha": "left", "rotation_mode": "anchor"} if printed else {"rotation": 90}
    axes.set_xticks(range(len(columns)), columns.values(), **tilted)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), [bare_name(name, method) for name in names])
    axes.tick_params(length=0, pad=2, labelsize=6.5 if printed else 6)
    heading = [method] if printed else [method, "(control)"]
    heading += [f"strongest {len(names)} of {count}"] if count > len(names) else []
    axes.set_xlabel("\n".join(heading), fontsize=7, fontweight="bold" if printed else "normal", labelpad=3)
    _rules(axes, len(names), [kind for kind, _ in columns])


def _colours() -> matplotlib.colors.Colormap:
    return matplotlib.colormaps[DIVERGING].with_extremes(bad="#eeeeee")


def _is_notable(row: Row, standardised: np.ndarray) -> bool:
    size = abs(row["standardised"])
    if not math.isfinite(size) or not is_significant(row):
        return False
    return bool(size >= NOTABLE or size >= np.nanmax(np.abs(standardised)))


def _cell(axes: Axes, x: int, y: int, row: Row, scale: Normalize, printed: bool) -> None:
    assert scale.vmax is not None
    ink = "white" if abs(row["standardised"]) > 0.62 * scale.vmax else "#1a1a1a"
    if printed:
        unit = unit_sign(row["unit"])
        number_ = number(row["effect"], 2, sign=True)
        text = f"{number_}{unit}" if unit in ("", "°", "%") else f"{number_}\n{unit}"
        axes.text(x, y, text, ha="center", va="center", fontsize=6, color=ink, linespacing=0.95)
    elif is_significant(row):
        axes.plot(x, y, ".", color=ink, markersize=2)


def _rules(axes: Axes, rows: int, kinds: Sequence[str]) -> None:
    """White lines between cells; a dark one where the known factors begin."""
    for y in range(1, rows):
        axes.axhline(y - 0.5, color="white", linewidth=0.6)
    for x in range(1, len(kinds)):
        begins = kinds[x] != kinds[x - 1]
        axes.axvline(x - 0.5, color=MUTED if begins else "white", linewidth=1.2 if begins else 0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, scale: Normalize, factors: bool) -> None:
    width, height = figure.get_size_inches()
    assert scale.vmax is not None
    axes = figure.add_axes(((width - 1.75) / width, 0.24 / height, 1.6 / width, 0.07 / height))
    mappable = matplotlib.cm.ScalarMappable(scale, DIVERGING)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend="both", extendfrac=0.04)
    bar.outline.set_linewidth(0.4)
    ticks = [-scale.vmax, 0.0, scale.vmax]
    bar.set_ticks(ticks, labels=[number(tick, 2, sign=True) for tick in ticks])
    axes.tick_params(labelsize=6, length=1.5, pad=1.5)
    note = "colour: effect per σ, in standard deviations over real images\n• or printed: 95% interval excludes 0"
    note += "    ✱ known factor" if factors else ""
    axes.annotate(
        note,
        (0, 0.5),
        (-11, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=6,
        color=MUTED,
    )
