"""``medgemma ask``, ``locate`` and ``prompts``, and the prompts of a user's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicoms import a_series, made, written
from PIL import Image
from scripted_model import ScriptedModel

from medgemma_app.demo import draw_phantom
from medgemma_app.notices import BOX_NOTICE, NOTICE

SEED = 3  # of the drawing that ``scan`` is


def two_frames(folder):
    return written(folder, made(NumberOfFrames=2, PixelData=bytes(2 * 2 * 64 * 64), Rows=64, Columns=64, Modality="US"), "two.dcm")


def test_ask_prints_the_answer_on_stdout_and_the_notice_on_stderr(medgemma, scan):
    result = medgemma("ask", scan, "Describe this X-ray.", "--json")
    record = json.loads(result.stdout)
    assert (record["kind"], record["input"]["question"]) == ("ask", "Describe this X-ray.")
    assert result.exit_code == (0 if record["valid"] else 3)
    assert NOTICE in result.stderr and "saw scan.png" in result.stderr
    assert medgemma("ask", scan, "Describe this X-ray.").stdout == record["text"] + "\n"


def test_ask_reads_notes_from_standard_input_and_writes_to_a_file(medgemma, tmp_path):
    result = medgemma("ask", "-", "What is the complaint?", "-o", tmp_path / "answer.html", input="Cough for 3 days, no fever.")
    page = (tmp_path / "answer.html").read_text()
    assert result.stdout == ""
    assert all(part in page for part in ("Cough for 3 days, no fever.", "What is the complaint?", "<h1>Answer</h1>"))
    assert medgemma("ask", "-", "What is this?", "--max-tokens", 4, input="Is this a text?").exit_code in (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SCAN"], "write the question after it"),
        (["SCAN", " "], "the question is empty"),
        (["-", "-", "Why?"], "only once"),
        (["no-such-file.png", "Why?"], "no-such-file.png does not exist"),
        (["SCAN", "Is", "there", "an", "effusion?"], "there is no file Is; write the question in quotes"),
        (["notes.txt", "Why?"], "notes.txt is not a picture; notes are read from standard input: medgemma ask - QUESTION < FILE"),
        (["two.dcm", "Why?"], "choose one with --frame 1 to --frame 2\n"),
        (["SCAN", "Why?", "-o", "x.fhir.json"], "can be written as FHIR"),
        (["SCAN", "Why?", "-o", "x.sr.dcm"], "can be written as DICOM"),
        (["SCAN", "Why?", "-o", "SCAN"], "one of the files that the command uses"),
        (["-", "SCAN", "Why?", "-o", "SCAN"], "one of the files that the command uses"),
        (["Why?", "--schema", "good.json", "-o", "good.json"], "one of the files that the command uses"),
        (["Why?", "--schema", "none.json"], "none.json does not exist"),
        (["Why?", "--schema", "bad.json"], "the schema is not supported: Unimplemented keys"),
        (["Why?", "--schema", "latin.json"], "latin.json is not UTF-8 text"),
        (["Why?", "--schema", "large.json"], "the schema has more than 100000 characters"),
    ],
)
def test_wrong_usage_of_ask_is_one_line_before_the_model_is_loaded(medgemma, scan, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name, content in {"good": b"{}", "bad": b'{"not": {}}', "latin": b'{"title": "\xe9"}', "large": b" " * 100_001}.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    (tmp_path / "notes.txt").write_text("Cough for 3 days, no fever.")
    two_frames(tmp_path)
    result = medgemma("ask", *(scan if each == "SCAN" else each for each in arguments))
    assert (result.exit_code, result.loads) == (2, 0)
    assert message in result.stderr


@pytest.mark.parametrize(("limit", "exit_code"), [(200, 0), (4, 3)], ids=["whole", "cut"])
def test_an_answer_follows_the_schema_of_a_file_and_a_cut_one_is_an_error(medgemma, scan, tmp_path, limit, exit_code):
    schema = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"], "additionalProperties": False}
    (tmp_path / "side.json").write_text(json.dumps(schema))
    result = medgemma("ask", scan, "Which side?", "--schema", tmp_path / "side.json", "--max-tokens", limit)
    assert (result.exit_code, "truncated: " in result.stderr) == (exit_code, exit_code == 3)
    if exit_code == 0:
        assert json.loads(result.stdout)["side"] in ("left", "right")


def test_a_question_longer_than_a_path_can_be_is_a_question(medgemma):
    assert medgemma("ask", "why " * 100, "--max-tokens", 1).loads == 1


ANSWER = 'It is thin.\nFinal Answer:\n```json\n[{"box_2d": [100, 200, 300, 400], "label": "right clavicle"}]\n```'


@pytest.fixture
def locate(medgemma, monkeypatch):
    """Runs ``medgemma locate`` with a model that answers with a box, or as told."""

    def run(*arguments, answer=ANSWER):
        monkeypatch.setattr("medgemma_app.cli.batch.Run._open", lambda _: ScriptedModel(answer))
        return medgemma("locate", *arguments)

    return run


def test_locate_prints_the_answer_and_says_where_the_box_is_and_what_it_is_good_for(locate, scan, tmp_path):
    result = locate(scan, "right clavicle", "--save-boxes", tmp_path / "boxes.png")
    assert (result.exit_code, result.stdout) == (0, ANSWER + "\n")
    side = draw_phantom(SEED)[0].width
    edges = [round(side * part) for part in (0.2, 0.1, 0.4, 0.3)]
    assert "right clavicle: x {} to {}, y {} to {} pixels\n".format(*edges[::2], *edges[1::2]) in result.stderr
    assert BOX_NOTICE in result.stderr and NOTICE in result.stderr
    with Image.open(tmp_path / "boxes.png") as drawn:
        assert drawn.getpixel((side // 4, side // 10)) == (255, 212, 0)
        assert drawn.height > drawn.width  # the notice stands under the picture
    record = json.loads(locate(scan, "right clavicle", "--json").stdout)
    assert [record["boxes"][0][edge] for edge in ("x0", "y0", "x1", "y1")] == edges


def test_boxes_that_cannot_be_read_are_exit_code_3(locate, scan):
    result = locate(scan, "right clavicle", answer="It is on the left.")
    assert result.exit_code == 3 and "malformed-boxes" in result.stderr


def test_the_demo_can_be_asked_for_a_box(medgemma, scan):
    assert medgemma("locate", scan, "nodule", "--max-tokens", 20).exit_code in (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SCAN", "rib", "--save-boxes", "SCAN"], "one of the files that the command uses"),
        (["SCAN", "rib", "--save-boxes", "SCAN", "--force"], "one of the files that the command uses"),
        (["SCAN", "rib", "--save-boxes", "there.png"], "exists already"),
        (["SCAN", "rib", "--save-boxes", "new.png", "-o", "new.png"], "new.png"),
        (["SCAN", "rib", "--save-boxes", "new.jpg"], "--save-boxes writes a PNG file; give a name that ends in .png"),
        (["two.dcm", "rib"], "choose one with --frame 1 to --frame 2\n"),
        (["SCAN", " "], "the target is empty"),
        ([".", "rib"], "a folder"),
        (["SCAN", "rib", "-o", "x.fhir.json"], "can be written as FHIR"),
    ],
)
def test_wrong_usage_of_locate_is_one_line_and_nothing_is_written(locate, scan, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(b"mine")
    two_frames(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = locate(*(scan if each == "SCAN" else each for each in arguments))
    assert result.exit_code == 2 and message in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("command", "option"),
    [*(("locate SCAN rib", option) for option in ("--repetition-penalty", "--subject", "--study", "--jobs")), ("soap SCAN", "--study")],
)
def test_a_command_has_no_options_that_it_cannot_use(medgemma, scan, command, option):
    result = medgemma(*command.replace("SCAN", str(scan)).split(), option, "2")
    assert (result.exit_code, result.loads, f"No such option: {option}" in result.stderr) == (2, 0, True)


@pytest.mark.parametrize(
    ("first", "other", "named"),
    [
        (["findings", "SCAN"], ["findings", "SCAN", "--prompt", "GERMAN"], "prompt"),
        (["soap", "NOTES"], ["soap", "NOTES", "--prompt", "progress_note"], "prompt"),
        (["ask", "SCAN", "Why?"], ["ask", "SCAN", "When?"], "question"),
        (["ask", "SCAN", "Why?"], ["ask", "SCAN", "Why?", "--schema", "SCHEMA"], "schema"),
        (["ask", "SCAN", "Why?"], ["ask", "SCAN", "Why?", "--window", "40/400"], "window"),
        (["locate", "SCAN", "rib"], ["locate", "SCAN", "lung"], "target"),
        (["locate", "SCAN", "rib"], ["locate", "SCAN", "rib", "--window", "40/400"], "window"),
    ],
)
def test_what_is_asked_otherwise_does_not_continue_a_file_of_results(medgemma, scan, notes, german, tmp_path, first, other, named):
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    files = {"SCAN": scan, "NOTES": notes, "GERMAN": german, "SCHEMA": tmp_path / "schema.json"}
    options = ["--max-tokens", "4", "-o", tmp_path / "results.jsonl"]
    medgemma(*(files.get(each, each) for each in first), *options)
    result = medgemma(*(files.get(each, each) for each in other), *options, "--resume")
    assert result.exit_code == 2 and named in result.stderr


def test_ask_goes_on_only_where_its_inputs_are_the_same(medgemma, scan, tmp_path):
    def asked(*words, resume=True, **how):
        return medgemma("ask", *words, "--max-tokens", "4", "-o", tmp_path / "all.jsonl", *(["--resume"] if resume else ["--force"]), **how)

    (folder := tmp_path / "ct").mkdir()
    a_series(folder, 2)
    for words in (["Why?"], [scan, folder, "Why?"]):
        asked(*words, resume=False)
        assert "nothing left to do" in asked(*words).stderr
    slice_ = sorted(folder.iterdir())[0]
    slice_.write_bytes(slice_.read_bytes() + b"\0\0")
    assert (changed := asked(scan, folder, "Why?")).exit_code == 2 and "1 study changed" in changed.stderr
    asked(scan, "-", "Why?", resume=False, input="Cough for 3 days.")
    result = asked(scan, "-", "Why?", input="Fever for 2 days.")
    assert (result.exit_code, "standard input" in result.stderr) == (2, True)


def test_ask_chooses_a_frame_and_a_patient(medgemma, tmp_path):
    pages = [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64), np.uint8)) for seed in (1, 2)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    assert "--frame" in medgemma("ask", tmp_path / "two.tif", "Why?").stderr
    record = json.loads(medgemma("ask", tmp_path / "two.tif", "Why?", "--frame", "2", "--max-tokens", "4", "--json").stdout)
    assert record["input"]["scans"][0]["frame"] == 2
    visits = json.dumps([{"patient_id": number, "note": f"Cough for {number} days, no fever."} for number in ("31", "47")])
    assert "--patient" in medgemma("ask", "-", "Why?", input=visits).stderr
    answer = medgemma("ask", "-", "Why?", "--patient", "47", "--max-tokens", "4", "-o", tmp_path / "a.html", input=visits)
    assert answer.exit_code in (0, 3)
    assert "47 days" in (page := (tmp_path / "a.html").read_text()) and "31 days" not in page


def test_check_refuses_an_answer_to_a_question(medgemma, tmp_path):
    (tmp_path / "record.json").write_text(json.dumps({"kind": "ask", "text": "Yes."}))
    result = medgemma("check", tmp_path / "record.json", model=None)
    assert result.exit_code == 2 and "answer to a question" in result.stderr
