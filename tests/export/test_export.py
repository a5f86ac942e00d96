"""A record and what it was made from -> files that people open, send and file."""

from __future__ import annotations

import csv
import io
import json
import os
import time

import pydicom
import pytest
from pages import Page
from PIL import Image
from pypdf import PdfReader
from records import CREATED, TEXT, findings_record, issue, needs_scan, of, saved

from medgemma_app import InputError, export
from medgemma_app.errors import OptionError, OutputError
from medgemma_app.export import html, pdf
from medgemma_app.notices import NOTICE


def test_a_question_stands_above_its_answer():
    record = {"kind": "ask", "text": "Yes.", "prompt": None, "input": {"question": "Is it <large>?"}, "issues": []}
    page = Page(html.page(record)).shown
    assert page.index("Is it <large>?") < page.index("Yes.")
    document = PdfReader(io.BytesIO(export.render(record, ".pdf")))
    text = "".join(page.extract_text() for page in document.pages)
    assert text.index("Is it <large>?") < text.index("Yes.") and "Prompt None" not in text


def pdf_text(content):
    return "".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def test_a_pdf_has_the_notice_the_checks_and_every_picture_on_one_page():
    content = export.render(findings_record(), ".pdf", images=[(name, Image.new("RGB", (64, 64))) for name in ("prior", "current")])
    (page,) = PdfReader(io.BytesIO(content)).pages
    text = " ".join(page.extract_text().split())
    assert all(said in text for said in (NOTICE, "Current, as the model saw it Prior, as the model saw it", "1. warning: compares"))


def test_a_long_pdf_has_the_notice_on_every_page_and_the_numbers_of_the_checks_in_the_text():
    pages = [
        page.extract_text() for page in PdfReader(io.BytesIO(export.render(findings_record(text=TEXT + "\nRest." * 99), ".pdf"))).pages
    ]
    assert len(pages) > 1 and all(NOTICE in page for page in pages)
    assert "<large> & unchanged1." in pages[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SpO₂ 95 %", "SpO2 95 %"), ("TNF-α → high", "TNF-alpha -> high"), ("Δ 5 μg ↓", "∆ 5 µg (down)"), ("Сердце", "[U+0421]"),
        ("non\N{NON-BREAKING HYPHEN}small", "non-small"), ("37.5 °C, 5 µg, ≥ 3", None),
    ],
)  # fmt: skip
def test_characters_that_the_font_of_the_pdf_lacks_are_written_out_where_the_machine_has_no_other(monkeypatch, text, shown):
    monkeypatch.setattr(pdf, "SYSTEM_FONTS", ())
    found = pdf_text(export.render(findings_record(text=text, sections={}, issues=[], warnings=[]), ".pdf"))
    assert (shown or text) in found
    assert ("are written out" in found) == (shown is not None)


@pytest.mark.skipif(not any(map(os.path.exists, pdf.SYSTEM_FONTS)), reason="this machine has none of the fonts")
def test_letters_that_a_font_of_the_machine_has_are_shown_but_no_script_that_would_be_set_wrongly():
    found = pdf_text(export.render(findings_record(text="Сердце α → <b> שלום", sections={}, issues=[], warnings=[]), ".pdf"))
    assert "Сердце α → <b> [U+05E9][U+05DC][U+05D5][U+05DD]" in found and "are written out" in found


def test_a_table_has_a_line_a_study_and_no_formulas():
    record = {**findings_record(text="=1+1"), "study": "scan.png", "exit_code": 0}
    head, row, failed = csv.reader(io.StringIO(export.table([record, {"study": "b.png", "exit_code": 2, "error": "is blank"}])))
    told = dict(zip(head, row, strict=True))
    assert (told["study"], told["warnings"], told["text"], told["notice"]) == ("scan.png", "2", "'=1+1", NOTICE)
    told = dict(zip(head, failed, strict=True))
    assert [told[name] for name in ("exit_code", "errors", "warnings", "issues", "error", "text")] == ["2", "", "", "", "is blank", ""]


def test_plain_text_and_json_carry_the_notice_or_the_record_itself(tmp_path):
    for name in ("report.txt", "report.json"):
        saved(findings_record(), tmp_path / name)
    assert (tmp_path / "report.txt").read_text().startswith(f"DRAFT. {NOTICE}\n\nFINDINGS:")
    assert json.loads((tmp_path / "report.json").read_text()) == findings_record()


@pytest.mark.parametrize("ending", [".html", ".fhir.json", ".csv", ".json", ".txt", ".sr.dcm"])
def test_control_characters_of_a_model_reach_no_file(ending, scan):
    text = TEXT.replace(" ", "\x1b[31m\x00 ")
    record = of(scan, text=text, sections={"findings": text[10:20]}, issues=[issue(text, "heart", message="a\x07b")])
    content = export.render(record, ending, scan=needs_scan(ending, scan), source="c\x08d")
    if ending == ".sr.dcm":
        report = pydicom.dcmread(io.BytesIO(content))
        content = " ".join(str(element.value) for element in report.iterall() if element.keyword == "TextValue").encode()
    assert b"heart" in content
    assert not set(content) & {0, 7, 8, 27} and b"\\u001b" not in content


