"""Documents in the forms clinics have them: what they say reaches the text, or one line says what to do instead."""

import builtins
import io
import sys
from pathlib import Path

import pytest
from reportlab.pdfgen import canvas
from resources import docx, read

from medgemma_app.errors import InputError
from medgemma_app.inputs.notes import holds_notes

SAID = "Cough for two weeks."


def pdf(*pages):
    file = io.BytesIO()
    drawn = canvas.Canvas(file)
    for page in pages:
        drawn.drawString(72, 700, page) if page else drawn.rect(10, 10, 50, 50)
        drawn.showPage()
    drawn.save()
    return file.getvalue()


def run(text, tag="t"):
    return f"<w:r><w:{tag}>{text}</w:{tag}></w:r>"


CHANGED = f"<w:p>{run('Cough for ')}<w:ins>{run('two')}</w:ins><w:del>{run('nine', 'delText')}</w:del>{run(' weeks.')}</w:p>"
INSERTED = f"<w:p>{run('Cough for ')}<w:ins>{run('two')}</w:ins><w:del></w:del>{run(' weeks.')}</w:p>"
ROW = f"<w:tbl><w:tr><w:tc><w:p>{run('Pulse')}</w:p></w:tc><w:tc><w:p>{run('96')}</w:p></w:tc></w:tr></w:tbl>"
RTF = rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0\fs20 Cough for two weeks.\par Temp 38.2\'b0C.\par }"


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        pytest.param(SAID, "text", SAID, id="text"),
        pytest.param("# Visit\n\n- *Cough* for two weeks.\n", "text", "# Visit\n\n- *Cough* for two weeks.", id="Markdown"),
        pytest.param("[doctor] What hurts?\n[patient] My chest.", "text", "[doctor] What hurts?\n[patient] My chest.", id="brackets"),
        pytest.param('"I cough", she says.', "text", '"I cough", she says.', id="a quotation"),
        pytest.param("<html><style>p {}</style><p>Cough for two weeks.</p><table><tr><td>Pulse</td><td>96</td></tr></table></html>", "HTML",
                     "Cough for two weeks.\nPulse | 96", id="HTML"),
        pytest.param(RTF, "RTF", "Cough for two weeks.\nTemp 38.2°C.", id="RTF"),
        pytest.param(docx(INSERTED + ROW), "DOCX", "Cough for two weeks.\nPulse | 96", id="DOCX with a table"),
        pytest.param(pdf(SAID), "PDF", SAID, id="PDF"),
    ],
)  # fmt: skip
def test_documents_are_read_by_their_content(content, kind, text):
    notes = read(content)
    assert (notes.facts["format"], notes.text.strip(), notes.warnings) == (kind, text, ())


