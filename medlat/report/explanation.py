"""Figures of an explanation made of images: those moved until the prediction crosses the threshold, and what changed.

Images are arrays of physical values as their `Look` has them, [H, W] or in colour [H, W, 3]; steps are in standard
deviations of the latent space, and step 0 is the image as inversion found it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medlat.report import anatomy
from medlat.report.rendering import Look, finite, symmetric_limit, zero_index
from medlat.report.sprites import relevance_colours
from medlat.report.style import (
    DIVERGING,
    INK,
    MUTED,
    PREDICTION,
    RULE,
    VERMILION,
    message_figure,
    number,
    step_label,
    styled,
    with_unit,
)
from medlat.report.tiles import (
    change_bar,
    colour_bar,
    draw_change,
    draw_image,
    draw_picture,
    row_name,
    side_of,
    step_titles,
    tile_grid,
    window_bar,
)

ROWS_PER_FIGURE = 6
STEPS_SHOWN, MEAN_STEPS_SHOWN = 5, 9
UNDER: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 6, "color": MUTED}
LEAST = 0.05  # change of a probability that is shown in full colour at least: less is nothing to see
LETTER = 0.05  # inches, on average, of a block's title
SALIENCY = {
    "gradcam": "Grad-CAM",
    "gradcampp": "Grad-CAM++",
    "occlusion": "occlusion",
    "integrated_gradients": "int. gradients",
}


@dataclass(frozen=True)
class Question:
    """What is explained: the target's name, the prediction at which an image changes side, whether predictions are
    probabilities, and the names of the classes by the number of a label.
    """

    target: str
    threshold: float
    probability: bool
    classes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The question as it is asked."""
        if not self.probability:
            return f"What moves the predicted {self.target}?"
        return f"Why does the classifier say \u201c{self.target}\u201d?"

    @property
    def axis(self) -> str:
        return f"probability of {self.target}" if self.probability else f"predicted {self.target}"

    def label(self, value: float) -> str:
        """A true label as text, "" where it is not known."""
        if not math.isfinite(value):
            return ""
        # A single name is that of what is predicted, not of the class with number 0.
        known = len(self.classes) > 1 and float(value).is_integer() and 0 <= value < len(self.classes)
        return self.classes[int(value)] if known else number(value)

    def text(self, prediction: float) -> str:
        """A prediction as text: a probability to two decimals."""
        return f"{prediction:.2f}" if self.probability and math.isfinite(prediction) else number(prediction)


@dataclass(frozen=True)
class Series:
    """N explained images and the S steps of each; [N] where nothing else is said.

    images: [N, S, H, W(, 3)]; steps: [S], one of them 0; predictions: [N, S].
    real, real_prediction, label: the image itself; an unknown label is NaN.
    counterfactual, its step and prediction; reached: whether that prediction is as was asked.
    shown: [M] which of the images figures show; saliency: name -> relevance [M, H, W] of these; only its share of the
    map's largest is shown. reach: how many σ images stay near the data, NaN where that is not known.
    """

    images: np.ndarray
    steps: np.ndarray
    predictions: np.ndarray
    real: np.ndarray
    real_prediction: np.ndarray
    label: np.ndarray
    counterfactual: np.ndarray
    counterfactual_step: np.ndarray
    counterfactual_prediction: np.ndarray
    reached: np.ndarray
    shown: np.ndarray
    saliency: Mapping[str, np.ndarray]
    reach: float = math.inf

    def __len__(self) -> int:
        return len(self.images)

    @property
    def zero(self) -> int:
        return zero_index(self.steps.tolist())

    def is_beyond(self, step: float) -> bool:
        """Whether images that are moved so far leave the data."""
        return abs(step) > self.reach

    def change(self, look: Look) -> np.ndarray:
        """Counterfactual − inverted, [N, H, W] in the unit of changes."""
        return finite(look.scalar(self.counterfactual) - look.scalar(self.images[:, self.zero]))

    def relevance(self, name: str, index: int) -> np.ndarray:
        """[H, W] of an image that is shown, by its number among all."""
        return self.saliency[name][self.shown.tolist().index(index)]

    def limits(self, question: Question) -> tuple[float, float]:
        """The range of predictions: that of a probability, else what occurs."""
        if question.probability or not len(self):
            return 0.0, 1.0
        every = np.concatenate([self.predictions.ravel(), self.real_prediction, self.counterfactual_prediction])
        low, high = float(np.nanmin(every)), float(np.nanmax(every))
        return (low, high) if high > low else (low - 0.5, high + 0.5)


