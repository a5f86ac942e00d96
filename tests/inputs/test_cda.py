"""C-CDA documents: sections by their narrative and by what their entries say of it."""

import base64
import re

import pytest
from resources import read

from medgemma_app.errors import InputError

RTF = rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0\fs20 Cough for two weeks.\par Temp 38.2\'b0C.\par }"


MEDICATIONS = """<section><title>Medications</title><text><list>
<item ID="m1">Warfarin 5 mg daily</item><item ID="m2">Ibuprofen 400 mg</item><item ID="m3">Aspirin 81 mg</item><item ID="m4">Ramipril</item>
</list></text>
<entry><act><text><reference value="#m1"/></text><statusCode code="aborted"/></act></entry>
<entry><substanceAdministration negationInd="true"><text><reference value="#m2"/></text></substanceAdministration></entry>
<entry><act><text><reference value="#m3"/></text><statusCode code="nullified"/></act></entry></section>"""


ALLERGIES = """<section><title>Allergies</title><text><content ID="a1">No known allergies</content></text>
<entry><observation negationInd="true"><text><reference value="#a1"/></text></observation></entry></section>"""


TABLE = """<section><title>Results</title><text><table><tr><th>Test</th><th>Value</th></tr>
<tr><td>SpO<sub>2</sub></td><td>&lt;90 %</td></tr></table>
<content revised="delete">Old text</content>
<paragraph>INR 2 <content styleCode="xStrikeThrough">INR 9</content></paragraph></text></section>"""


def cda(*sections, patients=("77",)):
    who = "".join(
        f'<recordTarget><patientRole><id root="1.2" extension="{number}"/><patient><administrativeGenderCode code="F"/>'
        '<birthTime value="19700203"/></patient></patientRole></recordTarget>'
        for number in patients
    )
    body = "".join(f"<component>{section}</component>" for section in sections)
    start = '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>Summary</title>'
    return f'{start}<effectiveTime value="20240506"/>{who}<component><structuredBody>{body}</structuredBody></component></ClinicalDocument>'


def test_a_clinical_document_is_told_by_its_narrative_and_by_what_its_entries_say_of_it():
    notes = read(cda(MEDICATIONS, ALLERGIES, TABLE))
    assert notes.text.splitlines() == [
        "Patient: female; birth date: 1970-02-03",
        "Document: Summary; date: 2024-05-06",
        "Medications: Ramipril",
        "STOPPED: Medications: Warfarin 5 mg daily",
        "NOT TAKEN: Medications: Ibuprofen 400 mg",
        "Allergies: No known allergies",
        "Results: Test | Value",
        "SpO2 | <90 %",
        "INR 2",
    ]
    assert notes.facts["left_out"] == ["section Medications: entry withdrawn", "text that is struck through, 2 times"]
    without_declaration = cda(MEDICATIONS, ALLERGIES, TABLE).partition("?>")[2]
    assert read(f"<!-- Exported on Monday -->\n{without_declaration}").text == notes.text


def test_an_item_about_several_entries_stands_as_the_one_that_is_not_taken_back():
    told = '<content ID="m1">Warfarin 5 mg</content> <content ID="m3">for atrial fibrillation</content>'
    items = f'<list><item>{told}</item><item ID="m2">Ibuprofen</item></list>'
    notes = read(cda(re.sub(r"<list>.*</list>", items, MEDICATIONS, flags=re.DOTALL)))
    lines = ["STOPPED: Medications: Warfarin 5 mg for atrial fibrillation", "NOT TAKEN: Medications: Ibuprofen"]
    assert notes.text.splitlines()[2:] == lines


STATUSES = [
    ('negationInd="true"', "", ["REFUTED: Problems: Sepsis"]),
    ("", "aborted", ["STOPPED: Problems: Sepsis"]),
    ("", "suspended", ["ON HOLD: Problems: Sepsis"]),
    ("", "nullified", []),
    ("", "cancelled", []),
    ("", "obsolete", []),
    ("", "active", ["Problems: Sepsis"]),
]


