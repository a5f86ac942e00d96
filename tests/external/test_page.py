"""The page of ``medgemma serve`` in a real browser: Chromium, headless (``make test-page``)."""

from __future__ import annotations

import io
import json
import time

import pytest
from dicoms import made, written
from pypdf import PdfReader
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from serving import running

from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.model.answer import Decoding

pytestmark = pytest.mark.external
SECONDS = 20


@pytest.fixture
def browser(chromium, client):
    chromium.set_window_size(1200, 1000)
    chromium.get(str(client.base_url))
    seen(chromium, "#model", "Model: demo")
    yield chromium
    serious = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in serious if "/v1/" not in message] == []  # nothing was refused by the page's own policy


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def click(browser, selector):
    """Clicks at the top of the page, since the banner covers what the driver scrolls to."""
    browser.execute_script("scrollTo(0, 0)")
    find(browser, selector).click()


def seen(browser, selector, text=""):
    """Waits until the element is there, is shown, and says ``text``."""
    WebDriverWait(browser, SECONDS).until(lambda _: find(browser, selector).is_displayed() and text in find(browser, selector).text)
    return find(browser, selector)


@pytest.fixture
def scan(tmp_path):
    draw_phantom(1)[0].save(tmp_path / "scan.png")
    return str(tmp_path / "scan.png")


def test_a_picture_becomes_a_report_with_the_picture_the_model_saw(browser, scan):
    find(browser, "#scan").send_keys(scan)
    find(browser, "#indication").send_keys("cough <b>&")
    find(browser, "#findings button").click()
    report = seen(browser, "#report", "IMPRESSION")
    assert "FINDINGS" in report.text
    assert find(browser, "#report img").get_property("naturalWidth") > 100
    assert "cough <b>&" in report.text
    assert not find(browser, "#streaming").is_displayed()


def test_notes_become_a_note_beside_their_source_with_marks_that_lead_to_the_checks(browser):
    find(browser, "input[value=soap]").click()
    notes = write_notes(1)[0] | {"plan": "SOAP prompt"}
    find(browser, "#notes").send_keys(json.dumps(notes))
    find(browser, "#soap button").click()
    report = seen(browser, "#report", "Source")
    assert "SUBJECTIVE" in report.text
    targets = {
        link.get_attribute("href").rsplit("#", 1)[1] for link in browser.find_elements(By.CSS_SELECTOR, "#report sup a, #report li a")
    }
    assert all(browser.find_elements(By.ID, target) for target in targets)


