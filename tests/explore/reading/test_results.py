"""What answers come to, of readers who see, guess, say one thing throughout; and `medlat study`."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from medlat.__main__ import USAGE, command
from medlat.core.statistics import cohen_kappa, fleiss_kappa
from medlat.core.tables import read_table
from medlat.explore.reading.answers import Answers, read_answers, truth_file
from medlat.explore.reading.results import results

ORIGIN = ["real", "synthetic"]
SIDES = ["left", "right", "neither"]


def case(number: int, kind: str, shown: str, right: str | None, name: str) -> dict:
    return {
        "kind": kind, "shown": shown, "control": kind in ("random", "sham"), "start": f"image {number}",
        "person": str(number), "direction": "sefa 01" if kind == "direction" else None, "step": None,
        "truth": {} if right is None else {name: right},
    }  # fmt: skip


def truth_of(name: str, choices: list[str], cases: list[dict]) -> dict:
    questions = {name: {"ask": "?", "choices": choices}}
    found = {"title": "T", "seed": 0, "run": "r", "generator": "g", "phantom": True, "questions": questions}
    return found | {"cases": {str(i): each for i, each in enumerate(cases)}}


@pytest.fixture
def origin() -> dict:
    """20 real images and 60 synthetic ones."""
    kinds = ["real"] * 20 + ["reconstruction"] * 60
    rights = ["real" if kind == "real" else "synthetic" for kind in kinds]
    pairs = enumerate(zip(kinds, rights, strict=True))
    cases = [case(i, kind, "image", right, "real_or_synthetic") for i, (kind, right) in pairs]
    return truth_of("real_or_synthetic", ORIGIN, cases)


def rows(reader: str, name: str, said: list[str]) -> list[dict[str, str]]:
    return [{"reader": reader, "case": str(i), name: word} for i, word in enumerate(said) if word is not None]


def table(truth: dict, *answers: list[dict]) -> dict:
    found = results(truth, [row for each in answers for row in each])
    found = [each for each in found if each.reader == "all"]
    return {(each.kind if each.what != "Cohen's kappa" else "kappa"): each for each in found}


def test_who_sees_is_right_and_above_chance(origin):
    said = [each["truth"]["real_or_synthetic"] for each in origin["cases"].values()]
    found = table(origin, rows("A", "real_or_synthetic", said))
    assert [found[kind].value for kind in ("real", "reconstruction", "all")] == [1.0, 1.0, 1.0]
    assert (found["all"].low, found["all"].high) == (1.0, 1.0)
    assert found["real"].chance == pytest.approx(0.25), "as a quarter of the answers is real"
    assert found["reconstruction"].chance == pytest.approx(0.75)
    assert found["all"].chance == pytest.approx(0.25 * 0.25 + 0.75 * 0.75)
    assert (found["all"].cases, found["all"].people, found["all"].readers, found["all"].answers) == (80, 80, 1, 80)


def test_who_says_one_thing_throughout_is_at_chance(origin):
    found = table(origin, rows("A", "real_or_synthetic", ["synthetic"] * 80))
    for kind, value in (("real", 0.0), ("reconstruction", 1.0), ("all", 0.75)):
        assert (found[kind].value, found[kind].chance) == (value, pytest.approx(value)), kind


def test_who_guesses_is_at_chance(origin):
    rng, values = np.random.default_rng(0), []
    for _ in range(30):
        found = table(origin, rows("A", "real_or_synthetic", rng.choice(ORIGIN, 80).tolist()))["all"]
        values.append((found.value - found.chance, found.low <= found.chance <= found.high))
    assert abs(np.mean([value for value, _ in values])) < 0.03
    assert np.mean([inside for _, inside in values]) >= 0.85, "an interval of 95% holds chance about so often"


def test_chance_is_what_the_same_answers_get_when_they_are_dealt_out(origin):
    rng = np.random.default_rng(1)
    right = np.array([each["truth"]["real_or_synthetic"] for each in origin["cases"].values()])
    said = rng.choice(ORIGIN, 80, p=[0.3, 0.7])
    dealt = [(rng.permutation(said) == right) for _ in range(4000)]
    found = table(origin, rows("A", "real_or_synthetic", said.tolist()))
    assert found["all"].chance == pytest.approx(np.mean(dealt), abs=0.005)
    assert found["real"].chance == pytest.approx(np.mean([each[:20].mean() for each in dealt]), abs=0.01)


def test_agreement_of_two_and_of_three(origin):
    """By hand: A is right; B says synthetic throughout. Alike 0.75, by chance 0.25 · 0 + 0.75 · 1 = 0.75: kappa 0."""
    right = [each["truth"]["real_or_synthetic"] for each in origin["cases"].values()]
    half = ["real" if i % 2 else word for i, word in enumerate(right)]
    saying = {"A": right, "B": ["synthetic"] * 80, "C": half}
    a, b, c = (rows(code, "real_or_synthetic", said) for code, said in saying.items())
    assert table(origin, a, b)["kappa"].value == pytest.approx(0.0)
    assert table(origin, a, rows("B", "real_or_synthetic", right))["kappa"].value == 1.0
    # A and C: alike where C copies, and in the 10 real ones of the others: 50 of 80; A says real in 1/4, C in 5/8.
    expected = (50 / 80 - (1 / 4 * 5 / 8 + 3 / 4 * 3 / 8)) / (1 - (1 / 4 * 5 / 8 + 3 / 4 * 3 / 8))
    two = table(origin, a, c)["kappa"]
    assert two.value == pytest.approx(expected) == pytest.approx(cohen_kappa(np.array(right), np.array(half)))
    assert two.low < expected < two.high
    three = next(each for each in results(origin, [*a, *b, *c]) if each.what == "Fleiss' kappa")
    assert three.value == pytest.approx(fleiss_kappa(np.array([right, ["synthetic"] * 80, half]).T))
    assert (three.cases, three.readers, three.answers) == (80, 3, 240)


def test_agreement_is_of_the_cases_that_all_answered(origin):
    right = [each["truth"]["real_or_synthetic"] for each in origin["cases"].values()]
    found = table(origin, rows("A", "real_or_synthetic", right), rows("B", "real_or_synthetic", right[:25]))
    assert (found["kappa"].cases, found["kappa"].answers, found["kappa"].value) == (25, 50, 1.0)
    assert (found["all"].answers, found["all"].readers) == (105, 2)
    both = results(origin, [*rows("A", "real_or_synthetic", right), *rows("B", "real_or_synthetic", right[:25])])
    assert [(each.cases, each.answers) for each in both if each.reader == "B"] == [(25, 25)]
    silent = results(
        origin, [*rows("A", "real_or_synthetic", right), {"reader": "B", "case": "0", "real_or_synthetic": ""}]
    )
    assert [each.reader for each in silent] == ["all", "all", "all", "A", "all"]
    none = table(origin, rows("A", "real_or_synthetic", right[:1]), rows("B", "real_or_synthetic", [None, *right[1:]]))
    assert math.isnan(none["kappa"].value)
    assert "no case that all answered" in none["kappa"].note


def test_controls_stand_below(origin):
    kinds = ["direction"] * 20 + ["random"] * 20 + ["sham"] * 20
    rights = [*["left", "right"] * 20, *["neither"] * 20]
    pairs = enumerate(zip(kinds, rights, strict=True))
    cases = [case(i, kind, "pair", right, "which_changed") for i, (kind, right) in pairs]
    truth = truth_of("which_changed", SIDES, cases)
    said = [*rights[:20], *["left"] * 20, *["neither"] * 10, *["right"] * 10]
    found = results(truth, rows("A", "which_changed", said))
    assert [(each.kind, each.control, each.value) for each in found] == [
        ("sefa 01", False, 1.0),
        ("random", True, 0.5),
        ("sham", True, 0.5),
        ("all", False, pytest.approx(40 / 60)),
    ]
    assert found[0].chance == pytest.approx((30 / 60 + 20 / 60) / 2), "half of them left, which is half of the answers"
    assert found[2].chance == pytest.approx(10 / 60)


def test_ratings_and_words():
    cases = [case(i, "direction", "pair", None, "x") for i in range(30)]
    found = results(truth_of("useful", list("12345"), cases), rows("A", "useful", ["2", "5", "5"] * 10))
    assert [(each.what, each.value) for each in found] == [("rating", 4.0)]
    assert found[0].low < 4.0 < found[0].high
    assert math.isnan(found[0].chance)
    text = results(truth_of("what_changed", [], cases), rows("A", "what_changed", ["the spine"] * 30))
    assert [(each.what, each.note) for each in text] == [("text", "free text: to be read")]
    words = results(truth_of("what_changed", ["a", "b"], cases), rows("A", "what_changed", ["a", "a", "b"] * 10))
    assert [(each.what, each.note) for each in words] == [("answers", "none is known to be right; a 20, b 10")]


def test_few_people_have_no_interval(origin):
    for i, each in enumerate(origin["cases"].values()):
        each["person"] = str(i % 19)
    found = table(origin, rows("A", "real_or_synthetic", ["real"] * 80))["all"]
    assert (found.people, math.isnan(found.low)) == (19, True)
    assert found.note == "fewer than 20 people: no interval"


def test_more_readers_who_differ_widen_it(origin):
    """Readers are drawn too: of two who see all and two who see nothing the interval is wide, however many cases."""
    right = [each["truth"]["real_or_synthetic"] for each in origin["cases"].values()]
    wrong = ["real" if word == "synthetic" else "synthetic" for word in right]
    saying = {"A": right, "B": right, "C": wrong, "D": wrong}
    readers = [rows(code, "real_or_synthetic", said) for code, said in saying.items()]
    found = next(
        each for each in results(origin, [row for each in readers for row in each]) if each.kind == each.reader == "all"
    )
    assert found.value == pytest.approx(0.5)
    assert found.high - found.low > 0.9


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def answered(origin, tmp_path):
    path = tmp_path / "study.csv"
    with Answers(path, origin) as answers:
        for number, each in origin["cases"].items():
            answers.add("A", int(number), each["truth"])
            answers.add("B", int(number), {"real_or_synthetic": "synthetic"})
    return path


def test_the_command_prints_and_leaves_a_table(answered, capsys):
    assert command(["study", str(answered)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("T: 80 cases; answered by reader A 80, B 80\nPhantom data: computed images stand in")
    line = next(line for line in out.splitlines() if "reconstruction" in line)
    assert line.split()[:8] == ["real_or_synthetic", "reconstruction", "image", "all", "60", "60", "2", "120"]
    with (answered.parent / "study.table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["kind"], row["reader"], row["what"]) for row in table] == [
        ("real", "all", "accuracy"),
        ("reconstruction", "all", "accuracy"),
        ("all", "all", "accuracy"),
        ("all", "A", "accuracy"),
        ("all", "B", "accuracy"),
        ("all", "all", "Cohen's kappa"),
    ]
    assert [float(row["value"]) for row in table] == [0.5, 1.0, 0.875, 1.0, 0.75, 0.0]
    assert [row["readers"] for row in table] == ["2", "2", "2", "1", "1", "2"]
    assert table[5]["chance"] == ""


def test_the_recorded_study_counts_as_recorded():
    """`experiments/reader`: the one who sees is right throughout, and who guesses is at chance."""
    path = Path(__file__).parents[3] / "experiments" / "reader" / "answers.csv"
    truth = json.loads(truth_file(path).read_text())
    found = [each.row() for each in results(truth, read_answers(path, truth))]
    kept = [row["value"] or "" for row in read_table(path.with_suffix(".table.csv"))]
    assert [row["value"] for row in found] == kept
    alone = {
        (row["question"], row["reader"]): row for row in found if row["kind"] == "all" and row["what"] == "accuracy"
    }
    for name in ("real_or_synthetic", "which_changed", "what_changed"):
        assert alone[name, "SEES"]["value"] == 1.0
        guesses = alone[name, "GUESSES"]
        assert guesses["low"] <= guesses["chance"] <= guesses["high"]
        assert guesses["value"] < alone[name, "HALF"]["value"] < 1.0


def test_what_is_no_study(answered, tmp_path, capsys):
    assert "medlat study ANSWERS.csv" in USAGE
    assert command(["study"]) == 2
    assert "ANSWERS.truth.json" in capsys.readouterr().out
    other = tmp_path / "other.csv"
    cases = {
        (str(tmp_path / "none.csv"),): "none.csv: no such file",
        (str(answered), str(answered)): "found 2 files, expected one",
        (str(answered), "--out", "x"): "--out: no such option",
        (str(other),): "other.truth.json: not there, or no truth of a study",
    }
    other.write_text("reader,case,real_or_synthetic\n")
    for arguments, words in cases.items():
        assert command(["study", *arguments]) == 2
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert words in told.err
    (tmp_path / "other.truth.json").write_text(json.dumps({"cases": {}}))
    assert command(["study", str(other)]) == 2
    assert "no truth of a study" in capsys.readouterr().err
    (tmp_path / "other.truth.json").write_text((tmp_path / "study.truth.json").read_text())
    assert command(["study", str(other)]) == 2
    assert "nobody has answered yet" in capsys.readouterr().err
