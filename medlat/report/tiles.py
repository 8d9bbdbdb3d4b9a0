"""What figures of images are made of: a grid of tiles, an image or a difference in a tile, names and colour bars."""

import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from contourpy import contour_generator
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from medlat.report.rendering import Look, Window, shown, upscale
from medlat.report.style import (
    ANATOMY,
    DIVERGING,
    INK,
    MUTED,
    PAGE,
    new_figure,
    number,
    step_label,
)


class _Scale:
    """Mixed into an axis that shows no ticks: none are made only to be told how they would look."""

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        Artist.set_clip_path(self, path, transform)  # type: ignore[arg-type]

    def set_tick_params(self, *_: Any, **__: Any) -> None:
        pass

    def get_ticks_position(self) -> Any:
        return "none"


class _XAxis(_Scale, XAxis):
    pass


class _YAxis(_Scale, YAxis):
    pass


class Tile(Axes):
    """Axes for an image: no ticks, no frame, no background, and so a fifth of the time of others. There are hundreds in
    a report. What stands below an image is its `set_xlabel`.
    """

    def __init__(self, figure: Figure, place: tuple[float, float, float, float]) -> None:
        super().__init__(figure, place)
        for axis in (self.xaxis, self.yaxis):
            axis.set_major_locator(NullLocator())
        self.set_axis_off()

    def _init_axis(self) -> None:
        self.xaxis, self.yaxis = _XAxis(self, clear=False), _YAxis(self, clear=False)
        for sides, axis in ((("bottom", "top"), self.xaxis), (("left", "right"), self.yaxis)):
            for side in sides:
                self.spines[side].register_axis(axis)

    def draw(self, renderer: Any) -> None:
        super().draw(renderer)
        label = self.xaxis.label
        if label.get_text():  # part of the axis, which is off
            label.set_y(self.bbox.y0 - self.xaxis.labelpad * self.figure.dpi / 72)
            label.draw(renderer)


GAP, BAR_SPACE, DIVIDER = 0.04, 0.42, 0.18  # inches