def test_what_was_written_can_be_downloaded_in_dicom_too_where_the_picture_is(browser, scan, tmp_path):
    find(browser, "#scan").send_keys(scan)
    find(browser, "#findings button").click()
    seen(browser, "#actions")
    for ending in (".html", ".json", ".fhir.json"):
        find(browser, f"#format option[value='{ending}']").click()
        find(browser, "#download").click()
        seen(browser, "#status", f"Downloaded as draft{ending}")
        WebDriverWait(browser, SECONDS).until(lambda _, name=f"draft{ending}": (browser.downloads / name).exists())
    assert json.loads((browser.downloads / "draft.json").read_text())["kind"] == "findings"
    assert "<img" in (browser.downloads / "draft.html").read_text()
    dicom = "#format option[value='.sr.dcm']"
    assert not find(browser, dicom).is_enabled()
    find(browser, "#scan").send_keys(str(written(tmp_path, made(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4"))))
    click(browser, "#findings button")
    WebDriverWait(browser, SECONDS).until(lambda _: find(browser, dicom).is_enabled())
    assert b"DICM" in downloaded(browser, ".sr.dcm")
    click(browser, "input[value=soap]")  # a note has no picture, so the choice that was made for the picture is taken back
    find(browser, "#notes").send_keys("Cough for three days. Plan: rest.")
    click(browser, "#soap button")
    seen(browser, "#report", "Source")
    assert (find(browser, dicom).is_enabled(), find(browser, "#format").get_property("value")) == (False, ".html")


def downloaded(browser, ending):
    """The content of the report as a file of that format."""
    path = browser.downloads / f"draft{ending}"
    path.unlink(missing_ok=True)
    find(browser, f"#format option[value='{ending}']").click()
    find(browser, "#download").click()
    WebDriverWait(browser, SECONDS).until(lambda _: path.exists())
    return path.read_bytes()


def test_a_downloaded_pdf_has_the_pictures_and_the_notes(browser, scan, tmp_path):
    draw_phantom(2)[0].save(tmp_path / "prior.png")
    find(browser, "#scan").send_keys(scan)
    find(browser, "#prior").send_keys(str(tmp_path / "prior.png"))
    find(browser, "#findings button").click()
    seen(browser, "#actions")
    (page,) = PdfReader(io.BytesIO(downloaded(browser, ".pdf"))).pages
    assert len(page.images) == 2 and "Prior, as the model saw it" in page.extract_text()
    browser.execute_script("document.querySelector('input[name=kind]:checked').focus()")
    chosen = find(browser, "input[name=kind]:checked")  # which the banner must not cover when the focus comes back to it
    assert browser.execute_script("return arguments[0].getBoundingClientRect().top", chosen) > find(browser, ".banner").size["height"]
    find(browser, "input[value=soap]").click()
    find(browser, "#notes").send_keys("Cough for three days. Plan: rest.")
    find(browser, "#soap button").click()
    seen(browser, "#report", "Source")
    (page,) = PdfReader(io.BytesIO(downloaded(browser, ".pdf"))).pages
    assert "Cough for three days." in page.extract_text()


def test_a_server_that_is_gone_before_the_download_is_said_to_be_gone(chromium, scan):
    with running("demo") as client:
        chromium.get(str(client.base_url))
        find(chromium, "#scan").send_keys(scan)
        find(chromium, "#findings button").click()
        seen(chromium, "#actions")
    find(chromium, "#download").click()
    assert "the server cannot be reached" in seen(chromium, "#error").text
    chromium.get("about:blank")
    chromium.get_log("browser")


DROP = """const data = new DataTransfer();
for (const [name, text] of Object.entries(arguments[1])) data.items.add(new File([text], name));
const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
document.querySelector(arguments[0]).dispatchEvent(drop);
return [drop.defaultPrevented, document.getElementById("scan").files[0]?.name, document.getElementById("prior").files[0]?.name];"""


def test_a_dropped_picture_is_the_earlier_one_only_on_its_field_and_never_leaves_the_page(browser):
    assert browser.execute_script(DROP, "footer", {"now.png": ""}) == [True, "now.png", None]
    assert browser.execute_script(DROP, "#prior", {"then.png": ""}) == [True, "now.png", "then.png"]
    seen(browser, "#status", "then.png is chosen as the earlier picture.")
    assert browser.execute_script(DROP, "[for=prior]", {"before.png": ""}) == [True, "now.png", "before.png"]
    assert browser.execute_script(DROP, "#prior", {"one.png": "", "two.png": ""}) == [True, "now.png", "before.png"]
    seen(browser, "#error", "drop one file at a time; none of them was accepted")


@pytest.mark.parametrize("way", ["dropped", "chosen"])
def test_an_earlier_picture_does_not_stay_when_the_current_one_is_replaced(browser, scan, way):
    """It may be another patient's."""
    browser.execute_script(DROP, "#prior", {"then.png": ""})
    assert browser.execute_script(DROP, "footer", {"now.png": ""}) == [True, "now.png", "then.png"]
    if way == "dropped":
        assert browser.execute_script(DROP, "footer", {"scan.png": ""}) == [True, "scan.png", None]
    else:
        find(browser, "#scan").send_keys(scan)
    seen(browser, "#status", "scan.png is chosen as the current picture. Choose the earlier picture again.")
    assert find(browser, "#prior").get_property("value") == ""


def test_a_file_of_notes_is_read_as_the_command_reads_it_and_not_beside_pasted_notes(browser, tmp_path):
    click(browser, "input[value=soap]")
    click(browser, "#soap button")
    seen(browser, "#error", "paste the notes, or choose a file with them")
    (tmp_path / "visit.txt").write_bytes("Fièvre depuis trois jours. Plan: repos.".encode("cp1252"))
    find(browser, "#file").send_keys(str(tmp_path / "visit.txt"))
    find(browser, "#notes").send_keys("Cough.")
    click(browser, "#soap button")
    seen(browser, "#error", "give the notes as text or as a file, not both")
    find(browser, "#notes").clear()
    click(browser, "#soap button")
    assert "Fièvre depuis trois jours." in seen(browser, "#report", "Source").text
    click(browser, "#soap [type=reset]")
    browser.execute_script(DROP, "footer", {"other.txt": "Cough for three days. Plan: rest."})
    seen(browser, "#status", "other.txt is chosen as the notes.")
    click(browser, "#soap button")
    seen(browser, "#report", "Cough for three days.")


def test_the_focus_is_where_the_next_step_is(browser, scan, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    find(browser, "#scan").send_keys(str(tmp_path / "bad.png"))
    find(browser, "#findings button").click()
    seen(browser, "#error")
    assert browser.switch_to.active_element.text == "Write the report"
    find(browser, "#scan").send_keys(scan)
    find(browser, "#findings button").click()
    seen(browser, "#actions")
    assert browser.switch_to.active_element.text == "Findings report"
    assert find(browser, "body > .banner").rect["y"] == browser.execute_script("return scrollY")  # a draft is never seen without it


def test_a_file_that_is_no_picture_gives_the_line_of_the_command(browser, tmp_path):
    (tmp_path / "scan.png").write_text("no picture")
    find(browser, "#scan").send_keys(str(tmp_path / "scan.png"))
    find(browser, "#findings button").click()
    assert "scan.png is not a picture that can be read" in seen(browser, "#error").text
    assert find(browser, "#findings button").is_enabled()


def test_cancel_stops_the_work_and_keeps_what_there_is(browser, client, scan, monkeypatch):
    def slowly(*arguments, take=Decoding.take):
        time.sleep(0.1)
        return take(*arguments)

    monkeypatch.setattr(Decoding, "take", slowly)
    find(browser, "#scan").send_keys(scan)
    browser.execute_script("document.querySelector('#findings button').click(); document.querySelector('#cancel').click()")
    seen(browser, "#status", "Cancelled before anything was written.")
    find(browser, "#findings button").click()
    WebDriverWait(browser, SECONDS).until(lambda _: find(browser, "#text").text != "")
    assert browser.switch_to.active_element.text == "Cancel"
    find(browser, "#cancel").click()
    seen(browser, "#status", "Cancelled. What was written so far is below.")
    assert seen(browser, "#text").text != ""
    WebDriverWait(browser, SECONDS).until(lambda _: not client.engine._answering)


def test_everything_can_be_reached_by_the_keyboard(browser, scan):
    find(browser, "#scan").send_keys(scan)
    browser.execute_script("document.querySelector('input[value=findings]').focus()")
    reached = []
    for _ in range(5):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        active = browser.switch_to.active_element
        reached.append(active.get_attribute("id") or active.text)
    assert reached[:4] == ["scan", "prior", "indication", "Write the report"]
    browser.execute_script("document.querySelector('#indication').focus()")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    seen(browser, "#report", "IMPRESSION")


def test_the_page_fits_a_narrow_window(browser, scan):
    browser.set_window_size(400, 900)
    find(browser, "#scan").send_keys(scan)
    find(browser, "#findings button").click()
    seen(browser, "#report", "IMPRESSION")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_server_with_a_key_asks_for_it(chromium, scan):
    with running("demo", key="sesame") as client:
        chromium.get(str(client.base_url))
        seen(chromium, "#keyed")
        find(chromium, "#key").send_keys("schlüssel")
        find(chromium, "#scan").send_keys(scan)
        find(chromium, "#findings button").click()
        assert "a key consists of Latin letters" in seen(chromium, "#error").text
        assert find(chromium, "#model").text == "This server needs a key."
        for wrong in ("", "parsley"):
            find(chromium, "#key").clear()
            find(chromium, "#key").send_keys(wrong)
            find(chromium, "#findings button").click()
            assert ("the key is wrong" if wrong else "this server needs a key") in seen(chromium, "#error", "key").text
        find(chromium, "#key").clear()
        find(chromium, "#key").send_keys("sesame" + Keys.TAB)
        seen(chromium, "#model", "Model: demo")
        find(chromium, "#findings button").click()
        seen(chromium, "#report", "IMPRESSION")
        assert not find(chromium, "#keyed").is_displayed()
        find(chromium, "footer a[href='/openapi.json']").click()
        assert "medgemma-app" in seen(chromium, "body").text
    chromium.get("about:blank")
