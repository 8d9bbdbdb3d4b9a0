"""Every figure of a run: no text below six points, none cut off, none that names a place of the machine."""

from collections.abc import Iterator

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from report import made

from medlat.report import style
from medlat.report.compile import compile_report

SMALLEST = 6.0  # points


@pytest.fixture(params=["HU", "RGB"])
def drawn(request, tmp_path, monkeypatch) -> dict[str, Figure]:
    """Of a run with a classifier, by the name of their file."""
    found: dict[str, Figure] = {}
    save = style.save_figure

    def kept(figure, folder, stem, *options):
        found[stem] = figure
        return save(figure, folder, stem, *options)

    monkeypatch.setattr(style, "save_figure", kept)
    folder = made.explanation(tmp_path / "explanation", request.param)
    more = {"explanation": folder, "explained": folder, "classifier": made.classifier(tmp_path / "classifier")}
    compile_report(made.inputs(tmp_path, request.param, pdf=False, **more), tmp_path / "run")
    return found


def texts(figure: Figure) -> Iterator[Text]:
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        shown = text.get_visible() and (text.axes is None or text.axes.get_visible())
        if shown and text.get_text().strip():
            yield text


def test_text_is_large_enough_and_whole(drawn):
    assert len(drawn) >= 12
    for name, figure in drawn.items():
        width, height = figure.bbox.size
        for text in texts(figure):
            assert text.get_fontsize() >= SMALLEST, (name, text.get_text())
            if (tick := text.get_window_extent()).width and text in figure.texts + _annotations(figure):
                inside = tick.x0 > -2 and tick.y0 > -2 and tick.x1 < width + 2 and tick.y1 < height + 2
                assert inside, (name, text.get_text(), tick, (width, height))


def _annotations(figure: Figure) -> list[Text]:
    return [text for axes in figure.axes for text in (*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label)]


def test_the_map_of_what_is_relevant_says_for_which_class(drawn):
    assert "original: relevance for nodule" in [text.get_text() for text in texts(drawn["counterfactuals"])]


def test_dots_per_inch_are_those_asked_for(tmp_path):
    from dataclasses import replace

    asked = made.inputs(tmp_path, "HU", pdf=False)
    asked = replace(asked, look=replace(asked.look, dpi=300), gifs=0)
    compile_report(asked, tmp_path / "run")
    with Image.open(tmp_path / "run" / "figures" / "purity.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        width = picture.size[0]
    with Image.open(tmp_path / "run" / "figures" / "traversal_linear.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert width == pytest.approx(300 * style.COLUMN, abs=2)
