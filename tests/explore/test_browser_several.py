"""A sweep, and two runs side by side, in a real browser."""

from explore.browsing import HOSTS, ON_CHROMIUM, TOKEN, click, quiet, served, within
from explore.test_several import copy_of, opened
from runs import linked
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

import medlat
from medlat.explore.several import side_by_side, sweep
from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom

pytestmark = ON_CHROMIUM


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
    driver.execute_script("sliders.get('sefa 00').set(1.5); draw(); zoomBy(3)")
    click(driver.find_element(By.ID, "option-3"))
    driver.switch_to.default_content()
    for frame in frames:
        driver.switch_to.frame(frame)
        within(driver, "view.start === 'image 3' && location.hash.includes('start=image+3')")
        within(driver, "zoom.by === 3 && document.getElementById('zoom').value === '3'")
        views.append(driver.execute_script("return wanted()"))
        driver.switch_to.default_content()
    assert [view["start"] for view in views] == ["image 3", "image 3"]
    assert [view["steps"] for view in views] == [{"sefa 00": 1.5}, {}]
