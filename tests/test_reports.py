"""findings() and soap() on the embedded demo, from a file to a validated report."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from PIL import Image
from remembering import remembering
from scripted_model import ScriptedModel

import medgemma_app
from medgemma_app import Generation, GenerationCancelled, InputError, Options, Prompt, findings, findings_many, soap, soap_many
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.inputs.notes import Notes, read_notes
from medgemma_app.prompts import findings_prompt
from medgemma_app.validate import Issue, Validation

SEEDS = range(8)


@pytest.fixture(scope="session")
def demo(demo):
    return remembering(demo)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_demo_reports_what_was_drawn(demo, tmp_path, seed):
    image, expected = draw_phantom(seed)
    image.save(tmp_path / "scan.png")
    report = findings(demo, tmp_path / "scan.png")
    assert report.text == expected
    assert report.validation.ok


@pytest.mark.parametrize("seed", [seed if seed < 3 else pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS])
def test_the_demo_writes_the_note_its_notes_call_for(demo, tmp_path, seed):
    notes, expected = write_notes(seed)
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    report = soap(demo, tmp_path / "notes.json")
    assert report.text == expected
    assert report.validation.ok


@pytest.mark.parametrize("notes", [{"text": object()}, {}, []])
def test_an_object_that_holds_no_notes_is_refused(notes):
    with pytest.raises(InputError):
        soap(None, notes)


def test_another_picture_gives_another_report(demo):
    assert len({findings(demo, draw_phantom(seed)[0]).text for seed in SEEDS}) > 3


def test_a_mirrored_picture_is_not_the_same_report(demo):
    seed = next(seed for seed in range(100) if "right" in draw_phantom(seed)[1] and "left" not in draw_phantom(seed)[1])
    image, expected = draw_phantom(seed)
    assert findings(demo, image).text == expected
    assert findings(demo, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).text != expected


def test_a_missing_picture_does_not_give_the_report(demo):
    image, expected = draw_phantom(0)
    text = findings_prompt(image)[0].parts[1]
    without = demo.generate(Prompt((text,)), Options(max_tokens=120)).text
    assert without.strip() != expected
    assert not medgemma_app.validate_findings(without).ok


def test_a_shuffled_prompt_is_not_the_same_prompt(demo):
    """The picture before the words or after them: other ids, other probabilities."""
    picture = draw_phantom(0)[0]
    prompt, shuffled = Prompt((picture, "Which is it, and why?")), Prompt(("Which is it, and why?", picture))
    probabilities = [[token.logprob for token in demo.stream(order, Options(max_tokens=5))][:5] for order in (prompt, shuffled)]
    assert demo.tokenize(prompt) != demo.tokenize(shuffled)
    assert probabilities[0] != pytest.approx(probabilities[1], abs=4e-5)  # the most noise that the reference tests allow


def test_sections_hold_what_stands_under_the_headings(demo, scan, notes):
    report, note = findings(demo, scan), soap(demo, notes)
    assert list(report.sections) == ["findings", "impression"]
    assert list(note.sections) == ["subjective", "objective", "assessment", "plan"]
    assert all(text in report.text for text in report.sections.values())
    assert all(text in note.text for text in note.sections.values())


def test_a_prior_makes_it_a_comparison(demo, scan, tmp_path):
    draw_phantom(1)[0].save(tmp_path / "prior.png")
    report = findings(demo, scan, prior=tmp_path / "prior.png")
    record = report.to_dict()
    assert record["prompt"]["file"] == "findings_prior.md"
    assert record["input"]["prior"]["name"] == "prior.png"
    assert report.generation.prompt_tokens > findings(demo, scan).generation.prompt_tokens


def test_further_views_are_shown_and_recorded(demo, scan, tmp_path):
    draw_phantom(1)[0].save(tmp_path / "lateral.png")
    record = findings(demo, scan, views=[tmp_path / "lateral.png"]).to_dict()
    assert record["prompt"]["file"] == "findings_views.md"
    assert [view["name"] for view in record["input"]["views"]] == ["lateral.png"]


def test_what_a_prompt_costs_is_known_beforehand(demo):
    one, two = (demo.estimate(Prompt(tuple(draw_phantom(0)[0] for _ in range(count)))) for count in (1, 2))
    assert 0 < one.cache_bytes < two.cache_bytes
    assert one.picture_seconds > 0
    assert one.prompt_tokens == len(demo.tokenize(Prompt((draw_phantom(0)[0],))))


def test_a_report_can_be_traced_and_repeated_from_its_record(demo, scan):
    record = findings(demo, scan, indication="cough", options=Options(temperature=0.7, max_tokens=90)).to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["input"]["scan"]["sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert record["input"]["indication"] == "cough"
    again = findings(demo, scan, indication=record["input"]["indication"], options=Options(**record["options"]))
    assert again.text == record["text"]


def test_no_path_and_no_word_of_the_notes_is_in_the_record_apart_from_the_answer(demo, notes):
    record = soap(demo, notes).to_dict()
    del record["text"], record["sections"], record["issues"]
    assert str(notes.parent) not in json.dumps(record)
    assert all(word not in json.dumps(record) for word in ("mmHg", "Not documented"))


def test_tokens_are_handed_out_as_they_come(demo, scan):
    tokens = []
    report = findings(demo, scan, on_token=tokens.append)
    assert "".join(token.text for token in tokens).strip() == report.text
    assert tokens[-1].finish_reason == "stop"


def test_an_exception_from_on_token_keeps_the_beginning(demo, scan):
    def stop(token):
        raise LookupError

    with pytest.raises(GenerationCancelled) as caught:
        findings(demo, scan, on_token=stop)
    assert len(caught.value.partial.token_ids) == 1


@pytest.mark.parametrize(
    ("times", "options", "limit"),
    [(1, None, 512 + 6), (50, Options(top_k=1), 512 + 318), (500, None, 2000), (1, Options(max_tokens=2000), 2000)],
    ids=["a short note", "a long one", "a very long one", "as asked for"],
)
def test_how_long_a_note_may_be_follows_from_its_source_unless_it_is_said(connect, server, times, options, limit):
    visit = Notes("Cough for 3 days, no fever. BP 120/80. Plan: rest. " * times, {})  # of 51 letters each
    record = soap(connect(), visit, options=options).to_dict()
    assert [record["options"]["max_tokens"], server.requests[-1]["max_tokens"]] == [limit, limit]
    (many,) = soap_many(connect(), [visit], options=options)
    assert [many.to_dict()["options"]["max_tokens"], server.requests[-1]["max_tokens"]] == [limit, limit]


def test_a_cut_report_is_not_valid(demo, scan):
    report = findings(demo, scan, options=Options(max_tokens=5))
    assert not report.validation.ok
    assert report.to_dict()["valid"] is False
    assert "truncated" in [issue["code"] for issue in report.to_dict()["issues"]]


def test_bad_input_raises_before_the_model_is_used(tmp_path):
    with pytest.raises(InputError):
        findings(None, tmp_path / "none.png")
    with pytest.raises(InputError):
        soap(None, tmp_path / "none.json")


def test_a_real_checkpoint_writes_a_report_that_validates(real_model):
    """Runs where MEDGEMMA_MODEL names a checkpoint."""
    report = findings(real_model, draw_phantom(0)[0])
    assert report.generation.finish_reason == "stop"
    assert set(report.sections) == {"findings", "impression"}
    assert all(report.sections.values())


def test_retries_keep_the_best_answer_and_say_how_many_there_were(demo, monkeypatch):
    image, wanted = draw_phantom(3)
    answers = iter(["FINDINGS:\nThe lungs", "FINDINGS: x", wanted, "FINDINGS:"])
    asked = []

    def generate(_, prompt, options, *, on_token=None):
        asked.append(options)
        return Generation(next(answers), None, (), "stop", 1, 0.0, 0)

    monkeypatch.setattr(type(demo), "generate", generate)
    report = findings(demo, image, retries=5)
    assert (report.text, report.tries, report.validation.ok) == (wanted, 3, True)
    assert [(options.temperature > 0, options.seed) for options in asked] == [(False, None), (True, 1), (True, 2)]
    assert report.to_dict()["options"]["seed"] == 2
    assert report.to_dict()["tries"] == 3


def test_without_retries_a_bad_answer_is_kept_as_it_is(demo):
    report = findings(demo, draw_phantom(3)[0], options=Options(max_tokens=3))
    assert (report.tries, report.validation.ok) == (1, False)


def test_notes_may_be_given_as_text_or_read_before(demo):
    text = "Cough for three days, no fever, takes aspirin 81 mg."
    given = soap(demo, text=text, options=Options(max_tokens=4))
    assert given.source == text
    assert soap(demo, read_notes({"notes": text}), options=Options(max_tokens=4)).source.endswith(text)


def test_many_reports_come_in_order_with_the_errors_in_their_places(demo, monkeypatch, tmp_path, capsys):
    monkeypatch.delattr(demo, "generate_many")
    (tmp_path / "scan.png").write_bytes(b"no picture")
    scans = [draw_phantom(1)[0], tmp_path / "scan.png", draw_phantom(2)[0]]
    first, error, last = findings_many(demo, scans, options=Options(max_tokens=8), progress=True)
    assert "3/3" in capsys.readouterr().err
    assert isinstance(error, InputError)
    assert [first.text, last.text] == [findings(demo, scans[at], options=Options(max_tokens=8)).text for at in (0, 2)]
    notes = [write_notes(seed)[0] for seed in (1, 2)]
    assert [note.source for note in soap_many(demo, notes, options=Options(max_tokens=2))] == [read_notes(visit).text for visit in notes]
    assert capsys.readouterr().err == ""  # which is no terminal here


def test_a_report_is_one_line_to_print_a_page_to_show_and_a_file_to_keep(demo, tmp_path):
    report = findings(demo, draw_phantom(1)[0], prior=draw_phantom(2)[0], options=Options(max_tokens=8))
    assert "\n" not in repr(report)
    error = Issue("truncated", "error", "cut")
    for warnings, counts in ((("a",), "1 error, 1 warning>"), ((), "1 error>"), (("a", "b"), "1 error, 2 warnings>")):
        shown = repr(replace(report, validation=Validation((error,)), warnings=warnings))
        assert shown.endswith(counts)
    assert report._repr_html_().count("<img") == 2
    report.save(tmp_path / "report.html")
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()
    assert [caption for caption, _ in report.images] == ["prior", "current"]


PROGRESS = {
    "INTERVAL HISTORY": "Cough for 3 days, now better.",
    "EXAMINATION": "BP 120/80.",
    "RESULTS": "WBC 9.",
    "ASSESSMENT": "Bronchitis.",
    "PLAN": "Rest.",
}
VISIT = "Cough for 3 days, now better. BP 120/80. WBC 9. Bronchitis. Rest."


def told(sections):
    return "\n\n".join(f"{heading}:\n{text}" for heading, text in sections.items())


@pytest.mark.parametrize(
    ("answer", "found"),
    {
        "as asked for": (told(PROGRESS), set()),
        "in bold, with a dash": (told(PROGRESS).replace("PLAN:\n", "**Plan** - "), set()),
        "without an optional section": (told({**PROGRESS, "RESULTS": None}).replace("RESULTS:\nNone\n\n", ""), set()),
        "two neighbours under one heading": (told(PROGRESS).replace("ASSESSMENT:", "Assessment/Plan:").replace("\n\nPLAN:", ""), set()),
        "without a required section": (told(PROGRESS).replace("EXAMINATION:", ""), {("missing-section", "error")}),
        "an empty section": (told({**PROGRESS, "ASSESSMENT": ""}), {("empty-section", "error")}),
        "in another order": (told(dict(reversed(PROGRESS.items()))), {("section-order", "warning")}),
        "a value of no note": (told({**PROGRESS, "EXAMINATION": "BP 180/95."}), {("invented-value", "error")}),
    }.values(),
)
def test_a_report_has_the_sections_of_its_prompt_and_is_checked_for_them(answer, found):
    report = soap(ScriptedModel(answer), text=VISIT, prompt="progress_note")
    assert list(report.sections) == [heading.lower() for heading in PROGRESS]
    assert {(issue.code, issue.severity) for issue in report.validation.issues} == found


def test_many_reports_may_share_an_own_prompt(scan):
    (note,) = soap_many(ScriptedModel(told(PROGRESS)), [{"note": VISIT}], prompt="progress_note", batch_size=1)
    (report,) = findings_many(ScriptedModel("LUNGS: clear."), [scan], prompt="findings_by_region", batch_size=1)
    assert [one.to_dict()["prompt"]["title"] for one in (note, report)] == ["Progress note", "Findings by region"]


def test_an_own_prompt_is_what_the_model_is_asked(scan):
    findings(model := ScriptedModel("LUNGS: clear.\nIMPRESSION: normal."), scan, prompt="findings_by_region", indication="cough")
    assert "region by region" in model.prompts[0].parts[1] and "Indication: cough" in model.prompts[0].parts[1]
