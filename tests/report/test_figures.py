"""Figures: the numbers behind them, the files beside them, and input at its worst."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from medlat.core.tables import write_table
from medlat.data import modality
from medlat.report import anatomy, charts, heatmap
from medlat.report.gif import LARGEST_BYTES, overview_gif, traversal_gif
from medlat.report.rendering import Look, differences, shown, symmetric_limit, to_grey, upscale, windowed, zero_index
from medlat.report.style import bare_name, number, save_figure, step_label, with_unit

WINDOW = (-1000.0, 400.0)
CT = Look(modality.CT, WINDOW)
STEPS = [-2.0, -1.0, 0.0, 1.0, 2.0]


def row(method="sefa", direction="sefa 00", measurement="rotation", standardised=1.0, share=0.8, **rest):
    effect = {"effect": 3.1, "effect_low": 2.8, "effect_high": 3.4} | rest
    known = {"unit": "°", "r2": 0.9, "kind": "measurement"} | effect
    return {
        "method": method, "direction": direction, "measurement": measurement, "standardised": standardised,
        "share": share,
    } | known  # fmt: skip


def texts(figure: Figure) -> str:
    """All text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def ramp(directions=2, steps=5, side=8) -> np.ndarray:
    """Images [K, S, H, W] whose value is 100 HU a step, for direction k times k + 1."""
    step = np.arange(steps, dtype=np.float32) - steps // 2
    scale = 100.0 * (np.arange(directions, dtype=np.float32) + 1)
    return np.broadcast_to((scale[:, None] * step)[..., None, None], (directions, steps, side, side)).copy()


def test_window_maps_its_ends_to_black_and_white_and_hides_what_is_not_finite():
    values = np.array([[-3000, -1000, -300, 400, 3000, np.nan, np.inf, -np.inf]])
    assert windowed(values, WINDOW).tolist() == [[0, 0, 0.5, 1, 1, 0, 1, 0]]
    assert to_grey(values, WINDOW).tolist() == [[0, 0, 128, 255, 255, 0, 255, 0]]


def test_upscale_keeps_constants_range_and_shape():
    assert np.allclose(upscale(np.full((8, 16), 0.25, np.float32), 64), 0.25)
    edge = np.zeros((8, 16), np.float32)
    edge[:, 8:] = 1
    large = upscale(edge, 64)
    assert large.shape == (32, 64)
    assert large.min() == 0
    assert large.max() == 1
    assert upscale(edge, 4).shape == (8, 16), "never smaller than it was"


def test_enlarged_tissue_keeps_its_grey_value_beside_air():
    image = np.full((16, 16), -1000.0)
    image[:, 8:] = 40.0
    tile = shown(image, (-160.0, 240.0), 64)
    assert tile.shape == (64, 64)
    assert tile[:, :24].max() == 0
    assert np.allclose(tile[:, 48:], 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 100, -100], 100), ([0.0], 1), ([np.nan, 70], 75), ([-1234], 1500), ([0.012], 0.015)],
)
def test_symmetric_limit_is_round_and_holds_the_values(values, expected):
    assert symmetric_limit(np.array(values), percentile=100) == pytest.approx(expected)


def test_symmetric_limit_ignores_outliers_and_air():
    values = np.concatenate([np.zeros(10_000), np.full(990, 50.0), np.full(10, 5000.0)])
    assert symmetric_limit(values) == 50


def test_differences_are_signed_and_zero_at_the_base():
    change = differences(ramp(), 2)
    assert change[0, :, 0, 0].tolist() == [-200, -100, 0, 100, 200]
    assert change[1, :, 3, 3].tolist() == [-400, -200, 0, 200, 400]
    assert zero_index([-3, -1, 0.5, 2]) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.14159, "3.14"), (-0.25, "−0.25"), (1234.6, "1235"), (0, "0"), (math.nan, "–"), (None, "–"), (33.0, "33"),
     (0.00001, "1.00e−05"), (100.0, "100")],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


def test_labels():
    assert number(3.1, 2, sign=True) == "+3.1"
    assert number(-3.1, 2, sign=True) == "−3.1"
    assert with_unit("3.1", "°") == "3.1°"
    assert with_unit("12", "mm²") == "12 mm²"
    assert with_unit("0.7", "") == "0.7"
    assert [step_label(step) for step in (-3, 0, 1.5)] == ["−3σ", "0", "+1.5σ"]
    assert bare_name("sefa 03", "sefa") == "03"
    assert bare_name("sefa", "sefa") == "sefa"


