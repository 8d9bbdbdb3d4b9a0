"""What directions are, all methods side by side: names, the atlas of what is alike, and how far each may be
followed.
"""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medlat.evaluation.editing import common_range
from medlat.evaluation.naming import UNNAMED
from medlat.report.page import Picture, Section, Table
from medlat.report.style import (
    BLUE,
    CONTROL_SHADE,
    INK,
    MUTED,
    PAGE,
    PALETTE,
    RULE,
    Figures,
    bare_name,
    in_order,
    message_figure,
    new_figure,
    number,
    styled,
)

MOST_ROWS = 45  # of the atlas, that are called by name: of more, names would lie upon each other
METRICS = {  # columns of the table of methods: key below the method -> title
    "semantics/{}/{kind}_purity": "mean purity",
    "semantics/{}/{kind}_coverage": "coverage",
    "semantics/{}/named": "named",
    "directions/{}/rca": "RCA",
    "directions/{}/held_out_rca_corrected": "RCA of the held-out probe, corrected",
    "directions/{}/held_out_rca_of_8": "RCA of the held-out probe, of 8",
    "directions/{}/held_out_shift_l1": "L1 of the step (σ)",
    "disentanglement/{}/mig": "MIG",
    "disentanglement/{}/sap": "SAP",
    "disentanglement/{}/dci_disentanglement": "DCI disentanglement",
    "disentanglement/{}/dci_completeness": "DCI completeness",
}


def discovered_section(
    evaluation: Path, numbers: Mapping[str, float], kind: str, controls: Sequence[str], groups: str, figures: Figures
) -> Section:
    """The section of the page, its figures written to `figures`.

    evaluation: folder with names.csv, atlas.csv, agreement.csv, editing.csv and atlas.npz. numbers: metrics.json.
    """
    names, places = read_rows(evaluation / "names.csv"), read_rows(evaluation / "atlas.csv")
    agreement, editing = read_rows(evaluation / "agreement.csv"), read_rows(evaluation / "editing.csv")
    arrays = np.load(evaluation / "atlas.npz")
    known = {(row["method"], row["direction"]): row for row in names}
    table = [
        place | {key: known[place["method"], place["direction"]][key] for key in ("name", "measurement")}
        for place in places
    ]
    pictures = [
        Picture.saved(
            figures.save(editing_chart(editing, controls), "editing_range", editing),
            "How far a direction may be followed",
            "Distance to the nearest training image; 95% of held-out real images lie below 1. Traversals are drawn "
            "as far as half of the images stay there, in three quarters of the directions or more.",
        ),
    ]
    if sum(row["method"] not in controls for row in names) > 1:
        maps = atlas_figure(arrays["effects"], arrays["angles"], arrays["order"], table, controls)
        note = (
            "Below the diagonal by what they do to images, above it by angle (grey: not in the same space). Squares: "
            "clusters of like effect."
        )
        pictures.insert(0, Picture.saved(figures.save(maps, "atlas", table), "Atlas: which directions are alike", note))
    tables = [
        methods_table(numbers, in_order(row["method"] for row in names), kind, controls),
        names_table(names, numbers, groups),
    ]
    if agreement:
        tables.append(_agreement_table(agreement))
    text = (
        "A direction has a name only where all of it is there: more evidence than the best of as many random "
        "directions (5% over all directions of the page); at least half of the way from the share that random "
        "directions have to the one that a single thing can have; a straight line (R² 0.5); images that stay near the "
        f"data and can be measured; and the same in both halves of the {groups}."
    )
    return Section("What varies?", text, pictures, tables)


def methods_table(numbers: Mapping[str, float], methods: Sequence[str], kind: str, controls: Sequence[str]) -> Table:
    """A row per method; columns that no method has are left out."""
    keys = {key: title for key, title in METRICS.items() if any(key.format(m, kind=kind) in numbers for m in methods)}
    rows = []
    for method in methods:
        values = [numbers.get(key.format(method, kind=kind)) for key in keys]
        whole = [
            int(v) if v is not None and t in ("coverage", "named") else v
            for v, t in zip(values, keys.values(), strict=True)
        ]
        rows.append([method + (" (control)" if method in controls else ""), *whole])
    told = (
        "RCA: share of fresh moves whose direction is recognised; the held-out probe is a network that the directions "
        "never learnt from, its RCA corrected for chance, or among 8 directions. "
    )
    apart = "MIG, SAP, DCI: of held-out images, their codes along the directions and their true factors."
    caption = (told if any(title.startswith("RCA") for title in keys.values()) else "") + (
        apart if "MIG" in keys.values() else ""
    )
    return Table("Methods side by side", ["method", *keys.values()], rows, caption)


