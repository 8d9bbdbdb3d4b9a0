"""The HTML report: self-contained, escaped, one slider per direction, sprites that hold the images' values."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medlat.data import modality
from medlat.report.charts import latent_usage, usage_table
from medlat.report.page import (
    Cell,
    KeyNumber,
    Picture,
    Report,
    Section,
    Table,
    Traversal,
    TraversalSet,
    _readings,
    semantics_table,
    write_page,
)
from medlat.report.rendering import Look
from medlat.report.sprites import LEVELS, colour_sprite, difference_sprite, image_sprite, value_sprite
from medlat.report.style import save_figure

EVIL = "<script>alert('x')</script> & \"quoted\""
WINDOW = (-1000.0, 400.0)
CT = Look(modality.CT, WINDOW)
STEPS = [-1.0, 0.0, 1.0]


class Page(HTMLParser):
    """Every tag with its attributes, and all text outside style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


def images(steps: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1200, 600, (steps, 6, 4)).astype(np.float32)


def full_report(folder: Path) -> Report:
    saved = save_figure(latent_usage([1.0, 0.0], 0.1), folder / "figures", "usage #1", usage_table([1.0, 0.0], 0.1))
    row = {
        "method": "random", "direction": EVIL, "measurement": "body_area", "unit": "mm²", "effect": -12.0,
        "effect_low": -20.0, "effect_high": -4.0, "standardised": -0.5, "share": 0.5, "r2": math.nan, "kind": "factor",
    }  # fmt: skip
    values = [-3.1, 0.0, 3.1]
    sweep = [
        Traversal("rotation +3.1°/σ", images(), EVIL, "rotation", "°", values, evidence=0.7),
        Traversal("unnamed 01", images(seed=1), EVIL, "rotation", "°", values, images(seed=2)[0], False, 0.1, 0.5),
    ]
    return Report(
        title=EVIL,
        verdict="No better than random.\n\nSecond.",
        run={"command": EVIL, "seed": "0"},
        warnings=["Phantom data: not patients.", EVIL],
        key_numbers=[KeyNumber("purity", 0.61, "", "0.30 (random)", EVIL)],
        traversal_sets=[
            TraversalSet("sefa", sweep, STEPS),
            TraversalSet("random", [Traversal("r 0", images())], STEPS, True, EVIL),
        ],
        look=CT,
        about=EVIL,
        lead=Picture.saved(saved, EVIL, EVIL),
        sections=[
            Section("Measured", "", tables=[semantics_table([row], saved["csv"]), Table("Empty", ["a"], [])]),
            Section(
                EVIL, EVIL, [Picture.saved(saved, EVIL, EVIL)], [Table(EVIL, ["a", "b"], [[EVIL, None], [1, 0.5]])]
            ),
            Section("Long", "", tables=[Table("Many", ["a"], [[i] for i in range(13)])]),
        ],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    folder = tmp_path_factory.mktemp("run")
    path = folder / "report" / "index.html"
    write_page(path, full_report(folder))
    html = path.read_text(encoding="utf-8")
    return folder, html, Page(html)


def decode(uri: str | None) -> Image.Image:
    assert uri is not None
    assert uri.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_page_loads_nothing_from_anywhere(written):
    _, html, page = written
    assert not re.search(r"https?://|url\(|@import|//cdn", html)
    for tag, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:"), (tag, attributes)
        assert "srcset" not in attributes
        assert tag not in ("link", "iframe", "object", "embed", "video", "audio")
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy


def test_page_has_one_slider_and_one_play_button_per_direction(written):
    _, _, page = written
    assert len(page.all("input", type="range")) == 3
    assert len(page.all("button", class_="play")) == 3
    assert len(page.all("input", name="method")) == 2
    assert all(slider["aria-label"] for slider in page.all("input", type="range"))


def test_all_text_is_escaped(written):
    _, html, page = written
    assert "<script>alert" not in html
    assert html.count("<script>") == 1
    assert len(page.all("script")) == 1
    assert page.text.count(EVIL) >= 10, "shown as it was given"


def test_verdict_and_warnings_come_first(written):
    _, _, page = written
    parts = ("No better than random.", "Second.", "Phantom data", "0.61", "Move an image", "rotation +3.1°/σ")
    order = [page.text.index(part) for part in parts]
    assert order == sorted(order)


def test_numbers_are_in_the_page_and_no_link_leaves_it(written):
    folder, html, page = written
    links = [link for link in page.all("a") if not link["href"].startswith("#")]
    assert {link["download"] for link in links} == {"usage #1.csv"}
    kept = base64.b64decode(links[0]["href"].removeprefix("data:text/csv;base64,"))
    assert kept == (folder / "figures" / "usage #1.csv").read_bytes()
    assert "usage #1.pdf" in page.text, "named, beside the page"
    assert str(folder) not in html, "no path of the machine is on the page"


def test_contents_lead_to_every_section(written):
    _, _, page = written
    links = [link["href"] for link in page.all("a") if link["href"].startswith("#")]
    assert links == ["#move-an-image", "#measured", "#script-alert-x-script-quoted", "#long"]
    assert {f"#{section['id']}" for section in page.all("section") if "id" in section} >= set(links)


def test_long_tables_are_folded_and_empty_ones_left_out(written):
    _, html, page = written
    folded = html[html.index("<details") : html.index("</details>")]
    assert "Many</strong>, 13 rows" in folded
    assert "Empty" not in page.text


def test_cards_open_at_the_image_itself(written):
    _, _, page = written
    assert {slider["value"] for slider in page.all("input", type="range")} == {"1"}


def test_pictures_keep_their_place_until_they_are_drawn(written):
    folder, _, page = written
    with Image.open(folder / "figures" / "usage #1.png") as picture:
        size = [str(side) for side in picture.size]
    figures = page.all("img", loading="lazy")
    assert [[image["width"], image["height"]] for image in figures] == [size, size]


def test_key_numbers_after_the_third_are_folded(tmp_path):
    numbers = [KeyNumber(f"number {i}", i) for i in range(5)]
    write_page(tmp_path / "index.html", Report("t", "v", {}, CT, key_numbers=numbers))
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert html.index("number 2") < html.index("2 more numbers") < html.index("number 3")


def cards_of(page: Page) -> list[dict]:
    return [json.loads(card["data-card"] or "") for card in page.all("article")]


def test_readings_and_labels_reach_the_script(written):
    _, _, page = written
    first, _, control = cards_of(page)
    assert first["labels"] == ["\u22121σ", "0", "+1σ"]
    assert first["readings"] == ["\u22123.10°", "0.00°", "3.10°"]
    assert control["readings"] == []


def test_cards_are_headed_by_their_name_and_stand_beside_the_original(written):
    _, _, page = written
    named, unnamed, control = cards_of(page)
    assert (named["name"], named["named"], named["evidence"], named["beside"]) == ("rotation +3.1°/σ", True, "0.7", 1)
    assert (unnamed["name"], unnamed["named"], unnamed["evidence"], unnamed["beside"]) == (
        "unnamed 01",
        False,
        "0.1",
        3,
    )
    assert control["evidence"] == "", "nothing to sort by"
    assert len(page.all("canvas", class_="beside")) == len(page.all("canvas", class_="moved")) == 3


def test_a_slider_ends_where_images_leave_the_data(written):
    _, _, page = written
    ends = [(slider["min"], slider["max"], "disabled" in slider) for slider in page.all("input", type="range")]
    assert ends == [("0", "2", False), ("1", "1", True), ("0", "2", False)]
    assert len(page.all("input", name="beyond")) == 1


def test_windows_of_ct_begin_with_the_one_in_use(written, tmp_path):
    _, _, page = written
    windows = [json.loads(choice["value"] or "") for choice in page.all("input", name="window")]
    assert windows[0] == list(WINDOW)
    assert [-160.0, 240.0] in windows
    assert len(windows) == 5
    one = TraversalSet("pca", [Traversal("a", images())], STEPS)
    write_page(tmp_path / "index.html", Report("t", "v", {}, Look(modality.GREY, (0.0, 255.0)), traversal_sets=[one]))
    grey = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert not grey.all("input", name="window"), "there is but one"
    assert not grey.all("input", name="named"), "nothing that has evidence"


def levels_of(sprite: Image.Image) -> np.ndarray:
    """As the page's script reads them."""
    pixels = np.asarray(sprite.convert("RGB")).astype(int)
    return 4 * pixels[..., 0] + (pixels[..., 2] & 3)


def test_sprites_on_the_page_decode_to_the_images(written):
    _, _, page = written
    levels = levels_of(decode(page.all("img", class_="images")[1]["src"]))
    low, high = CT.windows_span
    assert (low, high) == (-1350.0, 1050.0)
    expected = [*images(seed=1), images(seed=2)[0]]
    assert levels.shape == (6, 4 * len(expected))
    for step, image in enumerate(expected):
        tile = low + levels[:, 4 * step : 4 * step + 4] / LEVELS * (high - low)
        assert np.abs(tile - image.clip(low, high)).max() <= (high - low) / LEVELS / 2 + 1e-3


def test_a_value_sprite_is_grey_to_the_eye():
    with Image.open(io.BytesIO(value_sprite(images(), (-1200.0, 600.0)))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.abs(pixels[..., 0] - pixels[..., 2]).max() <= 3


def test_a_colour_sprite_is_nearly_its_images():
    look = Look(modality.HISTOLOGY, (0.0, 255.0))
    ramp = np.linspace(40, 220, 32 * 32).reshape(1, 32, 32, 1) * np.array([1.0, 0.7, 0.9])
    with Image.open(io.BytesIO(colour_sprite(ramp, look))) as picture:
        assert np.abs(np.asarray(picture).astype(float) - ramp[0]).mean() < 2.0


def test_difference_sprite_holds_signed_differences():
    down = np.linspace(0.0, 1.0, 32)[:, None] * np.ones((1, 32))
    stack = np.stack([-400.0 * down, 0.0 * down, 400.0 * down])
    with Image.open(io.BytesIO(difference_sprite(stack, 1, 500.0))) as picture:
        index = np.asarray(picture.convert("RGB")).astype(float)
    expected = np.concatenate(list(stack - stack[1]), axis=1)
    assert np.abs((index[..., 0] - 128) / 127 * 500 - expected).mean() < 5.0


def test_sprites_of_very_many_pixels_are_kept_nearly(tmp_path: Path):
    smooth = np.linspace(-900.0, 300.0, 64)[None, :, None] * np.ones((3, 1, 64))
    sizes, errors = [], []
    for exact in (True, False):
        sprite = value_sprite(smooth, CT.windows_span, exact)
        low, high = CT.windows_span
        with Image.open(io.BytesIO(sprite)) as picture:
            values = low + levels_of(picture) / LEVELS * (high - low)
        sizes.append(len(sprite))
        errors.append(np.abs(values - np.concatenate(list(smooth), axis=1)).mean())
    assert errors[0] < 1.0
    assert errors[1] < 20.0, "HU, of a span of 2400"


def test_image_sprite_of_constants_and_nan():
    with Image.open(io.BytesIO(image_sprite(np.full((2, 3, 3), np.nan), CT))) as picture:
        assert np.asarray(picture).max() == 0
    with Image.open(io.BytesIO(image_sprite(np.full((1, 3, 3), 400.0), CT))) as picture:
        assert np.asarray(picture).min() == 255


def test_figure_is_embedded_unchanged_where_it_is_a_chart(written):
    folder, _, page = written
    source = page.all("img", loading="lazy")[0]["src"]
    with Image.open(folder / "figures" / "usage #1.png") as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(decode(source).convert("RGB")))


def test_semantics_table_shows_and_sorts():
    base = {
        "method": "sefa",
        "direction": "sefa 00",
        "measurement": "body_area",
        "unit": "mm²",
        "r2": 0.5,
        "share": 0.25,
    }
    strong = base | {
        "effect": 12.0,
        "effect_low": 4.0,
        "effect_high": 20.0,
        "standardised": -0.5,
        "kind": "measurement",
    }
    unsure = strong | {"effect_low": math.nan, "effect": math.nan, "method": "random"}
    table = semantics_table([strong, unsure])
    assert table.rows[0] == [
        "sefa", "sefa 00", "body area", Cell("• +12 mm²", 12.0), Cell("[4, 20]", 4.0), Cell("−0.5", 0.5),
        Cell("0.25", 0.25), Cell("0.50", 0.5),
    ]  # fmt: skip
    assert table.rows[1][0] == "random (control)"
    assert table.rows[1][3].text == "– mm²"


def test_numbers_carry_their_sort_key_and_missing_ones_none(written):
    _, _, page = written
    keys = [cell["data-number"] for cell in page.all("td", class_="number") if "data-number" in cell]
    assert keys[:5] == ["-12.0", "-20.0", "0.5", "0.5", ""]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([-9.34, 0.0, 9.31], ["−9.3", "0.0", "9.3"]), ([5.0, 5.0], ["5.00", "5.00"]), ([math.nan, 250.0], ["–", "250"]),
     ([math.nan], ["–"]), ([0.0, 0.0], ["0", "0"]), ([-0.0001, 9.0], ["0.00", "9.00"])],
)  # fmt: skip
def test_readings_keep_their_decimals_while_sliding(values, expected):
    assert _readings(values, "") == expected


