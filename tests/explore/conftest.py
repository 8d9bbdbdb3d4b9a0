"""One browser for all tests that need one; they are marked `browsing.ON_CHROMIUM`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from explore import chromium
from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def driver(downloads) -> Iterator[Chrome]:
    found = chromium.start(downloads)
    yield found
    found.quit()
