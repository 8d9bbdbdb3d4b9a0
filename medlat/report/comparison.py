"""Runs side by side on one self-contained page: a column each, with its sentence, its picture, and its numbers beside
their controls.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medlat.core.files import write_whole
from medlat.report.glossary import terms_in
from medlat.report.page import Picture, Table, rendered
from medlat.report.sprites import figure_uri
from medlat.report.style import number

THUMBNAIL = 480  # pixels: the width of a run's picture


@dataclass(frozen=True)
class Told:
    """A number of a run. low, high: its 95% interval, NaN where there is none; images: that it is over, None where that
    is not known; beside: the same of each control.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    images: int | None = None
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        interval = f" [{number(self.low)}, {number(self.high)}]" if math.isfinite(self.low) else ""
        return number(self.value) + interval + (f", n = {self.images}" if self.images is not None else "")

    @property
    def controls(self) -> str:
        return ", ".join(f"{name} {number(value)}" for name, value in self.beside.items())


@dataclass(frozen=True)
class Column:
    """A finished run. name: its folder below the page's. settings: what it was given that others were not. finding,
    warnings: what its page opens with. numbers: by what they are called. picture: its page's first, None without one;
    page: whether there is a page below its folder.
    """

    name: str
    settings: Mapping[str, str]
    finding: str
    warnings: Sequence[str]
    numbers: Mapping[str, Told]
    picture: Path | None
    page: bool

    @property
    def link(self) -> str:
        return quote(f"{self.name}/report/index.html") if self.page else ""


def write_comparison(
    path: Path, columns: Sequence[Column], seeds: Table | None, missing: int, atlas: Picture | None = None
) -> None:
    """seeds: means over seeds, where there are several. missing: runs that did not finish. atlas: of all directions."""
    count = len(columns)
    told = f"{count} of {count + missing} runs finished." if missing else ""
    best = (
        f"The best of {count} runs is better than one run by luck alone: whoever shows it says that it is the best of "
        f"{count}. "
        if count > 1
        else ""
    )
    note = (
        f"{best}In brackets the 95% interval over patients (slides, groups), where there are enough of them; n: "
        f"images; below it the same of each control. A click on a number's name puts the runs in its order."
    )
    names = list(dict.fromkeys(name for column in columns for name in column.numbers))
    texts = [note, *names, *(column.finding for column in columns)]
    shown: dict[str, Any] = {"columns": columns, "names": names, "seeds": seeds, "atlas": atlas}
    html = rendered(
        "comparison.html.j2",
        title=f"{count} run{'s' * (count != 1)}, side by side",
        told=told,
        note=note,
        terms=terms_in(texts),
        thumbnail=lambda png: figure_uri(png, THUMBNAIL),
        **shown,
    )
    write_whole(path, html)