@styled
def counterfactual_strip(
    series: Series,
    question: Question,
    look: Look,
    rows: Sequence[int],  # which images, at most 6
) -> Figure:
    """A row per image: the original with its true label, what the direction makes of it with a prediction under each,
    the counterfactual, what it changed, and beside it where saliency maps look (after Schutte et al. 2021, Fig. 2).
    """
    if not len(rows):
        return message_figure("no images were explained")
    assert len(rows) <= ROWS_PER_FIGURE, f"{len(rows)} rows: split them with anatomy.pages()"
    columns = chosen_steps(series.steps.tolist(), STEPS_SHOWN, series.reach)
    maps = [name for name in SALIENCY if name in series.saliency]
    first = 1 + len(columns)  # of the counterfactual, its change and the maps
    dividers = (1, first, first + 2) if maps else (1, first)
    figure, axes = tile_grid(
        len(rows), first + 2 + len(maps), look.size(series.real), left=0.18, top=0.5, under=0.34, largest=0.85,
        dividers=dividers,
    )  # fmt: skip
    change = series.change(look)
    limit = symmetric_limit(change[list(rows)])
    for line, index in zip(axes, rows, strict=True):
        _moved(line[: first + 1], series, index, columns, question, look)
        line[0].annotate(f"image {index + 1}", (0, 0.5), (-4, 0), rotation=90, ha="right", va="center", **UNDER)
        _changed(line[first + 1], change[index], series.images[index, series.zero], limit, look)
        for axis, name in zip(line[first + 2 :], maps, strict=True):
            _overlay(axis, name, series.real[index], series.relevance(name, index), question, look)
    _titles(axes[0], series.steps[columns].tolist(), [SALIENCY[name] for name in maps], question)
    _strip_bars(figure, question, look, limit, series.limits(question), bool(maps))
    return figure


@styled
def single_figure(series: Series, index: int, question: Question, look: Look) -> Figure:
    """One image in tiles that are large enough for a telephone: original, inverted, counterfactual and what it changed;
    below them where saliency maps look.
    """
    maps = [name for name in SALIENCY if name in series.saliency]
    figure, axes = tile_grid(2 if maps else 1, 4, look.size(series.real), left=0.05, top=0.2, under=0.42, largest=0.8)
    line, limits, change = axes[0], series.limits(question), series.change(look)[index]
    inverted, limit = series.images[index, series.zero], symmetric_limit(change)
    pictures = (series.real[index], inverted, series.counterfactual[index])
    values = (series.real_prediction[index], series.predictions[index, series.zero])
    for axis, picture, value in zip(line, pictures, (*values, series.counterfactual_prediction[index]), strict=False):
        draw_image(axis, picture, look)
        _prediction(axis, float(value), question, limits)
    _note(line[2], *_place(series, index))
    _changed(line[3], change, inverted, limit, look)
    for axis, name in zip(axes[-1], maps, strict=False):
        _overlay(axis, name, series.real[index], series.relevance(name, index), question, look)
    names = ("original", "inverted", "counterfactual" if series.reached[index] else "not reached", "change")
    for titled, texts in ((line, names), (axes[-1], [SALIENCY[name] for name in maps] if maps else ())):
        for axis, text in zip(titled, texts, strict=False):
            axis.set_title(text, fontsize=7, pad=3, color=VERMILION if text == "not reached" else INK)
    if not look.colour:
        window_bar(figure, look, (0, 2))
    change_bar(figure, limit, f"change, {look.change_unit}", (1, 2))
    return figure


