"""A real browser without a window, for tests of pages."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

INSTALL = "needs a browser: apt-get install chromium chromium-driver"

OF_THE_BROWSER = re.compile("GL Driver Message|software WebGL")
"""Lines on the console that a browser without a graphics card writes by itself."""

PATIENCE_SECONDS = 120
"""How long a page may take on a busy machine until a test gives up."""


@contextmanager
def browser(width: int, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser with a page of `width` pixels, so high that all is in sight; its theme light or dark.

    Skips the test where there is none, and fails it where TUNER_NEEDS_BROWSER is set.
    """
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        (pytest.fail if os.environ.get("TUNER_NEEDS_BROWSER") else pytest.skip)(INSTALL)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": 16_000, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        yield driver
    finally:
        driver.quit()


def until(driver: webdriver.Chrome, script: str) -> None:
    """Wait until a script, a JavaScript expression, is true."""
    WebDriverWait(driver, PATIENCE_SECONDS).until(lambda driver: driver.execute_script(f"return {script}"))


def opened(driver: webdriver.Chrome, page: Path) -> None:
    """Open a file."""
    driver.get(page.resolve().as_uri())


def complaints(driver: webdriver.Chrome) -> list[str]:
    """What the page wrote on the console."""
    lines = [str(entry["message"]) for entry in driver.get_log("browser")]
    return [line for line in lines if not OF_THE_BROWSER.search(line)]


def requests(driver: webdriver.Chrome) -> list[str]:
    """The addresses that the page asked for; what it holds itself is not asked for."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("data:", "blob:"))]