def names_table(names: Sequence[Mapping[str, Any]], numbers: Mapping[str, float], groups: str) -> Table:
    """Every direction by evidence, controls among them."""
    rows = [
        [row["method"], row["direction"], row["name"], row["measurement"].replace("_", " "), row["why"]]
        + [_finite(row[key]) for key in ("share", "normalised", "r2", "evidence", "p", "range")]
        for row in sorted(names, key=lambda row: -row["evidence"])
    ]
    columns = [
        "method",
        "direction",
        "name",
        "strongest",
        "what a name lacks",
        "share",
        "normalised",
        "R²",
        "evidence",
        "p",
    ]
    alarms = [value for key, value in numbers.items() if key.endswith("/false_alarms") and math.isfinite(value)]
    caption = (
        "Normalised: the share between what random directions have, 0, and what it could have alone, 1, as judged by "
        "how measurements go together in real images, and may be exceeded. Evidence: "
        f"normalised share times the part that is common to all {groups}. p: that the best of as many random "
        "directions has as much."
    )
    if alarms:
        caption += (
            f" False alarms: of sets of as many random directions {max(alarms):.1%} have one that passes this test."
        )
    return Table("Names, by measurement", [*columns, "range (σ)"], rows, caption)


def _agreement_table(agreement: Sequence[Mapping[str, Any]]) -> Table:
    rows = [[row["method"], row["found_in"], _finite(row["by_angle"]), row["by_effect"]] for row in agreement]
    caption = (
        "Mean over the first method's directions of the largest |cosine| with one of the second; 1: all are there."
    )
    return Table("What is found again", ["directions of", "found in", "by angle", "by effect"], rows, caption)