@styled
def inverted_figure(real: np.ndarray, inverted: np.ndarray, look: Look) -> Figure:
    """One image, what inversion gives back, and the difference."""
    figure, (line,) = tile_grid(1, 3, look.size(real), left=0.05, top=0.2, under=0.1, largest=1.2)
    change = finite(look.scalar(inverted) - look.scalar(real))
    limit = symmetric_limit(change)
    for axis, picture, text in zip(line, (real, inverted), ("original", "inverted"), strict=False):
        draw_image(axis, picture, look)
        axis.set_title(text, fontsize=7, pad=3, color=INK)
    draw_change(line[2], change, limit, real, look)
    line[2].set_title("difference", fontsize=7, pad=3, color=INK)
    change_bar(figure, limit, look.change_unit)
    return figure


def _moved(
    line: Sequence[Axes], series: Series, index: int, columns: Sequence[int], question: Question, look: Look
) -> None:
    """Original, the steps and the counterfactual of one image, each with its prediction."""
    limits, sure = series.limits(question), bool(series.reached[index])
    label = question.label(float(series.label[index]))
    pictures = [series.real[index], *series.images[index, columns], series.counterfactual[index]]
    values = [series.real_prediction[index], *series.predictions[index, columns]]
    values.append(series.counterfactual_prediction[index])
    true, found = f"true: {_short(label)}" if label else "", _place(series, index)
    notes = [(true, 2, MUTED), *[("", 2, MUTED)] * len(columns), found if sure else ("not reached", 2, VERMILION)]
    for axis, picture, value, note in zip(line, pictures, values, notes, strict=True):
        draw_image(axis, picture, look)
        _prediction(axis, float(value), question, limits)
        _note(axis, *note, is_long=note[0] == true)


def _place(series: Series, index: int) -> tuple[str, int, str]:
    """Where the counterfactual lies, as the second line under it; in red where that is beyond the data."""
    step = float(series.counterfactual_step[index])
    beyond = series.is_beyond(step)
    return step_label(round(step, 1)) + ", beyond" * beyond, 2, VERMILION if beyond else MUTED


def _short(label: str, most: int = 14) -> str:
    return label if len(label) <= most else label[: most - 1].rstrip() + "…"


def _changed(axis: Axes, change: np.ndarray, inverted: np.ndarray, limit: float, look: Look) -> None:
    draw_change(axis, change, limit, inverted, look)
    mean, _, unit = with_unit(number(float(np.abs(change).mean()), 2), look.change_unit).partition(" ")
    _note(axis, mean + (f" {unit}" if len(unit) < 4 else ""), 1, MUTED)
    _note(axis, "mean |Δ|", 2, MUTED)


def _prediction(axis: Axes, value: float, question: Question, limits: tuple[float, float]) -> None:
    """Under a tile: a bar as long as the prediction is large and of its colour, a mark at the threshold, the number."""
    share = float(np.clip((value - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)) if math.isfinite(value) else 0.0
    threshold = (question.threshold - limits[0]) / (limits[1] - limits[0])
    track = axis.inset_axes((0.0, -0.1, 1.0, 0.06))
    track.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], facecolor=RULE)
    track.add_patch(Rectangle((0, 0), share, 1, color=matplotlib.colormaps[PREDICTION](share), linewidth=0))
    if 0 <= threshold <= 1:
        track.axvline(threshold, color=INK, linewidth=0.5)
    for spine in track.spines.values():
        spine.set_visible(False)
    _note(axis, question.text(value), 1, INK)


