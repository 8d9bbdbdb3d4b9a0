"""One self-contained HTML page: what was run, what the directions mean, and the controls beside every claim.

The page loads nothing: images are data URIs, style and script are inline, fonts are the system's, and a content
security policy forbids the rest. All text is escaped. Links to CSV and PDF files are relative to the page.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from medlat.core.files import write_whole
from medlat.report.delivery import PLACE_OF_RUN, tell_run
from medlat.report.glossary import explained, terms_in
from medlat.report.heatmap import is_significant
from medlat.report.rendering import Look, differences, symmetric_limit, zero_index
from medlat.report.sprites import (
    EXACT_PIXELS,
    LEVELS,
    colour_sprite,
    css_gradient,
    data_uri,
    difference_sprite,
    diverging_palette,
    figure_uri,
    value_sprite,
)
from medlat.report.style import CONTROLS, number, step_label, with_unit

SLIDERS = "Move an image"  # the section's title
FIRST = 3  # key numbers beside the verdict
CARDS = 12  # that are shown at once
WEBP = "image/webp"
LONG = 9  # rows, above which a table is folded


class Cell(NamedTuple):
    """A table cell that is shown as one thing and sorted as another, e.g. `Cell("[2.8, 3.4]", 3.1)`."""

    text: str
    sort: float


@dataclass(frozen=True)
class KeyNumber:
    """A result with its control beside it. explanation: one plain sentence on what the number says."""

    name: str
    value: float | str
    unit: str = ""
    control: float | str = ""  # what it must be held against, e.g. "0.30 (random directions)", "12.1 (real to real)"
    explanation: str = ""


@dataclass(frozen=True)
class Table:
    """rows: a cell is text, a number (shown to 3 digits), None (shown as a dash) or a `Cell`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    csv: Path | None = None


@dataclass(frozen=True)
class Picture:
    """A figure as `save_figure` wrote it; `files` beside it (CSV, PDF, GIF) are linked."""

    png: Path
    title: str
    caption: str = ""
    files: Sequence[Path] = ()

    @classmethod
    def saved(cls, paths: Mapping[str, Path], title: str, caption: str = "") -> "Picture":
        """From what `save_figure` returned."""
        return cls(paths["png"], title, caption, [path for kind, path in paths.items() if kind != "png"])


@dataclass(frozen=True)
class Traversal:
    """One card with a slider: a direction's images, and what was measured at each step."""

    name: str  # heads the card, e.g. "rotation +3.1°/σ", "unnamed 07"
    images: np.ndarray  # [S, H, W(, 3)] physical values
    caption: str = ""  # e.g. "rotation +3.1°/σ [2.8, 3.4], R² 0.92, purity 0.71"
    measurement: str = ""  # what `values` are
    unit: str = ""
    values: Sequence[float] | None = None  # [S]
    original: np.ndarray | None = None  # [H, W(, 3)] the image itself, which stands beside; None: that of step 0
    named: bool = True
    evidence: float = math.nan  # that cards can be sorted by
    reach: float = math.inf  # σ, as far as images stay near the data, NaN unknown; there the slider ends at first


@dataclass(frozen=True)
class TraversalSet:
    """The directions of one method, or of one control."""

    method: str
    traversals: Sequence[Traversal]
    steps: Sequence[float]  # [S] in σ
    control: bool = False
    note: str = ""  # e.g. "mean purity 0.30: this is what chance looks like"


@dataclass(frozen=True)
class Section:
    title: str
    text: str = ""  # plain text; an empty line begins a new paragraph
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Picture] = ()  # further pictures, for who asks


@dataclass
class Report:
    """All that the page says. Nothing here may hold patient data: the page shows it as it is.

    title: the question. verdict: the answer in one or two honest sentences; they open the page. about: which run.
    lead: the picture beside the verdict. key_numbers: the first `FIRST` stand beside it too, the others are folded.
    warnings: plain words, e.g. "Phantom data: no patients were involved."
    run: what was run, in order of display, e.g. {"command": ..., "seed": "0", "date": ...}.
    look:    how all images are shown.
    opening: sections that stand before the sliders.

    Tables of more than `LONG` rows are folded; empty ones are left out.
    """

    title: str
    verdict: str
    run: Mapping[str, str]
    look: Look
    about: str = ""
    lead: Picture | None = None
    warnings: Sequence[str] = ()
    key_numbers: Sequence[KeyNumber] = ()
    traversal_sets: Sequence[TraversalSet] = ()
    opening: Sequence[Section] = ()
    sections: Sequence[Section] = field(default_factory=list)


