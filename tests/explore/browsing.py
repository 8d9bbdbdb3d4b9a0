"""A page in a real browser, for tests: what serves it, what is clicked and seen, and whom it asks."""

import json
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
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from starlette.types import ASGIApp

from medlat.explore.command import _listening
from medlat.explore.view import Explorer

ON_CHROMIUM = [pytest.mark.slow, pytest.mark.skipif(bool(chromium.lacking()), reason=chromium.lacking() or "there")]
INSIDE = ("data:", "blob:", "about:", "file:")  # addresses that nobody is asked for
TOKEN, HOSTS = "right-token", ["127.0.0.1"]
PIXELS = """
const [selector, done] = arguments, img = document.querySelector(selector), canvas = document.createElement("canvas");
img.decode().then(() => {
  const [width, height] = [img.naturalWidth, img.naturalHeight];
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(img, 0, 0);
  done([width, height, Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)]);
});
"""


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


def within(driver: Chrome, true: str) -> None:
    WebDriverWait(driver, 20).until(lambda driver: driver.execute_script(f"return Boolean({true})"))
