"""One look for every figure: type, palette, paper sizes, and how a figure is saved beside its numbers.

Figures are plain `Figure` objects (no pyplot, no global state). The same numbers give the same bytes: the font comes
with matplotlib, and neither PNG nor PDF carries a date.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medlat.core.files import whole
from medlat.core.tables import write_table
from medlat.report.rendering import DPI

P = ParamSpec("P")
T = TypeVar("T", bound=Hashable)

PAGE = 7.2  # inches: the width of a two-column page
COLUMN = 3.5  # inches: one column of it
COMPRESSION = 1  # of a PNG: a tenth more bytes than matplotlib's 6, in a quarter of the time

# Okabe and Ito (2008): distinguishable with every common colour vision deficiency.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
INK, MUTED, RULE = "#1a1a1a", "#6b6b6b", "#d4d4d4"
CONTROL_SHADE = "#f2f2f2"  # behind what knows nothing
SEQUENTIAL, DIVERGING, ANATOMY = "viridis", "RdBu_r", "gray"
PREDICTION = "coolwarm"  # blue 0, red 1; its middle is a grey that shows on white

CONTROLS = ("random", "coordinate")  # the direction methods that know nothing: what chance looks like

STYLE: Any = {  # Any: matplotlib types every key
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType, so that a journal's editor can change the text
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a function that draws a figure under `STYLE`, whatever the caller's own settings are."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(matplotlib.rcParamsDefault), matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float, constrained: bool = False) -> Figure:
    """A figure of the given size in inches, drawn with Agg."""
    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def message_figure(message: str) -> Figure:
    """What stands where there is nothing to draw: it says so."""
    figure = new_figure(COLUMN, 0.8)
    figure.text(0.5, 0.5, message, ha="center", va="center", color=MUTED)
    return figure


@dataclass(frozen=True)
class Figures:
    """The folder that a report's figures go to, whether each is left as PDF too, and the pixels per inch of a PNG."""

    folder: Path
    pdf: bool = True
    dpi: int = DPI

    def save(self, figure: Figure, stem: str, table: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Path]:
        """See `save_figure`."""
        return save_figure(figure, self.folder, stem, table, self.pdf, self.dpi)


def save_figure(
    figure: Figure,
    folder: Path,
    stem: str,
    table: Sequence[Mapping[str, Any]] | None = None,
    pdf: bool = True,
    dpi: int = DPI,
) -> dict[str, Path]:
    """Write `stem.png` (`dpi` pixels per inch), `stem.pdf` and, with a table, `stem.csv`: its numbers.

    table: rows; a column for every key that occurs, in the order of first appearance. An empty table writes no CSV.
    pdf: False leaves the PDF out. Returns the files written, by suffix: {"png": ..., "pdf": ..., "csv": ...}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"png": folder / f"{stem}.png"}
    written: Any = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": COMPRESSION}}
    with matplotlib.rc_context(STYLE), whole(paths["png"]) as place:
        figure.savefig(place, format="png", dpi=dpi, **written)
    if pdf:
        paths["pdf"] = folder / f"{stem}.pdf"
        figure.set_layout_engine("none")  # all is in its place: a second layout would draw twice
        blank = {"Creator": None, "Producer": None, "CreationDate": None}
        with matplotlib.rc_context(STYLE), whole(paths["pdf"]) as place:
            figure.savefig(place, format="pdf", dpi=300, metadata=blank)
    if table:
        paths["csv"] = folder / f"{stem}.csv"
        write_table(paths["csv"], table)
    return paths


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """`value` to so many significant digits, without trailing zeros: `−0.25`, `1234`, `3e−05`; a dash if not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        text = f"{value:.{digits - 1}e}"
    else:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return ("+" if sign and value > 0 else "") + text.replace("-", "\u2212")


def unit_sign(unit: str) -> str:
    """A unit as it is printed: `deg` as °, the 1 of a plain number as nothing."""
    return {"deg": "°", "1": ""}.get(unit, unit)


def with_unit(text: str, unit: str) -> str:
    """`3.1°`, `12 mm²`, `0.7`: degrees and percent touch their number."""
    unit = unit_sign(unit)
    return text if not unit else f"{text}{unit}" if unit in ("°", "%") else f"{text} {unit}"


def step_label(step: float) -> str:
    """`−3σ`, `0`, `+1.5σ`."""
    return "0" if abs(step) < 1e-9 else f"{step:+g}σ".replace("-", "\u2212")


def bare_name(name: str, method: str) -> str:
    """The direction's name without the method that the heading already says: `sefa 03` -> `03`."""
    rest = name.removeprefix(method).strip(" _-")
    return rest or name


def without_folders(value: str) -> str:
    """A setting as it is shown: of a place on this machine its last part."""
    text = value.strip("'\"")
    return PurePath(text).name if text.startswith(("/", "~", "\\")) else value


def in_order(values: Iterable[T]) -> list[T]:
    """Each value once, in order of first appearance."""
    return list(dict.fromkeys(values))