def write_page(path: Path, report: Report) -> None:
    """Write the report as one HTML file that works offline. Without `run`, its place is left for `tell_run`."""
    sets = _sliders(report)
    html = rendered(
        "page.html.j2",
        report=report,
        sets=sets,
        movers=_movers(report.look, sets),
        sliders_title=SLIDERS,
        first_numbers=FIRST,
        contents=[part.title for part in report.opening] + [SLIDERS] * bool(sets) + [p.title for p in report.sections],
        terms=terms_in(_texts(report)),
        place_of_run=PLACE_OF_RUN,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, tell_run(html, report.run))


def rendered(template: str, **told: Any) -> str:
    """A page's HTML, with the style, script and macros that all pages share."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(cell=_cell, sort_key=_sort_key, numeric=_is_numeric, paragraphs=_paragraphs)
    environment.filters.update(explained=explained, anchor=_anchor)
    environment.globals.update(figure_uri=figure_uri, csv_uri=_csv_uri, size_of=_size_of, LONG=LONG)
    for name, file in (("STYLE", "page.css"), ("SCRIPT", "page.js")):
        environment.globals[name] = (here / file).read_text(encoding="utf-8")
    return environment.get_template(template).render(**told)


def semantics_table(
    rows: Sequence[Mapping[str, Any]], csv: Path | None = None, controls: Sequence[str] = CONTROLS
) -> Table:
    """The rows of `semantics_heatmap` as a sortable table; effects whose interval excludes 0 come with a bullet."""
    lines = []
    for row in rows:
        name = row["method"] + (" (control)" if row["method"] in controls else "")
        effect = with_unit(number(row["effect"], 3, sign=True), row["unit"])
        known = math.isfinite(row["effect_low"])
        interval = f"[{number(row['effect_low'])}, {number(row['effect_high'])}]" if known else "–"
        mark = "• " if is_significant(row) else ""
        measured = f"{row['measurement'].replace('_', ' ')}{' ✱' if row['kind'] == 'factor' else ''}"
        lines.append(
            [name, row["direction"], measured, Cell(mark + effect, row["effect"]), Cell(interval, row["effect_low"])]
            + [Cell(number(row["standardised"], 2, sign=True), abs(row["standardised"]))]
            + [Cell(f"{row[key]:.2f}" if math.isfinite(row[key]) else "–", row[key]) for key in ("share", "r2")]
        )
    columns = ["method", "direction", "measurement", "effect per σ", "95% interval", "standardised", "share", "R²"]
    caption = (
        "• the 95% interval excludes 0. Standardised: effect per σ in standard deviations of the measurement over real "
        "images. Share: of the direction's total standardised effect; the largest share of a direction is its purity."
    )
    if any(row["kind"] == "factor" for row in rows):
        caption += " ✱ a factor known from the phantom's recipe."
    return Table("Every direction, every measurement", columns, lines, caption, csv)


def _sliders(report: Report) -> list[dict[str, Any]]:
    """The traversals as the template wants them: sprites, labels, and one scale of differences for all methods."""
    look = report.look
    sets = [group for group in report.traversal_sets if group.traversals and len(group.steps)]
    if not sets:
        return []
    change = [
        differences(look.scalar(item.images), zero_index(group.steps)).ravel()
        for group in sets
        for item in group.traversals
    ]
    limit = symmetric_limit(np.concatenate(change))
    return [
        {
            "method": group.method,
            "control": group.control,
            "note": group.note,
            "items": [_slider(item, group, look, limit) for item in group.traversals],
            "labels": [step_label(step) for step in group.steps],
            "start": zero_index(group.steps),
            "limit": limit,
        }
        for group in sets
    ]


def _movers(look: Look, sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the bar above the cards offers, and what the script must know of all of them."""
    items = [item for group in sets for item in group["items"]]
    low, high = look.windows_span
    limit = sets[0]["limit"] if sets else 1.0
    return {
        "most": CARDS,
        "windows": {} if look.colour else look.windows,
        "ordered": any(item["evidence"] for item in items),
        "limited": any(item["last"] < len(group["labels"]) - 1 for group in sets for item in group["items"]),
        "span": [low, high],
        "limit": f"{number(limit)} {look.change_unit}",
        "limit_levels": limit / (high - low) * LEVELS,
        "levels": LEVELS,
        "colours": css_gradient(),
        "palette": diverging_palette()[3:],
    }


