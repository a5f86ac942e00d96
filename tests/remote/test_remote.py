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
from scripted_server import MODEL, chunk, pictures, says, text_tokens, usage
from tiny import picture

from medgemma_app import InputError, Options, Prompt, connect, findings, soap
from medgemma_app.cli.terminal import say_cost
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import ContextError, ModelError
from medgemma_app.model.generation import EndpointError, GenerationError
from medgemma_app.remote.messages import inert, messages

REPORT = draw_phantom(3)[1]
NOTE = write_notes(3)[1]


def answer(model, text="Say something.", **options):
    return model.generate(Prompt((text,)), Options(**options))


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
    tokenizer = tiny_model._loaded.processor.tokenizer
    sent = messages(Prompt(("".join(words),)))
    rendered = tokenizer.apply_chat_template(sent, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(rendered, add_special_tokens=False)
    control = set(tokenizer.convert_tokens_to_ids(control_strings(tokenizer)))
    empty = tokenizer.apply_chat_template(messages(Prompt(("",))), add_generation_prompt=True, tokenize=False)
    assert [id for id in ids if id in control] == [id for id in tokenizer.encode(empty, add_special_tokens=False) if id in control]


def test_inert_text_reads_the_same_and_other_text_is_unchanged(tiny_model):
    assert len(CONTROL) <= len(control_strings(tiny_model._loaded.processor.tokenizer))
    assert inert("dose <5 mg> [sic] <end_of_turnip>") == "dose <5 mg> [sic] <end_of_turnip>"
    for string in control_strings(tiny_model._loaded.processor.tokenizer):
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


def test_a_thought_is_split_off_whether_or_not_the_server_has_done_so(connect, server):
    for chunks in (
        [chunk("<unused94>thou"), chunk("ght\nA heart.<unused95>Cle"), chunk("ar.")],
        [chunk(None, delta={"reasoning_content": "A heart."}), chunk("Cle"), chunk("ar.")],
        [chunk(None, delta={"reasoning": "A he"}), chunk(None, delta={"reasoning": "art."}), chunk("Clear.")],
    ):
        server.chat = pieces(*chunks, chunk(finish="stop"))
        made = answer(connect())
        assert (made.text, made.thought) == ("Clear.", "A heart.")


def test_a_thought_that_was_cut_is_no_answer(connect, server):
    server.chat = pieces(chunk(None, delta={"reasoning_content": "A heart"}), chunk(finish="length"))
    made = answer(connect())
    assert (made.text, made.thought, made.finish_reason) == ("", "A heart", "length")


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


def test_a_server_that_counts_tokens_decides_what_fits(connect, server):
    server.tokenize = lambda body: list(range(len(json.dumps(body))))
    server.models = {"data": [{"id": MODEL, "max_model_len": 2000}]}
    model = connect()
    assert len(model.tokenize(Prompt(("x",)))) > 10
    notes = {"history": "Cough for 3 days. " * 200}
    with pytest.raises(ContextError, match="--truncate"):
        soap(model, notes)
    server.chat = says(NOTE)
    assert any("left out" in warning for warning in soap(model, notes, truncate=True).warnings)


@pytest.mark.parametrize("counted", [None, [None], [], "12", {"1": 2}, ["1"]], ids=str)
def test_a_server_that_counts_in_another_way_does_not_count(connect, server, counted):
    server.tokenize = lambda body: counted
    assert connect().can_count is False


def test_a_server_that_does_not_count_is_sent_everything_and_refuses_by_itself(connect, server):
    model = connect()
    with pytest.raises(InputError, match="did not count the tokens"):
        soap(model, {"history": "Cough for 3 days. " * 20}, truncate=True)
    for message in (
        "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 7000 tokens (5000 in the messages, 2000 more).",
        "This model's maximum context length is 4096 tokens. However, your prompt contains at least 5000 input tokens.",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "Request needs 7000 context tokens (5000 prompt + 2000 max generation), but MAX_KV_SIZE is 4096.",
    ):
        server.chat = lambda handler, body, message=message: handler.json(400, {"error": {"message": message}})
        with pytest.raises(ContextError) as caught:
            soap(model, {"history": "Cough for 3 days. " * 20})
        assert (caught.value.tokens, caught.value.limit) == (5000, 4096)


def test_a_limit_in_characters_is_not_taken_for_the_number_of_tokens(connect, server):
    message = "maximum context length is 4096 tokens. However, your prompt contains 5000 characters (the upper bound for 100 input tokens)."
    server.chat = lambda handler, body: handler.json(400, {"error": {"message": message}})
    with pytest.raises(GenerationError, match="refuses the request \\(400\\)"):
        answer(connect())


def test_no_more_tokens_are_asked_for_than_the_server_takes(connect, server):
    server.models["data"][0]["max_model_len"] = 50
    answer(connect())
    assert server.requests[0]["max_tokens"] == 50


def test_an_answer_gets_as_many_tokens_as_are_left(connect, server):
    said = "This model's maximum context length is 4096 tokens and your request has 4000 input tokens (2000 > 4096 - 4000)."

    def chat(handler, body):
        if body["max_tokens"] > 96:
            handler.json(400, {"error": {"message": said}})
        else:
            says("Clear.")(handler, body)

    server.chat = chat
    assert answer(connect()).text == "Clear."
    assert [body["max_tokens"] for body in server.requests] == [2000, 96]


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


def refuses_pictures(status, message):
    def chat(handler, body):
        if pictures(body):
            handler.json(status, {"error": {"message": message}}, retry_after="0")
        else:
            says("Clear.")(handler, body)

    return chat


@pytest.mark.parametrize(
    "chat",
    [
        says("Clear.", picture_tokens=5),
        refuses_pictures(400, "med is not a multimodal model"),
        refuses_pictures(500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
    ],
    ids=["a word in its place", "refused", "failed"],
)
def test_a_text_only_server_is_noticed_before_a_picture_is_sent_to_it(connect, server, chat):
    server.chat = chat
    with pytest.raises(EndpointError, match="does not see pictures"):
        connect().generate(Prompt((picture(1), "Describe it.")))
    assert [pictures(body) for body in server.requests] == [0, 1]
    assert json.dumps(messages(Prompt((picture(1),)))[0]["content"][0]) not in json.dumps(server.requests)


def test_a_busy_server_is_asked_again_whether_it_sees_pictures(connect, server):
    def chat(handler, body):
        if pictures(body) and len(server.requests) < 4:
            handler.json(503, {"error": {"message": "loading"}}, retry_after="0")
        else:
            says("Clear.")(handler, body)

    server.chat = chat
    assert connect().generate(Prompt((picture(1), "Describe it."))).text == "Clear."
    assert [pictures(body) for body in server.requests] == [0, 1, 1, 1, 1]


def test_a_server_that_drops_one_of_two_pictures_is_noticed(connect, server):
    def chat(handler, body):
        handler.stream([chunk("Clear."), chunk(finish="stop"), usage(10 + 256 * min(1, pictures(body)), 1)])

    server.chat = chat
    model = connect()
    assert model.generate(Prompt((picture(1), "Describe it."))).text == "Clear."
    with pytest.raises(GenerationError, match="did not see all pictures") as caught:
        model.generate(Prompt((picture(1), picture(2), "Compare them.")))
    assert caught.value.partial.text == "Clear."


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


def test_a_missing_extra_is_one_line_that_says_what_to_install(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
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
