"""What is an error in a SOAP note, and what only looks like one."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import lines

from medgemma_app.validate import parse_soap, validate_soap

SECTIONS = {
    "subjective": "A 52-year-old woman reports three days of cough. She takes lisinopril 10 mg daily.",
    "objective": "Blood pressure 128/82, pulse 72. The lungs are clear.",
    "assessment": "Acute bronchitis.",
    "plan": "Rest and fluids. Return in one week if the cough persists.",
}
CLINICIANS_NOTE = """CHIEF COMPLAINT

Cough.

MEDICATIONS

Lisinopril.

REVIEW OF SYSTEMS

• Respiratory: Endorses cough.

PHYSICAL EXAM

Lungs
- Auscultation: Clear.

ASSESSMENT AND PLAN

1. Acute bronchitis.
- Medical Reasoning: She has a viral illness.
- Medical Treatment: Rest and fluids.

INSTRUCTIONS

Return in one week.
"""


def codes(note, **known):
    return {issue.code for issue in validate_soap(note, **known).issues}


def note(**changed):
    return "\n\n".join(f"{key.upper()}:\n{body}" for key, body in {**SECTIONS, **changed}.items() if body is not None)


@pytest.mark.parametrize(
    "text",
    [
        note(),
        note(plan="- Rest and fluids\n- Return in one week"),
        note(plan="Start lisinopril 20 mg daily\nCall the wound nurse"),
        note(plan="Follow up in 2 weeks"),
        note(plan="Rest. Fluids. Warm tea. Salt water. Sleep.\n\nElectronically signed by Jane Roe"),
        note(plan="Rest. Fluids. Warm tea. Salt water. Sleep.\n\nJane Roe, MD"),
        note(plan="Rest. Fluids. Warm tea. Salt water. Sleep.\nSignature: ________"),
        note(objective="Not documented."),
        note(subjective="Not documented.", objective="Not documented.", assessment="Not documented."),
        note(subjective="S/P cholecystectomy. The patient is unable to walk and cannot see out of the left eye. I am sorry, she says."),
        note(objective="BP: 128/82\nP: 72\nR: 16\nT: 98.6"),
        note(plan="Medications:\n- Inhaler\n\nFollow-up: 2 weeks"),
        note(plan="Please provide the patient with a work note. We cannot rule out pneumonia."),
        CLINICIANS_NOTE,
        "S: Cough.\nO: Clear lungs.\nA/P: Bronchitis. Rest.",
    ],
)
def test_a_note_as_clinicians_write_it_has_no_issue(text):
    assert validate_soap(text).issues == ()


@pytest.mark.parametrize("key", SECTIONS)
def test_a_section_left_out_is_missing_and_one_without_words_is_empty(key):
    assert "missing-section" in codes(note(**{key: None}))
    for body in ("", "-", "[to be completed]"):
        assert "empty-section" in codes(note(**{key: body}))


def test_the_prompts_own_lines_are_no_content():
    prompt = (Path(__file__).parents[2] / "prompts" / "soap.md").read_text()
    lines = dict(re.findall(r"^(SUBJECTIVE|OBJECTIVE|ASSESSMENT|PLAN): (.+)$", prompt, re.MULTILINE))
    assert len(lines) == 4
    for key, line in lines.items():
        assert "empty-section" in codes(note(**{key.lower(): line}))


def test_sections_are_judged_like_the_text_they_come_from():
    assert validate_soap(SECTIONS).issues == ()
    assert validate_soap(SECTIONS).sections == parse_soap(note())
    assert codes({**SECTIONS, "plan": ""}) == {"empty-section"}
    assert codes({key: body for key, body in SECTIONS.items() if key != "objective"}) == {"missing-section"}
    assert codes({**SECTIONS, "plan": "Rest and fluids. Return in one we"}) == {"truncated"}
    assert codes({}) == {"no-answer"}


def test_a_combined_section_in_a_mapping_fills_both():
    assert codes({"Subjective": "Cough.", "Objective": "Clear.", "Assessment and Plan": "Bronchitis. Rest."}) == set()


@pytest.mark.parametrize(
    "end", ["Rest and flu", "Rest and fluids. Return in", "Rest, fluids,", "- Rest.\n- Fluids.\n- Return in one we", "Rest (and"]
)
def test_a_plan_that_stops_in_mid_sentence_is_truncated(end):
    assert "truncated" in codes(note(plan=end))


def test_an_open_line_before_a_section_that_never_came_is_truncated():
    assert "truncated" in codes("SUBJECTIVE:\nCough.\n\nOBJECTIVE:\nLungs cle")


@pytest.mark.parametrize(("finish_reason", "code"), [("length", "truncated"), ("cancelled", "truncated"), ("repetition", "repetition")])
def test_how_the_generation_finished_counts(finish_reason, code):
    assert codes(note(), finish_reason=finish_reason) == {code}


def test_a_note_in_a_loop_is_an_error_and_a_sentence_given_twice_is_none():
    assert "repetition" in codes(note(plan="Return in one week. " * 5))
    assert codes(note(plan="Return in one week. Rest and fluids. Return in one week.")) == set()


@pytest.mark.parametrize(
    "refusal", ["I'm sorry, I cannot write a SOAP note.", "As an AI, I can't give medical advice.", "Please provide the notes."]
)
def test_a_refusal_opens_the_text_or_fills_a_section(refusal):
    assert "refusal" in codes(refusal)
    assert "refusal" in codes(note(assessment=refusal))


def test_a_note_that_says_in_no_section_what_the_visit_was_is_a_refusal():
    assert codes(note(**dict.fromkeys(SECTIONS, "Not documented."))) == {"refusal"}


def test_what_clinicians_cannot_do_or_ask_for_is_no_refusal():
    said = lines("clinical")
    assert sum("refusal" in codes(note(subjective=line, plan=line)) for line in said) <= 0.01 * len(said)


def test_a_thought_without_an_answer_asks_for_more_tokens():
    (issue,) = validate_soap("", has_thought=True).issues
    assert issue.code == "thought-only"
    assert "--max-tokens" in issue.message


def test_a_control_token_in_a_section_is_an_error():
    assert codes({**SECTIONS, "plan": "Rest.<end_of_turn>"}) == {"special-token"}


def test_the_plan_before_the_history_is_a_warning_only():
    backwards = "\n\n".join(f"{key.upper()}:\n{body}" for key, body in reversed(SECTIONS.items()))
    assert [(issue.code, issue.severity) for issue in validate_soap(backwards).issues] == [("section-order", "warning")]


PIECES = ["S:", "PLAN:", "ASSESSMENT AND PLAN", "\n", " ", "**", "P: 72", "- ", "Cough.", "the", "\u2028", "\xa0", "心", "<eos>"]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@settings(max_examples=100, deadline=None)
@given(TEXTS | st.dictionaries(st.sampled_from([*SECTIONS, "A/P", "x"]), TEXTS))
def test_any_text_or_sections_get_an_answer(text):
    validation = validate_soap(text)
    assert validation.ok == (not validation.errors)
    assert set(validation.sections) <= set(SECTIONS)


@pytest.mark.parametrize("trap", ["S:\n", "A/P: ", "- a\n"])
def test_a_megabyte_of_any_trap_gets_an_answer_in_seconds(trap):
    text = trap * (1_000_000 // len(trap))
    begun = time.process_time()
    assert not validate_soap(text).ok
    assert time.process_time() - begun < 10
