"""What is written: nothing of the user's is overwritten, nothing half, nothing that drives a terminal."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
from dataclasses import replace

import pytest
from commands import run, tree
from dicoms import a_series, made, written
from pydicom import dcmread

from medgemma_app import MedGemma
from medgemma_app.cli.output import json_line
from medgemma_app.demo import draw_phantom
from medgemma_app.errors import OutputError
from medgemma_app.export import write_whole
from medgemma_app.notices import NOTICE
from medgemma_app.prompts import prompt_paths


@pytest.fixture
def named(tmp_path, scan):
    """The scan by every kind of name."""
    (tmp_path / "link.png").symlink_to(scan)
    (tmp_path / "hard.png").hardlink_to(scan)
    (tmp_path / "below").mkdir()
    return [scan, f"{tmp_path}/below/../scan.png", f"{tmp_path}/link.png", f"{tmp_path}/hard.png"]


@pytest.mark.parametrize(
    ("option", "others"),
    [("--output", []), ("--output", ["--prior", "SCAN"]), ("--output", ["--view", "SCAN"]), ("--save-input", [])],
    ids=str,
)
def test_an_input_is_never_an_output_by_any_name_or_link(medgemma, tmp_path, named, option, others):
    scan = named[0]
    if others:
        scan, others = tmp_path / "other.png", [scan if word == "SCAN" else word for word in others]
        draw_phantom(5)[0].save(scan)
    before = tree(tmp_path)
    for name in named:
        result = medgemma("findings", scan, *others, option, name, "--force")
        assert (result.exit_code, result.loads, "files that the command uses" in result.stderr) == (2, 0, True), name
    assert tree(tmp_path) == before


def test_a_slice_the_key_the_prompt_and_the_adapter_are_no_outputs_either(medgemma, tmp_path, scan):
    (tmp_path / "ct").mkdir()
    a_series(tmp_path / "ct", 2)
    (tmp_path / "key").write_text("secret\n")
    prompt = shutil.copy(prompt_paths()[0], tmp_path / "prompt.txt")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "config.json").write_text("{}")
    for arguments in (
        [tmp_path / "ct", "-o", tmp_path / "ct" / "000"],
        [scan, "-o", prompt, "--prompt", prompt],
        [scan, "--save-input", prompt, "--prompt", prompt],
        [scan, "-o", tmp_path / "adapter" / "config.json", "--adapter", tmp_path / "adapter"],
        [scan, "-o", tmp_path / "key", "--api-key-file", tmp_path / "key", "--endpoint", "http://127.0.0.1:9/v1"],
    ):
        result = medgemma("findings", *arguments, "--force")
        assert (result.exit_code, "files that the command uses" in result.stderr) == (2, True), arguments


def test_links_that_lead_to_themselves_are_usage_errors(medgemma, tmp_path, scan):
    (tmp_path / "loop").symlink_to("loop")
    for command in (
        ["findings", tmp_path / "loop"],
        ["findings", scan, "-o", tmp_path / "loop"],
        ["findings", scan, "--prior", tmp_path / "loop"],
        ["soap", tmp_path / "loop"],
        ["soap", tmp_path / "loop", "-o", tmp_path / "loop"],
    ):
        result = medgemma(*command)
        assert (result.exit_code, result.stderr.startswith("medgemma: ")) == (2, True), result.stderr


@pytest.mark.parametrize(("option", "name"), [("--output", "kept.txt"), ("--save-input", "kept.png")])
def test_an_existing_file_is_replaced_by_force_only(medgemma, tmp_path, scan, option, name):
    (tmp_path / name).write_text("mine")
    result = medgemma("findings", scan, option, tmp_path / name)
    assert (result.exit_code, result.loads, "--force" in result.stderr) == (2, 0, True)
    assert (tmp_path / name).read_text() == "mine"
    assert medgemma("findings", scan, option, tmp_path / name, "--force").exit_code == 0
    assert (tmp_path / name).read_bytes() != b"mine"


def test_two_outputs_are_two_files(medgemma, tmp_path, scan):
    result = medgemma("findings", scan, "--output", tmp_path / "new.txt", "--save-input", tmp_path / "x" / ".." / "new.txt")
    assert (result.exit_code, list(tmp_path.glob("new*"))) == (2, [])


@pytest.mark.parametrize("ending", [".html", ".pdf", ".fhir.json", ".json", ".csv", ".txt", ".jsonl"])
def test_the_ending_of_the_output_decides_its_form(medgemma, tmp_path, scan, ending):
    """With --json too, and with several studies."""
    draw_phantom(5)[0].save(tmp_path / "b.png")
    begins = {".html": b"<!DOCTYPE html>", ".pdf": b"%PDF-", ".csv": b"study,", ".txt": b"DRAFT. "}
    for name, arguments in {"one": [scan], "json": [scan, "--json"], "many": [scan, tmp_path / "b.png", "--json"]}.items():
        if name == "many" and ending in (".pdf", ".fhir.json"):
            continue
        assert medgemma("findings", *arguments, "-o", tmp_path / f"{name}{ending}").exit_code == 0
        content = (tmp_path / f"{name}{ending}").read_bytes()
        many = b"# " if name == "many" and ending == ".txt" else begins.get(ending, b"{")
        assert content[:15].lower().startswith(many.lower())
        assert ending == ".pdf" or NOTICE.encode() in content  # the text of a PDF is compressed


def test_a_name_without_an_ending_is_refused_for_one_study_and_for_many(medgemma, tmp_path, scan):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    for scans in ([scan], [scan, tmp_path / "b.png"]):
        result = medgemma("findings", *scans, "-o", tmp_path / "report")
        assert (result.exit_code, result.loads, "ends in one of .html" in result.stderr) == (2, 0, True)


def test_the_table_of_one_study_names_it(medgemma, tmp_path, scan):
    medgemma("findings", scan, "-o", tmp_path / "one.csv")
    (row,) = csv.DictReader((tmp_path / "one.csv").read_text().splitlines())
    assert (row["study"], row["exit_code"]) == ("scan.png", "0")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "x.fhir.json", "--subject", "Jane Roe"], "--subject (subject=) must be a FHIR reference"),
        (["-o", "x.fhir.json", "--study", "Jane Roe"], "--study (study=) must be a FHIR reference"),
        (["-o", "x.html", "--subject", "Patient/7"], "--subject (subject=) is for .fhir.json only"),
        (["-o", "x.jsonl", "--study", "Jane Roe"], "--study (study=) is for .fhir.json only"),
        (["--subject", "Patient/7"], "--subject (subject=) is for .fhir.json only"),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused_before_the_model_is_loaded(medgemma, monkeypatch, tmp_path, scan, options, words):
    monkeypatch.chdir(tmp_path)
    result = medgemma("findings", scan, *options)
    assert (result.exit_code, result.loads, words in result.stderr, "Jane" in result.stderr) == (2, 0, True, False)


def test_a_report_on_views_in_dicom_is_filed_with_all_of_them_or_refused_before_the_model_is_loaded(medgemma, tmp_path):
    study = {"PatientID": "7", "StudyInstanceUID": "1.2.3"}
    for name, header in {"a": study, "b": study, "c": {**study, "StudyInstanceUID": "1.2.4"}}.items():
        written(tmp_path, made(**header, SeriesInstanceUID=f"1.2.3.{ord(name)}"), f"{name}.dcm")
    a, b, c = (tmp_path / f"{name}.dcm" for name in "abc")
    result = medgemma("findings", a, "--view", c, "-o", tmp_path / "x.sr.dcm", "--max-tokens", "4")
    assert (result.exit_code, result.loads, "differ in PatientID or StudyInstanceUID" in result.stderr) == (2, 0, True)
    medgemma("findings", a, "--view", b, "--prior", c, "-o", tmp_path / "x.sr.dcm", "--max-tokens", "4")
    named = [one.value for one in dcmread(tmp_path / "x.sr.dcm").iterall() if one.keyword == "ReferencedSOPInstanceUID"]
    assert named == [dcmread(file).SOPInstanceUID for file in (a, b)]


def test_several_studies_go_into_lines_a_table_or_a_text(medgemma, tmp_path, scan):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    for ending, count in (".jsonl", 2), (".csv", 3):
        medgemma("findings", scan, tmp_path / "b.png", "-o", tmp_path / f"all{ending}")
        assert len(list(csv.reader((tmp_path / f"all{ending}").read_text().splitlines(keepends=True)))) >= count
    for ending, words in (".pdf", "can hold one report"), (".docx", "unknown format"):
        result = medgemma("findings", scan, tmp_path / "b.png", "-o", tmp_path / f"all{ending}")
        assert (result.exit_code, words in result.stderr, (tmp_path / f"all{ending}").exists()) == (2, True, False)


def test_studies_of_one_name_are_told_apart_by_their_id_and_not_by_their_folders(medgemma, tmp_path):
    for seed, name in enumerate(("Doe/a.png", "Roe/a.png", "Roe/b.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        draw_phantom(seed)[0].save(tmp_path / "in" / name)
    for ending in (".jsonl", ".csv", ".html", ".txt"):
        result = medgemma("findings", tmp_path / "in", "-o", tmp_path / f"all{ending}", "--max-tokens", "4")
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [record["study"] for record in records] == ["a.png", "a.png", "b.png"]
    names = [*(f"a.png ({record['study_id']})" for record in records[:2]), "b.png"]
    run("export", tmp_path / "all.jsonl", "--to", tmp_path / "again.csv")
    for table in ("all.csv", "again.csv"):
        assert [row["study"] for row in csv.DictReader((tmp_path / table).read_text().splitlines())] == names
    index, text = ((tmp_path / f"all{ending}").read_text() for ending in (".html", ".txt"))
    for name in names:
        assert f">{name}</a>" in index and f"# {name}\n" in text and f"\n{name}: error: " in result.stderr
    assert not any(patient in index + text + result.stderr for patient in ("Doe", "Roe"))


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
def test_a_report_that_could_not_be_filed_in_dicom_is_refused_before_the_model_is_loaded(medgemma, tmp_path, scan, ending):
    result = medgemma("findings", scan, "-o", tmp_path / f"report{ending}")  # a PNG file has no patient to file it with
    assert (result.exit_code, result.stdout, result.loads, (tmp_path / f"report{ending}").exists()) == (2, "", 0, False)


@pytest.mark.parametrize("ending", [".html", ".pdf", ".csv", ".txt", ".json"])
def test_an_answer_whose_file_cannot_be_written_is_printed(medgemma, monkeypatch, tmp_path, scan, ending):
    def full(*_):
        raise OutputError("cannot write it: No space left on device")

    monkeypatch.setattr("medgemma_app.cli.output.write_whole", full)
    draw_phantom(5)[0].save(tmp_path / "b.png")
    answer, another = (draw_phantom(seed)[1].split("\n")[1] for seed in (3, 5))
    several = [answer] if ending == ".html" else [answer, another]  # a page is written at once, and the run ends there
    for scans, said in ([scan], [answer]), ([scan, tmp_path / "b.png"], several):
        if ending in (".pdf", ".json") and len(scans) > 1:
            continue  # of several studies there is no such file
        result = medgemma("findings", *scans, "-o", tmp_path / f"all{ending}")
        assert (result.exit_code, "No space left" in result.stderr) == (2, True)
        assert all(sentence in result.stdout for sentence in said), result.stdout
    assert not (tmp_path / "all").exists()


def test_a_record_is_exported_later(medgemma, tmp_path, scan):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    medgemma("findings", scan, tmp_path / "b.png", "-o", tmp_path / "all.jsonl")
    for options, code in (
        ([], 2),
        (["--line", "2"], 0),
        (["--line", "2"], 2),  # it exists now
        (["--line", "2", "--force"], 0),
        (["--line", "3", "--force"], 2),
    ):
        assert run("export", tmp_path / "all.jsonl", "--to", tmp_path / "b.html", *options).exit_code == code
    assert "b.png" not in run("export", tmp_path / "all.jsonl", "--to", tmp_path / "all.csv").stderr
    assert (tmp_path / "all.csv").read_text().count(NOTICE) == 2
    for content in ("", "text", "[1]", "{}", '{"error": "x"}', "{" * 9999, '{"text": "Buy milk"}'):
        (tmp_path / "odd").write_text(content)
        result = run("export", tmp_path / "odd", "--to", tmp_path / "odd.html")
        assert (result.exit_code, result.stderr.count("\n"), (tmp_path / "odd.html").exists()) == (2, 1, False), content
    assert run("export", tmp_path / "all.jsonl", "--to", tmp_path / "all.jsonl", "--force").exit_code == 2
    known = {"kind": "soap", "issues": []}
    (tmp_path / "odd").write_text(json.dumps({"text": "cough\u2028fever", **known}, ensure_ascii=False))  # ends a line, but not in JSON
    assert run("export", tmp_path / "odd", "--to", tmp_path / "odd.html").exit_code == 0
    (tmp_path / "odd").write_text(json.dumps([{"text": "cough", **known}, {"text": "fever", **known}], indent=2))  # as check reads it too
    assert run("export", tmp_path / "odd", "--to", tmp_path / "odd.txt", "--line", "2").exit_code == 0
    assert "fever" in (tmp_path / "odd.txt").read_text()
    result = run("export", tmp_path / "odd", "--to", tmp_path / "odd.fhir.json", "--line", "2", "--subject", "Jane Roe")
    assert (result.exit_code, "FHIR reference" in result.stderr, "damaged" in result.stderr) == (2, True, False)


def test_a_pipe_or_device_is_written_to(medgemma, scan):
    assert medgemma("findings", scan, "--output", "/dev/null").exit_code == 0


def test_modes_follow_the_umask_and_links_are_kept(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "target").chmod(0o664)
    (tmp_path / "link").symlink_to("target")
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"x")
        write_whole(tmp_path / "link", b"y")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert (stat.S_IMODE((tmp_path / "target").stat().st_mode), (tmp_path / "link").is_symlink()) == (0o664, True)
    assert (tmp_path / "target").read_text() == "y"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "new", "target"]


def test_a_write_that_fails_says_why_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError  # without an errno, as io.UnsupportedOperation

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="cannot write x: OSError"):
        write_whole(tmp_path / "x", b"text")
    assert list(tmp_path.iterdir()) == []


HOSTILE = "a\x1b[31mb\x9bc\u202ed\u2066e\x00f\rg\udce9h"
TAMED = "a\ufffd[31mb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg\ufffdh"


def test_json_has_no_control_character_in_any_form():
    line = json_line({HOSTILE: [HOSTILE, {"deep": (HOSTILE, 1, None)}]})
    assert json.loads(line) == {TAMED: [TAMED, {"deep": [TAMED, 1, None]}], "notice": json.loads(line)["notice"]}
    assert not any(escape in line for escape in ("\\u001b", "\\u0000", "\\r", "\\u202e"))
    assert json.loads(json_line({"t": "20 °C"}, ascii=True))["t"] == "20 °C"


@pytest.mark.parametrize("form", [[], ["--json"], ["-o", "out.txt"], ["-o", "out.jsonl"], ["--no-stream"]], ids=" ".join)
def test_control_characters_of_a_model_reach_no_pipe_and_no_file(medgemma, demo, monkeypatch, tmp_path, scan, form):
    whole, many = MedGemma.generate, MedGemma.generate_many

    def worse(made):
        return replace(made, text=made.text.replace(" ", HOSTILE))

    def generate(*arguments, on_token=None):
        return worse(whole(*arguments, on_token=on_token and (lambda token: on_token(worse(token)))))

    monkeypatch.setattr(MedGemma, "generate", generate)
    monkeypatch.setattr(MedGemma, "generate_many", lambda *arguments, **how: map(worse, many(*arguments, **how)))
    monkeypatch.chdir(tmp_path)
    result = medgemma("findings", scan, *form)
    written = "".join(path.read_text() for path in tmp_path.glob("out.*")) if "-o" in form else result.stdout
    assert TAMED in written
    assert not set(HOSTILE) & set(written + result.stderr) & set("\x1b\x9b\u202e\u2066\x00\r")
    assert "\\u001b" not in written