@styled
def atlas_figure(
    effects: np.ndarray,
    angles: np.ndarray,
    order: np.ndarray,
    places: Sequence[Mapping[str, Any]],
    controls: Sequence[str],
    counted: str = "method",
) -> Figure:
    """Effects [D, D] below the diagonal, angles above, ordered by cluster, a colour per method at the side; controls
    are left out. A cluster is called by what most of its directions with a name are named after, with how many of what
    is `counted`, a column of the places, are in it.
    """
    order = np.array([i for i in order if places[i]["method"] not in controls])
    count = len(order)
    if count < 2:
        return message_figure("fewer than two directions")
    part = np.ix_(order, order)
    alike = np.where(np.tri(count, dtype=bool), effects[part], angles[part])
    methods = in_order(place["method"] for place in places if place["method"] not in controls)
    colours, labels = dict(zip(methods, _colours(len(methods)), strict=True)), _told_apart(methods)
    side, left, top = 4.3, 1.75, 0.1
    beside = max(1, min(5, 110 // (max(map(len, labels)) + 6)))  # entries of the legend in a line
    height = side + top + 0.25 + 0.16 * -(-len(methods) // beside)
    figure = new_figure(PAGE, height)
    axes = figure.add_axes((left / PAGE, 1.0 - (side + top) / height, side / PAGE, side / height))
    colours_of = colormaps["viridis"].with_extremes(bad="#e4e4e4")
    shown = axes.imshow(np.ma.masked_invalid(alike), cmap=colours_of, vmin=0.0, vmax=1.0, interpolation="nearest")
    for y, index in enumerate(order):
        bar = _bar(-0.5 - 0.03 * count, y - 0.5, 0.022 * count, colours[places[index]["method"]])
        axes.add_patch(bar)
        if count <= MOST_ROWS:
            name = bare_name(places[index]["direction"], places[index]["method"].split()[0])
            axes.text(-0.5 - 0.045 * count, y, name, ha="right", va="center", fontsize=6, color=MUTED)
    _name_clusters(axes, [places[i] for i in order], counted)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set_visible(False)
    handles = [_bar(0, 0, 1, colours[m]) for m in methods]
    figure.legend(handles, labels, loc="lower center", ncol=beside, handlelength=0.8, fontsize=6.5)
    place = ((left + side + 0.12) / PAGE, 1.0 - (side + top) / height, 0.09 / PAGE, side / height)
    scale = figure.colorbar(shown, cax=figure.add_axes(place))
    scale.set_label("|cosine|: effects below the diagonal, angles above")
    scale.outline.set_visible(False)
    return figure


def _colours(count: int) -> Sequence[Any]:
    """As many different colours: those that everyone tells apart, beyond eight pairs of dark and light ones."""
    few = (*PALETTE, "#7f5539", "#1a1a1a")
    return few[:count] if count <= len(few) else list(islice(cycle(map(colormaps["tab20"], range(20))), count))


def _told_apart(methods: Sequence[str]) -> list[str]:
    """Without the words that all of several methods share."""
    words = [method.split() for method in methods]
    shared = set.intersection(*map(set, words)) if len(words) > 1 else set()
    return [" ".join(word for word in own if word not in shared) or " ".join(own) for own in words]


def _bar(x: float, y: float, width: float, colour: str) -> Rectangle:
    return Rectangle((x, y), width, 1.0, color=colour, linewidth=0, clip_on=False)


def _name_clusters(axes: Axes, places: Sequence[Mapping[str, Any]], counted: str) -> None:
    """A square about each cluster of at least two; beside it its name and how many methods (or what is counted) are in
    it, where it has one.
    """
    clusters, count = [place["cluster"] for place in places], len(places)
    free, left = -1.0, -0.5 - (0.1 if count <= MOST_ROWS else 0.05) * count
    for cluster in dict.fromkeys(clusters):
        first, size = clusters.index(cluster), clusters.count(cluster)
        if size > 1:
            square = Rectangle((first - 0.5, first - 0.5), size, size, fill=False, edgecolor="white", linewidth=0.7)
            axes.add_patch(square)
        own = places[first : first + size]
        named = Counter(place["measurement"] for place in own if place["name"] != UNNAMED)
        y = max(first + (size - 1) / 2.0, free)
        if named and y < count:
            many = len({place[counted] for place in own})
            text = f"{named.most_common(1)[0][0].replace('_', ' ')}  {many} {counted}{'s' * (many > 1)}"
            axes.text(left, y, text, ha="right", va="center", fontsize=6.5, color=INK)
            free = y + 0.026 * count  # a line of text


@styled
def editing_chart(rows: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> Figure:
    """A panel per method: the distance to the data along each of its directions, thick their median."""
    methods = in_order(row["method"] for row in rows)
    if not methods:
        return message_figure("no directions")
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    figure = new_figure(PAGE, 1.5 * lines + 0.25, constrained=True)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, method in zip(axes, methods, strict=False):
        own = [row for row in rows if row["method"] == method]
        curves = [[r for r in own if r["direction"] == d] for d in in_order(r["direction"] for r in own)]
        steps = [r["step"] for r in curves[0]]
        heights = np.array([[r["distance"] for r in curve] for curve in curves])
        colour = MUTED if method in controls else BLUE
        if method in controls:
            panel.set_facecolor(CONTROL_SHADE)
        panel.plot(steps, heights.T, color=colour, linewidth=0.5, alpha=0.35)
        panel.plot(steps, np.median(heights, axis=0), color=colour, linewidth=1.6)
        panel.axhline(1.0, color=RULE, linewidth=0.9, zorder=0)
        reach = common_range([curve[0]["range"] for curve in curves])
        panel.set_title(f"{method}: ±{number(reach, 2)}σ", loc="left", fontsize=7)
    for panel in axes[len(methods) :]:
        panel.set_visible(False)
    top = np.percentile([row["distance"] for row in rows], 98)
    axes[0].set_ylim(0.0, max(1.6, float(top)))
    figure.supxlabel("step (σ of codes along the direction)", fontsize=7)
    figure.supylabel("distance to the data", fontsize=7)
    return figure


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A table's rows, what are numbers as such."""
    with open(path, newline="") as file:
        return [{key: _value(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _finite(value: Any) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
