"""Chromium, headless, for the tests that look at pages."""

from __future__ import annotations

import shutil

import pytest
from selenium import webdriver


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    quiet = "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-quic"
    folder = tmp_path_factory.mktemp("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", *quiet.split()):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.downloads = folder / "downloads"
    yield driver
    driver.quit()
