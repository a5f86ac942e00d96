"""A file of results: continued after any crash, never mixed with results of something else."""

from __future__ import annotations

import errno
import json
import shutil
from contextlib import closing

import pytest
from commands import records

from medgemma_app import prompts
from medgemma_app.cli.output import Done, Results, content_hash
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import OutputError

RUN = {"kind": "soap", "model": "demo", "max_tokens": 100}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "studies").mkdir()
    for seed in range(4):
        draw_phantom(seed)[0].save(tmp_path / "studies" / f"{seed}.png")
    (tmp_path / "studies" / "2.png").write_text("no picture")
    return tmp_path / "studies"


def studies(path):
    return [record["study"] for record in records(path)]


def record(study, content="x"):
    return {"study_id": study, "exit_code": 0, "content": content}


def test_resume_processes_what_is_missing_and_leaves_the_rest(medgemma, folder, tmp_path):
    path = tmp_path / "r.jsonl"
    medgemma("findings", folder, "--output", path)
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:2]) + kept[2][:40])  # as a crash leaves it
    result = medgemma("findings", folder, "--output", path, "--resume")
    assert studies(path) == ["0.png", "1.png", "2.png", "3.png"]
    assert path.read_bytes().splitlines(keepends=True)[:2] == kept[:2]
    assert (result.exit_code, "r.jsonl already holds 2 of 4 studies" in result.stderr) == (2, True)
    result = medgemma("findings", folder, "--output", path, "--resume")  # the study that failed the first time still counts
    assert (result.exit_code, "r.jsonl already holds 4 of 4 studies, 1 of which" in result.stderr) == (2, True)
    assert result.stderr.splitlines()[-1] == "there was nothing left to do"


def test_resume_refuses_a_study_that_has_changed_since(medgemma, folder, tmp_path):
    path = tmp_path / "r.jsonl"
    medgemma("findings", folder, "--output", path)
    before = path.read_bytes()
    draw_phantom(9)[0].save(folder / "1.png")
    draw_phantom(2)[0].save(folder / "2.png")
    result = medgemma("findings", folder, "--output", path, "--resume")
    assert (result.exit_code, result.loads, path.read_bytes()) == (2, 1, before)
    assert "2 studies changed since r.jsonl was written, such as 1.png; remove the lines" in result.stderr
    path.write_bytes(b"".join(before.splitlines(keepends=True)[::3]))
    assert medgemma("findings", folder, "--output", path, "--resume").exit_code == 0
    assert studies(path) == ["0.png", "3.png", "1.png", "2.png"]


def test_resume_notices_that_a_prompt_file_of_the_package_was_edited(medgemma, monkeypatch, folder, tmp_path):
    copied = tmp_path / "prompts"
    shutil.copytree(prompts.prompt_paths()[0].parent, copied)
    monkeypatch.setattr(prompts, "FOLDERS", (copied,))
    command = ["findings", folder / "0.png", "--output", tmp_path / "r.jsonl", "--max-tokens", "2"]
    medgemma(*command)
    assert "nothing left to do" in medgemma(*command, "--resume").stderr
    file = copied / "findings.md"
    file.write_text(file.read_text().replace("Describe", "Please describe"))
    assert "r.jsonl was made with another prompt" in medgemma(*command, "--resume").stderr


def test_a_full_disk_ends_the_run_and_every_answer_is_in_the_file_or_printed(medgemma, monkeypatch, folder, tmp_path):
    written = []

    def full(_):
        written.append(1)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        result = medgemma("findings", *(folder / f"{seed}.png" for seed in (0, 1, 3)), "--output", tmp_path / "r.jsonl")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "medgemma: cannot write r.jsonl: No space left on device")
    assert result.stdout == f"# 1.png\n{draw_phantom(1)[1]}\n"
    assert studies(tmp_path / "r.jsonl")[0] == "0.png"


def test_resume_refuses_another_option_model_or_command(medgemma, folder, tmp_path):
    path = tmp_path / "r.jsonl"
    medgemma("findings", folder / "0.png", "--output", path, "--indication", "cough")
    before = path.read_bytes()
    for options, name in ((["--indication", "pain"], "--indication"), (["--max-tokens", "9", "--indication", "cough"], "--max-tokens")):
        result = medgemma("findings", folder, "--output", path, "--resume", *options)
        assert (result.exit_code, result.loads) == (2, 1)
        assert f"r.jsonl was made with another value for {name}; " in result.stderr
    assert path.read_bytes() == before
    (tmp_path / "notes.json").write_text(json.dumps(write_notes(1)[0]))
    assert "made by another command" in medgemma("soap", tmp_path / "notes.json", "--output", path, "--resume").stderr


def test_x_and_dot_slash_x_are_one_study(medgemma, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    medgemma("findings", "0.png", "--output", tmp_path / "r.jsonl")
    result = medgemma("findings", "./0.png", f"{folder}/../studies/0.png", "--output", tmp_path / "r.jsonl", "--resume")
    assert (result.exit_code, studies(tmp_path / "r.jsonl")) == (0, ["0.png"])


def test_files_of_the_same_name_are_two_studies(medgemma, folder, tmp_path):
    (tmp_path / "other").mkdir()
    draw_phantom(7)[0].save(tmp_path / "other" / "0.png")
    both = [folder / "0.png", tmp_path / "other" / "0.png"]
    for more in (), ("--resume",):
        medgemma("findings", *both, "--output", tmp_path / "r.jsonl", *more)
        assert studies(tmp_path / "r.jsonl") == ["0.png", "0.png"]


def test_no_folder_is_named_in_a_result(medgemma, folder, tmp_path):
    below = folder / "SMITH^JOHN_19610203"
    below.mkdir()
    draw_phantom(5)[0].save(below / "scan.png")
    medgemma("findings", folder, below / "scan.png", "--output", tmp_path / "r.jsonl")
    assert "SMITH" not in (tmp_path / "r.jsonl").read_text()


def test_results_are_never_overwritten_and_force_starts_again(medgemma, folder, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("something\n")
    for more in (), ("--resume",), ("--resume", "--force"):
        result = medgemma("findings", folder, "--output", path, *more)
        assert (result.exit_code, result.loads, result.stderr.count("\n")) == (2, 0, 1)
    assert path.read_text() == "something\n"
    medgemma("findings", folder / "0.png", "--output", path, "--force")
    assert studies(path) == ["0.png"]


def test_one_run_at_a_time(tmp_path):
    with closing(Results(tmp_path / "r.jsonl", RUN)) as first:
        with pytest.raises(OutputError, match="another run"):
            Results(tmp_path / "r.jsonl", RUN)
        first.add(record("a"))
    with closing(Results(tmp_path / "r.jsonl", RUN)) as again:
        assert again.done == {"a": Done(0, "x")}


def test_the_content_of_a_line_of_a_folder_and_of_what_cannot_be_read(tmp_path):
    (tmp_path / "visits.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    first, second = (content_hash(str(tmp_path / "visits.jsonl"), part) for part in (1, 2))
    assert first != second
    assert content_hash(str(tmp_path), None) not in {first, second, None}
    assert content_hash(str(tmp_path / "none"), None) is None
    assert content_hash(str(tmp_path / "visits.jsonl"), 3) is None


def test_standard_input_cannot_be_resumed(medgemma, tmp_path):
    result = medgemma("soap", "-", "--output", tmp_path / "r.jsonl", "--resume", input="{}")
    assert (result.exit_code, "give a file" in result.stderr) == (2, True)
