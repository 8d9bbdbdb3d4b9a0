"""Samples of several generators below held-out knees, none picked by hand:

    python experiments/knees/samples.py NAME=RUN [NAME=RUN ...]

of finished runs on the same data. Writes samples.png beside this file.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import medlat
from medlat.report.style import new_figure, save_figure, styled

COLUMNS = 10


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__)
    rows: dict[str, np.ndarray] = {}
    for name, _, folder in (one.partition("=") for one in arguments):
        with np.load(medlat.load(folder).artifacts["fidelity"].path / "images.npz") as images:
            rows.setdefault("held-out knees", images["real"][:COLUMNS])
            rows[name] = images["samples"][:COLUMNS]
    save_figure(grid(rows), Path(__file__).parent, "samples", pdf=False)


@styled
def grid(rows: dict[str, np.ndarray]) -> Figure:
    """A row of images [N, H, W], grey levels from 0 to 255, for each name."""
    figure = new_figure(8.0, 0.72 * len(rows))
    spacing = {"wspace": 0.04, "hspace": 0.05, "left": 0.16, "right": 0.995, "top": 0.99, "bottom": 0.01}
    for line, (name, images) in zip(
        figure.subplots(len(rows), COLUMNS, gridspec_kw=spacing, squeeze=False), rows.items(), strict=True
    ):
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image, cmap="gray", vmin=0.0, vmax=255.0, interpolation="bicubic")
        for axes in line:
            axes.axis("off")
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=7.5)
    return figure


if __name__ == "__main__":
    main(sys.argv[1:])
