"""The form of a report: an answer, readable, whole, with all its sections."""

import pytest
from drafts import FINDINGS, NOTE, note, report

from medgemma_app.validate import validate_findings, validate_soap

CLINICIANS_NOTE = """CHIEF COMPLAINT

Cough.

MEDICATIONS

Lisinopril.

PHYSICAL EXAM

Lungs
- Auscultation: Clear.

ASSESSMENT AND PLAN

1. Acute bronchitis.
- Medical Treatment: Rest and fluids.

INSTRUCTIONS

Return in one week.
"""


def codes(text, **known):
    return [(issue.severity, issue.code) for issue in validate_findings(text, **known).issues]


def note_codes(text, **known):
    return [(issue.severity, issue.code) for issue in validate_soap(text, **known).issues]


@pytest.mark.parametrize(
    "text",
    [
        report(),
        report().rstrip("."),
        f"Here is the report.\n\n{report()}",
        f"```\n{report()}\n```",
        f"{report()}\n\n---",
        report(impression="1. Mild scoliosis.\n2. Small hiatal hernia."),
        report(findings="- Heart size normal\n- Lungs clear", impression="Normal chest"),
        report(impression="Recommend CT chest with contrast"),
        report(impression="Right PICC line tip in the SVC"),
        report(impression="COPD"),
        report(impression="**No acute disease**"),
        report(impression='Read as "normal chest"'),
        report(impression="Nodule <6 mm; ratio <0.5. Read by <radiologist>."),
        report(impression="Elevated TNFα and 5 µg of tracer; Müller's sign; 38 °C."),
        report(findings="XXXX XXXX XXXX XXXX XXXX are clear. " + FINDINGS),
        report(findings="**Lungs:** Clear.\n**Heart:** Normal.", impression="Normal study.")
        + "\n\n**Disclaimer:** I am an AI; ask a doctor",
        "1. **Lungs:** The lungs are clear, without any opacity.\n2. **Heart:** Normal in size.\n\n**Impression:** Normal chest.",
    ],
)
def test_a_report_as_radiologists_and_models_write_it_has_no_issue(text):
    assert codes(text) == []


@pytest.mark.parametrize(
    "text",
    [
        note(),
        note(plan="- Rest and fluids\n- Return in one week"),
        note(plan="Rest.\n\nElectronically signed by Jane Roe, MD"),
        note(plan="Rest.\nSignature: ________"),
        note(objective="VITAL SIGNS:\nNot provided."),
        note(subjective="Not documented.", objective="Not documented.", assessment="Not documented."),
        note(objective="BP: 128/82\nP: 72\nR: 16\nT: 98.6"),
        CLINICIANS_NOTE,
        "S: Cough.\nO: Clear lungs.\nA/P: Bronchitis. Rest.",
        NOTE,
        {"Subjective": "Cough.", "Objective": "Clear.", "Assessment and Plan": "Bronchitis. Rest."},
    ],
)
def test_a_note_as_clinicians_write_it_has_no_issue(text):
    assert note_codes(text) == []


@pytest.mark.parametrize("text", ["", "  \n\t", "<eos>", "<end_of_turn>\n"])
def test_no_text_is_not_an_answer(text):
    assert codes(text) == [("error", "no-answer")]


def test_sections_without_a_word_are_not_an_answer():
    assert note_codes({}) == note_codes({"plan": " "}) == [("error", "no-answer")]


@pytest.mark.parametrize(
    ("text", "known"), [("", {"has_thought": True}), ("<unused94>thought\nThe heart", {}), ("thought\nThe user wants a report of", {})]
)
def test_a_thought_without_an_answer_asks_for_more_tokens(text, known):
    (issue,) = validate_findings(text, **known).issues
    assert issue.code == "thought-only"
    assert "--max-tokens" in issue.message


def test_a_thought_whose_marks_were_stripped_is_not_the_answer():
    assert codes(f"thought\nThe user wants a report.\n{report()}") == [("error", "special-token")]
    assert codes(report(), has_thought=True) == []


@pytest.mark.parametrize(
    "token", ["<unused94>", "<start_of_image>", "</s>", "<EOS>", "[PAD]", "[/INST]", "<|im_end|>", "\n### Human: thanks"]
)
def test_a_control_token_is_named_with_its_place(token):
    text = report(f"{FINDINGS} {token}")
    issue = next(issue for issue in validate_findings(text).errors if issue.code == "special-token")
    assert text[issue.start : issue.end] == token.strip().removesuffix(" thanks")
    assert token.strip().removesuffix(" thanks") in issue.message


