"""A drawn report brought to a run's folder. Nothing here draws, so that what draws is not even imported for a report
that is there already.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from medlat.core.files import copy_whole, write_whole

NO_PAGE = "no_page.txt"  # in a run's report/: it was asked for no figures and no page
PLACE_OF_RUN = "<!-- what was run -->"  # in a page that was written without it


def deliver(drawn: Path, folder: Path, run: Mapping[str, str]) -> list[Path]:
    """Copy figures and page from the folder `drawn`, and say on the page what was run.

    Returns the pictures worth showing elsewhere (PNG and GIF).
    """
    for name in ("figures", "report"):
        (folder / name).mkdir(exist_ok=True)
    for path in sorted((drawn / "figures").iterdir()):
        copy_whole(path, folder / "figures")
    html = (drawn / "report" / "index.html").read_text(encoding="utf-8")
    (folder / "report" / NO_PAGE).unlink(missing_ok=True)
    write_whole(folder / "report" / "index.html", tell_run(html, run))
    return pictures_in(folder / "figures")


def leave_no_page(folder: Path) -> None:
    """Say where the page would be that there is none; that of an earlier run there would tell of other numbers."""
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report" / "index.html").unlink(missing_ok=True)
    write_whole(folder / "report" / NO_PAGE, "report.page=false: neither figures nor a page were asked for.\n")


def tell_run(html: str, run: Mapping[str, str]) -> str:
    """A page with what was run in its place; the same where that is not known yet."""
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in run.items())
    section = f'<section>\n<h2>What was run</h2>\n<dl class="run">\n{facts}\n</dl>\n</section>'
    return html.replace(PLACE_OF_RUN, section) if run else html


def pictures_in(figures: Path) -> list[Path]:
    """PNG files first, then GIF files, each by name."""
    return sorted(figures.glob("*.png")) + sorted(figures.glob("*.gif"))
