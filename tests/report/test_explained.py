"""From the folders of the stages to sections, key numbers, sliders and the page."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from report import made

from medlat.explain.alignment import Cell
from medlat.explain.audit import Response
from medlat.explain.by_catch import Moved
from medlat.report.compile import compile_report
from medlat.report.explained import Explanation, _alignment, _audit, _by_catch, _quality, _strips, key_numbers, sliders
from medlat.report.style import Figures

LOOK = replace(made.LOOKS["HU"], groups="slides")


@pytest.fixture
def explained(tmp_path) -> Explanation:
    folder = made.explanation(tmp_path / "explanation")
    return Explanation.load(folder, folder, made.classifier(tmp_path / "classifier"))


def test_load_reads_numbers_flags_and_arrays(explained):
    assert explained.score("flip_rate", "random")["value"] == 0.2
    assert explained.score("flip_rate", "random")["control"] is True
    assert explained.score("flip_rate", "linear")["control"] is False
    assert explained.score("flip_rate", "absent") is None
    assert explained.steps == made.STEPS
    assert set(explained.responses) == set(made.METHODS)
    assert set(explained.series.saliency) == {"gradcam", "gradcampp", "occlusion"}
    assert explained.reliability[3]["count"] == 3.0


def test_a_score_that_nobody_could_take_is_missing(tmp_path):
    folder = made.explanation(tmp_path)
    made.table(folder / "scorecard.csv", [{**made.scores()[0], "value": "", "low": "nan"}])
    row = Explanation.load(folder, folder, None).scores[0]
    assert math.isnan(row["value"])
    assert math.isnan(row["low"])


def test_many_images_are_split_over_two_figures_and_no_quality_is_no_section(tmp_path):
    folder = made.explanation(tmp_path, images=7, saliency=False)
    found = Explanation.load(folder, folder, None)
    drawn = _strips(found, made.LOOKS["HU"], Figures(tmp_path / "figures", pdf=False))
    assert [picture.png.stem for picture in drawn] == ["counterfactuals", "counterfactuals_2"]
    with open(tmp_path / "figures" / "counterfactuals_2.csv", newline="") as file:
        assert {row["image"] for row in csv.DictReader(file)} == {"6"}
    assert _quality(found, Figures(tmp_path)) == []


def test_every_image_has_a_card_and_some_are_in_figures(tmp_path):
    folder = made.explanation(tmp_path, images=7)
    found = Explanation.load(folder, folder, None)
    chosen = np.array([0, 6])
    maps = {name: relevance[chosen] for name, relevance in found.series.saliency.items()}
    found = replace(found, series=replace(found.series, shown=chosen, saliency=maps))
    (picture,) = _strips(found, made.LOOKS["HU"], Figures(tmp_path / "figures", pdf=False))
    assert picture.caption.startswith("2 of 7 images")
    with open(tmp_path / "figures" / "counterfactuals.csv", newline="") as file:
        assert {row["image"] for row in csv.DictReader(file)} == {"0", "6"}
    cards = sliders(found).traversals
    assert [card.name.split(":")[0] for card in cards] == [f"image {i + 1}" for i in range(7)]
    assert {card.reach for card in cards} == {3.0}, "as far as the method may be followed"
    assert np.array_equal(cards[6].original, found.series.real[6])
    assert np.array_equal(found.series.relevance("occlusion", 6), maps["occlusion"][1])


def test_what_the_classifier_answers_to_is_a_table(explained):
    assert _audit(explained).rows == [], "nothing is measured"
    used = Response("factor", "table_height", 0.6, 0.5, 0.7, 1.2, 0.001)
    unsure = Response("factor", "level", 0.6, math.nan, math.nan, 2.5, 0.3)
    made.table(explained.folder / "audit.csv", [used.row(), unsure.row()])
    rows = _audit(explained).rows
    assert rows[0] == ["table height", 0.6, "[0.5, 0.7]", 1.2, 0.001, "above chance"]
    assert rows[1][2] == ""
    assert rows[1][-1].startswith("the generator does not change it alone; no more than random changes (p = 0.3)")


def test_what_else_the_classifier_says_stands_beside_the_controls(explained):
    assert _by_catch(explained, LOOK) == [], "it has one question"
    rows = [
        Moved("linear", False, "nodule", True, 1.5, 1.2, 1.8, 1.5, 1, 20),
        Moved("linear", False, "1", False, 0.5, math.nan, math.nan, 0.5, 1, 20),
        Moved("random", True, "1", False, 0.02, -0.1, 0.1, 0.3, 8, 20),
    ]
    made.table(explained.folder / "by_catch.csv", [row.row() for row in rows])
    table = _by_catch(explained, LOOK)[0]
    assert table.columns[-1] == "random"
    assert table.rows[0] == ["nodule (explained)", 1.5, "[1.2, 1.8]", ""]
    assert table.rows[1] == ["1", 0.5, "", "+0.02 [−0.1, 0.1]; at most 0.3 in 8"]


def test_what_each_classifier_says_of_the_counterfactuals_of_each(explained):
    assert _alignment(explained, LOOK) == [], "there is one"
    beside = (0.05, 0.02, 0.08, 0.2)
    cells = [
        Cell("main", "main", 1.0, 1.0, 1.0, 0.3, 0.2, 0.4, math.nan, math.nan, math.nan, 40, 30, 0.05),
        Cell("main", "second", 0.83, 0.7, 0.9, *beside, 0.005, 1.0, 40, 30, 0.05),
        Cell("second", "main", 0.1, 0.0, 0.2, *beside, 0.5, 0.002, 35, 30, 0.05),
        Cell("second", "second", math.nan, *[math.nan] * 8, 0, 0, 0.05),
    ]
    (table,) = _alignment(replace(explained, alignment=[cell.row() for cell in cells]), LOOK)
    assert table.columns[:4] == ["counterfactuals of", "shown to", "relative change", "95% interval"]
    assert table.rows == [
        ["main", "second", 0.83, "[0.7, 0.9]", 40, 0.05, 0.2, 0.005, "goes along"],
        ["second", "main", 0.1, "[0, 0.2]", 35, 0.05, 0.2, 0.5, "does not go along"],
    ]
    assert "5.0% have a pair above the level" in table.caption


def test_key_numbers_stand_beside_the_controls(explained):
    found = {item.name: item for item in key_numbers(explained, LOOK)}
    assert found["images whose prediction flips"].value == "18 of 20"
    assert found["images whose prediction flips"].control == "20% of 20 (random directions)"
    assert found["AUC of the classifier"].value == 0.943
    assert found["AUC of the classifier"].explanation == "on slides it never saw"
    assert found["second agrees"].value == "18 of 20"
    whole = [row for row in explained.scores if row["score"] not in ("flips_in_range", "agreement/second")]
    found = {item.name: item for item in key_numbers(replace(explained, scores=whole), LOOK)}
    assert "whole series" in found["images whose prediction flips"].explanation
    assert "second agrees" not in found


def test_a_share_of_no_image_is_none_of_none(explained):
    scores = [row | ({"value": math.nan} if row["score"] == "agreement/second" else {}) for row in explained.scores]
    found = {item.name: item for item in key_numbers(replace(explained, scores=scores), LOOK)}
    assert found["second agrees"].value == "0 of 0"


def test_sliders_read_the_prediction(explained):
    group = sliders(explained)
    assert group.method == "nodule?"
    assert group.steps == made.STEPS
    first = group.traversals[0]
    assert first.name == "image 1: healthy"
    assert first.caption == "predicted 0.12 → 0.50 at +2σ"
    assert first.values == explained.series.predictions[0].tolist()
    assert group.traversals[1].caption.endswith("short of what was asked")
    assert group.traversals[2].name == "image 3", "its label is not known"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a run whose classifier was explained, and its page."""
    folder = tmp_path_factory.mktemp("run")
    folders = {
        "explanation": made.explanation(folder / "explanation", images=3),
        "explained": folder / "explanation",
        "classifier": made.classifier(folder / "classifier"),
    }
    shown = compile_report(made.inputs(folder, "HU", **folders), folder)
    assert {"counterfactuals.png", "scorecard.png", "overview_linear.gif"} <= {path.name for path in shown}
    return folder, (folder / "report" / "index.html").read_text(encoding="utf-8")