@pytest.mark.parametrize(("observation", "act", "lines"), STATUSES)
def test_the_status_of_an_entry_holds_for_the_narrative_that_it_refers_to(observation, act, lines):
    entry = (
        f'<entry><act><statusCode code="{act}"/><entryRelationship typeCode="SUBJ"><observation {observation}>'
        '<text><reference value="#p"/></text></observation></entryRelationship></act></entry>'
    )
    narrative = '<text><list><item ID="p">Sepsis</item></list></text>'
    notes = read(cda(MEDICATIONS, f"<section><title>Problems</title>{narrative}{entry}</section>"))
    assert [line for line in notes.text.splitlines() if "Sepsis" in line] == lines
    assert ("section Problems: entry withdrawn" in notes.facts["left_out"]) == (not lines)


TAKEN = '<entry><observation {}><statusCode code="{}"/><code displayName="Sepsis"/>{}</observation></entry>'
REFERENCE = '<text><reference value="#s"/></text>'


DENIED, NULLIFIED, STOPPED = ('negationInd="true"', "", ""), ("", "nullified", ""), ("", "aborted", "")
NOT_NAMED = "section Problems with an entry that is denied, stopped, withdrawn or about somebody else, and not named in its text"
SEVERAL = "section Problems: line that names entries that stand and entries that do not"
WITHDRAWN = "section Problems: entry withdrawn"


@pytest.mark.parametrize(
    ("narrative", "entry", "lines", "left_out"),
    [
        ("<paragraph>Gout</paragraph><paragraph>severe SEPSIS, 2020</paragraph>", DENIED,
         ["Problems: Gout", "REFUTED: Problems: severe SEPSIS, 2020"], None),
        ("<list><item>Gout</item><item>Sepsis</item></list>", STOPPED, ["Problems: Gout", "STOPPED: Problems: Sepsis"], None),
        ("<table><tr><td>Sepsis</td><td>2020</td></tr><tr><td>Gout</td></tr></table>", NULLIFIED, ["Problems: Gout"], WITHDRAWN),
        ("Gout<br/>Sepsis, no fever", STOPPED, ["Problems: Gout", "STOPPED: Problems: Sepsis, no fever"], None),
        ("No fever<br/>Sepsis", DENIED, ["Problems: No fever", "REFUTED: Problems: Sepsis"], None),
        ("Gout; sepsis", NULLIFIED, [], WITHDRAWN),
        ("Asthma; sepsis<br/>Gout", DENIED, ["Problems: Gout"], SEVERAL),
        ("Asthma; sepsis<br/>Gout", ("", "completed", ""), ["Problems: Asthma; sepsis", "Gout"], None),
        ("Gout; urosepsis", NULLIFIED, [], NOT_NAMED),
        ("No fever; gout", NULLIFIED, [], NOT_NAMED),
        ("Gout", DENIED, [], NOT_NAMED),
        ("Gout", ('negationInd="true"', "", REFERENCE), [], NOT_NAMED),
        ("No known problems", DENIED, ["Problems: No known problems"], None),
        ('<content ID="s">Sepsis</content><br/>Sepsis in 2020', ('negationInd="true"', "", REFERENCE),
         ["Problems: Sepsis in 2020", "REFUTED: Problems: Sepsis"], None),
    ],
    ids=["paragraph", "item", "row", "stopped, beside a denial", "line that does not deny", "with its line", "line of two entries",
         "not denied", "other word", "withdrawn, beside a denial", "not in the text",
         "by an ID it has not", "denied by the text too", "by its ID"],
)  # fmt: skip
def test_an_entry_that_refers_to_no_piece_of_the_narrative_marks_the_lines_that_name_it(narrative, entry, lines, left_out):
    other = '<entry><observation><code displayName="Problem"/><value displayName="Asthma"/></observation></entry>'
    taken = TAKEN.format(*entry).replace('<code displayName="Sepsis"/>', '<code displayName="Problem"/><value displayName="Sepsis"/>')
    notes = read(cda(TABLE, f"<section><title>Problems</title><text>{narrative}</text>{taken}{other}</section>"))
    assert notes.text.splitlines()[5:] == lines
    assert [what for what in notes.facts["left_out"] if "Problems" in what] == ([left_out] if left_out else [])