def test_saved_figure_is_the_same_bytes_twice_and_has_its_numbers_beside_it(tmp_path: Path):
    table = [{"name": "a", "value": np.float32(0.5)}, {"name": "b, c", "value": 2, "extra": math.nan}]
    first, second = (save_figure(charts.latent_usage([1.0, 0.0], 0.1), tmp_path / n, "usage", table) for n in "ab")
    assert sorted(first) == ["csv", "pdf", "png"]
    for kind in first:
        assert first[kind].read_bytes() == second[kind].read_bytes(), kind
    assert b"Date" not in first["pdf"].read_bytes()
    assert b"Software" not in first["png"].read_bytes()
    with first["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"name": "a", "value": "0.5", "extra": ""}, {"name": "b, c", "value": "2", "extra": "nan"}]
    with Image.open(first["png"]) as picture:
        assert picture.width == 700, "3.5 inches at 200 dpi"
    assert "csv" not in save_figure(charts.latent_usage([1.0], 0.1), tmp_path, "bare")


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path):
    """Names of classes come from files, and spreadsheets run what begins with =, +, - or @."""
    cells = ["=cmd|' /C calc'!A0", "+1+cmd", "-cmd", "@SUM(A1)", "\ta", "plain", "a=b", "-1.5", "+2e-3", -1.5, None]
    write_table(tmp_path / "a.csv", [{"cell": cell} for cell in cells])
    with open(tmp_path / "a.csv", newline="") as file:
        read = [row["cell"] for row in csv.DictReader(file)]
    harmless = ["plain", "a=b", "-1.5", "+2e-3", "-1.5", ""]
    assert read == [*("'" + str(cell) for cell in cells[:5]), *harmless]


def test_figures_leave_the_callers_settings_alone_and_do_not_depend_on_them():
    with matplotlib.rc_context({"font.size": 31.0}):
        figure = charts.latent_usage([1.0], 0.1)
        assert matplotlib.rcParams["font.size"] == 31.0
    assert figure.axes[0].xaxis.label.get_fontsize() == 7


def test_traversal_grid_has_a_tile_per_step_and_says_what_was_measured():
    figure = anatomy.traversal_grid(ramp(), STEPS, ["sefa 00", "sefa 01"], ["rotation +3.1°/σ", ""], CT)
    assert sum(bool(axes.images) for axes in figure.axes) == 10
    shown = texts(figure)
    for expected in ("sefa 01", "rotation +3.1°/σ", "−2σ", "+1σ", "HU, display window", "−1000", "400"):
        assert expected in shown


def test_pages_split_rows_evenly_enough():
    assert [(page.start, page.stop) for page in anatomy.pages(17)] == [(0, 8), (8, 16), (16, 17)]
    assert list(anatomy.pages(0)) == []
    with pytest.raises(AssertionError, match="pages"):
        anatomy.traversal_grid(ramp(9), STEPS, ["x"] * 9, [""] * 9, CT)


def test_difference_maps_share_one_symmetric_scale_and_table_has_the_numbers():
    figure = anatomy.difference_maps(ramp(), STEPS, ["a", "b"], 2, CT)
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images and axes.get_xlabel()}
    assert limits == {(-400, 400)}
    assert "\n200\n" in texts(figure)
    assert "reference" in texts(figure)
    table = anatomy.difference_table(ramp(), STEPS, ["a", "b"], 2, CT)
    assert len(table) == 10
    assert table[0] == {"direction": "a", "step": -2.0, "mean": -200.0, "mean_absolute": 200.0, "max_absolute": 200.0}
    assert table[7]["max_absolute"] == 0


@pytest.mark.parametrize(
    ("psnr", "expected"),
    [
        ([20, 30, 10, 25, 28], [("best", 1), ("median", 3), ("worst", 2)]),
        ([20, 30], [("best", 1), ("worst", 0)]),
        ([20], [("best", 0)]),
        ([math.nan, 30, math.inf, 20, 25], [("best", 1), ("median", 4), ("worst", 3)]),
        ([], []),
    ],
)
def test_reconstructions_show_best_median_worst(psnr, expected):
    assert anatomy.ranked_reconstructions(psnr) == expected
    images = np.zeros((len(psnr), 8, 8))
    assert isinstance(anatomy.reconstructions(images, images, psnr, CT), Figure)


