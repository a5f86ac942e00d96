"""A record and what it was made from -> files that people open, send and file."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import time
from html.parser import HTMLParser

import pydicom
import pytest
from PIL import Image
from pypdf import PdfReader
from records import CREATED, SOURCE, TEXT, findings_record, issue, needs_scan, of, soap_record

from medgemma_app import InputError, export
from medgemma_app.errors import OptionError, OutputError
from medgemma_app.export import html, marks, pdf
from medgemma_app.notices import BLIND_SPOT, NOTICE


def test_a_question_stands_above_its_answer():
    record = {"kind": "ask", "text": "Yes.", "prompt": None, "input": {"question": "Is it <large>?"}, "issues": []}
    page = Page(html.page(record)).shown
    assert page.index("Is it <large>?") < page.index("Yes.")
    document = PdfReader(io.BytesIO(export.render(record, ".pdf")))
    text = "".join(page.extract_text() for page in document.pages)
    assert text.index("Is it <large>?") < text.index("Yes.") and "Prompt None" not in text


class Page(HTMLParser):
    """Everything of a page that a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.tags, self.shown = set(), set(), [], set(), ""
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.tags.add(tag)
        self.ids |= {told["id"]} if "id" in told else set()
        self.links |= {told["href"]} if "href" in told else set()
        self.sources += [told["src"]] if "src" in told else []
        self._style = tag == "style"

    def handle_data(self, data):
        self.shown += "" if self._style else data

    def handle_endtag(self, tag):
        self._style = False


def test_a_page_shows_every_word_its_checks_and_the_notice_and_fetches_nothing():
    text = html.page(findings_record(), images=[("current", Image.new("RGB", (2000, 100), "white"))])
    page = Page(text)
    assert "The heart is <large> & unchanged" in page.shown.replace("1.", ".")
    assert all(said in page.shown for said in (NOTICE, BLIND_SPOT, "2 warnings", "compares with an earlier picture", "writing burnt in"))
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
    assert "http" not in text.replace('xmlns="http', "")
    assert page.links == {"#check-1", "#draft-1"} and page.links <= {f"#{name}" for name in page.ids}


def test_marks_in_note_and_source_point_at_the_check_and_it_at_them():
    page = Page(html.page(soap_record(), source=SOURCE))
    assert page.links == {"#check-1", "#draft-1", "#source-1"} == {f"#{name}" for name in page.ids}
    assert re.search(r'<mark class="warning" id="source-1">500 mg</mark>', html.page(soap_record(), source=SOURCE))


@pytest.mark.parametrize(
    ("text", "at"),
    [("IMPRESSION:\nNormal.\n\nFINDINGS:", 29), ("FINDINGS:\n\nIMPRESSION:\nNormal.", 10), ("Normal.", 0), ("", 0)],
)
def test_an_issue_about_a_place_without_words_is_linked_with_it_in_both_directions(text, at):
    record = findings_record(text=text, sections={}, issues=[{**issue("a", "a"), "start": at, "end": at}], warnings=[])
    page = Page(html.page(record))
    assert page.links == {"#check-1", "#draft-1"} == {f"#{name}" for name in page.ids}
    assert f"{text[:at].rstrip()}1" in page.shown  # the number stands behind the heading, and not before the next one


def test_an_issue_whose_place_is_beyond_the_text_has_no_link():
    assert Page(html.page(findings_record(issues=[{**issue("a", "a"), "start": 900, "end": 901}], warnings=[]))).links == set()


def test_the_reports_of_a_notebook_have_links_of_their_own():
    one, other = (Page(html.notebook({**soap_record(), "tries": tries}, source=SOURCE)) for tries in (1, 2))
    assert not one.ids & other.ids
    for page in (one, other):
        assert len(page.links) == 3 and page.links == {f"#{name}" for name in page.ids}


def test_pictures_are_exact_unless_they_are_many_and_then_the_heading_says_so():
    for count, size, words in (
        (4, 896, "saw them"),
        (8, 512, "saw them"),
        (40, 512, "saw them, reduced to 448 pixels"),
        (80, 256, "saw them"),
    ):
        shown = html.page(findings_record(), images=[(f"slice {number}", Image.new("L", (size, size))) for number in range(count)])
        assert f"<h2>Pictures, as the model {words}</h2>" in shown
        content = base64.b64decode(Page(shown).sources[0].partition(",")[2])
        assert Image.open(io.BytesIO(content)).width == (448 if "reduced" in words else size)


