"""``medgemma doctor``: healthy rows are ok, each fault fails in its own row, and the line to paste names nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from safetensors.numpy import load_file, save_file
from scripted_server import chunk, pictures, says, usage
from tiny import make_checkpoint

import medgemma_app
from medgemma_app import MedGemma
from medgemma_app.cli import doctor as rows
from medgemma_app.cli.doctor import row
from medgemma_app.model import selftest
from medgemma_app.model.selftest import CheckResult
from medgemma_app.remote.selftest import endpoint_checks

MODEL_ROWS = {"load", "reference", "picture", "repeatable", "batch", "findings", "soap", "peak memory"}


def doctor(*arguments):
    return run("doctor", *arguments)


def verdicts(checks):
    return {check.name: check.verdict for check in checks}


@pytest.fixture(scope="module")
def healthy():
    return doctor("--model", "demo")


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """A checkpoint whose projector is zero, as a damaged conversion may have it."""
    folder = make_checkpoint(tmp_path_factory.mktemp("blind") / "zofia-kowalska", hidden=48)
    weights = load_file(folder / "model.safetensors")
    zeroed = {name: value * np.float32("vision_tower" not in name and "projector" not in name) for name, value in weights.items()}
    save_file(zeroed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def blind_result(blind):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selftest, "REPORT_TOKENS", 8)
        patch.setattr(selftest, "STEPS", 4)
        patch.setattr(selftest, "reference_check", lambda demo: CheckResult("reference", "ok", ""))
        return doctor("--model", blind, "--json")


def test_the_demo_passes_every_row_of_a_model_in_80_columns(healthy):
    assert healthy.exit_code == 0, healthy.output
    table = healthy.stdout.split("\n\n")[0].splitlines()
    assert {line[:13].strip() for line in table if line[13:20].strip() == "ok"} >= MODEL_ROWS
    assert max(map(len, table)) <= 80


def test_figures_and_tolerance_of_the_reference_are_shown(healthy):
    text = " ".join(healthy.stdout.split())
    assert "tolerance 0.0002" in text
    assert "same ids and tokens as transformers, log-probabilities within" in text


def test_a_blind_model_fails_in_the_picture_row_alone_and_the_exit_code_says_so(blind_result):
    report = json.loads(blind_result.stdout)
    failed = [check for check in report["checks"] if check["verdict"] == "failed"]
    assert (blind_result.exit_code, report["ok"]) == (1, False)
    assert [check["name"] for check in failed] == ["picture"]
    assert "vision tower ignores the picture" in failed[0]["advice"]


def test_the_line_to_paste_names_no_folder_and_no_user(blind, blind_result):
    line = json.loads(blind_result.stdout)["line"]
    assert "(name left out): 6 layers of width 48, float32" in line
    assert not [name for name in ("zofia", str(blind.parent), Path.home().name + "/", str(Path.home()) + "/") if name in line]


def test_a_language_model_that_drops_the_features_fails_the_picture_row(monkeypatch, tiny_model):
    monkeypatch.setattr(tiny_model, "picture_inputs", lambda prompt: {})
    check = selftest.picture_check(tiny_model)
    assert check.verdict == "failed"
    assert "the language model ignores the picture" in check.advice


@pytest.mark.parametrize("seed", [0, 1])
def test_a_random_checkpoint_that_works_sees(seed, tmp_path):
    assert selftest.picture_check(MedGemma.load(str(make_checkpoint(tmp_path / "model", seed=seed)))).verdict == "ok"


def test_what_mlx_vlm_computes_alone_fails_the_reference_row():
    check = selftest.reference_check(MedGemma.load("demo", align=False))
    assert check.verdict == "failed"
    assert check.advice


def test_coarser_rounding_is_a_row_to_look_at(demo, monkeypatch):
    monkeypatch.setattr(selftest, "EXACT", 1e-9)
    assert selftest.reference_check(demo).verdict == "look"


def test_a_model_that_draws_is_not_repeatable(demo, monkeypatch):
    answers = iter([[1, 2], [1, 3]])
    monkeypatch.setattr(selftest, "_greedy", lambda *_: [medgemma_app.Token(at, "", 0.0) for at in next(answers)])
    assert selftest.repeat_check(demo).verdict == "failed"


def test_answers_that_differ_in_a_batch_fail_where_the_weights_are_exact(demo, monkeypatch):
    good = demo.generate
    monkeypatch.delattr(demo, "generate_many")
    monkeypatch.setattr(demo, "generate", lambda prompt, options: good(prompt, medgemma_app.Options(max_tokens=3)))
    check = selftest.batch_check(demo)
    assert (check.verdict, check.figures["same"]) == ("failed", 0)


@pytest.mark.slow
def test_a_damaged_checkpoint_fails_to_load_and_the_rest_goes_on_with_the_demo(tmp_path):
    broken = make_checkpoint(tmp_path / "model")
    (broken / "config.json").write_text("{")
    report = json.loads(doctor("--model", broken, "--json").stdout)
    found = {check["name"]: check["verdict"] for check in report["checks"]}
    assert (found["load"], found["reference"], found["picture"]) == ("failed", "ok", "ok")


@pytest.mark.slow
def test_a_model_too_large_for_the_cpu_is_left_to_full(monkeypatch, tiny_folder):
    monkeypatch.setattr(selftest, "takes_hours", lambda: True)
    report = json.loads(doctor("--model", tiny_folder, "--json").stdout)
    found = {check["name"]: check for check in report["checks"]}
    assert (found["left out"]["verdict"], "--full" in found["left out"]["advice"]) == ("look", True)
    assert found["picture"]["verdict"] == found["soap"]["verdict"] == "ok"  # a random model writes no report
    assert found["soap"]["found"].startswith("demo: ")
    assert "demo_tokens_per_second=" in report["line"] and " tokens_per_second=" not in report["line"]


def test_a_text_only_model_is_recognised_and_checked_with_text_only(demo, monkeypatch):
    monkeypatch.setattr(selftest, "sees", lambda model: False)
    monkeypatch.setattr(demo, "encode_image", None)  # nobody may ask for it
    assert (selftest.picture_check(demo).verdict, selftest.repeat_check(demo).verdict) == ("look", "ok")
    assert selftest.batch_check(demo).found.startswith("1 of 1 prompts")
    assert [check.name for check in selftest.speed_checks(demo)] == ["soap", "peak memory"]


@pytest.mark.slow
def test_a_short_name_stands_for_a_model_of_the_hub():
    files = json.loads(doctor("--model", "27b", "--json").stdout)["checks"][4]
    assert files["found"].startswith("mlx-community/medgemma-27b-it-4bit is not on this machine")


@pytest.mark.slow
def test_a_model_that_is_not_on_this_machine_is_not_downloaded():
    result = doctor("--model", "mlx-community/medgemma-not-here", "--json")
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 0
    assert found["model files"]["verdict"] == "look"
    assert "hf download" in found["model files"]["advice"]
    assert "load" not in found


@pytest.mark.parametrize(
    ("name", "advice"), [("4B", "did you mean 4b?"), ("/no/such/folder", "give a folder, a hub id"), ("a b/c", "owner/name")]
)
def test_a_name_that_cannot_be_a_model_fails_with_advice(name, advice):
    (check,) = rows._files(name, None)
    assert check.verdict == "failed" and name in check.found and advice in check.advice


def test_an_error_in_a_check_is_a_failed_row():
    def breaks():
        raise RuntimeError("[metal::malloc] Attempting to allocate 9 bytes\nmore")

    (check,) = rows._checked("speed", breaks)
    assert (check.name, check.verdict, check.found) == ("speed", "failed", "[metal::malloc] Attempting to allocate 9 bytes")


@pytest.mark.parametrize(("token", "login"), [("hf_x", "a login token is stored"), (None, "no login token is stored")])
def test_the_licence_and_the_login_are_told_and_only_full_asks_the_hub(monkeypatch, token, login):
    asked = []
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    monkeypatch.setattr("huggingface_hub.auth_check", asked.append)
    (licence,) = rows._hub("google/medgemma-4b-it", full=False)
    assert login in licence.found and "hf_x" not in licence.found and not asked
    assert [row.name for row in rows._hub("google/medgemma-4b-it", full=True)] == ["licence", "hub"]
    assert asked == ["google/medgemma-4b-it"]


def test_full_says_how_to_compare_with_transformers(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    check = selftest.transformers_check(demo)
    assert (check.verdict, "pip install torch" in check.advice) == ("look", True)


def test_rows_wrap_at_80_columns_break_no_address_and_hide_control_characters():
    address = "https://example.org/" + "a-long-name/" * 4
    text = row(CheckResult("picture", "failed", f"word {address} \x1b[31m" + "word " * 30, "do this " * 20))
    assert max(map(len, text.splitlines())) <= 80
    assert address in text
    assert "\x1b" not in text


def gemma_like(handler, body):
    """Ten tokens for "?", one answer for each picture, and as many tokens as allowed."""
    images = [part["image_url"]["url"] for message in body["messages"] for part in message["content"] if part["type"] == "image_url"]
    words = [f"word{sum(map(ord, url)) % 97} " for url in images] or ["yes "]
    limited = "Count" in json.dumps(body)
    pieces = (words * 99)[: body["max_tokens"]] if limited else words
    used = usage(10 + 256 * pictures(body), len(pieces))
    handler.stream([*map(chunk, pieces), chunk(finish="length" if limited else "stop"), used, "data: [DONE]\n\n"])


def test_a_server_that_does_everything_right_passes(server):
    server.chat = gemma_like
    result = doctor("--endpoint", server.url)
    assert result.exit_code == 0, result.output
    assert all(f"{name:13} ok" in result.stdout for name in ("server", "template", "greedy", "limit", "stop", "picture"))


def test_a_server_whose_answer_does_not_depend_on_the_picture_fails_the_picture_row(server):
    server.chat = says("Clear.")
    result = doctor("--endpoint", server.url)
    assert result.exit_code == 1
    assert "picture       failed 1 different answers" in result.stdout


def test_a_server_that_drops_pictures_fails(server):
    server.chat = says("Clear.", picture_tokens=0)
    result = doctor("--endpoint", server.url)
    assert result.exit_code == 1
    assert "does not see pictures" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("ids", "verdict"),
    [
        ([2, 105, 2364, 107, 236881, 106, 107, 105, 4368, 107], "ok"),
        ([2, 2, 105, 2364, 107, 236881, 106, 107, 105, 4368, 107], "failed"),
        ([2, 2364, 236787, 236881], "failed"),
    ],
    ids=["Gemma's", "a second <bos>", "another template"],
)
def test_the_template_is_checked_by_the_ids(server, connect, ids, verdict):
    server.chat, server.tokenize = gemma_like, lambda body: ids
    assert verdicts(endpoint_checks(connect()))["template"] == verdict


def test_a_second_bos_shows_in_the_number_of_tokens(server, connect):
    server.chat = lambda handler, body: handler.stream([chunk("x"), chunk(finish="stop"), usage(11 + 256 * pictures(body), 1)])
    assert verdicts(endpoint_checks(connect()))["template"] == "failed"


def test_a_server_that_samples_fails_greedy(server, connect):
    numbers = iter(range(99))
    server.chat = lambda handler, body: says(f"answer {next(numbers)}")(handler, body)
    assert verdicts(endpoint_checks(connect()))["greedy"] == "failed"


def test_control_tokens_in_an_answer_fail_the_stop_row(server, connect):
    server.chat = says("Yes<end_of_turn>")
    assert verdicts(endpoint_checks(connect()))["stop"] == "failed"


def test_a_server_that_is_not_there_is_one_row(server):
    result = doctor("--endpoint", "http://127.0.0.1:1/v1")
    assert (result.exit_code, "server        failed" in result.stdout) == (1, True)
