"""Can an explanation tell what `stain.py` says of three classifiers: which of them goes by the stain?

    python experiments/evidence/stain_explained.py NAME=RUN [NAME=RUN ...]

of finished runs of `histology_dae_linear` that differ in their classifier alone, with `mean_gradient` compared. Prints
the table of README.md, writes stain_explained.csv beside this file, and draws outputs/stain_explained.png: two held-out
tiles, each with its own noise, moved along the direction that each method found for each classifier. (The tiles are not
ours to copy.)
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import medlat
from medlat import Run
from medlat.core.tables import write_table
from medlat.report.style import INK, MUTED, new_figure, save_figure, styled

METHODS = {"linear": "linear", "mean_gradient": "mean gradient"}
CONTROLS = {"random": "random directions", "coordinate": "axes"}
MOVED = ("haematoxylin", "hue", "nuclear_fraction", "nuclear_size")
STEPS = (-2.0, 0.0, 2.0)  # σ


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__)
    runs = {name: medlat.load(folder) for name, _, folder in (one.partition("=") for one in arguments)}
    table = [row for name, run in runs.items() for row in rows_of(name, run)] + list(angles(runs))
    write_table(Path(__file__).with_suffix(".csv"), table)
    print(f"| | {' | '.join(runs)} |\n| --- |{' ---: |' * len(runs)}")
    for what in dict.fromkeys(row["what"] for row in table):
        own = {row["classifier"]: row for row in table if row["what"] == what}
        print(f"| {what} | {' | '.join(shown(own[name]) if name in own else '' for name in runs)} |")
    save_figure(strip(runs), Path("outputs"), Path(__file__).stem, pdf=False)


def rows_of(name: str, run: Run) -> Iterator[dict[str, Any]]:
    """A row for each number of a run."""
    scores = {row["method"]: row for row in run.table("scorecard") if row["score"] == "flips_in_range"}
    for method, called in (METHODS | CONTROLS).items():
        row = scores[method]
        ends = {key: row[key] for key in ("value", "low", "high", "images")}
        yield {"classifier": name, "what": f"flips inside the range of the data, {called}", "share": True} | ends
    effects = {(row["direction"], row["measurement"]): row["standardised"] for row in run.table("semantics")}
    for method, called in METHODS.items():
        for measurement in MOVED:
            what = f"{measurement.replace('_', ' ')}, sd for a σ of {called}"
            value = effects[f"{method} 00", measurement]
            yield {"classifier": name, "what": what, "share": False, "value": value}


def angles(runs: dict[str, Run]) -> Iterator[dict[str, Any]]:
    """The cosine between each run's direction and the first one's, by each method; codes are white."""
    first = next(iter(runs))
    for method, called in METHODS.items():
        ways = {name: run.directions[method].vectors[0].flatten() for name, run in runs.items()}
        for name, way in ways.items():
            what = f"cosine with {first}, {called}"
            yield {"classifier": name, "what": what, "share": False, "value": float(way @ ways[first])}


def shown(row: dict[str, Any]) -> str:
    if not row["share"]:
        return f"{row['value']:.2f}"
    interval = f" [{row['low']:.0%}, {row['high']:.0%}]" if row["high"] > row["low"] else ""
    return f"{row['value']:.0%}{interval}"


def tiles_of(run: Run) -> torch.Tensor:
    """The first held-out tile of each class."""
    rows = run.context.split.test
    (label,) = run.context.images.labels().values()
    return run.context.images.fetch(rows[[int(np.flatnonzero(label[rows] == k)[0]) for k in (1, 0)]], run.image)


@styled
def strip(runs: dict[str, Run]) -> Figure:
    """A row for each classifier and method, a block of steps for each tile, with its prediction above each."""
    rows = [(name, method) for name in runs for method in METHODS]
    height = 1.0 * len(rows) + 0.65
    figure = new_figure(6.6, height)
    place = {"top": 1.0 - 0.4 / height, "bottom": 0.25 / height, "left": 0.25, "right": 0.995}
    outer = figure.add_gridspec(1, 2, wspace=0.08, **place)
    grids = [outer[tile].subgridspec(len(rows), len(STEPS), wspace=0.04, hspace=0.24).subplots() for tile in range(2)]
    for row, (name, method) in enumerate(rows):
        run = runs[name]
        images = tiles_of(run)
        codes = run.encode(images)
        moved = run.traverse(codes, f"{method} 00", STEPS, noise=run.noise(images, codes))
        target = run.config.explain.target
        for tile, grid in enumerate(grids):
            said = probability(run, moved[tile], target)
            for column, step in enumerate(STEPS):
                axes = grid[row, column]
                axes.imshow((moved[tile, column].permute(1, 2, 0).numpy() + 1.0) / 2.0, interpolation="bicubic")
                axes.set_title(f"{said[column]:.2f}", fontsize=7, pad=2, color=INK if step == 0 else MUTED)
                axes.set(xticks=[], yticks=[])
                if row == len(rows) - 1:
                    axes.set_xlabel("as it is" if step == 0 else f"{step:+.0f} σ".replace("-", "−"), fontsize=7)
        grids[0][row, 0].set_ylabel(f"{name},\n{METHODS[method]}", fontsize=7, rotation=0, ha="right", va="center")
    for grid, tile in zip(grids, ("a normal tile", "a tile of adenocarcinoma"), strict=True):
        figure.text(grid[0, 0].get_position().x0, 1.0 - 0.16 / height, tile, fontsize=7)
    figure.text(0.01, 1.0 - 0.16 / height, "classifier of …; above each\ntile: P(adenocarcinoma)", fontsize=7, va="top")
    return figure


def probability(run: Run, images: torch.Tensor, target: str) -> np.ndarray:
    """Of adenocarcinoma, [N]."""
    said = run.predict(images)[:, 0].numpy()
    return said if run.classifier.outputs == (target,) else 1.0 - said


if __name__ == "__main__":
    main(sys.argv[1:])
