"""Tiles: cheap axes that look as those do which have their ticks and frame taken away."""

import matplotlib.axis
import numpy as np

from medlat.report.style import new_figure, styled
from medlat.report.tiles import Tile

PLACE = (0.2, 0.25, 0.6, 0.5)


@styled
def pictured(tile: bool):
    figure = new_figure(1.5, 1.5)
    axes = figure.add_axes(Tile(figure, PLACE)) if tile else figure.add_axes(PLACE)
    if not tile:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    axes.imshow(np.arange(12.0).reshape(3, 4), cmap="gray", aspect="auto")
    axes.set_title("+1σ", fontsize=7.5, pad=4)
    axes.set_xlabel("0.1 HU", fontsize=5.5, color="red", labelpad=1)
    axes.annotate("name", (0, 0.5), (-6, 0), xycoords="axes fraction", textcoords="offset points", ha="right")
    axes.contour(np.arange(12.0).reshape(3, 4), levels=[5.5], colors="red")
    return figure


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def test_a_tile_looks_like_axes_without_ticks_and_frame():
    tile, plain = pixels(pictured(True)), pixels(pictured(False))
    assert (tile[..., :3] < 250).any(axis=(0, 1)).all(), "something is drawn"
    np.testing.assert_array_equal(tile, plain)


def test_a_tile_makes_hardly_any_ticks(monkeypatch):
    """Other axes make twice as many, and more while they are laid out."""
    made = []
    for name in ("XAxis", "YAxis"):
        make = getattr(matplotlib.axis, name)._get_tick
        monkeypatch.setattr(
            f"matplotlib.axis.{name}._get_tick", lambda *a, make=make, **k: made.append(1) or make(*a, **k)
        )
    pixels(pictured(True))
    tile = len(made)
    pixels(pictured(False))
    assert tile <= 2 < len(made) - tile
