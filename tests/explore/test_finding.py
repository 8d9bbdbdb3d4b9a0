"""The page of a finding: the report's own sentences, and what speaks against them."""

import json
import re

import pytest
from runs import linked
from test_explain_images import explaining  # noqa: F401 (a fixture)

import medlat
from medlat.core.errors import UserError
from medlat.explore.finding import against, finding, told_steps
from medlat.explore.view import Explorer, View
from medlat.report.readers import keep
from medlat.steps.given import of_run
from medlat.steps.report import warnings_of


@pytest.fixture(scope="module")
def explorer(finished) -> Explorer:
    found = Explorer(medlat.load(finished / "run"))
    found.warm()
    return found


@pytest.fixture(scope="module")
def asked(explaining) -> Explorer:  # noqa: F811
    found = Explorer(medlat.load(explaining / "run"))
    found.warm()
    return found


def words(html: str) -> str:
    """What is read, without marks."""
    text = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text)).replace("&#34;", '"').replace("&#39;", "'")


def test_the_page_is_whole_and_loads_nothing(explorer):
    html = finding(explorer, View("image 3", {"sefa 02": 1.5, "random 01": -2.0})).decode()
    assert "default-src 'none'" in html
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', html) == []
    text = words(html)
    assert "What changes along sefa 02 and random 01?" in text
    assert "moved +1.5σ along sefa 02 and −2σ along random 01" in text
    assert "random 01 is a control, which knows nothing." in text
    assert str(explorer.run.folder) not in html


def test_the_sentences_are_those_of_the_report(explorer):
    run, view = explorer.run, View("image 3", {"sefa 02": 1.5})
    text = words(finding(explorer, view).decode())
    of = of_run(run.context, "sefa 02")
    assert f"sefa 02: {of['told']}" in text
    assert (of["why"] == "") == (f"sefa 02 has no name: {of['why']}." not in text)
    (row,) = [row for row in run.table("names") if row["direction"] == "sefa 02"]
    assert ("unnamed" in text) == (row["name"] == "unnamed")
    for warning in warnings_of(run.context, run.config):
        assert warning in text
    rows = [row for row in run.table("semantics") if (row["direction"], row["kind"]) == ("sefa 02", "factor")]
    best = max(rows, key=lambda row: row["share"] if row["share"] == row["share"] else 0.0)
    assert f"sefa 02: most of all {best['measurement'].replace('_', ' ')}: " in text
    report = words((run.folder / "report" / "index.html").read_text())
    assert all(warning in report for warning in warnings_of(run.context, run.config)), "the report has the same"


def test_a_readers_name_is_said_to_be_a_readers(finished, tmp_path):
    linked(finished / "store", tmp_path / "store")
    found = Explorer(medlat.load(linked(finished / "run", tmp_path / "run")))
    keep(found.run.folder, "sefa 02", {"name": "bending of the spine", "star": False, "note": ""})
    before, _, after = words(finding(found, View("image 3", {"sefa 02": 1.5})).decode()).rpartition(
        "What do readers say?"
    )
    assert "bending" not in before
    assert "bending of the spine" in after
    assert "no sentence above rests on it" in after
    assert "bending" not in finding(found, View("image 3", {"sefa 00": 1.5})).decode()


def test_of_a_classifier_it_says_what_the_run_says_and_its_weakest_link(asked):
    left = asked.run.artifacts["explanation"].path
    told = json.loads((left / "explanation.json").read_text())
    text = words(finding(asked, View("image 2", {asked.main: 0.5})).decode())
    assert told["sentence"] in text
    least = min(told["links"], key=lambda link: link["holds"])
    assert f"The weakest link of the run's own explanation is whether {least['name']} ({least['told']})." in text
    other = next(name for name, each in asked.sliders.items() if each.role == "compared")
    aside = words(finding(asked, View("image 2", {other: 0.5})).decode())
    assert told["sentence"] not in aside, "which is of another direction"
    assert f"What changes along {other}?" in aside


def test_what_speaks_against_a_picture(asked):
    """A prediction that stays, a step beyond the data, and another classifier that is not convinced."""
    numbers = asked.numbers(View("image 2", {asked.main: 0.05}))
    own = numbers["predictions"][0]
    assert (own["moved"] > asked.threshold) == (own["reconstruction"] > asked.threshold)
    told = against(asked, View("image 2", {asked.main: 0.05}))
    assert any(line.startswith("The prediction does not change as asked") for line in told)
    single = asked.single(View("image 2", {asked.main: 0.05}))
    assert [f"{doubt[0].upper()}{doubt[1:]}." for doubt in single.doubts()] == told[: len(single.doubts())]
    assert single.prediction == pytest.approx(own["original"])
    assert single.counterfactual.step == 0.05
    assert set(single.counterfactual.others) == {"second"}
    assert asked.single(View("sample 3", {asked.main: 1.0})) is None
    far = against(asked, View("image 2", {asked.main: 90.0}))
    assert (
        any(line.startswith("It has left the data") for line in far)
        == asked.numbers(View("image 2", {asked.main: 90.0}))["distance"]["left"]
    )


def test_a_view_that_moves_nothing_is_no_finding(explorer):
    with pytest.raises(UserError, match="nothing is moved"):
        finding(explorer, View("image 3"))
    assert told_steps(View("image 3", {"sefa 00": -2.0})) == "−2σ along sefa 00"
