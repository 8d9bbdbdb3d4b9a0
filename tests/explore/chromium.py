"""A Chromium without a screen, Debian's own with its driver: nothing else is looked for, and none is downloaded."""

import os
import shutil
import subprocess
from pathlib import Path

from selenium import webdriver

PACKAGES = ("chromium", "chromium-driver")
COMMANDS = ("chromium", "chromedriver")


def lacking() -> str:
    """Why there is no browser, "" where there is one."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    return f"no {' and no '.join(missing)}; on Debian: apt install {' '.join(PACKAGES)}" if missing else ""


def install() -> None:
    """Debian's packages, where they are missing; raises where this is not root."""
    if not lacking():
        return
    assert os.geteuid() == 0, f"{lacking()}, and only root can do so"
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet)


def start(downloads: Path) -> webdriver.Chrome:
    """A browser that puts what it downloads into a folder, and keeps a log of what it asks of the network."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):  # of root in a container
        options.add_argument(f"--{argument}")
    options.add_argument("--disable-background-networking")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    allow = {"behavior": "allow", "downloadPath": str(downloads)}  # of a program, too, which it would ask about
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
    return driver


if __name__ == "__main__":
    install()