def test_marks_that_overlap_lose_no_character():
    issues = [issue(TEXT, "heart is <large> & un"), issue(TEXT, "large> & unchanged", severity="error"), issue(TEXT, "unchanged")]
    page = Page(html.page(findings_record(issues=issues)))
    shown = page.shown[page.shown.index("FINDINGS:") : page.shown.index("Enlarged")]
    assert re.sub(r"\d", "", shown).split() == TEXT[: TEXT.index("Enlarged")].split()


@pytest.mark.parametrize("spans", [(-5, 3), (3, 3), (500, 900), ("a", None), (0, 10_000)])
def test_an_invalid_place_does_no_harm(spans):
    broken = [{"code": "x", "severity": "info", "message": "<b>", "start": spans[0], "end": spans[1]}]
    assert "&lt;b&gt;" in html.page(findings_record(issues=broken))


def test_no_issue_is_not_called_valid():
    shown = Page(html.page(findings_record(issues=[], warnings=[]))).shown
    assert "does not mean that the report is right" in shown
    assert "valid" not in shown.lower()


def test_a_report_without_headings_is_shown_whole():
    record = findings_record(text="The lungs are clear.", sections={"findings": "", "impression": ""}, issues=[])
    assert list(marks.sections_of(record)) == [("", "", "The lungs are clear.")]
    assert list(marks.sections_of(findings_record())) == [
        ("findings", "FINDINGS:", "The heart is <large> & unchanged."), ("impression", "IMPRESSION:", "Enlarged heart on the left."),
    ]  # fmt: skip


def test_no_mark_hides_another():
    issues = [{"severity": "error", "start": 0, "end": 40}, {"severity": "warning", "start": 14, "end": 19}]
    pieces = list(marks.draft_pieces(findings_record(), issues))
    assert "".join(piece.text for piece in pieces) == findings_record()["text"]
    assert [piece.severity for piece in pieces if piece.begin] == ["error", "warning"]


def test_the_current_picture_comes_first_and_the_prior_beside_it():
    images = [(caption, Image.new("RGB", (8, 8))) for caption in ("prior", "current", "view 2")]
    shown = html.page(findings_record(), images=images)
    assert [shown.index(f"<figcaption>{caption}") for caption in ("Current", "Prior", "View 2")] == sorted(
        shown.index(f"<figcaption>{caption}") for caption in ("Current", "Prior", "View 2")
    )


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
    assert dict(zip(head, failed, strict=True))["text"] == "is blank"


def test_plain_text_and_json_carry_the_notice_or_the_record_itself(tmp_path):
    for name in ("report.txt", "report.json"):
        export.save(findings_record(), tmp_path / name)
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


def test_a_grey_picture_is_stored_as_grey_and_a_coloured_one_keeps_its_colours():
    for colour, mode in (((9, 9, 9), "L"), ((9, 8, 9), "RGB")):
        assert Image.open(io.BytesIO(html.png(Image.new("RGB", (4, 4), colour)))).mode == mode


@pytest.mark.parametrize("name", ["report", "report.doc", "report.fhir"])
def test_an_unknown_ending_is_an_error_that_lists_the_known_ones(tmp_path, name):
    with pytest.raises(OutputError, match=r"ends in one of \.html"):
        export.save(findings_record(), tmp_path / name)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write report\.html"):
        export.save(findings_record(), tmp_path / "none" / "report.html")
    with pytest.raises(InputError, match="is not that of a report"):
        export.save({"resourceType": "Patient"}, tmp_path / "report.html")
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


def test_a_link_leads_somewhere():
    assert not any(link.startswith("#source") for link in Page(html.page(soap_record())).links)
    index = html.index([(findings_record(study="a"), "st#1?/001.html", None)])
    assert Page(index).links == {"st%231%3F/001.html"}


def test_an_index_lists_every_study_with_its_first_line_and_state():
    shown = html.index([
        (findings_record(study="a.png", issues=[issue(TEXT, "heart", severity="error")]), "a.html", Image.new("L", (400, 300))),
        ({"study": "<b>.png", "error": "b.png is blank"}, None, None),
        (findings_record(study="c.png", issues=[]), "c.html", None),
    ])  # fmt: skip
    page = Page(shown)
    assert page.links == {"a.html", "c.html"}
    assert all(said in page.shown for said in ("3 studies", "Enlarged heart on the left.", "1 error", "<b>.png", "b.png is blank", NOTICE))
    assert shown.count('<tr class="error">') == 2
    note = {**soap_record(), "sections": {"subjective": "Takes metformin 850 mg.", "assessment": ""}}
    assert "<td>Takes metformin 850 mg.</td>" in html.index([(note, None, None)])
    assert len(page.sources) == 1
    assert not page.tags & {"script", "link"}


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