def tile_grid(
    rows: int,
    columns: int,
    size: tuple[int, int],  # (H, W) of an image
    *,
    left: float,  # inches, as all lengths here
    top: float,
    under: float,  # room below each row
    largest: float = 1.1,  # a tile is no wider than this
    bars: bool = True,  # room for colour bars below
    dividers: Collection[int] = (),  # before these columns is a wider gap
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of frameless axes of exactly the image's shape."""
    between = DIVIDER * len(dividers)
    width = min(largest, (PAGE - left - 0.05 - between - GAP * columns) / columns)
    height = width * size[0] / size[1]
    right = max(left + columns * width + between + GAP * columns + 0.05, 3.4)
    total = top + rows * (height + under + GAP) + (BAR_SPACE if bars else 0.05)
    figure = new_figure(right, total)
    axes: list[list[Axes]] = []
    for row in range(rows):
        y = total - top - row * (height + under + GAP) - height
        x = left
        line: list[Axes] = []
        for column in range(columns):
            x += DIVIDER if column in dividers else 0.0
            line.append(figure.add_axes(Tile(figure, (x / right, y / total, width / right, height / total))))
            x += width + GAP
        axes.append(line)
    return figure, axes


def draw_image(axes: Axes, image: np.ndarray, look: Look) -> None:
    """One image as its look shows it."""
    draw_picture(axes, look.tile(image, side_of(axes, look)), look, cmap=ANATOMY, vmin=0, vmax=1)


def draw_change(axes: Axes, change: np.ndarray, limit: float, reference: np.ndarray, look: Look) -> None:
    """A signed difference [H, W] from -limit (blue) to limit (red), over the outline of `reference` if it has one."""
    picture = upscale(change.clip(-limit, limit), side_of(axes, look), -limit, limit)
    draw_picture(axes, picture, look, cmap=DIVERGING, vmin=-limit, vmax=limit)
    if look.modality.outline is not None:
        _outline(axes, reference, look)


def side_of(axes: Axes, look: Look) -> int:
    """Pixels of a PNG along the longer edge of a tile."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return round(look.dpi * float(max(axes.get_position().size * figure.get_size_inches())))


def draw_picture(axes: Axes, picture: np.ndarray, look: Look, **options: Any) -> None:
    """An array [h, w(, 3 or 4)] that fills a tile. One of the tile's own size is not resampled: that would take most of
    the time that a figure takes, once more in its PDF.
    """
    own = max(picture.shape[:2]) <= side_of(axes, look)
    axes.imshow(picture, aspect="auto", interpolation="none" if own else None, **options)


def _outline(axes: Axes, image: np.ndarray, look: Look) -> None:
    """A faint contour, of CT the skin, on a difference map, so that one sees where in the anatomy the change is."""
    modality, side = look.modality, side_of(axes, look)
    assert modality.outline is not None
    low, high = modality.intensity_range
    margin = min(modality.outline - low, high - modality.outline, (high - low) * 2 / 15)
    inside = shown(image, (modality.outline - margin, modality.outline + margin), side)
    if inside.min() < 0.5 < inside.max():
        lines: Any = contour_generator(z=inside).lines(0.5)
        axes.add_collection(LineCollection(lines, colors=MUTED, linewidths=0.35, alpha=0.8), autolim=False)


def row_name(axes: Axes, name: str, width: int = 15) -> None:
    """Text at the left of a row, wrapped to so many characters."""
    text = "\n".join(textwrap.fill(line, width, break_long_words=True) for line in name.split("\n"))
    axes.annotate(
        text,
        (0, 0.5),
        (-6, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7,
    )


def step_titles(axes: Sequence[Axes], steps: Sequence[float]) -> None:
    """The step in σ over each column, that of the base in bold."""
    for axis, step in zip(axes, steps, strict=True):
        base = abs(step) < 1e-9
        axis.set_title(
            step_label(step), fontsize=7.5, pad=4, color=INK if base else MUTED, fontweight="bold" if base else "normal"
        )


def window_bar(figure: Figure, look: Look, slot: tuple[int, int] = (0, 1)) -> None:
    """The grey scale of the display window; pictures in colour need none."""
    if not look.colour:
        colour_bar(figure, ANATOMY, look.window, f"{look.unit}, display window", slot)


def change_bar(figure: Figure, limit: float, label: str, slot: tuple[int, int] = (0, 1)) -> None:
    """The scale of signed differences."""
    # The limit is robust: the largest changes lie beyond it.
    colour_bar(figure, DIVERGING, (-limit, limit), label, slot, sign=True, extend="both")


def colour_bar(
    figure: Figure,
    colours: str,
    limits: Window,
    label: str,
    slot: tuple[int, int] = (0, 1),
    sign: bool = False,
    extend: str = "neither",
) -> None:
    """A slim horizontal colour bar in the free strip at the bottom; slot (i, n): the i-th of n beside each other."""
    width, height = figure.get_size_inches()
    index, of = slot
    length = min(1.8, 0.33 * width if of == 1 else (width - 0.3) / of - 0.35)
    x = width - 0.22 - length if of == 1 else 0.25 + index * (width - 0.3) / of
    axes = figure.add_axes((x / width, 0.30 / height, length / width, 0.07 / height))
    mappable = ScalarMappable(Normalize(*limits), colours)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend=extend, extendfrac=0.04)
    bar.outline.set_linewidth(0.4)
    ticks = [limits[0], (limits[0] + limits[1]) / 2, limits[1]]
    bar.set_ticks(ticks, labels=[number(tick, 3, sign=sign) for tick in ticks])
    axes.tick_params(labelsize=6, length=1.5, pad=1.5)
    if of > 1:
        axes.set_xlabel(label, fontsize=6, color=MUTED, labelpad=1)
        return
    axes.annotate(
        label,
        (0, 0.5),
        (-11, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=6.5,
        color=MUTED,
    )
