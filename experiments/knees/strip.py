"""Eight people's knees, moved along the direction of a classifier's prediction, each with its own noise:
`python experiments/knees/strip.py RUN`, of a finished run of `knee_dae_linear`.

Writes strip.png beside this file. The people are spread evenly over the predictions, none is picked by hand.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import medlat
from medlat.data.image_store import ImageStore
from medlat.report.style import DIVERGING, INK, MUTED, new_figure, save_figure, styled

PEOPLE = 8
STEPS = (3.0, 0.0, -3.0)  # σ: as far as the run goes
CHANGE = 0.5  # of the range [-1, 1]: where the difference's colours end


def main(folder: str) -> None:
    run = medlat.load(folder)
    store = ImageStore.open(run.artifacts["images"].path)
    with np.load(run.artifacts["inversion"].path / "inversion.npz") as arrays:
        rows = arrays["explained_rows"]
    images = store.fetch(rows, run.image)
    said = run.predict(images)[:, 0].numpy()
    chosen = np.argsort(said, kind="stable")[np.linspace(0, len(said) - 1, PEOPLE).round().astype(int)]
    images = images[chosen]
    codes = run.encode(images)
    moved = run.traverse(codes, run.directions["main"].names[0], STEPS, noise=run.noise(images, codes))
    predictions = np.stack([run.predict(part)[:, 0].numpy() for part in moved.transpose(0, 1)])
    shown = moved[:, :, 0].numpy()
    save_figure(strip(shown, predictions), Path(__file__).parent, "strip", pdf=False)


@styled
def strip(shown: np.ndarray, predictions: np.ndarray) -> Figure:
    """Images [N, S, H, W] in [-1, 1] and predictions [S, N]: a column for each person, last what the way changes."""
    change = shown[:, 0] - shown[:, -1]
    figure = new_figure(9.4, 5.1)
    spacing = {"wspace": 0.04, "hspace": 0.2, "left": 0.055, "right": 0.925, "top": 0.93, "bottom": 0.01}
    grid = figure.subplots(len(STEPS) + 1, PEOPLE, gridspec_kw=spacing)
    figure.text(
        0.055, 0.97, "probability of osteoarthritis (Kellgren-Lawrence grade 2 or more), above each", fontsize=8
    )
    for row, step in enumerate(STEPS):
        for column in range(PEOPLE):
            axes = grid[row, column]
            axes.imshow(shown[column, row], cmap="gray", vmin=-1.0, vmax=1.0, interpolation="bicubic")
            axes.set_title(f"{predictions[row, column]:.2f}", fontsize=8, pad=2, color=INK if step == 0 else MUTED)
        what = "as it is" if step == 0 else f"{step:+.0f} σ".replace("-", "−")
        grid[row, 0].set_ylabel(what, fontsize=8)
    for column in range(PEOPLE):
        drawn = grid[-1, column].imshow(change[column], cmap=DIVERGING, vmin=-CHANGE, vmax=CHANGE)
    grid[-1, 0].set_ylabel("difference", fontsize=8)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(drawn, cax=figure.add_axes((0.935, 0.03, 0.012, 0.19)))
    bar.set_label("brighter at +3 σ (range 2)", fontsize=7)
    return figure


if __name__ == "__main__":
    main(sys.argv[1])
