"""One browser for all tests that need one; they are marked `browsing.ON_CHROMIUM`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from explore import chromium
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def driver(downloads) -> Iterator[Chrome]:
    try:
        found = chromium.start(downloads)
    except WebDriverException as error:
        pytest.skip(f"Chromium does not start: {error.msg}")
    yield found
    found.quit()
