"""Figures made of images: traversals, differences, reconstructions, samples. Every tile of a figure shares one scale.

Images are arrays of physical values as their `Look` has them, [H, W] or in colour [H, W, 3], row 0 at the top.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from medlat.report.rendering import Look, differences, finite, symmetric_limit
from medlat.report.style import INK, MUTED, message_figure, number, step_label, styled
from medlat.report.tiles import change_bar, draw_change, draw_image, row_name, step_titles, tile_grid, window_bar

ROWS_PER_PAGE = 8


def pages(count: int, per_page: int = ROWS_PER_PAGE) -> Iterator[slice]:
    """Slices of at most `per_page` of `count` rows: one figure each."""
    for start in range(0, count, per_page):
        yield slice(start, min(start + per_page, count))


@styled
def traversal_grid(
    images: np.ndarray,  # [K, S, H, W(, 3)] physical values, K at most 8 (`pages` splits more)
    steps: Sequence[float],  # [S] in standard deviations of the latent space
    names: Sequence[str],  # [K]
    captions: Sequence[str],  # [K] what was measured along each, e.g. "rotation +3.1°/σ [2.8, 3.4], purity 0.71"
    look: Look,
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
    figure, axes = tile_grid(
        len(names), len(steps), look.size(images), left=0.95, top=0.24, under=under, bars=not look.colour
    )
    for row, (name, caption) in enumerate(zip(names, wrapped, strict=True)):
        for column in range(len(steps)):
            draw_image(axes[row][column], images[row, column], look)
        row_name(axes[row][0], name)
        axes[row][0].annotate(
            caption, (0, 0), (0, -3), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=6.5
        )
    step_titles(axes[0], steps)
    window_bar(figure, look)
    return figure


@styled
def moved_figure(
    pictures: Mapping[str, np.ndarray],  # title -> [H, W(, 3)] physical values; the last one is what was moved
    change: np.ndarray,  # [H, W] in the unit of changes
    limit: float,  # the change that is shown in full colour
    look: Look,
) -> Figure:
    """One image beside what became of it, and what that changed."""
    figure, (line,) = tile_grid(
        1, len(pictures) + 1, look.size(next(iter(pictures.values()))), left=0.05, top=0.2, under=0.1, largest=1.6
    )
    for axis, (title, picture) in zip(line, pictures.items(), strict=False):
        draw_image(axis, picture, look)
        axis.set_title(title, fontsize=7, pad=3, color=INK)
    draw_change(line[-1], change, limit, list(pictures.values())[-1], look)
    line[-1].set_title("change", fontsize=7, pad=3, color=INK)
    change_bar(figure, limit, f"change, {look.change_unit}")
    return figure


@styled
def difference_maps(
    images: np.ndarray,  # [K, S, H, W(, 3)] physical values
    steps: Sequence[float],  # [S] in σ
    names: Sequence[str],  # [K]
    zero_index: int,  # the step the others are compared with
    look: Look,
) -> Figure:
    """Signed differences to one step, all on one symmetric scale; under each tile its mean |difference|."""
    images = np.asarray(images, np.float32)
    if images.size == 0:
        return message_figure("no directions to show")
    assert images.shape[:2] == (len(names), len(steps)), images.shape
    change = differences(look.scalar(images), zero_index)
    limit = symmetric_limit(change)
    figure, axes = tile_grid(len(names), len(steps), look.size(images), left=0.95, top=0.24, under=0.15)
    for row, name in enumerate(names):
        for column in range(len(steps)):
            draw_change(axes[row][column], change[row, column], limit, images[row, zero_index], look)
            mean = number(float(np.abs(change[row, column]).mean()), 2)
            note = "reference" if column == zero_index else mean
            axes[row][column].set_xlabel(note, fontsize=6, color=MUTED, labelpad=1)
        row_name(axes[row][0], name)
    step_titles(axes[0], steps)
    base = step_label(steps[zero_index])
    change_bar(figure, limit, f"change from {base}, {look.change_unit}; below: mean |change|")
    return figure


def difference_table(
    images: np.ndarray, steps: Sequence[float], names: Sequence[str], zero_index: int, look: Look
) -> list[dict]:
    """The numbers behind `difference_maps`: per direction and step the mean, mean |.| and largest |difference|."""
    change = differences(look.scalar(images), zero_index)
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
    real: np.ndarray,  # [N, H, W(, 3)] physical values, held out
    reconstructed: np.ndarray,  # as real
    psnr: Sequence[float],  # [N] dB
    look: Look,
    notes: Sequence[str] | None = None,  # [N] a line more under each PSNR
) -> Figure:
    """The best, the median and the worst reconstruction, so that nobody is shown the good ones only."""
    chosen = ranked_reconstructions(psnr)
    if not chosen:
        return message_figure("no reconstructions to show")
    real, reconstructed = np.asarray(real, np.float32), np.asarray(reconstructed, np.float32)
    change = finite(look.scalar(reconstructed) - look.scalar(real))
    limit = symmetric_limit(change[[index for _, index in chosen]])
    figure, axes = tile_grid(
        len(chosen), 3, look.size(real), left=1.0 if notes else 0.85, top=0.24, under=0.05, largest=1.35
    )
    for row, (label, index) in enumerate(chosen):
        draw_image(axes[row][0], real[index], look)
        draw_image(axes[row][1], reconstructed[index], look)
        draw_change(axes[row][2], change[index], limit, real[index], look)
        note = f"\n{notes[index]}" if notes else ""
        row_name(axes[row][0], f"{label}\n{number(float(psnr[index]))} dB{note}", width=40)
    for axis, title in zip(axes[0], ("real", "reconstruction", "difference"), strict=True):
        axis.set_title(title, fontsize=7.5, pad=4)
    window_bar(figure, look, slot=(0, 2))
    change_bar(figure, limit, f"reconstruction − real, {look.change_unit}", slot=(1, 2))
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
    real: np.ndarray,  # [N, H, W(, 3)] physical values
    samples: np.ndarray,  # [M, H, W(, 3)]
    look: Look,
    columns: int = 4,
) -> Figure:
    """Real images on the left, images from the generator's prior on the right; neither is picked by hand."""
    blocks = [np.asarray(real, np.float32), np.asarray(samples, np.float32)]
    rows = -(-max(len(block) for block in blocks) // columns)
    if rows == 0:
        return message_figure("no images to show")
    size = look.size(next(block for block in blocks if len(block)))
    figure, axes = tile_grid(
        rows, 2 * columns, size, left=0.05, top=0.3, under=0.0, bars=not look.colour, dividers=(columns,)
    )
    for block, title, start in zip(blocks, ("real", "sampled from the prior"), (0, columns), strict=True):
        for index in range(rows * columns):
            axis = axes[index // columns][start + index % columns]
            if index < len(block):
                draw_image(axis, block[index], look)
        axes[0][start].set_title(f"{title} (n = {len(block)})", loc="left", fontsize=8, pad=5)
    window_bar(figure, look)
    return figure


@styled
def training_grid(
    grids: Mapping[int, np.ndarray],  # images shown -> [N, H, W(, 3)] physical values, of the same codes each time
    look: Look,
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
    size = look.size(grids[moments[0]])
    figure, axes = tile_grid(len(chosen), columns, size, left=0.95, top=0.24, under=0.0, bars=not look.colour)
    for row, moment in enumerate(chosen):
        for column, image in enumerate(grids[moment][:columns]):
            draw_image(axes[row][column], image, look)
        row_name(axes[row][0], f"{number(moment / 1000)} thousand")
    axes[0][0].set_title("the same codes after so many images of training", loc="left", fontsize=8, pad=5)
    window_bar(figure, look)
    return figure