def test_page_opens_with_the_explanation(written):
    parts = ["<h1>Why does the classifier say “nodule”?", "Run x.", "Nine of ten images change side.",
             "<strong>What the direction does", "images whose prediction <abbr",
             "<h2>Does it hold?", "What decides", "<h2>What moves the prediction?", "Every other score",
             "<h2>What does inversion keep?", "<h2>How good is the classifier?", "<h2>Move an image",
             "image 1: healthy", "<h2>What varies?", "<h2>What does each direction change?", "<h2>Words"]  # fmt: skip
    places = [written[1].index(part) for part in parts]
    assert places == sorted(places)
    assert "slices" in written[1]


def test_page_holds_the_tables_of_an_explanation(written):
    for text in (
        "<td>moves most</td><td>table height</td>",
        "<td>0.612</td>",
        "62% of 64 images keep their side",
        "<td>yes</td>",
        "[0.911, 0.968]",
        "0.9 [0.85, 0.95]",
        "random (control)",
        "heart +3 mm/σ",
        "Every other score",
        "30 dB",
    ):
        assert text in written[1], text


def test_every_figure_of_an_explanation_has_its_numbers_beside_it(written):
    folder, _ = written
    stems = (
        "counterfactuals",
        "flip_curves",
        "inversion",
        "mean_effect",
        "reliability",
        "response_curves",
        "scorecard",
    )
    for stem in stems:
        for kind in ("png", "pdf", "csv"):
            assert (folder / "figures" / f"{stem}.{kind}").stat().st_size > 0, (stem, kind)
    with open(folder / "figures" / "inversion.csv", newline="") as file:
        assert [float(row["psnr"]) for row in csv.DictReader(file)] == [20.0, 25.0, 30.0]


def test_page_without_an_explanation_has_none(tmp_path):
    compile_report(made.inputs(tmp_path, "RGB", pdf=False), tmp_path)
    html = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<h1>What varies in these tiles?" in html
    assert "slices" not in html
    assert "Held-out and sampled tiles" in html
    assert "What is measured" in html
    assert "its width, &lt;side to side&gt;" in html
