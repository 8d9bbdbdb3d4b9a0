"""A drawn report in a run's folder, and what stands there where none was asked for."""

import re

import pytest
from report import made

from medlat.report.compile import Inputs, compile_report
from medlat.report.delivery import NO_PAGE, PLACE_OF_RUN, deliver, leave_no_page, tell_run
from medlat.study.collect import has_ended


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with a report that has no PDFs; nobody changes it."""
    folder = tmp_path_factory.mktemp("drawn")
    found = made.evaluation(folder / "evaluation")
    inputs = Inputs(
        evaluation=found, fidelity=found, semantics={name: found / name for name in ("linear", "random")},
        curves=[], grids={}, controls=["random"],
        measurements=[("heart", "mm", None)], look=made.LOOKS["HU"], directions=2, gifs=1, active_kl=0.1,
        about="Run x.", run={}, pdf=False, account=[("damaged", 12, "truncated"), ("copy", 3, "stands later too")],
    )  # fmt: skip
    compile_report(inputs, folder)
    return folder


def test_a_page_says_what_was_run_though_it_was_drawn_before(drawn, tmp_path):
    assert PLACE_OF_RUN in (drawn / "report" / "index.html").read_text()
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, command in ((one, "run <seed=1>"), (other, "run seed=2")):
        folder.mkdir()
        pictures = deliver(drawn, folder, {"command": command})
        assert {"overview_linear.gif", "purity.png"} <= {path.name for path in pictures}
        assert {path.parent for path in pictures} == {folder / "figures"}
    pages = [(folder / "report" / "index.html").read_text() for folder in (one, other)]
    assert "<dt>command</dt><dd>run &lt;seed=1&gt;</dd>" in pages[0]
    assert "<dd>run seed=2</dd>" in pages[1]
    assert all(PLACE_OF_RUN not in page for page in pages)
    assert (one / "figures" / "purity.png").read_bytes() == (other / "figures" / "purity.png").read_bytes()


def test_the_page_has_the_account_of_the_data(drawn):
    page = (drawn / "report" / "index.html").read_text()
    section = page[page.index("<h2>Which images?</h2>") :]
    rows = re.findall(r"<td[^>]*>([^<]*)</td>", section[: section.index("</section>")])
    assert rows == ["damaged", "12", "truncated", "copy", "3", "stands later too"]


def test_nothing_to_tell_leaves_the_place():
    assert tell_run(f"a{PLACE_OF_RUN}b", {}) == f"a{PLACE_OF_RUN}b"


def test_without_pdf_nothing_links_to_one(drawn):
    assert list((drawn / "figures").glob("*.pdf")) == []
    assert {"purity.png", "purity.csv"} <= {path.name for path in (drawn / "figures").iterdir()}
    page = (drawn / "report" / "index.html").read_text()
    assert ".csv" in page
    assert ".pdf" not in page


def test_a_run_without_a_page_is_whole_all_the_same(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("of an earlier run")
    leave_no_page(tmp_path)
    assert [path.name for path in (tmp_path / "report").iterdir()] == [NO_PAGE]
    assert not has_ended(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    assert has_ended(tmp_path)
    (tmp_path / "failure.json").write_text("{}")
    assert not has_ended(tmp_path)
