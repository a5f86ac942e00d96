"""Complete texts are not taken for cut ones, whatever their form, and cut ones are seen."""

import random

import complete
import pytest

from medgemma_app.validate import validate_findings, validate_soap

TEXTS = [
    ("notes", validate_soap, list(complete.notes(seed=1, count=144))),
    ("reports", validate_findings, list(complete.reports(seed=2, count=144))),
]
NO_END = ("truncated", "missing-section", "empty-section")


@pytest.mark.parametrize(("name", "validate", "texts"), TEXTS, ids=["notes", "reports"])
def test_no_complete_text_is_an_error(name, validate, texts):
    assert [(text[-80:], validate(text).errors) for text in texts if validate(text).errors] == []


@pytest.mark.parametrize(("name", "validate", "texts"), TEXTS, ids=["notes", "reports"])
def test_most_texts_that_are_cut_in_a_word_are_errors(name, validate, texts):
    rng = random.Random(7)
    caught = [not {issue.code for issue in validate(complete.cut_in_a_word(text, rng)).errors}.isdisjoint(NO_END) for text in texts]
    assert sum(caught) >= 0.93 * len(caught)


NOTE = "S: Well. Tolerating meds.\nO: BP 120/80. Lungs clear.\nA: HTN, controlled.\nP: "
REPORT = "FINDINGS: Clear lungs. Normal heart. No effusion. Bones are intact.\nIMPRESSION: "


@pytest.mark.parametrize(
    "end",
    ["RTC 2 wks", "Return if worse", "Cont current tx", "PT x 6 wks", "Lisinopril 20 qd", "GP to chase", "BP log", "Time spent 25 minutes"],
)
def test_a_telegram_of_a_note_has_no_full_stop_at_its_end(end):
    assert validate_soap(NOTE + end).errors == ()


@pytest.mark.parametrize("end", ["1. Rest.\n2. EMG/NCS", "- Ice.\n- NSAIDs", "1. Ear drops.\n2. Fish oil"])
def test_the_last_item_of_a_list_may_lack_its_full_stop(end):
    assert validate_soap(NOTE + end).errors == ()


@pytest.mark.parametrize(
    "end",
    [
        "1. Rest.\n2. Cardiology consult for new",
        "Call if symptoms do not",
        "Follow up with Dr.",
        "Increase gabapentin to 300 mg three",
        "\n| Problem | Drug |\n|---|---|\n| HTN |",
        "- Patien",
        "- Return in 3 mon",
        "- A transition point in the left",
    ],
)
def test_what_awaits_another_word_is_cut_in_any_style(end):
    assert {issue.code for issue in validate_soap(NOTE + end).errors} == {"truncated"}


@pytest.mark.parametrize(
    "end",
    [
        "No acute dz",
        "BI-RADS 2",
        "Kellgren-Lawrence grade 3",
        "Right mastoiditis. ENT consult",
        "Normal. Dictated by Dr Lee",
        "RLL pna",
        "Rib fx",
        "T8 wedge #",
        "Fatty liver",
        "Renal calculus, 5 mm",
        "Cavitating lesion, ?TB",
    ],
)
def test_a_telegram_of_a_report_has_no_full_stop_at_its_end(end):
    assert validate_findings(REPORT + end).errors == ()


@pytest.mark.parametrize("end", ["Return to", "Acute bronchit", "Contin", "The wound should heal by"])
def test_a_telegram_that_breaks_off_is_cut_all_the_same(end):
    assert {issue.code for issue in validate_soap(NOTE + end).errors} == {"truncated"}
