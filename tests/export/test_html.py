"""The page of a report, of a notebook, and of many studies."""

from __future__ import annotations

import base64
import io
import re

import pytest
from pages import Page
from PIL import Image
from records import SOURCE, TEXT, findings_record, issue, soap_record

from medgemma_app.export import html
from medgemma_app.export.record import draft_pieces, sections_of
from medgemma_app.inputs.images import png
from medgemma_app.notices import BLIND_SPOT, NOTICE


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
    ("text", "at"), [("IMPRESSION:\nNormal.\n\nFINDINGS:", 29), ("FINDINGS:\n\nIMPRESSION:\nNormal.", 10), ("Normal.", 0), ("", 0)]
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
    assert "does not mean that the content is right" in shown
    assert "valid" not in shown.lower()


def test_a_report_without_headings_is_shown_whole():
    record = findings_record(text="The lungs are clear.", sections={"findings": "", "impression": ""}, issues=[])
    assert list(sections_of(record)) == [("", "", "The lungs are clear.")]
    assert list(sections_of(findings_record())) == [
        ("findings", "FINDINGS:", "The heart is <large> & unchanged."), ("impression", "IMPRESSION:", "Enlarged heart on the left."),
    ]  # fmt: skip
    record = findings_record(text="Supine.\n\n**LUNGS**\n---\nClear.", sections={"lungs": "Clear."}, issues=[])
    assert list(sections_of(record)) == [("", "", "Supine."), ("lungs", "**LUNGS**\n---", "Clear.")]
    assert [piece.text for piece in draft_pieces(record, []) if piece.is_heading] == ["**LUNGS**\n---\n"]


def test_a_section_that_does_not_stand_in_the_text_as_it_is_hides_no_other():
    sections = {"findings": "Clear lungs.", "impression": "Enlarged heart on the left."}
    (_, _, before), found = sections_of(findings_record(sections=sections))
    assert before.endswith("unchanged.") and found == ("impression", "IMPRESSION:", "Enlarged heart on the left.")


def test_no_mark_hides_another():
    issues = [{"severity": "error", "start": 0, "end": 40}, {"severity": "warning", "start": 14, "end": 19}]
    pieces = list(draft_pieces(findings_record(), issues))
    assert "".join(piece.text for piece in pieces) == findings_record()["text"]
    assert [piece.severity for piece in pieces if piece.begin] == ["error", "warning"]


def test_the_current_picture_comes_first_and_the_prior_beside_it():
    images = [(caption, Image.new("RGB", (8, 8))) for caption in ("prior", "current", "view 2")]
    shown = html.page(findings_record(), images=images)
    assert [shown.index(f"<figcaption>{caption}") for caption in ("Current", "Prior", "View 2")] == sorted(
        shown.index(f"<figcaption>{caption}") for caption in ("Current", "Prior", "View 2")
    )


def test_a_grey_picture_is_stored_as_grey_and_a_coloured_one_keeps_its_colours():
    for colour, mode in (((9, 9, 9), "L"), ((9, 8, 9), "RGB")):
        assert Image.open(io.BytesIO(png(Image.new("RGB", (4, 4), colour)))).mode == mode


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
