"""The page in a real browser: what it shows, what a keyboard and a telephone reach, and whom it asks."""

import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import uvicorn
from explore import chromium
from explore.test_several import copy_of, opened
from PIL import Image
from runs import linked
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from starlette.types import ASGIApp
from test_explain_images import explaining  # noqa: F401 (a fixture)

import medlat
from medlat.explore.app import application
from medlat.explore.command import _listening
from medlat.explore.several import side_by_side, sweep
from medlat.explore.view import Explorer
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(chromium.lacking()), reason=chromium.lacking() or "there")]

INSIDE = ("data:", "blob:", "about:", "file:")  # addresses that nobody is asked for
TOKEN, HOSTS = "right-token", ["127.0.0.1"]
STEPS = {"linear 00": 1.5, "random 01": -0.75}
PIXELS = """
const [selector, done] = arguments, img = document.querySelector(selector), canvas = document.createElement("canvas");
img.decode().then(() => {
  const [width, height] = [img.naturalWidth, img.naturalHeight];
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(img, 0, 0);
  done([width, height, Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)]);
});
"""
WIDE = "return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
WIDE += " && !e.closest('.scroll')).map((e) => e.tagName + '#' + e.id + '.' + e.className)"


class Page:
    """The page as who sits before it has it. `explorer` is the same run, by the Python face."""

    def __init__(self, driver: Chrome, address: str, explorer: Explorer, downloads: Path) -> None:
        self.driver, self.address, self.explorer, self.downloads = driver, address, explorer, downloads

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")  # else another fragment is the same page
        self.driver.get(self.address + fragment)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is asked for, and nothing more follows."""
        quiet, deadline = 0, time.monotonic() + 20.0
        while quiet < 4:
            busy = self.driver.execute_script("return document.getElementById('stage').getAttribute('aria-busy')")
            quiet = 0 if busy == "true" else quiet + 1
            assert time.monotonic() < deadline, "the page is still busy"
            time.sleep(0.06)
        assert self("#problem").text == ""

    def __call__(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, on: WebElement | str) -> None:
        click(self(on) if isinstance(on, str) else on)

    def slider(self, direction: str) -> WebElement:
        """Whose label says so."""
        label = next(
            each for each in self.driver.find_elements(By.CSS_SELECTOR, "#directions .name") if direction in each.text
        )
        return self(f"#{label.get_attribute('for')}")

    def details(self, direction: str) -> WebElement:
        """The folded part of a direction, opened."""
        found = self.slider(direction).find_element(By.XPATH, "ancestor::li").find_element(By.TAG_NAME, "details")
        if not found.get_attribute("open"):
            self.click(found.find_element(By.TAG_NAME, "summary"))
        return found

    def move(self, direction: str, step: float) -> None:
        """By keys: a slider's step is 0.05."""
        slider, presses = self.slider(direction), round(abs(step) / 0.05)
        slider.send_keys((Keys.ARROW_RIGHT if step > 0 else Keys.ARROW_LEFT) * presses)
        self.settle()

    def pixels(self, name: str) -> np.ndarray:
        """[H, W, 3] uint8, as the browser decoded the picture."""
        width, height, values = self.driver.execute_async_script(PIXELS, f"#{name} img")
        return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]

    def asks(self, path: str) -> dict:
        """What the server says of the view that is shown."""
        script = f"const done = arguments[0]; ask('{path}', {{ view: wanted() }}).then(done)"
        return self.driver.execute_async_script(script)

    def downloaded(self, kind: str, name: str = "view") -> bytes:
        """Press the button of an export and wait for the file."""
        path, deadline = self.downloads / f"{name}.{kind}", time.monotonic() + 20.0
        path.unlink(missing_ok=True)
        self.click(f"button[data-as={kind}]")
        while not path.exists():
            assert time.monotonic() < deadline, f"no {path.name}"
            time.sleep(0.05)
        self.settle()
        return path.read_bytes()

    def shown(self, images: torch.Tensor) -> np.ndarray:
        """Images [1, C, H, W] in [-1, 1] of the Python face -> [H, W, 3] as they are to be seen, from 0 to 255."""
        levels = self.explorer.look.levels(self.explorer.image.pictures(images)[0])
        return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)


def click(on: WebElement) -> None:
    """Scroll there as the page would, and click."""
    on.parent.execute_script("arguments[0].scrollIntoView({ block: 'nearest' })", on)
    on.click()


