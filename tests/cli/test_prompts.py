"""Prompt files of this program and of the user: listed, chosen, refused, and used by check."""

from __future__ import annotations

import json

import pytest

from medgemma_app.demo import draw_phantom
from medgemma_app.notices import NOTICE
from medgemma_app.prompts import prompt_paths, read_prompt


def test_prompts_lists_every_file_with_its_kind_and_sections(medgemma):
    records = [json.loads(line) for line in medgemma("prompts", "--json", model=None).stdout.splitlines()]
    assert [record["name"] for record in records] == [path.stem for path in prompt_paths()]
    assert {record["kind"] for record in records} == {"findings", "soap", "locate"}
    shown = medgemma("prompts", model=None).stdout
    for record in records:
        assert record["sections"] == list(read_prompt(record["name"]).sections)
        assert record["path"] in shown and f"\n  kind: {record['kind']}" in shown


def test_a_prompt_of_the_users_own_gives_the_report_its_sections_and_its_title(medgemma, scan, german, tmp_path):
    result = medgemma("findings", scan, "--prompt", german, "--json")
    record = json.loads(result.stdout)
    assert list(record["sections"]) == ["befund", "beurteilung"]
    assert record["prompt"]["file"] == "german.md" and record["prompt"]["title"] == "Befundbericht"
    medgemma("findings", scan, "--prompt", german, "-o", tmp_path / "report.html")
    assert "<h1>Befundbericht</h1>" in (tmp_path / "report.html").read_text()


def test_a_prompt_of_this_program_is_chosen_by_its_name(medgemma, notes):
    record = json.loads(medgemma("soap", notes, "--prompt", "progress_note", "--json").stdout)
    assert record["prompt"]["file"] == "progress_note.md"
    assert list(record["sections"]) == list(read_prompt("progress_note").sections)


@pytest.mark.parametrize(
    ("command", "prompt", "message"),
    [
        ("findings", "soap", 'soap.md is a prompt with "kind: soap"'),
        ("soap", "GERMAN", 'german.md is a prompt with "kind: findings"'),
        ("findings", "findings_prior", 'this study needs one with "pictures: one"'),
        ("findings", "no-such-prompt.md", "no-such-prompt.md does not exist"),
        ("findings", "SCAN", "scan.png is "),
        ("soap", "progess_note", "there is no prompt 'progess_note'; did you mean progress_note?"),
        ("soap", "zzz", "there is no prompt 'zzz'; medgemma prompts lists"),
    ],
)
def test_a_prompt_that_does_not_fit_is_one_line_before_the_model_is_loaded(medgemma, scan, notes, german, command, prompt, message):
    chosen = {"GERMAN": german, "SCAN": scan}.get(prompt, prompt)
    result = medgemma(command, scan if command == "findings" else notes, "--prompt", chosen)
    assert (result.exit_code, result.loads) == (2, 0)
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_check_takes_the_sections_of_a_record_from_its_prompt(medgemma, tmp_path):
    text = "BEFUND: Das Herz ist normal groß.\nBEURTEILUNG: Unauffällig."
    record = {"kind": "findings", "text": text, "prompt": {"sections": ["befund", "beurteilung"], "optional": []}}
    for hostile in ([3, None], "befund", 5, {"a": 1}):
        (tmp_path / "record.json").write_text(json.dumps({**record, "prompt": {"sections": hostile, "optional": hostile}}))
        assert medgemma("check", tmp_path / "record.json", model=None).exit_code in (0, 3)
    (tmp_path / "record.json").write_text(json.dumps(record))
    result = medgemma("check", tmp_path / "record.json", model=None)
    assert "missing-section" not in result.stdout
    for optional, missing in ([], True), (["beurteilung"], False):
        prompt = {"sections": ["befund", "beurteilung"], "optional": optional}
        (tmp_path / "record.json").write_text(json.dumps({**record, "text": text.split("\n")[0], "prompt": prompt}))
        assert ("missing-section" in medgemma("check", tmp_path / "record.json", model=None).stdout) == missing


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["--prompt", "GERMAN"], "the text checks found nothing", 0),
        (["--prompt", "GERMAN", "--kind", "soap"], 'german.md is a prompt with "kind: findings"', 2),
        (["--prompt", "progress_note"], "no section has a heading", 3),
        (["--prompt", "locate"], 'one with "kind: findings" or "kind: soap" is needed', 2),
    ],
)
def test_check_takes_the_sections_of_a_text_from_a_prompt(medgemma, german, tmp_path, arguments, message, exit_code):
    (tmp_path / "report.txt").write_text(f"DRAFT. {NOTICE}\n\nBEFUND: Das Herz ist normal.\n\nBEURTEILUNG: Kein Erguss.")
    result = medgemma("check", tmp_path / "report.txt", *(german if each == "GERMAN" else each for each in arguments), model=None)
    assert result.exit_code == exit_code and message in result.stdout + result.stderr


def test_check_finds_a_line_of_the_prompt_in_a_text(medgemma, german, tmp_path):
    words = german.read_text(encoding="utf-8").replace("der Schluss daraus", "der Schluss, der sich daraus ergibt")
    german.write_text(words, encoding="utf-8")
    (tmp_path / "report.txt").write_text("BEFUND: Das Herz ist normal.\n\nBEURTEILUNG: der Schluss, der sich daraus ergibt.")
    result = medgemma("check", tmp_path / "report.txt", "--prompt", german, model=None)
    assert result.exit_code == 3 and "unfilled-template" in result.stdout


def test_check_sees_only_the_report_in_a_text_file_of_the_command(medgemma, scan, tmp_path):
    """And not the checks that follow it, which would fill an empty section and end a cut sentence."""
    written = medgemma("findings", scan, "--max-tokens", 20, "--output", tmp_path / "cut.txt")
    checked = medgemma("check", tmp_path / "cut.txt", model=None)
    assert written.exit_code == checked.exit_code == 3
    assert "missing-section" in checked.stdout and "truncated" in checked.stdout


def test_check_sees_the_report_of_each_of_several_studies_in_a_text_file(medgemma, scan, tmp_path):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    medgemma("findings", scan, tmp_path / "b.png", "--output", tmp_path / "all.txt")
    text = (tmp_path / "all.txt").read_text()
    (tmp_path / "all.txt").write_text(text.replace("IMPRESSION:", "Impression of", 1))
    checked = medgemma("check", tmp_path / "all.txt", "--json", model=None)
    reports = [json.loads(line) for line in checked.stdout.splitlines()]
    assert [(report["report"], [issue["code"] for issue in report["issues"]]) for report in reports] == [
        ("scan.png", ["missing-section"]),
        ("b.png", []),
    ]
    assert medgemma("check", tmp_path / "all.txt", model=None).stdout.startswith("scan.png: error: missing-section: ")
    assert "b.png" not in json.dumps(reports[0]["sections"]) and "DRAFT" not in json.dumps(reports)
