"""ask(): what the model is shown, what is checked of its answer, and what the record says."""

from __future__ import annotations

import pytest
from dicoms import a_series, made, written
from scripted_model import ScriptedModel

from medgemma_app import InputError, OptionError, Options, Report, ask, findings, locate, soap
from medgemma_app.demo import draw_phantom

NOTES = "Cough for 3 days, no fever. BP 120/80."


def test_the_demo_answers_about_a_picture(demo, scan):
    report = ask(demo, "Describe this X-ray.", scan)
    assert isinstance(report, Report) and report.text
    assert report.to_dict()["tokens"]["prompt"] > 20


def test_pictures_come_first_then_the_notes_then_the_question(scan, tmp_path):
    draw_phantom(1)[0].save(tmp_path / "other.png")
    report = ask(model := ScriptedModel("Yes."), " Is it worse? ", scan, tmp_path / "other.png", notes={"note": NOTES})
    first, second, text = model.prompts[0].parts
    assert first.size == second.size and text == f"{report.source}\n\nIs it worse?"
    assert NOTES in report.source
    assert [caption for caption, _ in report.images] == ["picture 1: current", "picture 2: current"]


def test_notes_may_be_given_as_text():
    report = ask(model := ScriptedModel("Yes."), "Why?", text=NOTES)
    assert model.prompts[0].parts == (f"{NOTES}\n\nWhy?",) and report.source == NOTES
    assert ask(model, "Why?", text="Is this a text?").source == "Is this a text?"  # a question needs no notes
    with pytest.raises(InputError):
        ask(model, "Why?", text=" ")
    with pytest.raises(TypeError, match="either notes or text="):
        ask(model, "Why?", notes={"note": NOTES}, text=NOTES)


def test_what_of_the_notes_is_not_sent_is_said():
    report = ask(ScriptedModel("Yes."), "Why?", notes={"note": NOTES, "problems": [{"name": "Sepsis", "status": "entered-in-error"}]})
    assert report.warnings == ("not sent to the model: entry (entered in error)",)


def test_a_question_may_stand_alone():
    report = ask(model := ScriptedModel("A drug."), "What is metformin?")
    assert model.prompts[0].parts == ("What is metformin?",)
    assert (report.images, report.source, report.sections) == ((), None, {})


def test_slices_are_numbered_and_the_question_follows_the_last_number(tmp_path):
    ask(model := ScriptedModel("Yes."), "Is it calcified?", a_series(tmp_path, 3))
    assert model.prompts[0].parts[1::2] == ("SLICE 1", "SLICE 2", "SLICE 3\n\nIs it calcified?")


def test_the_record_says_what_was_asked_of_what(scan):
    record = ask(ScriptedModel("Yes."), "Is it large?", scan).to_dict()
    assert (record["kind"], record["prompt"]) == ("ask", None)
    assert record["input"]["question"] == "Is it large?"
    assert record["input"]["scans"][0]["name"] == "scan.png"


@pytest.mark.parametrize(
    ("answer", "reason", "codes"),
    [
        ("No.", "stop", []),
        ("left", "stop", []),
        ("The heart is enlarged and the lungs are clear.", "stop", []),
        ("BP 300/200 and a fracture that no note mentions.", "stop", []),
        ("", "stop", ["no-answer"]),
        ("The heart is large and", "length", ["truncated"]),
        ("clear " * 40, "repetition", ["repetition"]),
        ("Yes.<end_of_turn>", "stop", ["special-token"]),
        ("I'm sorry, I can't help with that.", "stop", ["refusal"]),
        ("I cannot view the image that you uploaded.", "stop", ["refusal"]),
        ("I am unable to provide medical advice. Please consult a doctor.", "stop", ["refusal"]),
        ("As an AI, I cannot interpret images.", "stop", ["refusal"]),
        ("I don't see any image attached to your message.", "stop", ["refusal"]),
        ("I cannot answer this with certainty, but there may be a small effusion.", "stop", []),
        ("I cannot help but notice a mass in the left lung.", "stop", []),
        ("FINDINGS: None.", "stop", []),
        ("It is not possible to determine the patient's age from this X-ray.", "stop", []),
        ("I cannot tell the age from this picture.", "stop", []),
        ("I cannot provide a size, as the picture has no scale.", "stop", []),
        ("I cannot see a fracture.", "stop", []),
        ("The image does not show the left lung base.", "stop", []),
        ("\n".join(f"{number}. No" for number in range(1, 13)), "stop", []),
        (" ".join(f"{number}. No." for number in range(1, 13)), "stop", []),
    ],
)
def test_the_form_of_an_answer_is_checked_and_its_content_is_not(answer, reason, codes):
    report = ask(ScriptedModel(answer, finish_reason=reason), "Is it large?", notes={"note": NOTES})
    assert [issue.code for issue in report.validation.issues] == codes


@pytest.mark.parametrize(
    ("answer", "reason", "codes"),
    [
        ('{"findings": "none"}', "stop", []),
        ('{"refused": "I cannot help with that."}', "stop", []),
        (f'["{"clear " * 60}"]', "stop", []),
        ('{"side": "left and', "length", ["truncated"]),
    ],
)
def test_of_an_answer_that_follows_a_schema_only_the_cut_is_checked(answer, reason, codes):
    report = ask(ScriptedModel(answer, finish_reason=reason), "Is it large?", options=Options(schema={}))
    assert [issue.code for issue in report.validation.issues] == codes


def test_reports_and_boxes_are_not_written_by_a_schema(scan):
    model, how = ScriptedModel("{}"), {"options": Options(schema={})}
    for write in (lambda: findings(model, scan, **how), lambda: soap(model, text=NOTES, **how), lambda: locate(model, scan, "rib", **how)):
        with pytest.raises(OptionError, match="use ask\\(\\) for it"):
            write()


def test_pictures_of_two_patients_are_refused_before_the_model_sees_them(tmp_path):
    one, other = (written(tmp_path, made(PatientID=patient), f"{patient}.dcm") for patient in ("MRN1", "MRN2"))
    with pytest.raises(InputError, match="different patients") as caught:
        ask(ScriptedModel("Yes."), "Is it worse?", one, other)
    assert "MRN" not in str(caught.value)


def test_a_name_counts_only_where_an_id_is_missing(tmp_path):
    one, renamed, other = (
        written(tmp_path, made(PatientID=patient, PatientName=name), f"{number}.dcm")
        for number, (patient, name) in enumerate((("MRN1", "Doe^Jane"), ("MRN1", "Doe-Smith^Jane"), ("", "Roe^Richard")))
    )
    ask(ScriptedModel("Yes."), "Is it worse?", one, renamed)
    with pytest.raises(InputError, match="different patients"):
        ask(ScriptedModel("Yes."), "Is it worse?", one, other)


@pytest.mark.parametrize(("question", "error"), [(" ", OptionError), (None, TypeError), (b"?", TypeError)])
def test_a_question_that_is_empty_or_not_text_is_refused(question, error):
    with pytest.raises(error, match="question"):
        ask(ScriptedModel("Yes."), question)
