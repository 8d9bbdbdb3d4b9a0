"""Generators beside each other: `python experiments/generators/figures.py vae=RUN stylegan2=RUN dcgan=RUN`.

Reads run folders (`outputs/<experiment>/<date>_<time>`) of generators that were trained on the same data, and writes
`samples.png` (samples of each, none picked by hand, under real slices), `curves.png` (distance to held-out patients as
the training went on) and `distances.csv` (the distances of each run with their floors) beside this file.
"""

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from omegaconf import OmegaConf

from medlat.report.rendering import windowed
from medlat.report.style import INK, MUTED, PAGE, PALETTE, new_figure, save_figure, styled

HERE = Path(__file__).parent
WINDOW = (-1000.0, 500.0)  # HU
COLUMNS = 12
Runs = Mapping[str, Path]


def main() -> None:
    if not sys.argv[1:] or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    runs = {name: Path(folder) for name, _, folder in (argument.partition("=") for argument in sys.argv[1:])}
    rows = distances(runs)
    with open(HERE / "distances.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    save_figure(samples(runs), HERE, "samples")
    save_figure(curves(runs), HERE, "curves")


def distances(runs: Runs) -> list[dict]:
    """A row per distance: its floor and the value of each run."""
    tables = {}
    for name, run in runs.items():
        with open(run / "figures" / "distances.csv", newline="") as file:
            tables[name] = {row["key"]: row for row in csv.DictReader(file)}
    first = next(iter(tables.values()))
    return [
        {"distance": row["name"], "unit": row["unit"], "better": row["better"], "images": row["images"]}
        | {"floor": _short(row["floor"])}
        | {name: _short(table[key]["value"]) for name, table in tables.items() if key in table}
        for key, row in first.items()
    ]


def _short(value: str) -> str:
    return f"{float(value):.4g}"


@styled
def samples(runs: Runs) -> Figure:
    """Two rows of real slices, then two of each generator."""
    blocks = {}
    for name, run in runs.items():
        images = np.load(_evaluation(run) / "images.npz")
        blocks.setdefault("real", images["real"])
        blocks[name] = images["samples"]
    tile = PAGE / (COLUMNS + 1.2)
    figure = new_figure(PAGE, 2 * tile * len(blocks) + 0.1 * len(blocks))
    grid = figure.add_gridspec(len(blocks), 1, left=0.09, right=1.0, top=1.0, bottom=0.0, hspace=0.05)
    for row, (name, images) in enumerate(blocks.items()):
        axes = figure.add_subplot(grid[row])
        pair = [np.concatenate(list(images[i * COLUMNS : (i + 1) * COLUMNS]), axis=1) for i in range(2)]
        axes.imshow(windowed(np.concatenate(pair), WINDOW), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(name, fontsize=9, color=INK)
    return figure


@styled
def curves(runs: Runs) -> Figure:
    """Patch distance to validation patients against images shown, and the values of whole runs."""
    figure = new_figure(PAGE * 0.75, 2.9, constrained=True)
    axes = figure.add_subplot()
    for colour, (name, run) in zip(PALETTE, runs.items(), strict=False):
        points = [(r["step"], r["value"]) for r in _records(run) if r["name"] == "validation/patch_distance"]
        if points:
            x, y = np.array(points).T
            axes.plot(x / 1000, y, color=colour, marker="o", markersize=2.2, label=f"{name}, in training")
        else:
            value = _mean_patch_distance(run, "")
            axes.axhline(value, color=colour, linewidth=1, label=f"{name}'s samples ({value:.0f})")
            axes.axhline(
                value / 3, color=colour, linewidth=1, linestyle=":", label=f"a third of that ({value / 3:.0f})"
            )
    floor = _mean_patch_distance(next(iter(runs.values())), "_floor")
    axes.axhline(floor, color=MUTED, linewidth=1, linestyle="--", label=f"real to real ({floor:.0f})")
    axes.set(xlabel="thousands of images shown", ylabel="patch distance, ×10⁻³", yscale="log", xscale="log")
    axes.set_xticks([3, 10, 30, 100, 300])
    axes.set_yticks([10, 20, 50, 100, 200, 400])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.minorticks_off()
    axes.legend(fontsize=7)
    return figure


def _mean_patch_distance(run: Path, suffix: str) -> float:
    """Over the levels of the pyramid, as the curves of the training have it."""
    metrics = json.loads((run / "metrics.json").read_text())
    keys = [k for k in metrics if k.startswith("distance/patch_distance_") and k.endswith("_floor") == bool(suffix)]
    return float(np.mean([metrics[key] for key in keys]))


def _records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _evaluation(run: Path) -> Path:
    store = OmegaConf.load(run / "config.yaml").store
    place = json.loads((run / "artifacts.json").read_text())["evaluation"]["path"]
    return next(
        root / store / place for root in (Path.cwd(), *run.resolve().parents) if (root / store / place).exists()
    )


if __name__ == "__main__":
    main()