def test_samples_grid_counts_both_sides():
    figure = anatomy.samples_grid(np.zeros((5, 8, 6)), np.zeros((3, 8, 6)), CT)
    assert "real (n = 5)" in texts(figure)
    assert "sampled from the prior (n = 3)" in texts(figure)
    assert sum(bool(axes.images) for axes in figure.axes) == 8
    assert "no images" in texts(anatomy.samples_grid(np.zeros((0, 8, 8)), np.zeros((0, 8, 8)), CT))


NUMBERS = {
    "semantics/sefa/measurement_purity": 0.8, "semantics/sefa/measurement_purity_low": 0.7,
    "semantics/sefa/measurement_purity_high": 0.9, "semantics/sefa/measurement_coverage": 1.0,
    "semantics/random/measurement_purity": 0.3, "semantics/random/measurement_coverage": 0.0,
}  # fmt: skip


def test_the_purity_table_holds_the_runs_numbers():
    rows = {"random": [row("random", share=0.3)], "sefa": [row(share=0.8), row(direction="x", share=math.nan)]}
    table = charts.purity_table(rows, NUMBERS, "measurement")
    assert table[0] == {
        "method": "sefa", "control": False, "kind": "measurement", "directions": 1, "purity": 0.8, "purity_low": 0.7,
        "purity_high": 0.9, "coverage": 1, "of": 1,
    }  # fmt: skip
    assert math.isnan(table[1]["purity_low"]), "there is none over few patients"


def test_purity_chart_puts_controls_last_and_prints_coverage():
    rows = {"random": [row("random", share=0.3)], "sefa": [row(share=0.8)]}
    figure = charts.purity_chart(rows, charts.purity_table(rows, NUMBERS, "measurement"))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["sefa\ncovers 1 of 1", "random (control)\ncovers 0 of 1"]
    for nothing in ({}, {"sefa": []}, {"sefa": [row(share=math.nan)]}):
        assert "no measured directions" in texts(
            charts.purity_chart(nothing, charts.purity_table(nothing, {}, "measurement"))
        )


def test_heatmap_prints_marks_and_holds_one_scale():
    rows = [
        row(standardised=1.2, effect=3.1),
        row(measurement="area", unit="mm²", standardised=0.1, effect=4.0, effect_low=-1.0, effect_high=9.0),
        row("random", "random 00", standardised=-0.4, effect=-1.0, effect_low=-1.5, effect_high=-0.5),
    ]
    figure = heatmap.semantics_heatmap(rows)
    shown = texts(figure)
    assert "+3.1°" in shown
    assert "rotation (°)" in shown
    assert "area (mm²)" in shown
    assert "random\n(control)" in shown
    assert "+4" not in shown.replace("+4.", ""), "an effect that may be 0 is not printed"
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2
    assert panels[0].images[0].norm is panels[1].images[0].norm
    assert panels[0].images[0].get_array().tolist() == [[1.2, 0.1]]
    assert panels[0].images[0].norm.vmin == -panels[0].images[0].norm.vmax


def test_significance_is_an_interval_that_excludes_zero():
    assert heatmap.is_significant(row())
    assert heatmap.is_significant(row(effect_low=-2, effect_high=-1))
    for low, high in ((-1, 1), (0, 1), (math.nan, 1), (1, math.inf)):
        assert not heatmap.is_significant(row(effect_low=low, effect_high=high))


def test_heatmap_with_little_or_much():
    assert "no measured effects" in texts(heatmap.semantics_heatmap([]))
    assert "no measured effects" in texts(heatmap.semantics_heatmap([row(standardised=math.nan)]))
    heatmap.semantics_heatmap(
        [row(), row(measurement="b", standardised=math.nan, effect=math.nan, effect_low=math.nan)]
    )
    assert "random" in texts(heatmap.semantics_heatmap([row("random", "random 00")])), "controls alone are drawn"
    many = [
        row(direction=f"d{i}", standardised=i / 40, kind=kind) for i in range(40) for kind in ("factor", "measurement")
    ]
    shown = texts(heatmap.semantics_heatmap(many))
    assert "strongest 24 of 40" in shown
    assert "rotation (°) ✱" in shown