@pytest.mark.parametrize(
    "text",
    ["!!!! ???? ####", "1 2 3 4 5", "@@ a# $$% ^^& ok (*)(*) {}{}{}", "x" + "ab" * 40, "The lungs are cleаr.",
     "эффузия the 心脏 lungs клиника is"],
)  # fmt: skip
def test_text_in_no_language_is_gibberish(text):
    assert ("error", "gibberish") in codes(text)


@pytest.mark.parametrize(
    "text", ["Лёгкие чистые. Сердце не увеличено.", "Das Herz ist nicht vergrößert. Kein Erguss.", "Les poumons sont clairs.",
             "Radiografía de rodilla. Fractura conminuta del platillo tibial externo, con hundimiento de la superficie articular.",
             "Hipertensión arterial no controlada. Toma losartán solo por la mañana. Dieta baja en sal. Glucosa normal. Control en un mes.",
             "तीन दिन से खांसी। Amoxicillin 500 mg दिन में तीन बार। आराम करें।", "胸部CT未见胸腔积液。给予amoxicillin 500 mg，每日三次。",
             "肺野は clear です。αブロッカーを継続。",
             "ผู้ป่วยมีอาการไอและมีเสมหะมาสามวันไม่มีไข้ไม่มีอาการเจ็บหน้าอกและไม่มีหายใจลำบากรับประทานยา amoxicillin", "السعال منذ ثلاثة أيام. SpO2 98%."]
)  # fmt: skip
def test_another_language_is_not_gibberish(text):
    assert ("error", "gibberish") not in codes(report(text, text))


@pytest.mark.parametrize("finish_reason", ["length", "cancelled"])
def test_a_stopped_generation_is_truncated_however_it_ends(finish_reason):
    assert codes(report(), finish_reason=finish_reason) == [("error", "truncated")]


def test_what_is_shown_of_a_truncated_text_begins_with_a_word():
    found = validate_findings(
        report(impression="Pneumonitis in both lower lobes is more likely than oedema of the lungs"), finish_reason="length"
    )
    assert found.issues[0].excerpt.startswith("in both lower lobes")


@pytest.mark.parametrize(
    "end",
    ["No acute cardiopulm", "See the left hemidi", "Left basilar consolidati", "No effusion. The lef", "Heart si", "Small r",
     "Acute bronchit",
     "- Follow-up with cardiolo", "Return in three wee", "Normal chest radiogr"],
)  # fmt: skip
def test_a_text_that_ends_within_a_word_is_an_error(end):
    assert codes(report(impression=end)) == [("error", "truncated")]


@pytest.mark.parametrize("word", ["zosterlike", "Quimby"])
def test_the_beginning_of_a_word_that_the_text_itself_has_is_a_cut(word):
    assert codes(report(findings=f"{FINDINGS} A {word} mark.", impression=f"Normal, with a {word[:-2]}")) == [("error", "truncated")]
    assert codes(report(findings=f"{FINDINGS} A {word} mark.", impression=f"Normal, with a {word}")) == []


@pytest.mark.parametrize(
    "end", ["Opacity of the left lung and", "Heart,", "Opacity (probably", "1. Scoliosis.\n2.", "Pleura:", "Follow up with", "Right -"]
)
def test_a_text_that_ends_within_a_sentence_is_a_warning(end):
    assert codes(report(impression=end)) == [("warning", "truncated")]


@pytest.mark.parametrize(
    "end",
    ["RTC 2 wks", "Heparin sc", "Recheck bp", "RTC 6 mo", "Call if the rash should recur",
     "Return if worse", "PT x 6 wks", "Lisinopril 20 qd", "Vitamin d", "1. Rest.\n2. EMG/NCS", "- Ice.\n- NSAIDs",
     "Refer to derm",
     "Seen by Dr. Lee", "No acute dz", "BI-RADS 2", "Rib fx", "Cavitating lesion, ?TB", "Hepatitis b", "Protein 2 g", "Ratio: 0.55"],
)  # fmt: skip
def test_a_telegram_is_complete_without_a_full_stop(end):
    assert note_codes(note(plan=end)) == []


