"""Figures of an explanation: the tiles that they show, the numbers beside them, and input at its worst."""

import math
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from report.made import LOOKS, STEPS, explanation

from medlat.report.explained import Explanation
from medlat.report.explanation import (
    Question,
    Series,
    chosen_steps,
    counterfactual_strip,
    inversion_figure,
    mean_effect,
    mean_effect_table,
    strip_table,
)
from medlat.report.style import VERMILION

CT = LOOKS["HU"]
QUESTION = Question("nodule", 0.5, True, ("healthy", "nodule"))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def series(folder, unit="HU", images=4, **options) -> Series:
    found = explanation(folder, unit, images, **options)
    return Explanation.load(found, found, None).series


@pytest.mark.parametrize(("unit", "saliency", "columns"), [("HU", True, 11), ("RGB", True, 11), ("grey", False, 8)])
def test_strip_has_a_row_per_image_with_its_predictions(tmp_path, unit, saliency, columns):
    found = series(tmp_path, unit, saliency=saliency)
    figure = counterfactual_strip(found, QUESTION, LOOKS[unit], range(4))
    assert sum(bool(axes.images) for axes in figure.axes) == 4 * columns
    shown = texts(figure)
    assert shown.count("true: healthy") == 2
    assert shown.count("true: nodule") == 1, "one label is not known"
    assert shown.count("not reached") == 1
    assert shown.count(f"{found.real_prediction[0]:.2f}") >= 2, "of the original, and of the same image inverted"
    assert "probability of nodule" in shown
    assert f"counterfactual − inverted, {LOOKS[unit].change_unit}" in shown
    assert ("Grad-CAM++" in shown) == saliency
    assert ("HU, display window" in shown) == (unit == "HU")


def test_strip_goes_as_far_as_images_stay_near_the_data_and_marks_what_lies_beyond(tmp_path):
    found = replace(series(tmp_path), reach=1.5)
    figure = counterfactual_strip(found, QUESTION, CT, range(4))
    assert sum(bool(axes.images) for axes in figure.axes) == 4 * 9, "two steps of five are left out"
    beyond = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text().endswith(", beyond")]
    far = np.abs(found.counterfactual_step) > 1.5
    assert len(beyond) == int((far & found.reached).sum()) > 0
    assert {text.get_color() for text in beyond} == {VERMILION}
    assert not any(
        text.endswith(", beyond") for text in texts(counterfactual_strip(series(tmp_path), QUESTION, CT, [0]))
    )
    unknown = counterfactual_strip(replace(found, reach=math.nan), QUESTION, CT, [0])
    assert not any(text.endswith(", beyond") for text in texts(unknown))


def test_under_occlusion_stands_the_most_that_a_patch_does(tmp_path):
    found = series(tmp_path, images=1)
    assert list(found.shown) == [0]
    shares = {"occlusion": np.full((1, 16, 16), -0.25), "gradcam": np.ones((1, 16, 16))}
    figure = counterfactual_strip(replace(found, saliency=shares), QUESTION, CT, [0])
    assert [text for text in texts(figure) if text.startswith("at most")] == ["at most 0.25"]
    (nothing,) = (
        text
        for text in counterfactual_strip(
            replace(found, saliency={"occlusion": np.full((1, 16, 16), 0.001)}), QUESTION, CT, [0]
        ).findobj(matplotlib.text.Text)
        if text.get_text() == "at most 0.00"
    )
    assert nothing.get_color() == VERMILION, "the classifier is sure whatever is hidden"


def test_a_long_label_is_whole(tmp_path):
    question = Question("adenocarcinoma", 0.5, True, ("normal", "adenocarcinoma"))
    figure = counterfactual_strip(series(tmp_path), question, CT, range(4))
    figure.draw_without_rendering()
    (true,) = (text for text in figure.findobj(matplotlib.text.Text) if text.get_text() == "true: adenocarcinoma")
    assert true.get_window_extent().x0 >= 0


def test_bar_under_a_tile_is_as_long_as_the_prediction(tmp_path):
    found = replace(series(tmp_path), real_prediction=np.array([0.25, 1.0, 0.0, math.nan]))
    figure = counterfactual_strip(found, QUESTION, CT, range(4))
    originals = [axes for axes in figure.axes if axes.images][::11]
    widths = [axes.child_axes[0].patches[0].get_width() for axes in originals]
    assert widths == [0.25, 1.0, 0.0, 0.0]