@pytest.mark.parametrize("line", ["Sodium 150", "Na 150"])
def test_a_section_is_left_out_unless_it_names_every_part_of_an_entry_that_is_withdrawn(line):
    tests = "".join(f'<component><observation><code displayName="{name}"/></observation></component>' for name in ("Potassium", "Sodium"))
    panel = f'<entry><organizer><statusCode code="nullified"/><code displayName="Electrolytes"/>{tests}</organizer></entry>'
    notes = read(cda(f"<section><title>Results</title><text>Chloride 99<br/>Potassium 8<br/>{line}</text>{panel}</section>", MEDICATIONS))
    told = [said for said in notes.text.splitlines() if re.search("150|99| 8", said)]
    assert told == (["Results: Chloride 99"] if line == "Sodium 150" else [])


def test_a_name_with_several_marks_does_not_say_which_line_is_meant():
    entries = TAKEN.format("", "active", "") + TAKEN.format("", "nullified", "")
    notes = read(cda(TABLE, f"<section><title>Problems</title><text>Sepsis<br/>Sepsis in 2020</text>{entries}</section>"))
    assert "Sepsis" not in notes.text and NOT_NAMED in notes.facts["left_out"]


DRUG = (
    '<entry><substanceAdministration {}><consumable><manufacturedProduct><manufacturedMaterial><code displayName="{}"/>'
    "</manufacturedMaterial></manufacturedProduct></consumable>{}</substanceAdministration></entry>"
)
PENICILLIN = (
    '<entry><act><code nullFlavor="UNK"/><entryRelationship><observation><code displayName="Allergy"/>'
    '<participant><participantRole><playingEntity><code nullFlavor="OTH"><translation displayName="Penicillin"/></code>'
    '</playingEntity></participantRole></participant><entryRelationship><observation><value displayName="Hives"/></observation>'
    "</entryRelationship></observation></entryRelationship></act></entry>"
)


@pytest.mark.parametrize(
    ("entries", "lines", "left_out"),
    [
        (PENICILLIN, ["Entries: Allergy: Penicillin", "Hives"], []),
        (DRUG.format("", "Warfarin", '<statusCode code="active"/>') + DRUG.format('negationInd="true"', "Aspirin", ""),
         ["Entries: Warfarin", "NOT TAKEN: Entries: Aspirin"], []),
        (TAKEN.format('negationInd="true"', "", "") + TAKEN.format("", "nullified", ""), ["REFUTED: Entries: Sepsis"],
         ["section Entries: entry withdrawn"]),
        (TAKEN.format('negationInd="true"', "", "").replace("Sepsis", "No known problems"), ["Entries: No known problems"], []),
        (TAKEN.format("", "", '<value value="8.9" unit="mmol/L"/>') + TAKEN.format("", "", "<value>no growth</value>"),
         ["Entries: Sepsis: 8.9 mmol/L", "Sepsis: no growth"], []),
        (TAKEN.format('nullFlavor="NI"', "", ""), [], ["section Entries with entries but no text"]),
    ],
    ids=["substance", "drugs", "denied and withdrawn", "denial in words", "values", "unknown"],
)  # fmt: skip
def test_a_section_without_a_narrative_is_represented_by_what_its_entries_name(entries, lines, left_out):
    notes = read(cda("<section><title>HPI</title><text>Cough</text></section>", f"<section><title>Entries</title>{entries}</section>"))
    assert notes.text.splitlines()[3:] == lines and notes.facts["left_out"] == left_out
    if lines:
        assert read(cda(f"<section><title>Entries</title>{entries}</section>")).text.splitlines()[2:] == lines


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("Allergies, adverse reactions", "section Allergies, adverse reactions with"),
        ("Problems of 05/06", "section with"),
        ("", "section with"),
    ],
)
def test_the_title_of_a_section_is_repeated_only_if_it_is_made_of_words(title, named):
    entry = TAKEN.format('nullFlavor="NI"', "", "")
    section = f"<section><title>{title}</title>{entry}</section>"
    assert [f"{named} entries but no text"] == read(cda("<section><text>Cough</text></section>", section)).facts["left_out"]


def test_the_reason_for_what_was_not_done_is_not_denied_with_it():
    problems = '<section><title>Problems</title><text><list><item ID="p">Asthma</item></list></text></section>'
    reason = '<entryRelationship typeCode="RSON"><observation><text><reference value="#p"/></text></observation></entryRelationship>'
    drugs = f'<section><entry><substanceAdministration negationInd="true">{reason}</substanceAdministration></entry></section>'
    assert "\nProblems: Asthma" in read(cda(problems, drugs)).text