def test_a_word_that_begins_its_line_is_an_answer_and_not_a_cut():
    assert codes(report(findings="Normal heart. No effusion.", impression="No")) == []


def test_a_missing_section_is_named():
    assert validate_findings(f"FINDINGS: {FINDINGS}").errors[0].message == "the impression section is missing"
    assert [issue.message for issue in validate_soap(note(plan=None)).errors] == ["the plan section is missing"]
    assert [issue.code for issue in validate_soap("Rest and fluids.").errors] == ["missing-section"]


def test_a_report_without_headings_is_one_section_and_a_single_warning():
    validation = validate_findings(f"The provided image is a chest X-ray. {FINDINGS}")
    assert [(issue.severity, issue.code) for issue in validation.issues] == [("warning", "missing-section")]
    assert list(validation.sections) == ["findings"]


def test_a_note_that_begins_without_a_heading_is_a_warning():
    beginning = "A 52-year-old woman reports three days of cough. She takes lisinopril."
    text = note(subjective=beginning).removeprefix("SUBJECTIVE:\n")
    assert note_codes(text) == [("warning", "missing-section")]
    assert validate_soap(text).sections["subjective"] == beginning


def test_which_sections_there_must_be_can_be_told():
    assert codes(f"FINDINGS: {FINDINGS}", sections=("findings",)) == []


@pytest.mark.parametrize("body", ["", ".", "-", "...", "**", "1.", "___"])
@pytest.mark.parametrize("which", ["findings", "impression"])
def test_a_section_without_words_is_empty(which, body):
    assert ("error", "empty-section") in codes(report(**{which: body}))


@pytest.mark.parametrize("body", ["None.", "XXXX", "Normal", "2.5", "N/A"])
def test_a_section_of_one_word_is_not_empty(body):
    assert ("error", "empty-section") not in codes(report(findings=body))


def test_an_empty_section_is_not_an_error_where_another_of_its_name_has_words():
    assert codes(f"FINDINGS:\n{report()}") == []


def test_sections_out_of_order_are_a_warning():
    backwards = "\n\n".join(f"{key.upper()}:\n{body}" for key, body in reversed(NOTE.items()))
    assert note_codes(backwards) == codes(f"IMPRESSION: Clear.\n\nFINDINGS: {FINDINGS}") == [("warning", "section-order")]


@pytest.mark.parametrize(
    "text",
    [
        "Subjectif:\nToux depuis trois jours.\nExamen:\nPoumons clairs.\nÉvaluation:\nBronchite.\nPlan:\nRepos.",
        "Anamnese: Husten seit drei Tagen.\nUntersuchung: Lunge frei.\nBeurteilung: Bronchitis.\nTherapie: Ruhe.",
        "S: Cough.\nO: Lungs clear.\nMEDICAL DECISION MAKING\n1. Bronchitis: fluids and rest.\n2. Asthma: inhaler.",
        "S: Cough.\nO: Lungs clear.\nProblem 1: Bronchitis\n- Fluids and rest.\nProblem 2: Asthma\n- Inhaler.",
        "S: Cough.\nO: Lungs clear.\n# Bronchitis\n- Assessment: mild.\n- Plan: rest.\n# Asthma\n- Assessment: stable.\n- Plan: inhaler.",
    ],
)
def test_a_note_in_another_language_or_by_problem_misses_no_section(text):
    assert [code for code in note_codes(text) if code[1] == "missing-section"] == []


@pytest.mark.parametrize(
    "text",
    [
        "Lungs: Clear.\nHeart: Normal.",
        "Lungs: Clear.\nHeart: Normal in size.\nBones: No fracture is seen.\nPleura: No effusion.",
        "Exam: Chest, PA.\nLungs: Clear.\nHeart: Normal.\nImpression: Normal chest.",
        "Technique: PA and lateral.\nLungs: Clear.\nHeart: Normal.",
        "CT HEAD\n\nComparison: last week.\n\nThe haematoma is 8 mm thick. The midline is shifted by 3 mm.\n\nIMPRESSION: Small haematoma.",
    ],
)
def test_findings_without_a_heading_are_at_most_a_warning(text):
    assert codes(text, has_prior=True) in ([], [("warning", "missing-section")])
