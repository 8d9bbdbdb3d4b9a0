"""The tables and figures of the study of directions without labels.

    python experiments/schon2022/figures.py study SWEEP     the runs of +experiment=schon2022/directions
    python experiments/schon2022/figures.py finders DRAW=SWEEP [DRAW=SWEEP ...]   seeds of +experiment=schon2022/finders
    python experiments/schon2022/figures.py generators DATA GENERATOR=SWEEP [GENERATOR=SWEEP ...]   seeds of generators
    python experiments/schon2022/figures.py examples NAME=RUN [NAME=RUN ...]

`study` writes study.csv and study.png, and for each run its grid of directions and GIFs of ten directions each below
`study/`. `finders` writes finders.csv, mean and 95% interval over seeds of every method for each way in which the
phantom's factors are drawn, and finders.png; `generators` the same of real images, called DATA, for each generator:
DATA_generators.csv and .png. `examples` looks in each run for the best direction of each of the five things that the
paper names, by measurement, and draws it, and says whether it has that name: NAME_examples.png and .csv.
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from medlat.core.statistics import t_interval
from medlat.data.modality import Modality
from medlat.evaluation.naming import UNNAMED
from medlat.evaluation.semantics import Effect, read_semantics
from medlat.report import anatomy, gif
from medlat.report.rendering import Look
from medlat.report.style import (
    BLUE,
    CONTROL_SHADE,
    MUTED,
    PAGE,
    PALETTE,
    new_figure,
    number,
    save_figure,
    styled,
    write_table,
)
from medlat.steps.measurements import READABLE
from medlat.study.collect import Run, collect

HERE = Path(__file__).parent
METHOD = "shift_reconstruction"
# The directions that Schön et al. 2022 name -> the measurement that would move.
NAMED = {
    "z-position": "slice_level",
    "y-position": "y_position",
    "breast size": "breast",
    "rotation": "rotation",
    "thickness": "fat_thickness",
}
SCORES = {
    "rca": f"directions/{METHOD}/rca",
    "held_out_corrected": f"directions/{METHOD}/held_out_rca_corrected",
    "held_out_of_8": f"directions/{METHOD}/held_out_rca_of_8",
    "held_out_shift_l1": f"directions/{METHOD}/held_out_shift_l1",
    "purity": f"semantics/{METHOD}/{{kind}}_purity",
    "purity_random": "semantics/random/{kind}_purity",
    "coverage": f"semantics/{METHOD}/{{kind}}_coverage",
    "coverage_random": "semantics/random/{kind}_coverage",
    "named": f"semantics/{METHOD}/named",
}
COMPARED = {
    "factor_coverage": "factors covered",
    "measurement_coverage": "measurements covered",
    "factor_purity": "mean purity",
    "measurement_purity": "mean purity",
    "named": "directions with a name",
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
}
SHOWN = {"finders": ("factor_coverage", "named"), "generators": ("measurement_coverage", "named")}  # in the figure


def main(arguments: Sequence[str]) -> None:
    if len(arguments) < 2 or arguments[0] not in ("study", "finders", "generators", "examples"):
        sys.exit(__doc__)
    what, *named = arguments
    if what == "finders":
        compared(what, what, named)
    elif what == "generators":
        compared(what, f"{named[0]}_{what}", named[1:])
    else:
        {"study": study, "examples": examples}[what](named)


# --- the twelve runs -------------------------------------------------------------------------------------------------


def study(arguments: Sequence[str]) -> None:
    runs = [run for run in collect(Path(arguments[0])) if run.numbers is not None]
    table = [study_row(run) for run in runs]
    write_table(HERE / "study.csv", table)
    save_figure(study_chart(table), HERE, "study")
    for run, row in zip(runs, table, strict=True):
        name = "_".join(str(row[key]) for key in ("generator", "deformator", "reconstructor"))
        draw_directions(run.folder, HERE / "study", name)


def study_row(run: Run) -> dict[str, Any]:
    """What a run was, and its scores."""
    assert run.numbers is not None
    kind = "factor" if f"semantics/{METHOD}/factor_purity" in run.numbers else "measurement"
    names = {
        "generator": "generator",
        "deformator": "directions/deformator",
        "reconstructor": "directions/reconstructor",
    }
    row: dict[str, Any] = {key: run.settings.get(setting, "default") for key, setting in names.items()}
    with open(run.folder / "names.csv", newline="") as file:
        row["directions"] = sum(line["method"] == METHOD for line in csv.DictReader(file))
    return row | {key: run.numbers.get(name.format(kind=kind)) for key, name in SCORES.items()}


@styled
def study_chart(table: Sequence[Mapping[str, Any]]) -> Figure:
    """A column per generator: above how well directions are told apart, below how pure they are beside chance."""
    generators = list(dict.fromkeys(row["generator"] for row in table))
    deformators = list(dict.fromkeys(row["deformator"] for row in table))
    reconstructors = list(dict.fromkeys(row["reconstructor"] for row in table))
    figure = new_figure(PAGE, 3.6, constrained=True)
    axes = figure.subplots(2, len(generators), sharey="row", squeeze=False)
    for column, generator in enumerate(generators):
        for i, reconstructor in enumerate(reconstructors):
            rows = [r for r in table if r["generator"] == generator and r["reconstructor"] == reconstructor]
            x = [deformators.index(r["deformator"]) + 0.18 * (i - (len(reconstructors) - 1) / 2) for r in rows]
            how = {"color": PALETTE[i], "label": reconstructor, "linestyle": "", "marker": "o", "markersize": 5}
            axes[0][column].plot(x, [r["held_out_corrected"] for r in rows], **how)
            axes[1][column].plot(x, [r["purity"] for r in rows], **how)
        chance = [r["purity_random"] for r in table if r["generator"] == generator]
        axes[1][column].axhline(float(np.mean(chance)), color=MUTED, linewidth=1.0, linestyle="--", label="random")
        axes[0][column].axhline(0.0, color=MUTED, linewidth=1.0, linestyle="--", label="chance")
        axes[0][column].set_title(generator, loc="left")
        for row in (0, 1):
            axes[row][column].set_xticks(range(len(deformators)), deformators if row else [])
            axes[row][column].set(xlim=(-0.5, len(deformators) - 0.5), ylim=(-0.05, 1.02))
    axes[0][0].set_ylabel("accuracy of the held-out probe,\ncorrected for chance")
    axes[1][0].set_ylabel("mean purity")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[1][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_directions(run: Path, folder: Path, name: str) -> None:
    """The first eight directions of a run as a grid, and all as GIFs of ten."""
    images, steps, look, names = traversal(run, METHOD)
    texts = {line["direction"]: line["name"] for line in names}
    labels = [line["direction"] for line in sorted(names, key=lambda line: line["direction"])]
    first = slice(0, anatomy.ROWS_PER_PAGE)
    short = [label.rpartition(" ")[2] for label in labels]
    captions = [texts[label] for label in labels[first]]
    save_figure(anatomy.traversal_grid(images[first], steps, short[first], captions, look), folder, name)
    for start in range(0, len(images), 10):
        part = slice(start, min(start + 10, len(images)))
        gif.overview_gif(images[part], folder / f"{name}_{start}-{part.stop - 1}.gif", look, steps, short[part])


def traversal(run: Path, method: str) -> tuple[np.ndarray, list[float], Look, list[dict[str, str]]]:
    """Images [K, S, H, W] of a method in the order of its directions, steps, how they are shown, and their names."""
    config = OmegaConf.load(run / "config.yaml")
    places = json.loads((run / "artifacts.json").read_text())
    store = Path(config.store).expanduser()
    info = json.loads((store / places["images"]["path"] / "slices.json").read_text())
    images = Modality.from_dict(info["modality"])
    look = Look(images, images.display_window(OmegaConf.to_container(config.report)["display_window"]))
    arrays = np.load(store / places[f"semantics/{method}"]["path"] / "traversal.npz")
    with open(run / "names.csv", newline="") as file:
        names = [line for line in csv.DictReader(file) if line["method"] == method]
    return arrays["images"], arrays["steps"].tolist(), look, names


# --- all methods over seeds ------------------------------------------------------------------------------------------


def compared(what: str, stem: str, arguments: Sequence[str]) -> None:
    """what: finders or generators; stem: of the files."""
    table = []
    for of, _, folder in (argument.partition("=") for argument in arguments):
        runs = [run for run in collect(Path(folder)) if run.numbers is not None]
        table += [{"of": of} | row for row in finder_rows(runs)]
    write_table(HERE / f"{stem}.csv", table)
    save_figure(finders_chart(table, SHOWN[what]), HERE, stem)


def finder_rows(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Mean and 95% interval over seeds of each method and score, and of how many factors there were to be covered."""
    keys = dict.fromkeys(key for run in runs for key in run.numbers or {})
    methods = dict.fromkeys(key.split("/")[1] for key in keys if key.startswith("semantics/"))
    rows = [(method, score) for method in methods for score in COMPARED]
    for method, score in [*rows, ("", "readable"), ("", "false_alarms")]:
        values = [v for run in runs if (v := score_of(run, method, score)) is not None]
        if values:
            mean, low, high = t_interval(values)
            row = {"method": method, "score": score, "seeds": len(values), "mean": mean, "low": low, "high": high}
            yield row | {"each": " ".join(f"{value:.3g}" for value in values)}