@pytest.mark.parametrize(
    "text",
    [
        "Husten seit 5 Tagen. Ramipril 2,5 mg täglich. Leukozyten 12.300/µl, Temperatur 38,4 °C.",
        "Tos desde hace 3 días. Creatinina 0,9 mg/dl; peso 71,5 kg.",
        "Toux depuis 3 jours, fièvre à 38,5 °C. Paracétamol 0,5 g.",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_other_languages_and_encodings_arrive_unchanged(text, encoding):
    notes = read(text.encode(encoding))
    assert notes.text == text
    assert bool(notes.warnings) == (encoding == "cp1252")


def word(text, mark=""):
    return f"<w:p><w:r><w:rPr>{mark}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


@pytest.mark.parametrize(
    "content",
    [
        docx(word("Sepsis", "<w:strike/>") + word(SAID, '<w:strike w:val="0"/>')),
        docx(word("Sepsis", "<w:dstrike/>") + word(SAID)),
        docx(word("Sepsis", '<w:vanish w:val="true"/>') + word(SAID)),
        rb"{\rtf1\ansi {\v Sepsis} Cough for two weeks.}",
        rb"{\rtf1\ansi \strike Sepsis \'e9\u233 ?\strike0  Cough for two weeks.}",
        rb"{\rtf1\ansi \deleted\v Sepsis\plain  Cough for two weeks.}",
        f"<p><s>Sepsis</s><del>Sepsis</del></p><p>{SAID}</p>",
        f"<div><p hidden>Sepsis</p><div style='color: red; display:none'><div>Sepsis</div>Sepsis</div>{SAID}</div>",
        f'<p><span class="x" style="text-decoration: line-through">Sepsis</span><b style="visibility:hidden">Sepsis</b></p><p>{SAID}</p>',
        f"~~Sepsis and more~~ {SAID}",
        f"<s>Sepsis</s>{SAID}",
    ],
    ids=[
        "struck", "struck twice", "hidden", "RTF hidden", "RTF struck", "RTF deleted", "HTML", "hidden HTML", "styles of HTML", "Markdown",
        "a tag in a text",
    ],
)  # fmt: skip
def test_text_that_is_struck_through_or_hidden_is_left_out_and_this_is_said(content):
    notes = read(content)
    assert notes.text.strip() == SAID
    assert any("struck through" in told for told in (*notes.warnings, *notes.facts["left_out"]))


def test_a_tag_that_is_never_closed_strikes_nothing_out():
    assert read(f"<p>a <s>{SAID}</p>").text == f"a {SAID}"


@pytest.mark.parametrize(
    "content",
    [
        f'<p title="a hidden gem" aria-hidden="true" style="color: red">{SAID}</p>',
        f"<p data-hidden='x'>{SAID}</p>",
        f"<p>{SAID}<br hidden></p>",
    ],
)
def test_what_a_page_shows_is_told(content):
    notes = read(content)
    assert (notes.text, notes.facts["left_out"]) == (SAID, [])


def test_tildes_that_strike_nothing_through_stay():
    text = "~~~~~\nCough for ~~ 5 days, ~~not~ over"
    assert read(text).text == text


def test_struck_through_text_in_json_is_left_out_in_the_string_that_holds_it():
    notes = read('{"note": "<s>Sepsis</s>Cough", "plan": ["~~heparin~~ rest", 1], "text": "<s>a", "more": "b</s>"}')
    assert notes.text == "Plan: rest; 1\nMore: b</s>\nText: <s>a\nNote: Cough"
    assert notes.facts["left_out"] == ["text that is struck through or hidden"]


def test_what_of_a_document_is_not_read_is_said():
    changed = read(docx(CHANGED, media_image1="x", header1="x"))
    assert changed.text.strip() == SAID
    assert changed.warnings == ("visit: not read: tracked deletions, pictures, headers and footers",)
    assert "no text on page 2 of 2" in read(pdf(SAID, "")).warnings[0]


def test_cells_of_a_table_stay_apart_also_where_a_form_field_holds_them():
    cells = [f"<w:tc><w:p>{run(one)}</w:p><w:p>{run('more')}</w:p></w:tc>" for one in ("Pulse", "96")]
    row = f"<w:tr><w:trPr></w:trPr><w:sdt>{cells[0]}</w:sdt><w:tc></w:tc>{cells[1]}</w:tr>"
    assert read(docx(f"<w:tbl>{row}</w:tbl>")).text == "Pulse more |  | 96 more"


ENTITY = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ClinicalDocument>&x;</ClinicalDocument>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(pdf(""), "a PDF without text, most likely a scanned page; run OCR on it", id="a scan"),
        pytest.param(b"%PDF-1.4 nothing more", "a PDF that cannot be read", id="a damaged PDF"),
        pytest.param(docx("<w:p></w:p>"), "a document without text", id="an empty DOCX"),
        pytest.param(docx("<w:p>" + " " * 11_000_000 + "</w:p>"), "unpacks to more than 10 MB", id="a zip bomb"),
        pytest.param(b"PK\x03\x04" + b"\0" * 60, "a damaged or locked document", id="a damaged zip"),
        pytest.param(b"\xd0\xcf\x11\xe0" + b"\0" * 60, "an old Office version.*save it as", id="DOC"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "a picture.*medgemma findings", id="a picture"),
        pytest.param(b"RIFF\0\0\0\0WAVEfmt ", "a recording.*transcribe it first", id="a recording"),
        pytest.param(b"\x1f\x8b\x08", "a compressed file.*unpack it", id="gzip"),
        pytest.param(b"\0" * 128 + b"DICM", "DICOM.*medgemma findings", id="DICOM"),
        pytest.param(ENTITY, "a document type, which is not read for safety", id="an external entity"),
        pytest.param("<?xml version='1.0'?>" + "<a>" * 300 + "</a>" * 300, "nested too deeply", id="deep XML"),
        pytest.param("<?xml version='1.0'?><a><b></a>", "XML with an error at line 1", id="broken XML"),
        pytest.param("<?xml version='1.0'?><note>Cough for two weeks</note>", "not a clinical document", id="other XML"),
        pytest.param('<Bundle xmlns="http://hl7.org/fhir"></Bundle>', "FHIR as XML; ask the server for JSON", id="FHIR as XML"),
        pytest.param(
            "<html><title>Sign in</title><p>Sign in to see the notes of your patient</p></html>", "a login or error page", id="a login page"
        ),
        pytest.param(
            "HTTP/1.1 401 Unauthorized\r\n\r\nplease sign in to see the notes", "an error message from a server", id="an HTTP error"
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_the_way_on(content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(content)
    assert str(caught.value).startswith("visit ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "package"), [(pdf(SAID), "pypdf"), (RTF, "striprtf")], ids=["PDF", "RTF"])
def test_a_missing_library_is_named_by_its_extra(monkeypatch, content, package):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest)

    for loaded in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'needs the extra "documents"'):
        read(content)


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (SAID.encode(), True),
        (b'{"note": "x"}', True),
        (pdf(SAID), True),
        (docx(CHANGED), True),
        (RTF, True),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"", False),
        (b"[server]\nhost = example.org\n# retry\nretries = 5 times or more\n", False),
        (b"[vitals]\nbp = 120/80\n", True),
    ],
    ids=["text", "JSON", "PDF", "DOCX", "RTF", "PNG", "empty", "settings", "vital signs"],
)
def test_a_folder_can_tell_notes_from_other_files(tmp_path: Path, content, held):
    (tmp_path / "file").write_bytes(content)
    assert holds_notes(tmp_path / "file") == held
