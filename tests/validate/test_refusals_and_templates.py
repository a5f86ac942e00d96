"""What stands where an answer should: a refusal, or what a prompt or a template left behind."""

import pytest
from drafts import FINDINGS, note, report

from medgemma_app.prompts import prompt_paths, read_prompt
from medgemma_app.validate import validate_findings, validate_soap


def errors(text):
    validate = validate_soap if text.lstrip("`\n").startswith("SUBJECTIVE") else validate_findings
    return {issue.code for issue in validate(text).errors}


REFUSALS = [
    "I'm sorry, but I cannot interpret this image.",
    "I can’t see the attached X-ray.",
    "I am not able to view or process images.",
    "I won't be able to help with that.",
    "As an AI language model, I can't give medical advice.",
    "Please upload the X-ray.",
    "Could you please provide the notes of the visit?",
    "The transcript didn't come through. Please paste it again.",
    "It would not be appropriate for me to comment. A radiologist should read it.",
    "I must respectfully decline.",
    "Unable to generate a report.",
    "This isn't something I can do.",
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_an_error_alone_and_in_place_of_a_section(refusal):
    for text in (refusal, report(refusal, refusal), report(impression=refusal), note(plan=refusal)):
        assert "refusal" in errors(text)


@pytest.mark.parametrize(
    "text",
    [
        "The picture never arrived.",
        "No image was provided.",
        "Nothing can be said of a blank image.",
        "Regulations forbid a diagnosis here.",
    ],
)
def test_a_text_that_speaks_of_the_task_only_is_a_refusal(text):
    assert "refusal" in errors(report(text, text))
    assert "refusal" not in errors(report(impression=text))


@pytest.mark.parametrize(
    "sentence",
    [
        "I cannot exclude a small effusion.",
        "I cannot see a fracture.",
        "The left lung base cannot be assessed.",
        "The patient is unable to stand and cannot see out of the left eye.",
        'She says, "I am sorry, I can not do this anymore."',
        "Please provide the patient with a work note.",
        "We will not repeat the scan.",
        "Unable to give a history.",
        "Unable to complete the exam because of pain.",
        "Unable to provide a urine sample.",
        "No information was provided.",
        "No x-rays were provided.",
        "No prior image is available.",
        "He works as an AI engineer.",
        "Clinical history was not provided.",
    ],
)
def test_what_clinicians_cannot_do_or_ask_for_is_not_a_refusal(sentence):
    assert "refusal" not in errors(report(impression=sentence)) | errors(note(subjective=sentence)) | errors(note(plan=sentence))


@pytest.mark.parametrize(
    "text",
    [
        f"Here is the SOAP note:\n\n{note()}",
        f"I'd be happy to help you with this!\n\n{report()}",
        f"I am an AI and cannot provide a medical diagnosis.\n\n{report()}\n\nDisclaimer: I cannot give medical advice.",
        report(impression="Opacity of the left lower zone. I cannot provide a firm diagnosis from one view."),
        f"I cannot provide medical advice. {FINDINGS} No effusion is seen. The bones are intact. The aorta is tortuous.",
    ],
)
def test_words_around_an_answer_are_not_a_refusal(text):
    assert "refusal" not in errors(text)


@pytest.mark.parametrize("answers", [("N/A", "Not available."), ("Not provided.", "Unable to determine.")])
def test_a_report_that_says_nothing_in_any_section_is_a_refusal(answers):
    assert errors(report(*answers)) == {"refusal"}
    assert errors(report(impression=answers[0])) == set()


LEFT = [
    "[Therapeutic interventions]",
    "[Patient Name]",
    "[insert dose]",
    "[Date]",
    "(Only include what was discussed)",
    "(If not documented, leave blank)",
    "(Include vital signs and results)",
    "{{patient_name}}",
    "{age}",
    "<medication dose and frequency>",
    "$WEIGHT kg",
    "Follow up in [X] weeks.",
    "A ___-year-old man.",
    "TODO: date.",
    "You are a medical scribe.",
    "Insert any results here.",
    "HbA1c {{a1c_value}} %",
    "Potassium was [lab result].",
    "PHQ-9: ____",
    "Weight: ***",
    "Amoxicillin for XX days",
    "Normal/abnormal (delete as appropriate)",
    "Keep each section under 100 words.",
    "\n### Instruction: summarise",
]


@pytest.mark.parametrize("left", LEFT)
def test_what_a_template_left_behind_is_an_error(left):
    text = note(plan=f"Rest. {left}")
    (issue,) = validate_soap(text).errors
    assert issue.code == "unfilled-template"
    assert text[issue.start : issue.end].strip("[](){}<>. \n").split()[0] in left


@pytest.mark.parametrize(
    "written",
    [
        "[Not documented]",
        "[Unable to determine]",
        "[Name redacted]",
        "[Physical Exam]",
        "[XXXX] and [sic]",
        "[OD > OS]",
        "[1] Smith, see [the guide](page)",
        "- [x] smoking - [ ] alcohol",
        "{{condition:asthma}}",
        "(if not better, return)",
        "(see above)",
        "BP <140 and >90",
        "[doctor] rest, [patient] okay",
        "Signature: ____",
        "[Dexcom G6]",
        "[Humira Pen]",
        "[POD 2, lap. appendectomy]",
        "[Patient declined exam]",
        "he took [the medication] twice",
        "Date: ____",
        "***",
        "Keep the wound dry for 10 days. Write to us within two weeks.",
        "(Note that the patient is deaf)",
        "Costs $50",
    ],
)
def test_brackets_around_an_answer_are_not_a_placeholder(written):
    assert "unfilled-template" not in errors(note(plan=f"Rest. {written}"))


@pytest.mark.parametrize("name", [path.stem for path in prompt_paths() if path.stem != "locate"])
def test_the_lines_of_the_prompts_are_not_an_answer(name):
    file = read_prompt(name)
    said = {head.lower(): text for head, _, text in (line.partition(": ") for line in file.text.splitlines()) if head.isupper()}
    assert {*said} == set(file.sections)
    validate = validate_findings if file.kind == "findings" else validate_soap
    for head, text in said.items():
        answers = dict.fromkeys(file.sections, "Unremarkable on this visit.") | {head: text}
        whole = "\n".join(f"{section.upper()}: {answer}" for section, answer in answers.items())
        found = validate(whole, sections=file.sections, optional=file.optional)
        assert {issue.code for issue in found.errors} == {"unfilled-template"}, head


def test_an_instruction_of_the_prompt_is_not_an_answer_wherever_it_stands():
    assert "unfilled-template" in errors(note(plan="Rest. Use only what the notes say."))
    assert "unfilled-template" not in errors(report(impression="There is no prior image. No acute disease."))


DAP = """Write a DAP note from these notes:
$notes
DATA: what the client said and what was observed.
RISK: None known.
Keep the name of the client out of every section of it, please."""


@pytest.mark.parametrize(
    ("data", "echo"),
    [
        ("What the client said and what was observed.", True),
        ("Sad. Keep the name of the client out of every section of it.", True),
        ("None known.", False),
        ("Write.", False),
    ],
)
def test_the_lines_of_a_prompt_of_the_users_own_are_not_an_answer(data, echo):
    found = validate_soap(f"DATA: {data}\nPLAN: Rest.", sections=("data", "plan"), prompt=DAP)
    assert ("unfilled-template" in {issue.code for issue in found.errors}) == echo