def test_training_curves_have_a_panel_per_quantity_and_a_line_per_split():
    records = [
        {"name": f"{s}/loss", "step": i, "value": i * 2.0, "time": 0.0} for s in ("train", "val") for i in range(3)
    ]
    records += [{"name": "psnr", "step": 4, "value": math.nan, "time": 0.0}]
    figure = charts.training_curves(records, images_per_step=500)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[0, 0.5, 1.0]] * 2
    assert "nothing was logged" in texts(charts.training_curves([]))
    charts.training_curves([{"name": "train/loss", "step": i, "value": 1.0, "time": 0.0} for i in range(200)])


def test_latent_usage_counts_and_sorts():
    assert [r["dimension"] for r in charts.usage_table([0.0, 2.0, 0.5], 0.5)] == [1, 2, 0]
    assert [r["active"] for r in charts.usage_table([0.0, 2.0, 0.5], 0.5)] == [True, True, False]
    assert "2 of 3 active" in texts(charts.latent_usage([0.0, 2.0, 0.5], 0.5))
    assert "no latent dimensions" in texts(charts.latent_usage([], 0.1))
    charts.latent_usage([math.nan, 0.0], 0.1)


def test_distance_chart_is_logarithmic_only_far_above_a_positive_floor():
    rows = [
        ("FID", 90.0, 2.0),
        ("KID", 5.0, -0.2),
        ("near", 3.0, 2.0),
        ("alone", 3.0, math.nan),
        ("lost", math.nan, 1.0),
    ]
    figure = charts.distance_chart([{"name": n, "value": v, "floor": f, "unit": ""} for n, v, f in rows])
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear", "linear"]
    assert "no distances" in texts(charts.distance_chart([]))


def test_constant_images_one_direction_one_step_and_nothing_at_all(tmp_path: Path):
    flat = np.zeros((1, 1, 8, 8))
    figures = [
        anatomy.traversal_grid(flat, [0.0], ["a"], ["b"], CT),
        anatomy.difference_maps(flat, [0.0], ["a"], 0, CT),
        anatomy.difference_maps(np.full((1, 1, 8, 8), np.nan), [0.0], ["a"], 0, Look(modality.GREY, WINDOW)),
    ]
    for index, figure in enumerate(figures):
        assert save_figure(figure, tmp_path, f"figure_{index}")["png"].stat().st_size > 0
    empty = np.zeros((0, 3, 8, 8))
    assert "no directions" in texts(anatomy.traversal_grid(empty, [0, 1, 2], [], [], CT))
    assert "no directions" in texts(anatomy.difference_maps(empty, [0, 1, 2], [], 0, CT))


def test_gif_goes_there_and_back_and_is_small(tmp_path: Path):
    noise = np.random.default_rng(0).uniform(-1000, 400, (5, 64, 64))
    traversal_gif(noise, tmp_path / "new" / "a.gif", CT, STEPS, "rotation +3.1°/σ [2.8, 3.4], a long caption " * 4)
    with Image.open(tmp_path / "new" / "a.gif") as gif:
        assert gif.n_frames == 8
        assert gif.width == 256
        assert gif.height > 256
        assert gif.info["loop"] == 0
        assert "comment" not in gif.info
    smooth = np.cumsum(np.cumsum(noise, axis=1), axis=2) / 50
    traversal_gif(smooth, tmp_path / "b.gif", CT, STEPS, "")
    assert (tmp_path / "b.gif").stat().st_size <= LARGEST_BYTES


def test_gif_keeps_grey_values(tmp_path: Path):
    traversal_gif(np.full((2, 64, 64), -300.0), tmp_path / "a.gif", CT, [0.0, 0.0], "x")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.convert("L").getpixel((128, 100)) == pytest.approx(128, abs=2)


def test_overview_gif_has_rows_of_four_and_one_step_is_a_still(tmp_path: Path):
    overview_gif(np.zeros((5, 1, 16, 16)), tmp_path / "o.gif", CT, [0.0], list("abcde"))
    with Image.open(tmp_path / "o.gif") as gif:
        assert gif.width == 4 * 128
        assert gif.n_frames == 1
        assert gif.height > 2 * 128


def test_report_imports_neither_torch_nor_frameworks():
    code = (
        "import sys, medlat.report.page, medlat.report.anatomy, medlat.report.charts, medlat.report.gif,"
        " medlat.report.explained, medlat.report.compile;"
        "found = {'torch', 'hydra', 'wandb', 'pytorch_lightning', 'monai', 'matplotlib.pyplot'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
