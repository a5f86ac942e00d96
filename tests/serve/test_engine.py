"""Requests that are decoded together do not touch one another, and end when nobody waits for them any more."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import mlx.core as mx
import pytest
from cases import MIXED_PROMPTS
from mlx_vlm.generate.ar import BatchGenerator, GenerationBatch, PromptProcessingBatch
from serving import PATIENCE, SIDE, chat, choices, encoded, running, until
from tiny import picture

from medgemma_app import GenerationError, OptionError, Options, Prompt
from medgemma_app.model.answer import Decoding
from medgemma_app.serve import engine as engine_module
from medgemma_app.serve.engine import Engine
from medgemma_app.validate.loops import LoopWatch


@pytest.fixture(scope="module")
def client(tiny_folder):
    """Of a server whose model, of random weights, does not stop by itself."""
    with running(str(tiny_folder)) as client:
        yield client


def together(client, rows):
    """What becomes of (prompt, options) that are asked at once."""

    def generate(row):
        try:
            return client.engine.served.session().generate(*row)
        except GenerationError as error:
            return error

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(generate, rows))


def test_mlx_vlm_still_has_the_private_parts_that_the_engine_uses(tiny_model):
    """Where this fails, find out how mlx-vlm now says which ids of a prompt are left, and how it adds a row that has been read."""
    model, ids, sampler = tiny_model.model.language_model, [2, 5, 6, 7], tiny_model.sampler(Options())
    prompt = PromptProcessingBatch(
        model=model, uids=[9], input_ids=[ids], max_tokens=[2], inputs_embeds=tiny_model.embed(Prompt(("x",)), ids), prompt_kwargs={}
    )
    prompt.prefill_step_size = 3
    prompt.prompt_step()
    assert prompt._input_ids.tolist() == [[7]]
    generator = BatchGenerator(model, tiny_model.processor, sampler=sampler)
    generator._extend_generation_batch(prompt.generate(sampler, generator.tokenizer.stopping_criteria))
    assert [response.uid for response in generator.next()[1]] == [9]


def test_rows_of_every_length_and_number_of_pictures_come_out_as_alone(tiny_model, client):
    """Random weights: the smallest difference of a mask or of a position shows. Sampled and greedy rows stand side by side."""
    options = [Options(max_tokens=20), Options(max_tokens=8, temperature=0.8, seed=5, top_k=40, repetition_penalty=1.2)]
    rows = [(prompt, options[at % 4 == 2]) for at, prompt in enumerate(MIXED_PROMPTS + MIXED_PROMPTS[:2])]
    assert [row.token_ids for row in together(client, rows)] == [tiny_model.generate(*row).token_ids for row in rows]


def test_the_vocabulary_for_schemas_is_prepared_before_the_server_is_ready(tiny_folder):
    """No other thread runs while it is prepared, so that every client would wait."""
    engine = Engine(str(tiny_folder))
    engine.wait_until_ready(PATIENCE)
    assert "token_bytes" in vars(engine.served)
    assert engine.ended(PATIENCE)


def test_a_tokenizer_that_cannot_be_used_for_schemas_fails_only_requests_with_one(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "checkpoint")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"decoder": None}))
    engine = Engine(str(folder))
    engine.wait_until_ready(PATIENCE)
    session = engine.served.session()
    assert len(session.generate(Prompt(("Left or right?",)), Options(max_tokens=4)).token_ids) == 4
    with pytest.raises(OptionError, match="llguidance does not support its tokenizer"):
        session.generate(Prompt(("Left or right?",)), Options(max_tokens=4, schema=SIDE))
    assert engine.ended(PATIENCE)


TOO_WIDE = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(800)}}  # for llguidance's parser


def test_answers_beside_one_with_a_schema_are_unchanged_and_a_schema_that_fails_halfway_fails_alone(tiny_model, client):
    options = [Options(max_tokens=30), Options(max_tokens=30, schema=SIDE), Options(max_tokens=30, temperature=0.8, seed=5)]
    rows = [(prompt, options[at % 3]) for at, prompt in enumerate(MIXED_PROMPTS)]
    *found, failed = together(client, [*rows, (MIXED_PROMPTS[0], Options(schema=TOO_WIDE))])
    assert [row.token_ids for row in found] == [tiny_model.generate(*row).token_ids for row in rows]
    assert all(json.loads(row.text)["side"] in ("left", "right") for row in found[1::3])
    assert isinstance(failed, GenerationError)
    format = {"type": "json_schema", "json_schema": {"name": "wide", "schema": TOO_WIDE}}
    body = chat("Left or right?", model=client.engine.served.id, response_format=format)
    assert client.post("/v1/chat/completions", json=body).status_code == 503
    stream = client.post("/v1/chat/completions", json=body | {"stream": True}).text
    assert '"code": 503' in stream and stream.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("piece", [2, 37, *(pytest.param(piece, marks=pytest.mark.slow) for piece in (5, 16))])
def test_a_prompt_read_in_pieces_gives_what_it_gives_whole(tiny_model, client, monkeypatch, piece):
    """Pieces never cut an image, also not one that is longer than a piece."""
    monkeypatch.setattr(engine_module, "PIECE", piece)
    for prompt in MIXED_PROMPTS[:5]:
        given, wanted = (list(model.stream(prompt, Options(max_tokens=8))) for model in (client.engine.served.session(), tiny_model))
        assert [token.id for token in given] == [token.id for token in wanted]
        assert [token.logprob for token in given] == pytest.approx([token.logprob for token in wanted], abs=1e-4)


@pytest.mark.parametrize(("passed", "place"), [(2, 3), (3, 4)])
def test_a_short_prompt_is_read_before_what_is_left_of_long_ones(client, monkeypatch, passed, place):
    """It waits for the third piece, which is being read, and for one more where it is the turn of the prompt that came first."""
    monkeypatch.setattr(engine_module, "PIECE", 32)
    engine, read, asked = client.engine, [], []
    original = Engine._read_piece
    long = Prompt(("word " * 160,))
    short = Prompt(("Short.",))

    def reading(engine, request, prompt):
        read.append(prompt._input_ids.shape[1])
        if len(read) == 1:
            until(lambda: engine._arriving.qsize() + len(engine._waiting) == 2)  # the other long ones have come
        if len(read) == 3:
            engine._passed = passed
            asked.append(pool.submit(engine.served.session().generate, short, Options(max_tokens=1)))
            until(lambda: engine._arriving.qsize())
        original(engine, request, prompt)

    monkeypatch.setattr(Engine, "_read_piece", reading)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            asked.append(pool.submit(engine.served.session().generate, long, Options(max_tokens=1)))
        until(lambda: len(asked) == 4)
        for one in asked:
            one.result()
    small = len(engine.served.tokenize(short))
    assert read.index(small) == place
    assert len(read) > 12


LONG_OR_SEEN = {"a long prompt": [Prompt(("word " * 160,))], "pictures": [Prompt((picture(seed), "?")) for seed in range(50, 58)]}


@pytest.mark.parametrize("beside", LONG_OR_SEEN)
def test_an_answer_gets_as_much_time_as_what_is_read_beside_it(client, monkeypatch, beside):
    """By a clock on which a piece of a long prompt, or encoding a picture, takes ten times as long as a token."""
    clock, done = [0], []
    read, decode, embed = Engine._read_piece, GenerationBatch.next, client.engine.served.embed

    def pass_time(name, ticks):
        clock[0] += ticks
        done.append(name)

    def reading(*how):
        read(*how)
        if beside == "a long prompt":
            pass_time("slow", 10)

    def embedding(prompt, ids):
        if prompt.images:
            pass_time("slow", 10)
        return embed(prompt, ids)

    def decoding(batch):
        pass_time("token", 1)
        return decode(batch)

    monkeypatch.setattr(engine_module, "PIECE", 32)
    monkeypatch.setattr(engine_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Engine, "_read_piece", reading)
    monkeypatch.setattr(GenerationBatch, "next", decoding)
    monkeypatch.setattr(client.engine.served, "embed", embedding)
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(client.engine.served.session().generate, Prompt(("Short.",)), Options(max_tokens=300))
        until(lambda: "token" in done)
        together(client, [(prompt, Options(max_tokens=1)) for prompt in LONG_OR_SEEN[beside]])
        answer.result()
    tokens_between = [tokens.count("token") for tokens in " ".join(done).split("slow")[1:-1]]
    assert len(tokens_between) > 5
    assert set(tokens_between[1:]) <= {10, 11}  # one more where a piece is read after the pictures


def test_a_second_server_of_the_process_answers_with_its_own_engine(client, tiny_folder, monkeypatch):
    body = chat("Left or right?", model=client.engine.served.id, max_tokens=5)
    wanted = client.post("/v1/chat/completions", json=body).json()["choices"]
    with running(str(tiny_folder)) as second:
        for each in (client, second):
            other = second if each is client else client
            with monkeypatch.context() as patched:
                patched.setattr(other.engine, "submit", lambda *_: pytest.fail("the other server's engine was asked"))
                assert each.post("/v1/chat/completions", json=body).json()["choices"] == wanted
    assert client.post("/v1/chat/completions", json=body).json()["choices"] == wanted


@pytest.mark.parametrize(("format", "reason", "tokens"), [("text", "repetition", 5), ("json_object", "length", 9)])
def test_a_chat_that_repeats_itself_ends_as_in_the_local_model_but_not_one_with_a_schema(client, monkeypatch, format, reason, tokens):
    watched = Counter()

    def feed(watch, text):
        watched[watch] += 1
        return watched[watch] >= 5

    monkeypatch.setattr(LoopWatch, "feed", feed)
    body = chat("Left or right?", model=client.engine.served.id, max_tokens=9, response_format={"type": format})
    whole = client.post("/v1/chat/completions", json=body).json()
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == (reason, tokens)
    stream = client.post("/v1/chat/completions", json=body | {"stream": True}).text
    assert choices(stream)[-1]["finish_reason"] == reason
    assert "".join(choice["delta"]["content"] for choice in choices(stream)) == whole["choices"][0]["message"]["content"]
    until(lambda: not client.engine._answering)


def test_a_prompt_that_cannot_be_embedded_fails_alone(client, monkeypatch):
    embed = client.engine.served.embed

    def failing(prompt, ids):
        if len(prompt.images) == 1:
            raise RuntimeError("out of memory")
        return embed(prompt, ids) * (mx.nan if len(prompt.images) == 2 else 1)

    rows = [(prompt, Options(max_tokens=5)) for prompt in MIXED_PROMPTS[:4]]
    wanted = together(client, rows)
    monkeypatch.setattr(client.engine.served, "embed", failing)
    found = together(client, rows)
    for row, before, after in zip(rows, wanted, found, strict=True):
        if len(row[0].images) in (1, 2):
            assert isinstance(after, GenerationError)
        else:
            assert after.token_ids == before.token_ids


def test_a_pass_that_fails_ends_what_runs_and_the_engine_goes_on(client, monkeypatch):
    engine, rows = client.engine, [(prompt, Options(max_tokens=5)) for prompt in MIXED_PROMPTS[:3]]
    wanted = together(client, rows)

    def failing(*_):
        monkeypatch.undo()
        raise RuntimeError("[metal::malloc] out of memory")

    monkeypatch.setattr(engine, "_decode", failing)
    with pytest.raises(GenerationError, match="out of memory"):
        engine.served.session().generate(*rows[0])
    assert [row.token_ids for row in together(client, rows)] == [row.token_ids for row in wanted]


LEAVING = [("/v1/findings", True), ("/v1/findings", False), ("/v1/chat/completions", True), ("/v1/chat/completions", False)]


@pytest.mark.parametrize(("path", "stream"), LEAVING)
def test_the_engine_stops_within_two_tokens_of_the_client_leaving(client, monkeypatch, path, stream):
    engine, made = client.engine, []
    take = Decoding.take

    def slow(*how):
        """A token every 50 ms: long enough for the news that the client has gone."""
        time.sleep(0.05)
        made.append(how)
        return take(*how)

    monkeypatch.setattr(Decoding, "take", slow)
    options = {"max_tokens": 500}
    body = (
        chat(picture(1, 64), "?", model=engine.served.id, **options)
        if "chat" in path
        else {"scan": encoded(picture(1, 64)), "options": options}
    )
    sent = json.dumps({**body, "stream": stream}).encode()
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        connection.sendall(head.encode() + sent)
        until(lambda: len(made) >= 3)
    before = len(made)
    until(lambda: not engine._answering)
    assert len(made) - before <= 2


def test_a_client_that_leaves_before_its_turn_costs_nothing(client, monkeypatch):
    engine, looked = client.engine, []
    embed = engine.served.embed
    monkeypatch.setattr(engine.served, "embed", lambda prompt, ids: looked.append(len(prompt.images)) or embed(prompt, ids))
    monkeypatch.setattr(engine, "most", 1)
    running, waiting = engine.served.session(), engine.served.session()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(running.generate, MIXED_PROMPTS[3], Options(max_tokens=2000))
        until(lambda: engine._answering)
        second = pool.submit(waiting.generate, MIXED_PROMPTS[1], Options(max_tokens=2000))
        until(lambda: waiting._request is not None)
        for session, asked in ((waiting, second), (running, first)):
            session.cancel()
            assert isinstance(asked.exception(), GenerationError)
    assert len(together(client, [(MIXED_PROMPTS[0], Options(max_tokens=3))])[0].token_ids) == 3
    assert looked == [len(MIXED_PROMPTS[3].images), len(MIXED_PROMPTS[0].images)]
