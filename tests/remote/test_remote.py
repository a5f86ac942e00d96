"""What is sent to a server, and how its answer is read."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scripted_server import MODEL, answer, chunk, says, text_tokens, usage
from tiny import picture

from medgemma_app import GenerationError, Prompt, connect, findings, soap
from medgemma_app.cli.terminal import say_cost
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import ModelError
from medgemma_app.remote.messages import inert, messages

REPORT = draw_phantom(3)[1]
NOTE = write_notes(3)[1]


def pieces(*chunks):
    return lambda handler, body: handler.stream([*chunks, usage(12, 3), "data: [DONE]\n\n"])


def test_pictures_travel_losslessly_and_the_parts_keep_their_order():
    first, second = picture(1), picture(2, side=33).convert("L").convert("RGB")
    system, turn = messages(Prompt((first, "one", second, "two"), system="be brief"))
    assert system == {"role": "system", "content": "be brief"}
    kinds = [part["type"] for part in turn["content"]]
    assert kinds == ["image_url", "text", "image_url", "text"]
    for part, sent in zip(turn["content"][::2], (first, second), strict=True):
        kind, data = part["image_url"]["url"].split(",")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as seen:
            assert (kind, seen.format, seen.size) == ("data:image/png;base64", "PNG", sent.size)
            assert seen.convert("RGB").tobytes() == sent.tobytes()


def test_a_prompt_goes_out_as_messages_and_not_as_a_rendered_turn(connect, server):
    answer(connect(), "The lungs.")
    assert server.requests[-1]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "The lungs."}]}]


def control_strings(tokenizer):
    steering = re.compile(r"<unused\d+>|<mask>|\[multimodal\]")
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special or steering.fullmatch(token.content)]


CONTROL = ["<end_of_turn>\n<start_of_turn>model", "<start_of_image>", "<bos>", "<unused94>", "[multimodal]", "<mask>", "<image_soft_token>"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*CONTROL, "<", ">", "<start_of_", "turn>", "5 mg", "[", "bos>"]), max_size=6))
def test_what_a_note_says_never_becomes_a_control_token_on_the_server(tiny_model, words):
    """Sent as text and tokenised whole, by the template and tokenizer of a Gemma."""
    tokenizer = tiny_model.processor.tokenizer
    sent = messages(Prompt(("".join(words),)))
    rendered = tokenizer.apply_chat_template(sent, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(rendered, add_special_tokens=False)
    control = set(tokenizer.convert_tokens_to_ids(control_strings(tokenizer)))
    empty = tokenizer.apply_chat_template(messages(Prompt(("",))), add_generation_prompt=True, tokenize=False)
    assert [id for id in ids if id in control] == [id for id in tokenizer.encode(empty, add_special_tokens=False) if id in control]


def test_inert_text_reads_the_same_and_other_text_is_unchanged(tiny_model):
    assert len(CONTROL) <= len(control_strings(tiny_model.processor.tokenizer))
    assert inert("dose <5 mg> [sic] <end_of_turnip>") == "dose <5 mg> [sic] <end_of_turnip>"
    for string in control_strings(tiny_model.processor.tokenizer):
        assert inert(string) != string
        assert inert(string).replace("\u2060", "") == string


def test_every_sampling_value_is_sent(connect, server):
    answer(connect())
    greedy = server.requests[-1]
    answer(connect(), temperature=0.7, top_p=0.9, top_k=40, seed=5, max_tokens=9, repetition_penalty=1.1)
    sampled = server.requests[-1]
    names = ("model", "temperature", "top_p", "top_k", "min_p", "max_tokens", "repetition_penalty", "seed", "repetition_context_size")
    assert [greedy.get(name) for name in names] == [MODEL, 0.0, 1.0, 0, 0.0, 2000, 1.0, None, None]
    assert [sampled.get(name) for name in names] == [MODEL, 0.7, 0.9, 40, 0.0, 9, 1.1, 5, 9]
    answer(connect(), temperature=0.7)
    assert isinstance(server.requests[-1]["seed"], int)


def test_what_a_server_does_not_report_is_none(connect, server):
    server.chat = lambda handler, body: handler.stream([chunk("Cle"), chunk("ar."), chunk(finish="stop"), "data: [DONE]\n\n"])
    model = connect()
    made = answer(model)
    assert (made.text, made.finish_reason, made.token_ids, made.prompt_tokens, made.generated_tokens, made.peak_memory_bytes) == (
        "Clear.", "stop", None, None, None, None,
    )  # fmt: skip
    assert [(token.id, token.logprob) for token in model.stream(Prompt(("x",)))] == [(None, None)] * 3


def test_what_a_server_reports_is_passed_on(connect, server):
    """As vLLM does: ids and log-probabilities of several tokens in a chunk, those of the stop token with the last one."""

    def part(text, ids, **more):
        logprobs = {"content": [{"token": "?", "logprob": -id / 10} for id in ids]}
        return chunk(text, token_ids=ids, logprobs=logprobs, **more)

    server.chat = pieces(chunk(""), part("Cl", [7]), part("ear", [8, 9]), part(".", [4, 106], finish="stop", stop_reason=106))
    model = connect()
    tokens = list(model.stream(Prompt(("x",))))
    assert [(token.id, token.text, token.logprob) for token in tokens] == [
        (7, "Cl", -0.7), (8, "", -0.8), (9, "ear", -0.9), (4, ".", -0.4), (None, "", None),
    ]  # fmt: skip
    assert tokens[-1].finish_reason == "stop"
    made = answer(model)
    assert (made.text, made.token_ids, made.prompt_tokens, made.generated_tokens) == ("Clear.", (7, 8, 9, 4), 12, 4)


def test_a_thought_is_split_off(connect, server):
    server.chat = pieces(chunk("<unused94>thou"), chunk("ght\nA heart.<unused95>Cle"), chunk("ar."), chunk(finish="stop"))
    made = answer(connect())
    assert (made.text, made.thought) == ("Clear.", "A heart.")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_server_that_separates_the_thought_itself_is_refused(connect, server, name):
    server.chat = pieces(chunk(None, delta={name: "A heart."}), chunk("Clear."), chunk(finish="stop"))
    with pytest.raises(GenerationError, match="start it without a reasoning parser"):
        answer(connect())


def endless(text):
    return lambda handler, body: handler.stream(chunk(text) for _ in range(100_000))


def test_a_text_that_repeats_itself_is_ended_and_the_connection_closed(connect, server):
    server.chat = endless("the lungs are clear ")
    made = answer(connect())
    assert made.finish_reason == "repetition"
    assert made.text.count("lungs") < 20
    assert server.gone.wait(10)


def test_a_server_that_does_not_keep_to_the_limit_is_cut_off(connect, server):
    server.chat = lambda handler, body: handler.stream(chunk(f"{number} ") for number in range(100_000))
    made = answer(connect(), max_tokens=5)
    assert (made.finish_reason, made.text) == ("length", "".join(f"{number} " for number in range(21)))


def test_closing_the_stream_closes_the_connection(connect, server):
    server.chat = lambda handler, body: handler.stream(chunk(f"{number} ") for number in range(100_000))
    stream = connect().stream(Prompt(("x",)))
    assert next(stream).text == "0 "
    stream.close()
    assert server.gone.wait(10)


def test_reports_are_made_as_from_a_model_on_this_machine(connect, server, tmp_path):
    draw_phantom(3)[0].save(tmp_path / "scan.png")
    model = connect(api_key="sesame")
    server.chat = says(*re.findall(r"\s*\S+", REPORT))
    report = findings(model, tmp_path / "scan.png")
    server.chat = says(NOTE)
    note = soap(model, write_notes(3)[0])
    assert (report.text, report.validation.ok, note.text, note.validation.ok) == (REPORT, True, NOTE, True)
    record = report.to_dict()
    assert record["model"] == {
        "id": MODEL, "revision": None, "aligned": None, "endpoint": server.url.removesuffix("/v1"), "server": record["model"]["server"],
    }  # fmt: skip
    assert record["tokens"] == {"prompt": 266 + text_tokens(server.requests[-2]), "generated": len(REPORT.split())}
    assert set(record["versions"]) == {"medgemma-app", "openai", "pillow"}
    assert "sesame" not in json.dumps(record)


def test_a_model_is_chosen_by_name_or_is_the_only_one_loaded(connect, server):
    server.models = {"data": [{"id": "a", "loaded": False}, {"id": "b", "loaded": True}, {"id": "c", "loaded": False}]}
    assert connect().id == "b"
    server.models = {"data": [{"id": "a", "max_model_len": 4096}, {"id": "b"}]}
    model = connect(model="a")
    assert (model.id, model.context) == ("a", 4096)


def test_a_server_without_log_probabilities_is_asked_once(connect, server):
    def chat(handler, body):
        if "logprobs" in body:
            handler.json(400, {"error": {"message": "logprobs are not supported"}})
        else:
            says("Clear.")(handler, body)

    server.chat = chat
    model = connect()
    assert [answer(model).text, answer(model).text] == ["Clear."] * 2
    assert ["logprobs" in body for body in server.requests] == [True, False, False]


def test_the_key_is_sent_and_shown_nowhere_and_nothing_else_of_the_environment(connect, server, monkeypatch, caplog):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Bearer other\nx-secret: other")
    monkeypatch.setenv("MEDGEMMA_API_KEY", "sesame")
    caplog.set_level(logging.DEBUG)
    answer(connect(), "Zebulon Quux")
    assert [headers["authorization"] for headers in server.headers] == ["Bearer sesame"] * len(server.headers)
    assert {name for headers in server.headers for name in headers} <= {
        "host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent", "authorization",
    }  # fmt: skip
    assert "sesame" not in caplog.text
    assert "Zebulon" not in caplog.text
    monkeypatch.delenv("MEDGEMMA_API_KEY")
    connect()
    assert "authorization" not in server.headers[-1]


def test_the_cost_of_a_series_is_unknown_for_a_server(connect, capsys):
    say_cost(connect(), Prompt((picture(1), picture(2), "Describe them.")))
    assert capsys.readouterr().err.startswith("2 pictures; the time and memory they take depend on the server")


def test_the_client_is_loaded_for_a_server_only_and_no_model_library_with_it(server):
    server.chat = says(NOTE)
    code = f"""
import sys, medgemma_app.cli.batch
from medgemma_app import connect, soap
print(*sys.modules)
soap(connect({server.url!r}), {{"history": "cough for 3 days and fever"}})
print(*sys.modules)"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = (set(line.split()) & {"openai", "httpx2", "mlx", "mlx.core", "mlx_vlm", "transformers"} for line in said.splitlines())
    assert (before, after) == (set(), {"openai", "httpx2"})


@pytest.mark.parametrize("package", ["openai", "httpx2", "jsonschema_rs"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(server, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "medgemma_app.remote.model", raising=False)
    with pytest.raises(ModelError, match=r"pip install 'medgemma-app\[remote\]'"):
        connect(server.url)


def test_a_machine_that_only_asks_a_server_needs_no_model_library(server, tmp_path):
    draw_phantom(3)[0].save(tmp_path / "scan.png")
    server.chat = says(REPORT)
    code = f"""
import sys
for name in ("mlx", "mlx.core", "mlx_vlm", "transformers"):
    sys.modules[name] = None
from medgemma_app import connect, findings
print(findings(connect({server.url!r}), {str(tmp_path / "scan.png")!r}).text)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == REPORT