def differ(pixels: np.ndarray, expected: np.ndarray) -> int:
    """The largest difference of two pictures, in levels of 255."""
    assert pixels.shape == expected.shape
    return int(np.abs(pixels.astype(int) - expected.astype(int)).max())


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(downloads) -> Iterator[Chrome]:
    found = chromium.start(downloads)
    yield found
    found.quit()


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address of what answers there."""
    with _listening("127.0.0.1", "0") as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/?token={TOKEN}"
        server.should_exit = True
        thread.join()


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


@contextmanager
def quiet(driver: Chrome, address: str) -> Iterator[None]:
    """Whatever is done meanwhile: the browser asks nobody else, and complains of nothing."""
    for log in ("performance", "browser"):
        driver.get_log(log)
    yield
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {urlsplit(url).netloc for url in asked if not url.startswith(INSIDE)} == {urlsplit(address).netloc}
    assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


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
    assert re.search(r"(Like|Unlike|Farther)", page("#notes").text)
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
        "start": "image 3", "steps": {"linear 00": 0.5}, "window": None,
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


def test_from_the_table_of_a_sweep_to_a_run_and_to_two(driver, finished, tmp_path):
    linked(finished / "store", tmp_path / "store")
    for seed in ("0", "1"):
        copy_of(finished / "run", tmp_path / "runs" / seed, f"seed={seed}")
    app = sweep(tmp_path / "runs", opened, TOKEN, HOSTS)
    with served(app) as address, quiet(driver, address):
        driver.get(address)
        shown = len(driver.find_elements(By.CSS_SELECTOR, "#runs thead th"))
        driver.find_element(By.ID, "words").send_keys("reconstruction psnr")
        (name,) = [
            each for each in medlat.load(finished / "run").metrics if "reconstruction" in each and "psnr" in each
        ]
        assert len(driver.find_elements(By.CSS_SELECTOR, "#runs thead th")) == 4 != shown
        assert name.replace("_", " ") in driver.find_element(By.CSS_SELECTOR, "#runs thead").text
        driver.find_element(By.LINK_TEXT, "1").click()
        assert driver.title == "Explore ct_vae_sefa"
        driver.back()
        for tick in driver.find_elements(By.CSS_SELECTOR, "#runs input"):
            tick.click()
        driver.find_element(By.ID, "pair").click()
        assert driver.current_url.startswith(address.replace("/?", "/0-1/?"))
        beside(driver)


def test_two_runs_begin_with_the_same_image_and_have_their_own_sliders(driver, finished, tmp_path):
    (file,) = write_dicom_series(tmp_path, CTPhantom(1, 1, 64, seed=7))
    app = side_by_side([finished / "run"] * 2, opened, TOKEN, HOSTS)
    with served(app) as address, quiet(driver, address):
        driver.get(address)
        beside(driver)
        first, second = driver.find_elements(By.TAG_NAME, "iframe")
        driver.switch_to.frame(first)
        driver.execute_script("document.querySelector('input[value=upload]').click()")
        driver.find_element(By.ID, "file").send_keys(str(file))
        click(driver.find_element(By.ID, "send"))
        driver.switch_to.default_content()
        driver.switch_to.frame(second)
        within(driver, "view.start === 'upload 0' && document.getElementById('notes').textContent.includes('dB')")
        assert driver.execute_script("return wanted().steps") == {}
        driver.switch_to.default_content()


def beside(driver: Chrome) -> None:
    """What is chosen in one of two frames is chosen in the other, and what is moved is not."""
    frames = driver.find_elements(By.TAG_NAME, "iframe")
    views: list[dict] = []
    for frame in frames:
        driver.switch_to.frame(frame)
        within(
            driver,
            "document.querySelectorAll('#thumbnails canvas').length > 3 && document.querySelector('#moved img').src",
        )
        driver.switch_to.default_content()
    driver.switch_to.frame(frames[0])
    driver.execute_script("sliders.get('sefa 00').set(1.5); draw()")
    click(driver.find_element(By.ID, "option-3"))
    driver.switch_to.default_content()
    for frame in frames:
        driver.switch_to.frame(frame)
        within(driver, "view.start === 'image 3' && location.hash.includes('start=image+3')")
        views.append(driver.execute_script("return wanted()"))
        driver.switch_to.default_content()
    assert [view["start"] for view in views] == ["image 3", "image 3"]
    assert [view["steps"] for view in views] == [{"sefa 00": 1.5}, {}]


def within(driver: Chrome, true: str) -> None:
    WebDriverWait(driver, 20).until(lambda driver: driver.execute_script(f"return Boolean({true})"))
