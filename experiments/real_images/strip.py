"""Held-out images and what generators give back of them, beside each other:

    python experiments/real_images/strip.py --data ../shared/data --store outputs/store [--sets knees tiles] \
        [--generators dae vae] [--images 65000]

Draws strip.png beside this file from what study.py, told the same, has trained. The images are spread evenly over the
held-out ones, none is picked by hand.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from study import INVERSIONS, asked_for, composed, inverted, made, parser

from medlat.report.style import new_figure, save_figure, styled

TITLES = {
    "knees": "knees",
    "tiles": "H&E (LC25000)",
    "lungs": "CT (TCGA-LUAD)",
    "pneumonia": "chest (PneumoniaMNIST)",
    "phantom_tiles": "phantom of H&E",
    "phantom_ct": "phantom of CT",
}
ROWS = {
    ("vae", "encoder"): "VAE",
    ("stylegan2", "hybrid"): "StyleGAN2",
    ("dae", "encoder"): "DAE: code",
    ("dae", "exact"): "DAE: code\nand noise",
}
IMAGES = 4  # of each set


def main() -> None:
    asked = parser(__doc__).parse_args()
    rows = {place: name for place, name in ROWS.items() if place[0] in asked.generators}
    blocks = [block(name, list(rows), asked) for name in asked.sets]
    figure = strip(blocks, [TITLES[name] for name in asked.sets], ["original", *rows.values()])
    save_figure(figure, Path(__file__).parent, "strip", pdf=False)


def block(name: str, rows: list[tuple[str, str]], asked: argparse.Namespace) -> np.ndarray:
    """[rows + 1, IMAGES, H, W, C] from 0 to 1: images of a set, and what each inversion gives back."""
    found = []
    for generator, inversion in rows:
        assert inversion in INVERSIONS[generator]
        overrides = asked_for(name, generator, asked)
        context, _ = made(composed([*overrides, "inversion=hybrid"]))
        places = np.linspace(0, len(context.split.test) - 1, IMAGES + 2).astype(int)[1:-1]
        real = context.images.fetch(context.split.test[places], context.spec)
        found.append(inverted(context, composed([*overrides, f"inversion={inversion}"]), real).images)
    return np.stack([(images.permute(0, 2, 3, 1).numpy() + 1.0) / 2.0 for images in (real, *found)])


@styled
def strip(blocks: list[np.ndarray], titles: list[str], names: list[str]) -> Figure:
    """Blocks beside each other, a row for each way."""
    figure = new_figure(0.55 * IMAGES * len(blocks) + 1.0, 0.57 * len(names) + 0.25)
    outer = figure.add_gridspec(1, len(blocks), wspace=0.05, left=0.155, right=0.995, top=0.93, bottom=0.01)
    for i, (images, title) in enumerate(zip(blocks, titles, strict=True)):
        grid = outer[i].subgridspec(len(names), IMAGES, wspace=0.03, hspace=0.03).subplots()
        for row in range(len(names)):
            for column in range(IMAGES):
                axes = grid[row, column]
                axes.imshow(images[row, column].squeeze(), cmap="gray", vmin=0.0, vmax=1.0, interpolation="bicubic")
                axes.set_xticks([])
                axes.set_yticks([])
            if i == 0:
                grid[row, 0].set_ylabel(names[row], fontsize=7, rotation=0, ha="right", va="center")
        grid[0, 0].set_title(title, fontsize=8, loc="left", pad=3)
    return figure


if __name__ == "__main__":
    main()
