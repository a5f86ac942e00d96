"""The command as a user meets it: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from commands import run as command
from dicoms import made, written
from PIL import Image

from medgemma_app import MedGemma, ModelError
from medgemma_app.cli.app import run
from medgemma_app.cli.options import RunOptions
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.notices import DEMO_NOTICE, NOTHING_FOUND, NOTICE

SEED = 3


def test_findings_prints_the_report_and_nothing_else_on_stdout(medgemma, scan):
    result = medgemma("findings", scan)
    assert (result.exit_code, result.stdout) == (0, draw_phantom(SEED)[1] + "\n")


def test_soap_prints_the_note(medgemma, notes):
    result = medgemma("soap", notes)
    assert (result.exit_code, result.stdout) == (0, write_notes(SEED)[1] + "\n")


def test_notes_can_come_from_standard_input(medgemma, notes):
    result = medgemma("soap", "-", input=json.dumps(write_notes(SEED)[0]))
    assert result.stdout == write_notes(SEED)[1] + "\n"


def test_streamed_and_whole_answers_are_the_same(medgemma, scan):
    assert medgemma("findings", scan, "--no-stream").stdout == medgemma("findings", scan).stdout


def test_every_use_of_the_demo_says_what_it_is(medgemma, scan):
    lines = medgemma("findings", scan, "--quiet").stderr.splitlines()
    assert lines == [NOTICE, DEMO_NOTICE, NOTHING_FOUND]


def test_timings_are_on_stderr(medgemma, scan):
    assert "prompt tokens" in medgemma("findings", scan).stderr


@pytest.mark.parametrize("command", ["findings", "soap"])
def test_json_is_one_complete_object(medgemma, demo, monkeypatch, scan, notes, command):
    monkeypatch.delattr(demo, "_results")
    result = medgemma(command, scan if command == "findings" else notes, "--json")
    report = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert report["valid"] is True
    assert report["kind"] == command
    assert all(
        report[key] for key in ("text", "sections", "model", "options", "tokens", "input", "prompt", "versions", "peak_memory_bytes")
    )


def test_several_studies_are_one_json_line_each_in_order(medgemma, tmp_path):
    for seed in (1, 2):
        draw_phantom(seed)[0].save(tmp_path / f"{seed}.png")
    result = medgemma("findings", str(tmp_path / "2.png"), str(tmp_path / "1.png"), "--json")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == [draw_phantom(seed)[1] for seed in (2, 1)]


def test_a_study_that_fails_does_not_stop_the_next(medgemma, scan):
    result = medgemma("findings", "missing.png", scan)
    assert result.exit_code == 2
    assert draw_phantom(SEED)[1] in result.stdout
    assert "missing.png" in result.stderr


def test_output_takes_the_answer_and_leaves_stdout_empty(medgemma, scan, tmp_path):
    result = medgemma("findings", scan, "--output", str(tmp_path / "report.txt"))
    assert result.stdout == ""
    assert (tmp_path / "report.txt").read_text().startswith(f"DRAFT. {NOTICE}\n\n{draw_phantom(SEED)[1]}\n\n")


def test_a_cut_report_is_printed_with_every_issue_named_and_exit_3(medgemma, scan):
    result = medgemma("findings", scan, "--max-tokens", "4")
    assert result.exit_code == 3
    assert draw_phantom(SEED)[1].startswith(result.stdout.strip())
    assert "error: truncated:" in result.stderr
    assert "error: missing-section:" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["findings", "{scan}", "--max-tokens", "0"],
        ["findings", "{scan}", "--max-tokens", "many"],
        ["findings", "{scan}", "--temperature", "-1"],
        ["findings", "{scan}", "--temprature", "1"],
        ["findings", "{scan}", "--output", "{folder}"],
        ["findings", "{scan}", "--output", "{folder}/none/report.txt"],
        ["findings", "{scan}", "--prior", "none.png"],
        ["findings", "{scan}", "{notes}", "--prior", "{scan}"],
        ["findings", "{scan}", "--resume"],
        ["findings", "{scan}", "--batch-size", "0"],
        ["findings", "{scan}", "--retries", "-1"],
        ["findings", "{scan}", "--frame", "2"],
        ["findings", "{scan}", "--window", "40/80"],
        ["findings", "{scan}", "--save-input", "{folder}"],
        ["findings", "{scan}", "--view", "none.png"],
        ["findings", "{folder}/empty"],
        ["soap", "{folder}/empty"],
        ["findings", "{notes}"],
        ["findings"],
        ["soap", "{scan}"],
    ],
    ids=" ".join,
)
def test_bad_usage_and_bad_input_exit_2_and_write_nothing(medgemma, scan, notes, tmp_path, arguments):
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    result = medgemma(*(text.format(scan=scan, notes=notes, folder=tmp_path) for text in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.strip()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("text", ["", "[", '""', "{}", "\ufeff[]"])
def test_notes_that_hold_nothing_exit_2_with_one_line(medgemma, text):
    result = medgemma("soap", "-", input=text)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_notes_longer_than_the_context_say_how_many_tokens_fit(medgemma, demo, tmp_path):
    (tmp_path / "long.json").write_text(json.dumps({"history": "cough for 3 days, " * 3000}))
    result = medgemma("soap", str(tmp_path / "long.json"))
    assert result.exit_code == 2
    assert f"{demo.context - 512} fit in addition to the answer" in result.stderr


def test_truncate_leaves_out_the_end_and_says_so(medgemma, demo, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "context", 400)
    (tmp_path / "long.json").write_text(json.dumps({"history": "Cough for 3 days. " * 300}))
    result = medgemma("soap", str(tmp_path / "long.json"), "--truncate", "--max-tokens", "8")
    assert result.exit_code == 3
    assert "words were left out" in result.stderr


def test_the_picture_the_model_sees_can_be_saved(medgemma, scan, tmp_path):
    draw_phantom(SEED)[0].crop((0, 0, 256, 200)).save(scan)
    for options, size in ((), (256, 256)), (("--no-pad",), (256, 200)):
        medgemma("findings", scan, *options, "--force", "--save-input", str(tmp_path / "seen.png"), "--max-tokens", "1")
        with Image.open(tmp_path / "seen.png") as seen:
            assert seen.size == size


def test_how_each_picture_was_read_is_said(medgemma, tmp_path):
    picture = Image.fromarray(np.linspace(0, 4000, 200 * 300).reshape(200, 300).astype(np.uint16))
    picture.save(tmp_path / "scan.tif", save_all=True, append_images=[picture.rotate(180)])
    said = medgemma("findings", str(tmp_path / "scan.tif"), "--frame", "2").stderr
    assert (
        "saw scan.tif: 300 x 200 pixels of 16 bits, frame 2 of 2, shown by percentiles 0.1 and 99.9 (4 to 3995), padded to a square" in said
    )
    said = medgemma("findings", str(tmp_path / "scan.tif"), "--frame", "2", "--no-pad").stderr
    assert "stretched to a square" in said


def test_views_and_a_prior_reach_the_record(medgemma, scan):
    record = json.loads(medgemma("findings", scan, "--view", scan, "--view", scan, "--prior", scan, "--json").stdout)
    assert record["prompt"]["file"] == "findings_prior_views.md"
    assert len(record["input"]["views"]) == 2


def test_no_word_of_a_note_is_on_stderr(medgemma, tmp_path):
    (tmp_path / "notes.json").write_text('{"patient": "Zebulon Quux", "history": "cough for 3 days and fever"')
    assert "Zebulon" not in medgemma("soap", str(tmp_path / "notes.json")).stderr
    assert "Zebulon" not in medgemma("soap", "-", input='{"patient": "Zebulon Quux", "history": "cough for 3 days and fever"}').stderr


def test_a_model_that_cannot_be_loaded_exits_1(scan):
    result = command("findings", scan, "--model", "./nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "./nowhere" in result.stderr


def test_the_environment_names_the_model(scan, monkeypatch):
    asked = []
    monkeypatch.setattr(MedGemma, "load", lambda model, **_: asked.append(model) or sys.exit(0))
    command("findings", scan, env={"MEDGEMMA_MODEL": "./here"})
    assert asked == ["./here"]


def test_what_is_wrong_with_the_input_comes_before_what_is_wrong_with_the_model(tmp_path):
    (tmp_path / "scan.png").write_text("no picture")
    result = command("findings", tmp_path / "scan.png", "--model", tmp_path / "none")
    assert result.exit_code == 2
    assert "scan.png is not a picture" in result.stderr


def test_a_stray_byte_in_an_option_does_no_harm(medgemma, scan):
    result = medgemma("findings", scan, "--indication", "caf\udce9 pain", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["input"]["indication"] == "caf\ufffd pain"


def test_help_groups_every_option_in_panels_and_shows_each_command_in_a_whole_line():
    top = command("--help").stdout
    commands = top.split("Commands:")[1].strip("\n").splitlines()
    assert all(line[:3].strip() and line.endswith(".") and "..." not in line for line in commands), commands
    assert "--install-completion" in top
    text = command("findings", "--help").stdout
    panels = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert panels == ["Input", "Model", "Output", "Advanced", "Help"]
    named = {f"--{name.replace('_', '-')}" for name in RunOptions.__dataclass_fields__} - {"--as-json"} | {"--json"}
    assert [option for option in sorted(named) if f"{option} " not in text] == []


def test_strict_makes_warnings_fail(medgemma, tmp_path):
    scan = written(tmp_path, made(BurnedInAnnotation="YES"))
    codes = []
    for strict in ([], ["--strict"]):
        result = medgemma("findings", scan, *strict)
        assert result.stderr.splitlines()[-1] == "1 warning"
        codes.append(result.exit_code)
    assert codes == [0, 3]


def test_the_verdict_is_the_last_line_and_issues_are_sorted_by_severity(medgemma, scan):
    *_, verdict = lines = medgemma("findings", scan, "--max-tokens", "4").stderr.splitlines()
    severities = [line.split(":")[0] for line in lines if line.startswith(("error:", "warning:", "info:"))]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert verdict == f"{severities.count('error')} errors" + ", 1 warning" * severities.count("warning")


def test_every_json_record_carries_the_notice_once(medgemma, scan, notes):
    assert json.loads(medgemma("findings", scan, "--json").stdout)["notice"] == NOTICE
    result = medgemma("soap", notes, notes, "--json")
    assert [json.loads(line)["notice"] for line in result.stdout.splitlines()] == [NOTICE]
    assert result.stderr.count(NOTICE) == 1


def test_pictures_of_different_patients_are_refused_before_the_model_is_loaded(medgemma, tmp_path):
    scan, other = (written(tmp_path, made(PatientID=patient), f"{patient}.dcm") for patient in ("MRN1", "MRN2"))
    for arguments in (["findings", scan, "--prior", other], ["findings", scan, "--view", other], ["ask", scan, other, "Is it worse?"]):
        result = medgemma(*arguments)
        assert (result.exit_code, result.loads) == (2, 0)
        assert "they differ in PatientID" in result.stderr and "MRN1" not in result.stderr.replace("MRN1.dcm", "")


def test_notes_may_be_any_text_and_of_two_patients_one_is_chosen(medgemma, tmp_path):
    (tmp_path / "visit.txt").write_text("Cough for 3 days, no fever. BP 120/80. Plan: rest.")
    assert medgemma("soap", tmp_path / "visit.txt", "--max-tokens", "4").exit_code == 3
    people = [{"resourceType": "Patient", "id": name} for name in ("a", "b")]
    seen = [
        {"resourceType": "Condition", "id": f"c{name}", "subject": {"reference": f"Patient/{name}"}, "code": {"text": f"{what} for 3 days"}}
        for name, what in (("a", "cough"), ("b", "headache"))
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in (*people, *seen)]}
    (tmp_path / "two.json").write_text(json.dumps(bundle))
    refused = medgemma("soap", tmp_path / "two.json")
    assert (refused.exit_code, "--patient" in refused.stderr) == (2, True)
    assert medgemma("soap", tmp_path / "two.json", "--patient", "a", "--max-tokens", "4").exit_code == 3
    (tmp_path / "note.txt").write_text("S: Headache for 3 days.\nO: Not examined.\nA: Headache.\nP: Rest.")
    checked = [command("check", f"{tmp_path}/note.txt", "--source", f"{tmp_path}/two.json", *more) for more in ([], ["--patient", "b"])]
    assert [result.exit_code == 2 for result in checked] == [True, False]


def test_an_adapter_reaches_the_model_and_the_record(scan, monkeypatch, capfd):
    asked = {}

    def load(cls, model, **how):
        asked.update(how)
        raise ModelError("stop here")

    monkeypatch.setattr("medgemma_app.model.local.MedGemma.load", classmethod(load))
    monkeypatch.setattr("sys.argv", ["medgemma", "findings", str(scan), "--adapter", "tuned"])
    assert run() == 1
    assert asked["adapter"] == "tuned"
    assert "stop here" in capfd.readouterr().err