def _note(axis: Axes, text: str, line: int, colour: str, is_long: bool = False) -> None:
    """The first or second line of text under a tile and its bar. is_long: it may go on under the next tile."""
    place = (0, -0.5 - 6.6 * line)
    x, side = (0.0, "left") if is_long else (0.5, "center")
    axis.annotate(text, (x, -0.1), place, ha=side, **UNDER | {"color": colour})


def _overlay(axis: Axes, name: str, image: np.ndarray, relevance: np.ndarray, question: Question, look: Look) -> None:
    """A saliency map over the image without its colours: red speaks for the target, blue against it. Under that of
    occlusion the most that a hidden patch changes the prediction, as the colours show only its share of that.
    """
    side = side_of(axis, look)
    draw_picture(axis, look.lightness(image, side), look, cmap="gray", vmin=0, vmax=1)
    least = LEAST if name == "occlusion" and question.probability else 0.0
    draw_picture(axis, relevance_colours(relevance, side, least), look, extent=axis.images[0].get_extent())
    if name == "occlusion":
        most = question.text(float(np.abs(finite(relevance)).max()))
        _note(axis, f"at most {most}", 1, VERMILION if float(most) == 0 else MUTED)


def _titles(line: Sequence[Axes], steps: Sequence[float], maps: Sequence[str], question: Question) -> None:
    """A title over every tile, and over each block of tiles what it shows."""
    count = len(steps)
    step_titles(line[1 : count + 1], steps)
    for axis, title in zip((line[0], *line[count + 1 :]), ("original", "image", "change", *maps), strict=True):
        axis.set_title(title, fontsize=7 if len(title) < 8 else 6, pad=4, color=INK)
    _block(line[1 : count + 1], "the inverted image (0), moved along the direction")
    _block(line[count + 1 : count + 3], "counterfactual")
    if len(maps) > 1:
        target = _short(question.target, 24 if len(maps) > 2 else 14)
        _block(line[count + 3 :], f"original: relevance for {target}")
    elif maps:  # no room for more; the caption says for which class
        _block(line[count + 3 :], "relevance")


def _block(line: Sequence[Axes], title: str) -> None:
    """A rule and a title over neighbouring tiles."""
    figure = line[0].get_figure(root=True)
    assert figure is not None
    left, right = line[0].get_position(), line[-1].get_position()
    inch = 1.0 / figure.get_size_inches()[1]
    y = left.y1 + 0.23 * inch
    figure.add_artist(matplotlib.lines.Line2D((left.x0, right.x1), (y, y), color=RULE, linewidth=0.7))
    wide = (right.x1 - left.x0) * figure.get_figwidth() > LETTER * len(title)
    x, side = ((left.x0 + right.x1) / 2, "center") if wide else (right.x1, "right")
    figure.text(x, y + 0.04 * inch, title, ha=side, va="bottom", fontsize=6.5, color=MUTED)


def _strip_bars(
    figure: Figure, question: Question, look: Look, limit: float, limits: tuple[float, float], maps: bool
) -> None:
    count = 2 + (not look.colour) + maps
    slots = iter([(index, count) for index in range(count)])
    if not look.colour:
        window_bar(figure, look, next(slots))
    colour_bar(figure, PREDICTION, limits, question.axis, next(slots))
    change_bar(figure, limit, f"counterfactual − inverted, {look.change_unit}", next(slots))
    if maps:
        colour_bar(figure, DIVERGING, (-1.0, 1.0), "relevance, of each map's largest", next(slots), sign=True)


def strip_table(series: Series, question: Question, look: Look) -> list[dict]:
    """The numbers behind all `counterfactual_strip`s: a row per image that is shown and per step of it, real and
    counterfactual too.
    """
    table = []
    change = np.abs(series.change(look)).mean(axis=(1, 2))
    for index in series.shown.tolist():
        shared = {"image": index, "label": question.label(float(series.label[index]))}
        real, found = float(series.real_prediction[index]), float(series.counterfactual_prediction[index])
        table.append(shared | {"what": "original", "step": math.nan, "prediction": real})
        for step, value in zip(series.steps, series.predictions[index], strict=True):
            table.append(shared | {"what": "series", "step": float(step), "prediction": float(value)})
        last = {"what": "counterfactual", "step": float(series.counterfactual_step[index]), "prediction": found}
        table.append(
            shared | last | {"reached": bool(series.reached[index]), "mean_absolute_change": float(change[index])}
        )
    return table