def test_almost_nothing_to_report(tmp_path: Path):
    write_page(tmp_path / "index.html", Report("Title", "Nothing was found.", {}, CT))
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "Nothing was found." in page.text
    assert not page.all("input")
    assert not page.all("table")


def test_one_step_constant_images_and_no_measured_value(tmp_path: Path):
    one = Traversal("a", np.zeros((1, 4, 4)), measurement="m", values=[math.nan])
    report = Report(
        "t", "v", {}, CT, traversal_sets=[TraversalSet("sefa", [one], [0.0]), TraversalSet("none", [], [0.0])]
    )
    write_page(tmp_path / "index.html", report)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    slider = page.all("input", type="range")[0]
    assert slider["max"] == "0"
    assert "disabled" in slider
    assert cards_of(page)[0]["readings"] == ["–"]


def test_page_of_16_directions_and_two_controls_is_small(tmp_path: Path):
    smooth = np.random.default_rng(0).normal(0, 40, (7, 64, 64)).cumsum(1).cumsum(2).clip(-1000, 400)
    sets = [TraversalSet(m, [Traversal(f"{m} {k}", smooth) for k in range(16)], range(-3, 4)) for m in ("a", "b", "c")]
    write_page(tmp_path / "index.html", Report("t", "v", {}, CT, traversal_sets=sets))
    assert (tmp_path / "index.html").stat().st_size < 6e6