def _slider(item: Traversal, group: TraversalSet, look: Look, limit: float) -> dict[str, Any]:
    steps, images, zero = list(group.steps), np.asarray(item.images, np.float32), zero_index(group.steps)
    height, width = look.size(images)
    assert images.shape[0] == len(steps), (item.name, images.shape, len(steps))
    values = list(item.values) if item.values is not None else []
    assert not values or len(values) == len(steps), item.name
    inside = [index for index, step in enumerate(steps) if not abs(step) > item.reach or index == zero]
    tiles = images if item.original is None else np.concatenate([images, np.asarray(item.original, np.float32)[None]])
    if look.colour:
        sprite, change = colour_sprite(tiles, look), data_uri(difference_sprite(look.scalar(tiles), zero, limit), WEBP)
    else:
        exact = len(group.traversals) * len(tiles) * height * width <= EXACT_PIXELS
        sprite, change = value_sprite(tiles, look.windows_span, exact), ""
    return {
        "name": item.name,
        "caption": item.caption,
        "named": item.named,
        "evidence": repr(item.evidence) if math.isfinite(item.evidence) else "",
        "measurement": item.measurement.replace("_", " "),
        "readings": _readings(values, item.unit),
        "curve": _curve(values, steps),
        "width": width,
        "height": height,
        "first": inside[0],
        "last": inside[-1],
        "beside": zero if item.original is None else len(steps),
        "beside_name": "at 0" if item.original is None else "original",
        "images": data_uri(sprite, WEBP),
        "differences": change,
    }


def _readings(values: Sequence[float], unit: str) -> list[str]:
    """The values, all with as many decimals as their range deserves, so that nothing jumps while sliding."""
    finite = [value for value in values if math.isfinite(value)]
    span = (max(finite) - min(finite) or abs(finite[0])) if finite else 0.0
    decimals = min(6, max(0, 2 - math.floor(math.log10(span)))) if span else 0
    rounded = [round(value, decimals) + 0.0 if math.isfinite(value) else None for value in values]  # + 0.0: no "−0"
    texts = ["–" if value is None else f"{value:.{decimals}f}".replace("-", "\u2212") for value in rounded]
    return [with_unit(text, unit) if text != "–" else text for text in texts]


def _curve(values: Sequence[float], steps: Sequence[float]) -> list[tuple[float, float] | None]:
    """Points (x, y) of a small plot of the measured value in a 100 x 30 box, y downwards; None where not finite."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or len(steps) < 2:
        return []
    low, span = min(finite), max(finite) - min(finite)
    first, reach = min(steps), (max(steps) - min(steps)) or 1.0
    return [
        (round(3 + 94 * (step - first) / reach, 2), round(26 - 22 * ((value - low) / span if span else 0.5), 2))
        if math.isfinite(value)
        else None
        for step, value in zip(steps, values, strict=True)
    ]


def _cell(value: Any) -> str:
    """What a cell shows."""
    if isinstance(value, Cell):
        return value.text
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value}".replace("-", "\u2212")
    return number(float(value)) if isinstance(value, float | np.floating) else str(value)


def _is_numeric(value: Any) -> bool:
    return isinstance(value, Cell | int | float | np.number) and not isinstance(value, bool | np.bool_)


def _sort_key(value: Any) -> str:
    """What a cell is sorted by: a number as the script reads it, "" for what has no place in the order."""
    if not _is_numeric(value):
        return "" if value is None else str(value)
    plain = float(value.sort if isinstance(value, Cell) else value)
    return repr(plain) if math.isfinite(plain) else ""


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _csv_uri(path: Path) -> str:
    """The whole file: a page that is mailed alone keeps its numbers."""
    return data_uri(path.read_bytes(), "text/csv")


def _size_of(png: Path) -> tuple[int, int]:
    """Width and height, which keep the picture's place until it is drawn."""
    with Image.open(png) as file:
        return file.size


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _texts(report: Report) -> Iterator[str]:
    """All that is said on the page in words."""
    yield from (report.verdict, *report.warnings)
    for item in report.key_numbers:
        yield from (item.name, str(item.control), item.explanation)
    for group in report.traversal_sets:
        yield from (group.note, *(card.caption for card in group.traversals))
    for section in (*report.opening, *report.sections):
        yield from (section.text, *(picture.caption for picture in (*section.pictures, *section.folded)))
        for table in section.tables:
            yield from (table.caption, *table.columns)
