"""The page of a run in a real browser: what it shows, what a keyboard and a telephone reach, and whom it asks."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from explore.browsing import HOSTS, ON_CHROMIUM, TOKEN, Page, differ, quiet, served
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select
from test_explain_images import explaining  # noqa: F401 (a fixture)

import medlat
from medlat.explore.app import application
from medlat.explore.view import Explorer

pytestmark = ON_CHROMIUM
STEPS = {"linear 00": 1.5, "random 01": -0.75}
WIDE = "return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
WIDE += " && !e.closest('.scroll')).map((e) => e.tagName + '#' + e.id + '.' + e.className)"


def explored(folder: Path) -> Iterator[tuple[str, Explorer]]:
    explorer = Explorer(medlat.load(folder))
    explorer.warm()
    with served(application(explorer, TOKEN, HOSTS)) as address:
        yield address, explorer


@pytest.fixture(scope="module")
def tiles(explaining, tmp_path_factory) -> Iterator[tuple[str, Explorer]]:  # noqa: F811
    """A run that explains a classifier; names are written beside a copy of it."""
    yield from explored(shutil.copytree(explaining / "run", tmp_path_factory.mktemp("browsed") / "run"))


@pytest.fixture(scope="module")
def slices(finished) -> Iterator[tuple[str, Explorer]]:
    yield from explored(finished / "run")


@pytest.fixture
def page(driver, tiles, downloads) -> Iterator[Page]:
    yield from watched(Page(driver, *tiles, downloads))


@pytest.fixture
def grey(driver, slices, downloads) -> Iterator[Page]:
    """Of a run of CT slices."""
    yield from watched(Page(driver, *slices, downloads))


def watched(page: Page) -> Iterator[Page]:
    with quiet(page.driver, page.address):
        page.open()
        yield page


def test_a_held_out_image_moved_along_two_directions(page):
    run = page.explorer.run
    page.click("#option-2")
    page.settle()
    for direction, step in STEPS.items():
        if direction.startswith("random"):
            page.click("#controls")
        page.move(direction, step)
    real = run.context.images.fetch(run.context.split.test[[2]], run.image)
    generator, found = run.invert(real)
    moved = run.move(found.codes, STEPS, noise=found.noise, generator=generator)
    assert differ(page.pixels("original"), page.shown(real)) <= 1
    assert differ(page.pixels("reconstruction"), page.shown(found.images)) <= 1
    assert differ(page.pixels("moved"), page.shown(moved)) <= 1
    assert differ(page.shown(moved), page.shown(found.images)) > 10, "or nothing was moved"
    told = page.asks("numbers")
    for end, images in (("original", real), ("reconstruction", found.images), ("moved", moved)):
        assert told["predictions"][0][end] == pytest.approx(float(run.predict(images)[0, 0]), abs=1 / 255), end
        measured = page.explorer.measurements.of(images, run.image)[0]
        found_there = [row[end] for row in told["measurements"]]
        assert np.allclose(np.array(found_there, float), measured, rtol=1e-3, equal_nan=True), end
    assert f"moved {told['predictions'][0]['said']['moved']}" in page("#predictions").text


def test_a_file_is_read_and_its_name_is_not(page, explaining):  # noqa: F811
    file = sorted((explaining / "moved").rglob("*.png"))[0]
    page.click("input[value=upload] + span")
    page("#file").send_keys(str(file))
    page.click("#send")
    page.settle()
    run = page.explorer.run
    images = run.image.to_network(torch.from_numpy(run.read(str(file)).images))
    assert differ(page.pixels("original"), page.shown(images)) <= 1
    assert re.search(r"(Not unlike|Unlike|Farther)", page("#notes").text)
    html = page.driver.execute_script("return document.documentElement.outerHTML")
    assert file.name not in html
    assert "start=upload+" in page.driver.current_url


def flipping(explorer: Explorer) -> tuple[int, str]:
    """A held-out image and a direction along which its prediction crosses the threshold, by the Python face."""
    run = explorer.run
    generator, found = run.invert(run.context.images.fetch(explorer.held_out, run.image))
    before = run.predict(found.images)[:, 0] > explorer.threshold
    for name in (name for name, slider in explorer.sliders.items() if slider.role != "control"):
        for step in (-explorer.sliders[name].reach, explorer.sliders[name].reach):
            moved = run.move(found.codes, {name: step}, noise=found.noise, generator=generator)
            crossed = (run.predict(moved)[:, 0] > explorer.threshold) != before
            if crossed.any():
                return int(crossed.nonzero()[0, 0]), name
    pytest.skip("no prediction of this small classifier crosses the threshold")


def test_the_prediction_is_moved_until_it_flips(page):
    run, explorer = page.explorer.run, page.explorer
    number, direction = flipping(explorer)
    page.click(f"#option-{number}")
    page.settle()
    before = page.asks("numbers")["predictions"][0]["reconstruction"]
    assert float(page("#wanted").get_attribute("value")) == explorer.threshold, "what is asked without being said"
    Select(page("#along")).select_by_visible_text(direction)
    page.click("#reach button")
    page.settle()
    match = re.fullmatch(rf"Reached at ([+−][\d.]+) σ along {direction}\.", page("#reached").text)
    assert match, page("#reached").text
    step = page.driver.execute_script(f"return sliders.get('{direction}').value")
    assert float(match[1].replace("−", "-")) == pytest.approx(step, abs=0.005)
    generator, found = run.invert(run.context.images.fetch(explorer.held_out[[number]], run.image))
    moved = run.move(found.codes, {direction: step}, noise=found.noise, generator=generator)
    assert differ(page.pixels("moved"), page.shown(moved)) <= 1
    after, farther = (
        float(run.predict(run.move(found.codes, {direction: far}, noise=found.noise, generator=generator))[0, 0])
        for far in (step, 1.1 * step)
    )
    assert after == pytest.approx(explorer.threshold, abs=1 / 255)
    assert (farther > explorer.threshold) != (before > explorer.threshold), "a little farther it has crossed"


def test_a_name_is_kept_and_a_view_comes_back(page):
    page.click("#option-3")
    page.move("linear 00", 0.5)
    for field, text in (("my-name", "pinker <b>"), ("my-note", "see tile 3")):
        page.details("linear 00").find_element(By.CLASS_NAME, field).send_keys(text, Keys.TAB)
        page.settle()
    assert "pinker <b>" in page("#directions").text
    before = page.pixels("moved")
    page.driver.refresh()
    page.settle()
    assert "pinker <b>" in page("#directions").text
    assert page.details("linear 00").find_element(By.CLASS_NAME, "my-note").get_attribute("value") == "see tile 3"
    assert page.driver.execute_script("return wanted()") == {
        "start": "image 3", "steps": {"linear 00": 0.5}, "window": None, "layers": None,
    }  # fmt: skip
    assert np.array_equal(page.pixels("moved"), before)
    kept = json.loads((page.explorer.run.folder / "explore.json").read_text())["directions"]
    assert kept == {"linear 00": {"name": "pinker <b>", "star": False, "note": "see tile 3"}}


def test_what_is_taken_along_is_what_is_seen(page):
    page.click("#option-2")
    page.move("linear 00", -1.0)
    arrays = np.load(io.BytesIO(page.downloaded("npz")), allow_pickle=False)
    assert differ(page.pixels("moved"), page.explorer.look.levels(arrays["moved"])) <= 1
    assert dict(zip(arrays["directions"].tolist(), arrays["steps"].tolist(), strict=True)) == {"linear 00": -1.0}
    lines = page.downloaded("csv").decode().splitlines()
    columns, run = lines[0].split(","), page.explorer.run
    row = next(line for line in lines if line.startswith("prediction,")).split(",")
    moved = run.image.to_network(torch.from_numpy(np.moveaxis(arrays["moved"], -1, 0)[None]))
    assert float(row[columns.index("moved")]) == pytest.approx(float(run.predict(moved)[0, 0]), abs=1 / 255)
    assert Image.open(io.BytesIO(page.downloaded("png"))).size == (4 * 256 + 3 * 8, 256)
    made: dict = {}
    exec(compile(page.downloaded("py"), "view.py", "exec"), made)
    assert differ(page.pixels("moved"), page.explorer.look.levels(made["picture"])) <= 1


def test_a_finding_is_read_without_medlat(page, tmp_path):
    page.click("#option-2")
    page.move("linear 00", 0.5)
    path = tmp_path / "finding.html"
    path.write_bytes(page.downloaded("html", "finding"))
    page.driver.get(path.as_uri())
    assert page("h1").text == "Why does the classifier say “tumour”?"
    headings = [each.text for each in page.driver.find_elements(By.TAG_NAME, "h2")]
    assert headings[:3] == ["What speaks against it?", "What is measured in this picture?", "What does it rest on?"]
    assert page(".picture img").get_property("naturalWidth") > 400, "the picture is there"


def test_it_is_dark_where_one_wants_it_so(page):
    shades = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colours = [page("body").value_of_css_property(name) for name in ("background-color", "color")]
        shades[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in colours]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert shades["light"][0] > 200 > 80 > shades["light"][1]
    assert shades["dark"][0] < 80 < 200 < shades["dark"][1]


def test_windows_are_shown_as_the_modality_has_them(grey):
    Select(grey("#window")).select_by_value("lung")
    grey.settle()
    explorer = grey.explorer
    values = explorer.pictures(explorer.run.context.images.fetch(explorer.held_out[[0]], explorer.image))
    shown = np.rint(((values + 1350.0) / 1500.0).clip(0.0, 1.0) * 255.0)
    assert differ(grey.pixels("original"), np.repeat(shown[..., None], 3, axis=2)) <= 1


def test_a_window_of_ones_own_stands_in_the_link(grey):
    Select(grey("#window")).select_by_value("own")
    for end, value in (("low", "-200"), ("high", "300")):
        grey(f"#{end}").clear()
        grey(f"#{end}").send_keys(value, Keys.TAB)
        grey.settle()
    explorer, before = grey.explorer, grey.pixels("original")
    values = explorer.pictures(explorer.run.context.images.fetch(explorer.held_out[[0]], explorer.image))
    shown = np.rint(((values + 200.0) / 500.0).clip(0.0, 1.0) * 255.0)
    assert differ(before, np.repeat(shown[..., None], 3, axis=2)) <= 1
    grey.driver.refresh()
    grey.settle()
    assert grey("#low").get_attribute("value") == "-200"
    assert np.array_equal(grey.pixels("original"), before)


def test_where_the_classifier_looks_is_shown_until_the_view_changes(page):
    page.click("#where")
    page.settle()
    shown = page.driver.find_elements(By.CSS_SELECTOR, "#looked img")
    assert shown[0].accessible_name.startswith("Grad-CAM, the image itself: red speaks for the target")
    assert all(each.get_property("naturalWidth") == page.explorer.image.width for each in shown)
    page.click("#option-4")
    page.settle()
    assert page.driver.find_elements(By.CSS_SELECTOR, "#looked *") == []


def test_a_keyboard_alone_reaches_and_moves_a_slider(page):
    before = page.pixels("moved")
    for _ in range(40):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        focused = page.driver.switch_to.active_element
        if (focused.get_attribute("id") or "").startswith("slider-"):
            break
    assert focused.get_attribute("id") == "slider-0"
    assert "linear 00" in focused.accessible_name
    ActionChains(page.driver).send_keys(*[Keys.ARROW_RIGHT] * 20).perform()
    page.settle()
    assert focused.get_attribute("aria-valuetext").startswith("+1.00 σ")
    moved = page.pixels("moved")
    assert differ(moved, before) > 2
    ActionChains(page.driver).send_keys("0").perform()
    page.settle()
    assert np.array_equal(page.pixels("moved"), before)


@pytest.mark.parametrize("width", [420, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open()
        page.click("#controls")
        page.driver.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.driver.execute_script("return innerWidth") == width
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.driver.execute_script(WIDE) == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_has_a_name_for_who_hears_the_page(page):
    page.click("#controls")
    selector = "button, input, select, textarea, [role=listbox], [role=option], img, canvas"
    found = [each for each in page.driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]
    assert len(found) > 20
    assert [each.get_attribute("outerHTML")[:120] for each in found if not each.accessible_name] == []
