"""Exported pages in Chromium: on paper, and in a narrow window."""

from __future__ import annotations

import base64
import io
from unicodedata import normalize

import pytest
from pypdf import PdfReader
from selenium.webdriver.common.by import By
from selenium.webdriver.common.print_page_options import PrintOptions

from medgemma_app import findings
from medgemma_app.demo import draw_phantom
from medgemma_app.export import html
from medgemma_app.notices import NOTICE

pytestmark = pytest.mark.external
A4, LETTER = (21.0, 29.7), (21.59, 27.94)  # cm


@pytest.fixture(scope="module")
def report(demo):
    return findings(demo, draw_phantom(1)[0], prior=draw_phantom(2)[0])


def printed(chromium, path, size):
    """The text of each page."""
    chromium.get(path.as_uri())
    options = PrintOptions()
    options.page_width, options.page_height = size
    pages = PdfReader(io.BytesIO(base64.b64decode(chromium.print_page(options)))).pages
    return [" ".join(normalize("NFKC", page.extract_text()).split()) for page in pages]  # ligatures as letters


@pytest.mark.parametrize("size", [A4, LETTER], ids=["A4", "Letter"])
def test_a_report_with_a_prior_is_one_printed_page(chromium, report, tmp_path, size):
    report.save(tmp_path / "report.html")
    (page,) = printed(chromium, tmp_path / "report.html", size)
    assert "FINDINGS" in page and "IMPRESSION" in page


@pytest.mark.parametrize("size", [A4, LETTER], ids=["A4", "Letter"])
def test_every_printed_page_says_that_it_is_a_draft(chromium, report, tmp_path, size):
    record = {**report.to_dict(), "text": "A long report. " * 1500, "sections": {}}
    (tmp_path / "report.html").write_text(html.page(record, images=report.images))
    pages = printed(chromium, tmp_path / "report.html", size)
    assert len(pages) > 2
    assert all(NOTICE in page for page in pages)


@pytest.mark.parametrize(("width", "beside"), [(1200, True), (400, False)])
def test_the_prior_stands_beside_the_current_picture_or_below_it(chromium, report, tmp_path, width, beside):
    report.save(tmp_path / "report.html")
    chromium.get((tmp_path / "report.html").as_uri())
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    current, prior = (figure.rect for figure in chromium.find_elements(By.TAG_NAME, "figure"))
    assert (current["y"] == prior["y"], current["x"] == prior["x"]) == (beside, not beside)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_an_index_fits_a_narrow_window_and_shows_only_errors_when_asked(chromium, report, tmp_path):
    record = report.to_dict()
    entries = [({**record, "study": "a_name_" * 20}, "1.html", report.images[0][1]), ({"study": "b.png", "error": "is blank"}, None, None)]
    (tmp_path / "index.html").write_text(html.index(entries))
    chromium.get((tmp_path / "index.html").as_uri())
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 400
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.find_element(By.ID, "only-errors").click()
    assert [row.is_displayed() for row in chromium.find_elements(By.CSS_SELECTOR, "tbody tr")] == [False, True]


def test_long_paths_and_values_fit_a_narrow_window(chromium, report, tmp_path):
    long = "/home/a/" + "very_long_folder_name" * 9
    issue = {"code": "truncated", "severity": "error", "message": f"{long} is cut", "excerpt": long, "start": 0, "end": 9}
    record = {**report.to_dict(), "model": {"id": long}, "text": long, "sections": {}, "issues": [issue], "input": {"question": long}}
    (tmp_path / "report.html").write_text(html.page({**record, "prompt": {"title": long}}, images=[(long, report.images[0][1])]))
    chromium.get((tmp_path / "report.html").as_uri())
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 400
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
