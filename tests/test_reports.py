"""findings() and soap() on the embedded demo, from a file to a validated report."""

from __future__ import annotations

import hashlib
import json

import pytest
from PIL import Image

import medgemma_app
from medgemma_app import GenerationCancelled, InputError, Options, Prompt, findings, soap
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.prompts import findings_prompt

SEEDS = range(8)


@pytest.fixture
def scan(tmp_path):
    draw_phantom(0)[0].save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps(write_notes(0)[0]))
    return tmp_path / "notes.json"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_demo_reports_what_was_drawn(demo, tmp_path, seed):
    image, expected = draw_phantom(seed)
    image.save(tmp_path / "scan.png")
    report = findings(demo, tmp_path / "scan.png")
    assert report.text == expected
    assert report.validation.ok


@pytest.mark.parametrize("seed", SEEDS)
def test_the_demo_writes_the_note_its_notes_call_for(demo, tmp_path, seed):
    notes, expected = write_notes(seed)
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    report = soap(demo, tmp_path / "notes.json")
    assert report.text == expected
    assert report.validation.ok


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
    """The request before the picture: other ids, other probabilities."""
    prompt = findings_prompt(draw_phantom(0)[0])[0]
    shuffled = Prompt(tuple(reversed(prompt.parts)))
    probabilities = [[token.logprob for token in demo.stream(order, Options(max_tokens=5))][:5] for order in (prompt, shuffled)]
    assert demo.tokenize(prompt) != demo.tokenize(shuffled)
    assert probabilities[0] != pytest.approx(probabilities[1], abs=1e-3)


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
