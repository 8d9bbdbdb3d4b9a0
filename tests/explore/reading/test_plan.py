"""STUDY.yaml: what it holds, and everything that is wrong with one at once."""

import copy
from pathlib import Path

import pytest
import yaml

from medlat.core.errors import ConfigErrors, UserError
from medlat.explore.reading.cases import build_cases, first_plan
from medlat.explore.reading.plan import Cases, plan_of, read_plan


def test_what_a_plan_holds(plan):
    assert (plan.title, plan.seed, plan.window) == ("Two of four", 3, "lung")
    assert [question.name for question in plan.questions] == [
        "real_or_synthetic",
        "which_changed",
        "what_changed",
        "useful",
    ]
    assert plan.questions[1].ask == "Welches Bild wurde veraendert?"
    assert plan.questions[2].choices == ("rotation", "brightness", "nothing")
    assert plan.cases[3] == Cases("direction", "pair", 6, "sefa 02", -1.5, "rotation")
    assert plan.cases[4].step == 2.0, "the default"
    asked = {shown: [question.name for question in plan.asked_of(shown)] for shown in ("image", "pair", "series")}
    assert asked == {
        "image": ["real_or_synthetic", "useful"],
        "pair": ["which_changed", "what_changed", "useful"],
        "series": ["what_changed", "useful"],
    }


WRONG = """
titel: x
seed: -1
window: lungs
questions:
  wich_changed:
  what_changed: {choices: [rotation, rotation]}
  real_or_synthetic: {choices: [yes, no], aks: Is it}
cases:
  - {kind: shamm, shown: pair, count: 10}
  - {kind: real, shown: pair, count: 10}
  - {kind: direction, direction: sefa 2, shown: series, count: 0}
  - {kind: direction, direction: sefa 02, shown: image, count: 2.5, step: 0}
  - {kind: counterfactual, shown: pair, count: 1}
  - {kind: sham, shown: pair, count: 100000, step: 2, called: rotatoin}
  - sham
"""
SAID = [
    "titel: unknown key; did you mean 'title'?",
    "seed=-1: expected a whole number from 0",
    "window=lungs: no window of chest CT; did you mean 'lung'?",
    "questions.wich_changed: unknown key; did you mean 'which_changed'?",
    "questions.what_changed.choices: expected two or more texts, each another",
    "questions.real_or_synthetic.choices: they are fixed: real, synthetic",
    "questions.real_or_synthetic.aks: unknown key; did you mean 'ask'?",
    "cases.0.kind=shamm: there is no such kind; did you mean 'sham'?",
    "cases.1.shown=pair: cannot be; a case of kind real is shown as image",
    "cases.2.direction=sefa 2: the run has no such direction; did you mean 'sefa 02'?",
    "cases.2.count=0: expected a whole number from 1 to 20",
    "cases.3.count=2.5: expected a whole number",
    "cases.3.step=0: expected σ from -100 to 100, not 0",
    "cases.4.kind=counterfactual: the run explains no classifier",
    "cases.5.count=100000: expected a whole number from 1 to 20",
    "cases.5.step: only of kinds direction and random",
    "cases.5.called=rotatoin: no choice of questions.what_changed; did you mean 'rotation'?",
    "cases.6: expected kind, shown and count",
]


def test_all_that_is_wrong_is_said_at_once(explorer, tmp_path):
    (tmp_path / "study.yaml").write_text(WRONG)
    with pytest.raises(UserError, match=f"^{len(SAID)} problems in .*study.yaml:") as told:
        read_plan(tmp_path / "study.yaml", explorer)
    lines = [line.strip() for line in str(told.value).splitlines()[1:]]
    assert [line for line in SAID if not any(said.startswith(line) for said in lines)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "questions: expected one or more"),
        ("- a", "found no keys"),
        ("seed: 0\nseed: 1", "duplicate key seed"),
        ("a: [", "not YAML"),
        ("questions: {useful: }", "cases: expected a list"),
        ("cases: [{kind: sham, shown: pair, count: 1}]", "questions: expected one or more of real_or_synthetic"),
        (
            "questions: {which_changed: }\ncases: [{kind: real, shown: image, count: 1}]",
            "cases.0.shown=image: nothing is asked of it; expected pair",
        ),
        (
            "questions: {which_changed: , useful: }\ncases: [{kind: real, shown: image, count: 1}]",
            "questions.which_changed: asked of no case; it needs some shown as pair",
        ),
        (
            f"questions: {{useful: }}\ncases: [{'{kind: sample, shown: image, count: 300}, ' * 2}]",
            "cases: 600 in all; expected at most 500",
        ),
    ],
)
def test_what_is_no_plan(explorer, tmp_path, text, words):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError) as told:
        read_plan(tmp_path / "study.yaml", explorer)
    assert words in str(told.value)


ODD = (None, 3, -1, 2.5, float("nan"), True, [], [1], {}, {"a": 1}, "", "x", "${seed}", "x" * 400)


def places(node, before=()):
    """Where something stands in a plan."""
    yield before
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from places(value, (*before, key))


def test_odd_values_are_refused_or_taken_and_never_crash(explorer, study):
    good, refused = yaml.safe_load(study), 0
    for place in [place for place in places(good) if place]:
        for odd in ODD:
            plan = copy.deepcopy(good)
            node = plan
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = odd
            try:
                plan_of(plan, explorer, "study.yaml")
            except UserError:
                refused += 1
    assert refused > 400


def test_the_example_of_the_docs(explorer):
    page = (Path(__file__).parents[3] / "docs" / "reading.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    with pytest.raises(ConfigErrors) as told:
        plan_of(example, explorer, "docs/reading.md")
    assert [line.partition(":")[0] for line in told.value.problems] == ["cases.3.kind=counterfactual"], (
        "of this run alone"
    )


def test_nothing_is_looked_up(explorer, study, tmp_path):
    (tmp_path / "study.yaml").write_text(study.replace("Two of four", "${oc.env:HOME}"))
    assert read_plan(tmp_path / "study.yaml", explorer).title == "${oc.env:HOME}"


def test_the_first_plan_works(explorer, tmp_path):
    (tmp_path / "study.yaml").write_text(first_plan(explorer))
    plan = read_plan(tmp_path / "study.yaml", explorer)
    assert len(build_cases(plan, explorer)) == sum(cases.count for cases in plan.cases) == 100