@pytest.mark.parametrize(
    ("code", "told", "left_out"),
    [
        ("29545-1", [], [f"section {title} about somebody other than the patient" for title in ("Exam", "Skin")]),
        ("10157-6", ["Exam: Jaundice", "Skin: Yellow"], []),
    ],
)
def test_a_section_about_somebody_else_is_left_out_unless_it_is_family_history(code, told, left_out):
    inner = "<component><section><title>Skin</title><text>Yellow</text></section></component>"
    subject = '<subject><relatedSubject><code code="NCHILD"/></relatedSubject></subject>'
    other = f'<section><code code="{code}"/><title>Exam</title><text>Jaundice</text>{subject}{inner}</section>'
    notes = read(cda("<section><title>Problems</title><text>Asthma and cough</text></section>", other))
    assert notes.text.splitlines()[2:] == ["Problems: Asthma and cough", *told]
    assert notes.facts["left_out"] == left_out


@pytest.mark.parametrize(
    ("code", "narrative", "reference", "lines"),
    [
        ("11450-4", '<list><item ID="a">Asthma</item><item ID="b">Jaundice</item></list>', '<text><reference value="#b"/></text>',
         ["Problems: Asthma"]),
        ("11450-4", "Asthma, jaundice", "", []),
        ("10157-6", "Asthma, jaundice", "", ["Problems: Asthma, jaundice"]),
    ],
    ids=["by its ID", "without an ID", "family history"],
)  # fmt: skip
def test_an_entry_about_somebody_else_is_left_out_unless_it_is_family_history(code, narrative, reference, lines):
    own = '<entry><observation><code displayName="Asthma"/></observation></entry>'
    subject = '<subject><relatedSubject><code code="NCHILD"/></relatedSubject></subject>'
    other = f'<entry><act>{subject}<observation>{reference}<code displayName="Jaundice"/></observation></act></entry>'
    section = f'<section><code code="{code}"/><title>Problems</title><text>{narrative}</text>{own}{other}</section>'
    notes = read(cda(MEDICATIONS, section))
    assert [line for line in notes.text.splitlines() if "Problems" in line or "aundice" in line] == lines
    assert any("section Problems: " in what for what in notes.facts["left_out"]) == (code != "10157-6")


def test_blocks_and_lines_within_a_cell_stay_apart():
    cells = "<td>Glucose<br/>182</td><td><paragraph>fasting</paragraph><paragraph>high</paragraph></td><td>SpO<sub>2</sub></td>"
    section = f"<section><title>Results</title><text><table><tr>{cells}</tr></table></text></section>"
    assert "Results: Glucose 182 | fasting high | SpO2" in read(cda(section)).text


def test_a_clinical_document_may_hold_another_file():
    body = f'<nonXMLBody><text mediaType="text/rtf" representation="B64">{base64.b64encode(RTF).decode()}</text></nonXMLBody>'
    assert read(f"<ClinicalDocument><component>{body}</component></ClinicalDocument>").text == "Cough for two weeks.\nTemp 38.2°C."


def test_a_clinical_document_of_two_patients_is_refused_and_cannot_be_split():
    for patient, second in ((None, "78"), ("77", "78"), (None, "77")):  # the id of another register may have the same number
        with pytest.raises(InputError, match=r"2 patients; give one file for each$"):
            read(cda(MEDICATIONS, patients=("77", second)), patient=patient)
    assert read(cda(MEDICATIONS), patient="77").text
    with pytest.raises(InputError, match="names no patient"):
        read(cda(MEDICATIONS), patient="99")


def test_the_mark_of_an_item_holds_for_the_list_in_it():
    items = '<list><item ID="s">Asthma<list><item>mild</item></list></item><item>Gout</item></list>'
    section = f"<section><title>Problems</title><text>{items}</text>{TAKEN.format('', 'aborted', REFERENCE)}</section>"
    assert read(cda(section)).text.splitlines()[2:] == ["Problems: Gout", "STOPPED: Problems: Asthma", "STOPPED: Problems: mild"]


def test_lists_in_lists_and_words_in_bold_are_told_in_their_order():
    inner = '<item>Pain<list><item>in the <content styleCode="Bold">left</content> knee</item><item>at night</item></list></item>'
    text = read(cda(f"<section><title>Complaint</title><text><list>{inner}</list></text></section>")).text
    assert text.splitlines()[2:] == ["Complaint: Pain", "in the left knee", "at night"]
