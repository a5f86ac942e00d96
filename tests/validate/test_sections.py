"""How text is cut into sections."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medgemma_app.validate import parse_findings, parse_soap
from medgemma_app.validate.sections import from_mapping, parse

HEADINGS = [
    "FINDINGS:",
    "Findings:",
    "findings:",
    "**FINDINGS:**",
    "**Findings**:",
    "**Findings**",
    "## Findings",
    "### **Findings:**",
    "Findings",
    "FINDINGS",
    "1. FINDINGS:",
    "*   **Findings:**",
    "FINDINGS -",
    "FINDINGS —",
    "> FINDINGS:",
    "__FINDINGS__",
    "FINDINGS (CHEST):",
    "FINDINGS/",
    "### Specific Findings",
    "**1. Key Findings:**",
    "*Radiographic findings:*",
    "[FINDINGS]",
    "\ufeffFINDINGS:",
]


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_known_however_a_model_writes_it(heading):
    assert parse_findings(f"{heading}\nHeart normal.\n\nIMPRESSION:\nClear.") == {"findings": "Heart normal.", "impression": "Clear."}


@pytest.mark.parametrize(
    "heading",
    [
        heading
        for heading in HEADINGS
        if heading not in ("Findings", "FINDINGS", "## Findings", "### Specific Findings", "[FINDINGS]", "FINDINGS/")
    ],
)
def test_the_text_may_follow_its_heading_on_the_same_line(heading):
    assert parse_findings(f"{heading} The heart is normal.") == {"findings": "The heart is normal."}


@pytest.mark.parametrize(
    "line",
    [
        "Findings are consistent with pneumonia.",
        "Findings suggest the following: edema.",
        "The findings:",
        "Impression of a mass - not seen before.",
        "findings",
        "Findings are discussed below in more detail than usual for a film of this kind: none",
        "FINDINGS ARE CONSISTENT WITH PNEUMONIA",
    ],
)
def test_a_sentence_that_begins_like_a_heading_is_not_one(line):
    assert parse_findings(line) == {}


@pytest.mark.parametrize(
    "line", ["Plan to follow up in a week.", "P: 72", "P: 72 bpm, regular", "S/P cholecystectomy", "A and O x3", "plan"]
)
def test_a_line_of_a_note_that_begins_like_a_heading_is_not_one(line):
    assert parse_soap(line) == {}


@pytest.mark.parametrize(
    "text",
    [
        "S: Cough.\nO: Wheeze.\nA: Asthma.\nP: Inhaler.",
        "S\nCough.\nO\nWheeze.\nA\nAsthma.\nP\nInhaler.",
        "S - Cough.\nO - Wheeze.\nA - Asthma.\nP - Inhaler.",
        "SUBJECTIVE (S): Cough.\nOBJECTIVE (O): Wheeze.\nASSESSMENT (A): Asthma.\nPLAN (P): Inhaler.",
        "**S**ubjective\nCough.\n**O**bjective\nWheeze.\n**A**ssessment\nAsthma.\n**P**lan\nInhaler.",
        "## S - Subjective\nCough.\n## O - Objective\nWheeze.\n## A - Assessment\nAsthma.\n## P - Plan\nInhaler.",
        "**S:** Cough.\n**O:** Wheeze.\n**A:** Asthma.\n**P:** Inhaler.",
        "SUBJECTIVE: Cough. OBJECTIVE: Wheeze. ASSESSMENT: Asthma. PLAN: Inhaler.",
    ],
)
def test_the_four_parts_of_a_note_are_found(text):
    assert parse_soap(text) == {"subjective": "Cough.", "objective": "Wheeze.", "assessment": "Asthma.", "plan": "Inhaler."}


@pytest.mark.parametrize(
    "heading",
    ["ASSESSMENT AND PLAN", "Assessment & Plan:", "A/P:", "A&P:", "ASSESSMENT/PLAN:", "**Assessment and Plan**", "Impression and Plan:"],
)
def test_a_combined_assessment_and_plan_fills_both(heading):
    assert parse_soap(f"{heading}\nAsthma. Inhaler.") == {"assessment": "Asthma. Inhaler.", "plan": "Asthma. Inhaler."}


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("CHIEF COMPLAINT", "subjective"),
        ("HISTORY OF PRESENT ILLNESS", "subjective"),
        ("REVIEW OF SYSTEMS", "subjective"),
        ("HPI:", "subjective"),
        ("PHYSICAL EXAM", "objective"),
        ("VITALS REVIEWED", "objective"),
        ("RESULTS", "objective"),
        ("IMPRESSION", "assessment"),
        ("INSTRUCTIONS", "plan"),
    ],
)
def test_a_clinicians_heading_stands_in_for_the_section_and_stays_in_its_text(heading, key):
    assert parse_soap(f"{heading}\nNone.") == {key: f"{heading.rstrip(':')}\nNone."}


def test_a_stand_in_opens_nothing_where_the_section_itself_is_named():
    note = "SUBJECTIVE:\nCough.\nPLAN:\nMedications:\nInhaler.\nP: 72\nInstructions: rest."
    assert parse_soap(note) == {"subjective": "Cough.", "plan": "Medications:\nInhaler.\nP: 72\nInstructions: rest."}


def test_a_letters_text_may_begin_with_a_number():
    note = "S: 52-year-old woman with cough.\nO: 98.6 F, 128/82.\nP: 72\nA: 1. Bronchitis.\nP: 10 days of rest."
    assert list(parse_soap(note)) == ["subjective", "objective", "assessment", "plan"]
    assert parse_soap(note)["objective"] == "98.6 F, 128/82.\nP: 72"


def test_a_repeated_section_is_joined_so_that_nothing_is_lost():
    assert parse_findings("FINDINGS: One.\nIMPRESSION: Two.\nFINDINGS: Three.") == {"findings": "One.\n\nThree.", "impression": "Two."}


def test_what_stands_before_the_first_heading_is_the_preamble():
    parsed = parse("Here is the report.\n\nFINDINGS: Clear.", "findings")
    assert (parsed.preamble, parsed.texts()) == ("Here is the report.", {"findings": "Clear."})


def test_a_conclusion_is_an_impression_and_a_comparison_is_neither_section():
    report = "Comparison: None.\nFINDINGS:\nClear.\nCONCLUSION: Normal chest.\nDisclaimer: a draft."
    assert parse_findings(report) == {"findings": "Clear.", "impression": "CONCLUSION\nNormal chest."}


def test_what_comes_before_a_report_is_kept_apart_and_part_of_the_text_inside_it():
    report = "**Comparison:** None.\n**Findings:**\n* **Comparison:** None.\n* **Heart:** Normal.\n**Impression:** Clear."
    assert parse_findings(report) == {"findings": "* **Comparison:** None.\n* **Heart:** Normal.", "impression": "Clear."}


@pytest.mark.parametrize("heading", ["FINDINGS AND IMPRESSION:", "Findings/Impression:"])
def test_findings_and_impression_in_one_fill_both(heading):
    assert parse_findings(f"{heading} Clear.") == {"findings": "Clear.", "impression": "Clear."}


def test_bold_text_after_a_heading_keeps_its_marks():
    assert parse_findings("IMPRESSION: **No acute disease.**") == {"impression": "**No acute disease.**"}


SOAP = {"subjective": "Cough.", "objective": "Wheeze.", "assessment": "Asthma.", "plan": "Inhaler."}


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here is the SOAP note: SUBJECTIVE: Cough. OBJECTIVE: Wheeze. ASSESSMENT: Asthma. PLAN: Inhaler.",
        "Here is the note. **Subjective:** Cough.\n**Objective:** Wheeze.\n**Assessment:** Asthma.\n**Plan:** Inhaler.",
        "```\nS: Cough.\nO: Wheeze.\nA: Asthma.\nP: Inhaler.\n```",
        "### 1. Subjective (S)\nCough.\n\n### 2. Objective (O)\nWheeze.\n\n### 3. Assessment (A)\nAsthma.\n\n### 4. Plan (P)\nInhaler.",
        "S: Cough.\n\n---\n\nO: Wheeze.\n\n---\n\nA: Asthma.\n\n---\n\nP: Inhaler.\n\n---",
        "S: Cough.\nO: Wheeze.\nA: Asthma.\nP: Inhaler.\n\n**Explanation of the SOAP Note:**\n* **Subjective matters:** what she says.",
        "S: Cough. O: Wheeze. A: Asthma. P: Inhaler.",
        "## Subjective Cough.  ## Objective Wheeze.  ## Assessment Asthma.  ## Plan Inhaler.",
        "1. Subjective: Cough.  2. Objective: Wheeze.  3. Assessment: Asthma.  4. Plan: Inhaler.",
    ],
)
def test_a_note_is_found_within_what_models_put_around_it(text):
    assert parse_soap(text) == SOAP


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Overall Impression:\nClear.\n\nSpecific Findings:\nHeart normal.", {"impression": "Clear.", "findings": "Heart normal."}),
        ("**Chest X-Ray Interpretation**\n\n**Key findings**\n- Heart normal", {"findings": "- Heart normal"}),
        (
            "FINDINGS: Heart normal.\nIMPRESSION: Clear.\n\nImportant Considerations:\nA draft.",
            {"findings": "Heart normal.", "impression": "Clear."},
        ),
        (
            "FINDINGS: Heart normal. Note: rotated.\nIMPRESSION: Clear.",
            {"findings": "Heart normal. Note: rotated.", "impression": "Clear."},
        ),
    ],
)
def test_a_report_is_found_within_what_models_put_around_it(text, expected):
    assert parse_findings(text) == expected


HPI_NOTE = (
    "HPI\nCough.\n\nPhysical Examination\nWheeze.\n\nAssessment\nAsthma.\n\nPlan\n1. Imaging: none.\nMedications: inhaler.\n2. Labs: none."
)


def test_an_item_of_the_plan_is_not_a_heading():
    found = parse_soap(HPI_NOTE)
    assert found["plan"] == "1. Imaging: none.\nMedications: inhaler.\n2. Labs: none."
    assert (found["subjective"], found["objective"]) == ("HPI\nCough.", "Physical Examination\nWheeze.")


def test_pairs_of_assessment_and_plan_for_each_problem_are_both_sections():
    note = "ASSESSMENT AND PLAN\n1. Asthma\nAssessment: mild.\nPlan: inhaler.\n2. Reflux\nAssessment: stable.\nPlan: omeprazole."
    found = parse_soap(note)
    assert {"mild.", "stable."} <= set(found["assessment"].replace("2. Reflux", "").split()) | {"stable."}
    assert "inhaler." in found["plan"] and "omeprazole." in found["plan"]


def test_a_sub_heading_is_part_of_its_section():
    assert parse_soap("OBJECTIVE:\nVITAL SIGNS:\nNot provided.\nPLAN: Rest.")["objective"] == "VITAL SIGNS:\nNot provided."


def test_a_heading_may_stand_after_other_words_where_it_is_in_capitals():
    found = parse_soap("Clinical note: HISTORY OF PRESENT ILLNESS: Cough.\nPLAN: Rest.")
    assert found == {"subjective": "HISTORY OF PRESENT ILLNESS\nCough.", "plan": "Rest."}


def test_sections_know_where_they_stand():
    text = "Here it is:\n\nFINDINGS:\n  Heart normal.\n\nIMPRESSION: Clear.\n"
    sections = parse(text, "findings")
    assert [text[start:end] for key in ("findings", "impression") for start, end in sections.spans(key)] == ["Heart normal.", "Clear."]


def test_sections_that_come_apart_stand_in_the_text_they_make():
    text, sections = from_mapping({"Subjective": " Cough. ", "A/P": "Asthma. Inhaler.", "x": "y"}, "soap")
    assert [text[slice(*sections.spans(key)[0])] for key in ("subjective", "plan", "other")] == ["Cough.", "Asthma. Inhaler.", "y"]


@settings(max_examples=60, deadline=None)
@example(["FINDINGS:", "Plan: Rest.", "Findings:"])
@given(st.lists(st.sampled_from([*HEADINGS, "IMPRESSION:", "Plan:", "A/P", "x", " y z ", "**", ""]) | st.text(max_size=20)))
def test_no_word_of_any_text_is_lost(lines):
    text = "\n".join(lines)
    for kind in ("findings", "soap", ("findings", "pleura and plan")):
        parsed = parse(text, kind)
        told = _letters(parsed.preamble)
        for section in parsed.sections:
            if _letters(text[: section.start]) != told:  # otherwise the heading stays in the body, as a substitute does
                told += _letters(section.heading)
            told += _letters(section.body)
        assert _letters(text) == told


def _letters(text: str) -> str:
    return "".join(char for char in text if char.isalpha())
