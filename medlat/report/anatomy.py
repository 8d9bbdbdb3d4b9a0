"""Figures made of images: traversals, differences, reconstructions, samples. Every tile of a figure shares one scale.

Images are 2D arrays of physical values (HU unless `unit` says otherwise), row 0 at the top.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from medlat.report.rendering import Window, differences, shown, symmetric_limit, upscale
from medlat.report.style import (
    ANATOMY,
    DIVERGING,
    INK,
    MUTED,
    PAGE,
    clear_axes,
    message_figure,
    new_figure,
    number,
    step_label,
    styled,
    with_unit,
)

ROWS_PER_PAGE = 8
BODY_HU = -300.0  # between air and fat: where the skin is
GAP, BAR_SPACE = 0.04, 0.42  # inches


def pages(count: int, per_page: int = ROWS_PER_PAGE) -> Iterator[slice]:
    """Slices of at most `per_page` of `count` rows: one figure each."""
    for start in range(0, count, per_page):
        yield slice(start, min(start + per_page, count))


@styled
def traversal_grid(
    images: np.ndarray,  # [K, S, H, W] physical values, K at most 8 (`pages` splits more)
    steps: Sequence[float],  # [S] in standard deviations of the latent space
    names: Sequence[str],  # [K]
    captions: Sequence[str],  # [K] what was measured along each, e.g. "rotation +3.1°/σ [2.8, 3.4], purity 0.71"
    window: Window,
    unit: str = "HU",
) -> Figure:
    """A row per direction, a column per step, under each row what was measured along it."""
    images = np.asarray(images, np.float32)
    if images.size == 0:
        return message_figure("no directions to show")
    assert images.shape[:2] == (len(names), len(steps)), images.shape
    assert len(captions) == len(names), (captions, names)
    assert len(images) <= ROWS_PER_PAGE, f"{len(images)} rows: split them with pages()"
    wrapped = [textwrap.fill(text, 110) for text in captions]
    under = 0.08 + 0.12 * max(1, *(text.count("\n") + 1 for text in wrapped)) if any(wrapped) else 0.0
    figure, axes = _tiles(len(names), len(steps), images.shape[-2:], left=0.95, top=0.24, under=under)
    for row, (name, caption) in enumerate(zip(names, wrapped, strict=True)):
        for column in range(len(steps)):
            _grey(axes[row][column], images[row, column], window)
        _row_name(axes[row][0], name)
        axes[row][0].annotate(
            caption, (0, 0), (0, -3), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=6.5
        )
    _step_titles(axes[0], steps)
    _bar(figure, ANATOMY, window, f"{unit}, display window")
    return figure


@styled
def difference_maps(
    images: np.ndarray,  # [K, S, H, W] physical values
    steps: Sequence[float],  # [S] in σ
    names: Sequence[str],  # [K]
    zero_index: int,  # the step the others are compared with
    unit: str = "HU",
) -> Figure:
    """Signed differences to one step, all on one symmetric scale; under each tile its mean |difference|."""
    images = np.asarray(images, np.float32)
    if images.size == 0:
        return message_figure("no directions to show")
    assert images.shape[:2] == (len(names), len(steps)), images.shape
    change = differences(images, zero_index)
    limit = symmetric_limit(change)
    figure, axes = _tiles(len(names), len(steps), images.shape[-2:], left=0.95, top=0.24, under=0.15)
    for row, name in enumerate(names):
        for column in range(len(steps)):
            _signed(axes[row][column], change[row, column], limit)
            if unit == "HU":
                _skin(axes[row][column], images[row, zero_index])
            mean = with_unit(number(float(np.abs(change[row, column]).mean()), 2), unit)
            note = "reference" if column == zero_index else mean
            axes[row][column].set_xlabel(note, fontsize=5.5, color=MUTED, labelpad=1)
        _row_name(axes[row][0], name)
    _step_titles(axes[0], steps)
    _bar(
        figure, DIVERGING, (-limit, limit), f"change from {step_label(steps[zero_index])}, {unit}; below: mean |change|"
    )
    return figure


def difference_table(images: np.ndarray, steps: Sequence[float], names: Sequence[str], zero_index: int) -> list[dict]:
    """The numbers behind `difference_maps`: per direction and step the mean, mean |.| and largest |difference|."""
    change = differences(images, zero_index)
    return [
        {
            "direction": name,
            "step": float(step),
            "mean": float(tile.mean()),
            "mean_absolute": float(np.abs(tile).mean()),
            "max_absolute": float(np.abs(tile).max()),
        }
        for name, row in zip(names, change, strict=True)
        for step, tile in zip(steps, row, strict=True)
    ]


@styled
def reconstructions(
    real: np.ndarray,  # [N, H, W] physical values, held out
    reconstructed: np.ndarray,  # [N, H, W]
    psnr: Sequence[float],  # [N] dB
    window: Window,
    unit: str = "HU",
) -> Figure:
    """The best, the median and the worst reconstruction, so that nobody is shown the good ones only."""
    chosen = ranked_reconstructions(psnr)
    if not chosen:
        return message_figure("no reconstructions to show")
    real, reconstructed = np.asarray(real, np.float32), np.asarray(reconstructed, np.float32)
    change = np.nan_to_num(reconstructed - real)
    limit = symmetric_limit(change[[index for _, index in chosen]])
    figure, axes = _tiles(len(chosen), 3, real.shape[-2:], left=0.85, top=0.24, under=0.05, largest=1.35)
    for row, (label, index) in enumerate(chosen):
        _grey(axes[row][0], real[index], window)
        _grey(axes[row][1], reconstructed[index], window)
        _signed(axes[row][2], change[index], limit)
        if unit == "HU":
            _skin(axes[row][2], real[index])
        _row_name(axes[row][0], f"{label}\n{number(float(psnr[index]))} dB", width=40)
    for axis, title in zip(axes[0], ("real", "reconstruction", "difference"), strict=True):
        axis.set_title(title, fontsize=7.5, pad=4)
    _bar(figure, ANATOMY, window, f"{unit}, display window", slot=(0, 2))
    _bar(figure, DIVERGING, (-limit, limit), f"reconstruction − real, {unit}", slot=(1, 2))
    return figure


def ranked_reconstructions(psnr: Sequence[float]) -> list[tuple[str, int]]:
    """("best" | "median" | "worst", index) by PSNR in dB; what is not finite is left out."""
    values = np.asarray(psnr, np.float64)
    order = [int(i) for i in np.argsort(-values, kind="stable") if np.isfinite(values[i])]
    if len(order) < 3:
        return [(label, index) for label, index in zip(("best", "worst"), order, strict=False)]
    return [("best", order[0]), ("median", order[len(order) // 2]), ("worst", order[-1])]


@styled
def samples_grid(
    real: np.ndarray,  # [N, H, W] physical values
    samples: np.ndarray,  # [M, H, W]
    window: Window,
    unit: str = "HU",
    columns: int = 4,
) -> Figure:
    """Real images on the left, images from the generator's prior on the right; neither is picked by hand."""
    blocks = [np.asarray(real, np.float32), np.asarray(samples, np.float32)]
    rows = -(-max(len(block) for block in blocks) // columns)
    if rows == 0:
        return message_figure("no images to show")
    size = next(block.shape[-2:] for block in blocks if len(block))
    figure, axes = _tiles(rows, 2 * columns + 1, size, left=0.05, top=0.3, under=0.0, narrow=columns)
    for block, title, start in zip(blocks, ("real", "sampled from the prior"), (0, columns + 1), strict=True):
        for index in range(rows * columns):
            axis = axes[index // columns][start + index % columns]
            if index < len(block):
                _grey(axis, block[index], window)
        axes[0][start].set_title(f"{title} (n = {len(block)})", loc="left", fontsize=8, pad=5)
    _bar(figure, ANATOMY, window, f"{unit}, display window")
    return figure


@styled
def training_grid(
    grids: Mapping[int, np.ndarray],  # images shown -> [N, H, W] physical values, of the same codes each time
    window: Window,
    unit: str = "HU",
    rows: int = 6,
    columns: int = 9,
) -> Figure:
    """What the same codes give as the training goes on: a row per moment, evenly spaced, the last at the bottom."""
    if not grids:
        return message_figure("no images of the training to show")
    moments = sorted(grids)
    chosen = [
        moments[i] for i in np.unique(np.linspace(0, len(moments) - 1, min(rows, len(moments))).round().astype(int))
    ]
    size = grids[moments[0]].shape[-2:]
    figure, axes = _tiles(len(chosen), columns, size, left=0.95, top=0.24, under=0.0)
    for row, moment in enumerate(chosen):
        for column, image in enumerate(grids[moment][:columns]):
            _grey(axes[row][column], image, window)
        _row_name(axes[row][0], f"{number(moment / 1000)} thousand")
    axes[0][0].set_title("the same codes after so many images of training", loc="left", fontsize=8, pad=5)
    _bar(figure, ANATOMY, window, f"{unit}, display window")
    return figure


def _tiles(
    rows: int,
    columns: int,
    size: tuple[int, ...],  # (H, W) of an image
    *,
    left: float,  # inches, as all lengths here
    top: float,
    under: float,  # room below each row
    largest: float = 1.1,  # a tile is no wider than this
    narrow: int | None = None,  # this column is a mere gap between two blocks
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of frameless axes of exactly the image's shape, and room for a colour bar below."""
    divider = 0.18 if narrow is not None else 0.0
    shares = columns - (narrow is not None)
    width = min(largest, (PAGE - left - 0.05 - divider - GAP * columns) / shares)
    height = width * size[0] / size[1]
    right = max(left + shares * width + divider + GAP * columns + 0.05, 3.4)
    total = top + rows * (height + under + GAP) + BAR_SPACE
    figure = new_figure(right, total)
    axes: list[list[Axes]] = []
    for row in range(rows):
        y = total - top - row * (height + under + GAP) - height
        x, line = left, []
        for column in range(columns):
            span = divider if column == narrow else width
            axis = figure.add_axes((x / right, y / total, span / right, height / total))
            clear_axes(axis)
            line.append(axis)
            x += span + GAP
        axes.append(line)
    return figure, axes


def _grey(axes: Axes, image: np.ndarray, window: Window) -> None:
    axes.imshow(shown(image, window), cmap=ANATOMY, vmin=0, vmax=1, aspect="auto")


def _signed(axes: Axes, change: np.ndarray, limit: float) -> None:
    picture = upscale(change.clip(-limit, limit), 256, -limit, limit)
    axes.imshow(picture, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")


def _skin(axes: Axes, image: np.ndarray) -> None:
    """A faint outline of the body on a difference map, so that one sees where in the anatomy the change is."""
    body = shown(image, (BODY_HU - 400, BODY_HU + 400))
    if body.min() < 0.5 < body.max():
        axes.contour(body, levels=[0.5], colors=MUTED, linewidths=0.35, alpha=0.8)


def _row_name(axes: Axes, name: str, width: int = 15) -> None:
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


def _step_titles(axes: Sequence[Axes], steps: Sequence[float]) -> None:
    for axis, step in zip(axes, steps, strict=True):
        base = abs(step) < 1e-9
        axis.set_title(
            step_label(step), fontsize=7.5, pad=4, color=INK if base else MUTED, fontweight="bold" if base else "normal"
        )


def _bar(figure: Figure, colours: str, limits: Window, label: str, slot: tuple[int, int] = (0, 1)) -> None:
    """A slim horizontal colour bar in the free strip at the bottom; slot (i, n): the i-th of n beside each other."""
    width, height = figure.get_size_inches()
    index, of = slot
    length = min(1.8, 0.33 * width if of == 1 else (width - 0.3) / of - 0.35)
    x = width - 0.22 - length if of == 1 else 0.25 + index * (width - 0.3) / of
    axes = figure.add_axes((x / width, 0.30 / height, length / width, 0.07 / height))
    mappable = ScalarMappable(Normalize(*limits), colours)
    beyond = "both" if colours == DIVERGING else "neither"  # the limit is robust: the largest changes lie beyond it
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend=beyond, extendfrac=0.04)
    bar.outline.set_linewidth(0.4)
    middle = (limits[0] + limits[1]) / 2
    ticks = [limits[0], middle, limits[1]]
    bar.set_ticks(ticks, labels=[number(tick, 3, sign=colours == DIVERGING) for tick in ticks])
    axes.tick_params(labelsize=6, length=1.5, pad=1.5)
    if of == 1:
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
    else:
        axes.set_xlabel(label, fontsize=6, color=MUTED, labelpad=1)