def score_of(run: Run, method: str, score: str) -> float | None:
    numbers = run.numbers or {}
    if score == "readable":
        return float(sum(value >= READABLE for key, value in numbers.items() if key.startswith("readout/r2_")))
    if score == "false_alarms":
        return next((value for key, value in numbers.items() if key.endswith("/false_alarms")), None)
    return numbers.get(f"semantics/{method}/{score}", numbers.get(f"disentanglement/{method}/{score}"))


@styled
def finders_chart(table: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> Figure:
    """A column per draw or generator, a row per score: mean of every method and each seed, best in the first on top."""
    columns = list(dict.fromkeys(row["of"] for row in table))
    best: dict[str, float] = {}
    for row in table:
        if row["score"] == scores[0]:
            best.setdefault(row["method"], row["mean"])
    order = sorted(best, key=lambda method: best[method])
    figure = new_figure(PAGE, len(scores) * (0.19 * len(order) + 0.45), constrained=True)
    axes = figure.subplots(len(scores), len(columns), sharex="row", sharey=True, squeeze=False)
    for line, score in zip(axes, scores, strict=True):
        for panel, of in zip(line, columns, strict=True):
            rows = [row for row in table if (row["of"], row["score"]) == (of, score)]
            _finders_panel(panel, rows, order)
            panel.set_xlabel(COMPARED[score])
            panel.set_title(of if score == scores[0] else "", loc="left")
    labels = {"random": "random (control)", "coordinate": "axes (control)", "measured": "measured (ceiling)"}
    axes[0][0].set_yticks(range(len(order)), [labels.get(method, method) for method in order])
    return figure


def _finders_panel(panel: Axes, rows: Sequence[Mapping[str, Any]], order: Sequence[str]) -> None:
    for row in rows:
        y, control = order.index(row["method"]), row["method"] in ("random", "coordinate")
        if control:
            panel.axhspan(y - 0.5, y + 0.5, color=CONTROL_SHADE, linewidth=0, zorder=0)
        colour = MUTED if control else PALETTE[1] if row["method"] == "measured" else BLUE
        each = [float(value) for value in row["each"].split()]
        panel.plot(each, [y] * len(each), ".", color=colour, alpha=0.45, markersize=4)
        panel.plot(row["mean"], y, "D", color=colour, markersize=4)
    panel.set_xlim(left=-0.2)
    panel.tick_params(axis="y", length=0)


# --- the five directions that the paper names ------------------------------------------------------------------------


def examples(arguments: Sequence[str]) -> None:
    for name, _, folder in (argument.partition("=") for argument in arguments):
        run = Path(folder)
        found = list(best_directions(run))
        write_table(HERE / f"{name}_examples.csv", found)
        save_figure(examples_figure(run, found), HERE, f"{name}_examples")


def best_directions(run: Path) -> Iterator[dict[str, Any]]:
    """For each of the five the direction, of any method but controls and the ceiling, with the largest share times R²
    of that measurement; found: whether the run names it so.
    """
    with open(run / "names.csv", newline="") as file:
        names = {line["direction"]: line for line in csv.DictReader(file) if line["name"] != UNNAMED}
    rows = [Effect.from_row(row) for row in read_semantics(run / "semantics.csv") if row["kind"] == "measurement"]
    for what, measurement in NAMED.items():
        own = [row for row in rows if row.measurement == measurement]
        tried = [row for row in own if row.method not in ("random", "coordinate", "measured")]
        best = max(tried, key=lambda row: np.nan_to_num(row.share * row.r2))
        yield {
            "what": what,
            "measurement": measurement,
            "method": best.method,
            "direction": best.direction,
            "effect": best.effect,
            "low": best.effect_low,
            "high": best.effect_high,
            "unit": best.unit,
            "share": best.share,
            "r2": best.r2,
            "found": names.get(best.direction, {}).get("measurement") == measurement,
        }


def examples_figure(run: Path, found: Sequence[Mapping[str, Any]]) -> Figure:
    """A row for each of the five: the traversal of its best direction, and what was measured."""
    images, captions = [], []
    for row in found:
        own, steps, look, _ = traversal(run, row["method"])
        place = int(row["direction"].rpartition(" ")[2])
        images.append(own[place])
        unit = {"deg": "°", "1": ""}.get(row["unit"], " " + row["unit"])
        words = "" if row["found"] else "no name: "
        sure = np.isfinite(row["low"])  # of 20 people or more
        interval = f" [{number(row['low'], 2)}, {number(row['high'], 2)}]" if sure else ""
        captions.append(
            f"{words}{row['direction']}, {number(row['effect'], 2, sign=True)}{unit}/σ{interval}, share "
            f"{row['share']:.2f}, R² {row['r2']:.2f}; shown to ±{max(steps):.2g}σ"
        )
    names = [row["what"] for row in found]
    figure = anatomy.traversal_grid(np.stack(images), steps, names, captions, look)
    for axes, part in zip(figure.axes, np.linspace(-100, 100, len(steps)), strict=False):
        text = f"{part:+.0f}%".replace("-", "\u2212") if abs(part) > 0.5 else "0"
        axes.set_title(text, fontsize=7.5, pad=4)  # each method has a range of its own
    return figure


if __name__ == "__main__":
    main(sys.argv[1:])
