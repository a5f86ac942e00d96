"""A radiology report held against itself and the study it is of; and what holds for every text."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from drafts import FINDINGS, report
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.inputs.header import ImageHeader
from medgemma_app.validate import validate_findings, validate_soap
from medgemma_app.validate.core import Code

README = Path(__file__).parents[2] / "medgemma_app" / "validate" / "README.md"


def warnings(text, **known):
    return {issue.code for issue in validate_findings(text, **known).warnings}


@pytest.mark.parametrize(
    "claim",
    [
        "Compared to the prior study, the effusion is smaller.",
        "The nodule is unchanged.",
        "Interval resolution of the opacity.",
        "The opacity has decreased.",
        "No significant change since the last film.",
        "Granuloma again seen.",
        "The previously noted mass is no longer visible.",
        "Worsening edema.",
        "Apical nodule of 15 mm, previously 28 mm.",
        "Opacity that was not there last week.",
    ],
)
def test_a_comparison_with_a_prior_that_nobody_gave_is_a_warning(claim):
    assert warnings(report(impression=claim)) == {"invented-prior"}
    assert "invented-prior" not in warnings(report(impression=claim), has_prior=True)


@pytest.mark.parametrize(
    "sentence",
    [
        "No prior study is available for comparison.",
        "Comparison with old films is recommended.",
        "Serial films are advised.",
        "A repeat film with better quality is suggested.",
        "Prior sternotomy.",
        "Chronic interstitial change.",
        "Compared to the left, the right lung is small.",
        "Increased density at the base.",
        "Stable cardiac silhouette.",
        "Normal for day 1.",
        "If earlier films can be obtained, a comparison would help.",
        "Comparison with prior imaging, if any exists, would help.",
        "This is a baseline film for future comparison.",
        "Such a cyst may remain stable for years.",
        "The left lung is small in comparison with the right side.",
        "On the expiration film the right lung is larger than on the left.",
    ],
)
def test_a_word_of_time_or_advice_alone_is_no_comparison(sentence):
    assert "invented-prior" not in warnings(report(impression=sentence))


def test_what_stands_before_the_findings_is_no_comparison():
    assert warnings(f"COMPARISON: Compared with the prior study of last year.\n{report()}") == set()


@pytest.mark.parametrize("size", ["1.2 cm", "8 mm", "3 x 4 cm", "12-mm", "2 centimeters"])
def test_a_size_needs_a_picture_with_a_scale(size):
    text = report(findings=f"A {size} nodule is seen.", impression="Nodule.")
    (issue,) = validate_findings(text, header=ImageHeader()).warnings
    assert (issue.code, text[issue.start : issue.end]) == ("unscaled-measurement", size)
    assert warnings(text, header=ImageHeader(pixel_spacing=(0.1, 0.1))) == warnings(text) == set()


def test_a_number_without_a_unit_of_length_is_no_size():
    assert warnings(report(findings="Cardiothoracic ratio 0.55. T12 is wedged. Two nodules at 10 o'clock."), header=ImageHeader()) == set()


HEADER = ImageHeader(modality="DX", body_part="CHEST", view="PA", sex="F", age="058Y", pixel_spacing=(0.1, 0.1))
LEFT_KNEE = ImageHeader(modality="DX", body_part="KNEE", laterality="L")


@pytest.mark.parametrize(
    ("header", "text", "code"),
    [
        (LEFT_KNEE, report("The right knee is normal.", "Normal right knee."), "wrong-side"),
        (LEFT_KNEE, report("The left knee is normal. The right was not examined.", "Normal."), None),
        (LEFT_KNEE, report("Both knees: bilateral effusions, more on the right.", "Effusions."), None),
        (HEADER, report("The right lung is small."), None),
        (None, report("The right knee is normal."), None),
    ],
)
def test_a_report_is_about_the_side_that_the_header_names(header, text, code):
    assert warnings(text, header=header) == ({code} if code else set())


def test_sex_and_age_are_those_of_the_header_or_the_indication():
    man = report(findings=f"A 61-year-old man. {FINDINGS}")
    woman = report(findings=f"A 58-year-old woman. {FINDINGS}")
    assert {issue.code for issue in validate_findings(man, header=HEADER).errors} == {"wrong-sex", "wrong-age"}
    assert {issue.code for issue in validate_findings(man, indication="58-year-old woman with cough").errors} == {"wrong-sex", "wrong-age"}
    assert validate_findings(woman, header=HEADER, indication="cough").issues == ()


def test_the_age_of_an_infant_is_that_of_the_header():
    infant = ImageHeader(modality="DX", sex="F", age="006W")
    told = [validate_findings(report(findings=f"A {age} girl. {FINDINGS}"), header=infant).errors for age in ("6-week-old", "6-month-old")]
    assert [[(issue.code, issue.found, issue.expected) for issue in errors] for errors in told] == [
        [],
        [("wrong-age", "6 months", "6 weeks")],
    ]


def test_the_sections_come_with_the_validation():
    assert validate_findings(report()).sections == {"findings": FINDINGS, "impression": "No acute disease."}


def test_the_readme_lists_every_code():
    rows = set(re.findall(r"(?m)^\| `([a-z-]+)` \| (?:error|warning|info)", README.read_text(encoding="utf-8")))
    assert rows == set(get_args(Code))


SHOWN = """
from medgemma_app.validate import validate_findings, validate_soap
left = 'Opacity, effusion, nodule, fracture on the left. No catheter. [Patient Name] <eos> '
print(validate_findings('FINDINGS: ' + left + 'Unchanged.\\nIMPRESSION: Right nodule, fracture, effusion of 3 cm.'))
note = 'S: Fever, cough, takes aspirin 81 mg.\\nO: BP 120/80, no rash.\\nA: Gout, asthma.\\nP: Ibuprofen 400 mg bid, metformin 500 mg.'
print(validate_soap(note, source='He has a rash and takes lisinopril 10 mg.'))
"""


def test_the_same_text_has_the_same_issues_in_every_process():
    shown = {
        subprocess.run(
            [sys.executable, "-c", SHOWN], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(shown) == 1
    assert "Issue(" in shown.pop()


PIECES = ["FINDINGS:", "IMPRESSION:", "S:", "A/P:", "\n", " ", "**", "(", "[", ".", "- ", "<unused94>", "no effusion", "left",
          "12 mm", "I cannot see",
          "please", "unchanged", "é", "心", "\u2028", "\xa0", "½", "٣", "the"]  # fmt: skip
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
REASONS = st.sampled_from(["stop", "length", "repetition", "cancelled"])


@settings(max_examples=150, deadline=None)
@given(TEXTS, REASONS, st.text(max_size=30))
def test_any_text_gets_issues_of_one_line_that_know_their_place(text, finish_reason, told):
    for validation in (
        validate_findings(text, finish_reason=finish_reason, header=ImageHeader(), indication=told),
        validate_soap(text, finish_reason=finish_reason, source=told),
    ):
        assert validation.ok == (not validation.errors)
        for issue in validation.issues:
            assert "\n" not in issue.message
            assert len(issue.excerpt) <= 80
            assert issue.start is None or 0 <= issue.start <= (issue.end or 0) <= len(text)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["subjective", "plan", "A/P", "x"]), TEXTS))
def test_any_sections_get_an_answer(sections):
    assert set(validate_soap(sections).sections) <= {"subjective", "objective", "assessment", "plan"}


TRAPS = ["a ", "\n", "(", "[A ", "**a", "<unused", "S:\n", "x. FINDINGS: ", "I cannot see ", "\xa0!", "ement", "аb", "1. ",
         "---\n", "{{a", "AB ", "_ ",
         "left effusion ", "no large effusion ", "3 mm growth ", "unchanged since ", "\ud800\u0301"]  # fmt: skip


def calls(text, source=None):
    """How many functions are called to judge a text: what grows with more than the text shows here."""
    count = 0

    def counted(*_):
        nonlocal count
        count += 1

    sys.setprofile(counted)
    try:
        validate_findings(text, header=ImageHeader())
        validate_soap(text, source=source)
    finally:
        sys.setprofile(None)
    return count


DOSES = "S: x.\nO: y.\nA: z.\nP: " + " ".join(f"Lisinopril {1000 + number} mg." for number in range(20))


@pytest.mark.parametrize(
    "trap", ["lisinopril 5 mg ", "lisinopril and 5 mg of metformin ", "one hundred point five ", "45-year-old male, T 98.6 "]
)
def test_the_work_for_a_source_grows_no_faster_than_its_length(trap):
    small, large = (calls(DOSES, trap * (size // len(trap))) for size in (2_000, 8_000))
    assert large <= 5 * small


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS)
def test_the_work_for_a_trap_grows_no_faster_than_its_length(trap):
    validate_findings(trap)
    small, large = (calls(trap * (size // len(trap))) for size in (8_000, 32_000))
    assert large <= 5 * small + 2_000


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS)
def test_a_megabyte_of_any_trap_gets_an_answer(trap):
    text = trap * (1_000_000 // len(trap)) + "x"
    assert not validate_findings(text).ok or not validate_soap(text).ok