def chosen_steps(steps: Sequence[float], most: int, reach: float = math.inf) -> list[int]:
    """At most so many of the steps within reach, evenly spaced, with both ends and the one nearest to 0 among them; of
    all steps where fewer than three are within reach.
    """
    zero = zero_index(steps)
    inside = [index for index, step in enumerate(steps) if not abs(step) > reach or index == zero]
    inside = inside if len(inside) >= 3 else list(range(len(steps)))
    if len(inside) <= most:
        return inside
    places = [round(float(place)) for place in np.linspace(0, len(inside) - 1, most)]
    middle = inside.index(zero)
    if middle not in places:
        places[1 + int(np.argmin([abs(place - middle) for place in places[1:-1]]))] = middle
    return [inside[place] for place in places]


@styled
def mean_effect(
    images: np.ndarray,  # [S, H, W(, 3)] mean over the explained images at each step
    difference: np.ndarray,  # [S, H, W] mean signed difference to step 0, in the unit of changes
    steps: Sequence[float],  # [S]
    look: Look,
    reach: float = math.inf,  # σ, as of `Series`
) -> Figure:
    """What the direction does on average: the mean image at each step, and below it the mean change from step 0."""
    if not len(steps):
        return message_figure("no mean effect to show")
    columns = chosen_steps(steps, MEAN_STEPS_SHOWN, reach)
    figure, axes = tile_grid(2, len(columns), look.size(images), left=0.6, top=0.24, under=0.12)
    change = finite(difference)
    limit = symmetric_limit(change)
    for place, column in enumerate(columns):
        draw_image(axes[0][place], images[column], look)
        draw_change(axes[1][place], change[column], limit, images[zero_index(steps)], look)
        mean = number(float(np.abs(change[column]).mean()), 2)
        axes[1][place].set_xlabel("reference" if abs(steps[column]) < 1e-9 else mean, fontsize=6, color=MUTED)
        axes[1][place].xaxis.labelpad = 1
    for line, name in zip(axes, ("mean image", "mean change"), strict=True):
        row_name(line[0], name, width=8)
    step_titles(axes[0], [steps[column] for column in columns])
    window_bar(figure, look, (0, 2))
    change_bar(figure, limit, f"mean change from 0, {look.change_unit}; below: mean |change|", (1, 2))
    return figure


def mean_effect_table(difference: np.ndarray, steps: Sequence[float]) -> list[dict]:
    """The numbers behind `mean_effect`: the mean, mean |.| and largest |mean change| at each step."""
    return [
        {
            "step": float(step),
            "mean": float(tile.mean()),
            "mean_absolute": float(np.abs(tile).mean()),
            "max_absolute": float(np.abs(tile).max()),
        }
        for step, tile in zip(steps, finite(difference), strict=True)
    ]


def inversion_figure(
    real: np.ndarray,  # [N, H, W(, 3)]
    decoded: np.ndarray,  # as real
    psnr: Sequence[float],  # [N] dB
    prediction_real: Sequence[float],  # [N]
    prediction_decoded: Sequence[float],  # [N]
    question: Question,
    look: Look,
) -> Figure:
    """The best, median and worst inversion by PSNR, each with what it does to the prediction."""
    pairs = zip(prediction_real, prediction_decoded, strict=True)
    notes = [f"predicted\n{question.text(float(before))} → {question.text(float(after))}" for before, after in pairs]
    return anatomy.reconstructions(real, decoded, psnr, look, notes)