@pytest.mark.parametrize("name", ["report", "report.doc", "report.fhir"])
def test_an_unknown_ending_is_an_error_that_lists_the_known_ones(tmp_path, name):
    with pytest.raises(OutputError, match=r"ends in one of \.html"):
        saved(findings_record(), tmp_path / name)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write report\.html"):
        saved(findings_record(), tmp_path / "none" / "report.html")
    with pytest.raises(InputError, match="does not belong to a report"):
        saved({"resourceType": "Patient"}, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", [{"sections": "x"}, {"model": "x"}, {"versions": []}, {"warnings": 3}])
def test_a_damaged_record_is_one_line(broken):
    for ending in (".html", ".pdf", ".fhir.json", ".csv", ".txt"):
        try:
            export.render(findings_record(**broken), ending)
        except InputError as error:
            assert "damaged" in str(error)
    if "warnings" in broken:
        with pytest.raises(InputError, match="damaged"):
            export.table([findings_record(**broken)])


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": None}, {"kind": "letter"}, {"kind": ["soap"]}, {"issues": None}, {"issues": 5}, {"issues": "none"}, {"issues": [1]},
        {"issues": {"truncated": "cut"}}, {"issues": [{"severity": "error"}]},
        {"issues": [{"severity": "fatal", "code": "a", "message": "b"}]},
        {"issues": [{"severity": ["error"], "code": "a", "message": "b"}]},
        {"issues": [{"severity": "error", "code": "a", "message": None}]},
        {"valid": False}, {"valid": None}, {"valid": True, "issues": [issue(TEXT, "heart", severity="error")]},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("ending", [".html", ".pdf", ".fhir.json", ".csv", ".json", ".txt", ".sr.dcm"])
def test_a_record_that_does_not_say_what_the_checks_found_is_refused(scan, ending, broken):
    """And never exported with the words that they found nothing."""
    with pytest.raises(InputError, match=r"does not say what|contradicts itself"):
        export.render({**of(scan), **broken}, ending, scan=needs_scan(ending, scan))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"study": "b.png", "error": "is blank", "kind": "findings"}, "the record belongs to a study that failed"),
        ({"report": "r.txt", "kind": "findings", "valid": True, "issues": [], "sections": {}}, "the record was written by check --json"),
    ],
)
def test_a_record_without_a_text_is_called_what_it_is(record, words):
    with pytest.raises(InputError, match=words):
        export.render(record, ".html")


def test_a_table_says_which_record_cannot_be_used():
    with pytest.raises(InputError, match="record 3 does not say what the checks found"):
        export.table([findings_record(), {"error": "is blank"}, {"text": "x", "kind": "soap", "error": "is blank"}])


def test_issues_and_validity_that_agree_are_exported():
    for record in (findings_record(valid=True), findings_record(valid=False, issues=[issue(TEXT, "heart", severity="error")])):
        assert export.render(record, ".txt")


@pytest.mark.parametrize("title", ["Chest & <b>", "Röntgen <para>", "Thorax ₂"])
def test_a_title_of_a_prompt_file_is_text_in_a_pdf(monkeypatch, title):
    monkeypatch.setattr(pdf, "SYSTEM_FONTS", ())
    record = findings_record(prompt={"title": title})
    assert f"Draft: {title.replace('₂', '2')}" in pdf_text(export.render(record, ".pdf"))


@pytest.mark.parametrize("ending", [".html", ".pdf", ".fhir.json", ".csv", ".txt", ".sr.dcm"])
def test_doubts_about_the_input_count_in_every_export_as_on_the_terminal(ending, scan):
    content = export.render({**of(scan), "issues": [], "warnings": ["the prior is the scan"]}, ending, scan=needs_scan(ending, scan))
    if ending != ".pdf":  # whose text is compressed
        assert b"the prior is the scan" in content or ending == ".csv"
        assert b"found nothing" not in content
    if ending == ".csv":
        assert next(csv.DictReader(io.StringIO(content.decode())))["warnings"] == "1"


def test_an_export_has_the_date_of_the_report_and_not_its_own(scan, monkeypatch):
    """A record without one has none."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    record, older = of(scan), {name: value for name, value in of(scan).items() if name != "created"}
    assert "on 2026-01-02 at 23:04 UTC" in Page(html.page(record)).shown and CREATED in Page(html.page(record)).shown
    assert "on 2026-01-02 at 23:04 UTC" in pdf_text(export.render(record, ".pdf"))
    assert " UTC" not in Page(html.page(older)).shown + pdf_text(export.render(older, ".pdf"))
    for ending in (".dcm", ".sr.dcm"):
        made = pydicom.dcmread(io.BytesIO(export.render(record, ending, scan=scan)))
        assert (made.ContentDate, made.ContentTime) == ("20260102", "180405")  # local time, as DICOM has it
    made = pydicom.dcmread(io.BytesIO(export.render(older, ".dcm", scan=scan)))
    assert (made.ContentDate, made.ContentTime, made.AcquisitionDateTime) == ("", "", "")
    with pytest.raises(InputError, match="does not say when"):
        export.render(older, ".sr.dcm", scan=scan)
    with pytest.raises(InputError, match="damaged"):
        export.render({**record, "created": "yesterday"}, ".html")
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("ending", "option"),
    [(ending, option) for option, endings in export.APPLIES_TO.items() for ending in export.ENDINGS if ending not in endings],
)
def test_an_option_that_does_not_apply_to_the_format_is_an_error(ending, option):
    with pytest.raises(OptionError, match=rf"--{option} .* is for .* only"):
        export.render(findings_record(), ending, **{option: "Jane Roe"})