def test_strip_of_a_value_that_is_no_probability_has_the_range_that_occurs(tmp_path):
    found = series(tmp_path)
    found = replace(found, predictions=10 * found.predictions, real_prediction=np.array([-3.0, 1.0, 2.0, 4.0]))
    age = Question("age", 5.0, False)
    low, high = found.limits(age)
    assert low == -3.0
    assert high == pytest.approx(float(found.predictions.max()))
    assert "predicted age" in texts(counterfactual_strip(found, age, CT, range(2)))
    assert age.label(61.5) == "61.5"
    assert age.label(math.nan) == ""
    assert Question("tumour", 0.5, True, ("tumour",)).label(0.0) == "0", "no name of class 0 is known"


def test_strip_of_too_many_of_none_and_of_nothing_that_changes(tmp_path):
    found = series(tmp_path, images=7)
    with pytest.raises(AssertionError, match="pages"):
        counterfactual_strip(found, QUESTION, CT, range(7))
    assert "no images were explained" in texts(counterfactual_strip(found, QUESTION, CT, []))
    still = replace(found, counterfactual=found.images[:, 2], saliency={"gradcam": np.zeros((7, 16, 16))})
    assert "0 HU" in texts(counterfactual_strip(still, QUESTION, CT, [0]))


def test_strip_table_has_every_step_and_the_change(tmp_path):
    found = series(tmp_path)
    flat = np.zeros_like(found.images)
    found = replace(found, images=flat, counterfactual=np.full_like(found.counterfactual, -30.0))
    table = strip_table(found, QUESTION, CT)
    assert len(table) == 4 * (1 + len(STEPS) + 1)
    assert [row["what"] for row in table[:7]] == ["original", *["series"] * 5, "counterfactual"]
    assert table[6]["mean_absolute_change"] == 30.0
    assert table[6]["reached"] is True
    assert table[6]["step"] == 2.0
    assert [row["prediction"] for row in table[1:6]] == found.predictions[0].tolist()


@pytest.mark.parametrize(
    ("steps", "most", "expected"),
    [
        (range(-4, 5), 5, [0, 2, 4, 6, 8]),
        (range(-3, 4), 5, [0, 2, 3, 4, 6]),
        (range(-1, 2), 5, [0, 1, 2]),
        (range(-1, 8), 5, [0, 1, 4, 6, 8]),
    ],
)
def test_chosen_steps_keep_both_ends_and_the_base(steps, most, expected):
    assert chosen_steps([float(step) for step in steps], most) == expected


@pytest.mark.parametrize(
    ("reach", "expected"), [(3.0, [1, 3, 4, 5, 7]), (2.5, [2, 3, 4, 5, 6]), (0.5, [0, 2, 4, 6, 8])]
)
def test_chosen_steps_are_within_reach_where_that_leaves_any(reach, expected):
    assert chosen_steps([float(step) for step in range(-4, 5)], 5, reach) == expected


def test_mean_effect_has_two_rows_one_scale_and_its_numbers():
    steps = np.arange(3) - 1.0
    difference = np.broadcast_to(100.0 * steps[:, None, None], (3, 8, 8))
    figure = mean_effect(np.zeros((3, 8, 8)), difference, steps.tolist(), CT)
    tiles = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert len(tiles) == 6
    assert {axes.images[0].get_clim() for axes in tiles[3:]} == {(-100, 100)}
    assert texts(figure).count("100") == 2
    assert "reference" in texts(figure)
    table = mean_effect_table(difference, steps.tolist())
    assert table[0] == {"step": -1.0, "mean": -100.0, "mean_absolute": 100.0, "max_absolute": 100.0}
    assert "no mean effect" in " ".join(texts(mean_effect(np.zeros((0, 8, 8)), np.zeros((0, 8, 8)), [], CT)))


def test_inversion_shows_what_it_does_to_the_prediction():
    images = np.zeros((3, 8, 8))
    figure = inversion_figure(images, images + 10, [20, 30, 25], [0.9, 0.8, 0.7], [0.5, 0.8, math.nan], QUESTION, CT)
    shown = "\n".join(texts(figure))
    for expected in ("0.90 → 0.50", "0.80 → 0.80", "0.70 → –", "best\n30 dB", "reconstruction − real, HU"):
        assert expected in shown
