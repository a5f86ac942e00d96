"""A generation that is stopped: no further step, and nothing lost of what there was."""

from __future__ import annotations

import itertools

import pytest
from tiny import picture, scripted

from medgemma_app import GenerationCancelled, GenerationError, Options, Prompt
from medgemma_app.model import gemma3
from medgemma_app.model.answer import Decoding
from medgemma_app.model.loaded import LoadedModel

PROMPT = Prompt((picture(1), "The lungs are clear? "))


def steps(monkeypatch):
    """Counts the forward passes of the text model."""
    counted, forward = [], gemma3.AlignedTextModel.__call__

    def count(self, inputs, *args, **kwargs):
        counted.append(inputs.shape[1])
        return forward(self, inputs, *args, **kwargs)

    monkeypatch.setattr(gemma3.AlignedTextModel, "__call__", count)
    return counted


def test_closing_after_three_tokens_does_no_further_step(tiny_model, monkeypatch):
    """mlx-vlm computes one token ahead of the one it hands out; nothing is computed after that.

    The prompt takes two steps: its last token goes by itself.
    """
    counted = steps(monkeypatch)
    stream = tiny_model.stream(PROMPT, Options(max_tokens=50))
    list(itertools.islice(stream, 3))
    ahead = counted[1:]
    stream.close()
    assert ahead == counted[1:] == [1, 1, 1, 1]


def test_nothing_is_computed_before_the_first_token_is_asked_for(tiny_model, monkeypatch):
    counted = steps(monkeypatch)
    tiny_model.stream(PROMPT)
    assert counted == []


def stop_at(count, model, error):
    """The GenerationCancelled of a generation whose ``on_token`` raises ``error`` at the given token, and the tokens until then."""
    seen = []

    def on_token(token):
        seen.append(token)
        if len(seen) == count:
            raise error

    with pytest.raises(GenerationCancelled) as caught:
        model.generate(PROMPT, Options(max_tokens=50), on_token=on_token)
    return caught.value, seen


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("full"), OSError("gone")])
def test_stopping_from_outside_keeps_what_there_was(tiny_model, error):
    stopped, seen = stop_at(3, tiny_model, error)
    partial = stopped.partial
    assert stopped.__cause__ is error
    assert partial.finish_reason == "cancelled"
    assert list(partial.token_ids) == [token.id for token in seen]
    assert partial.text == tiny_model.processor.tokenizer.decode(partial.token_ids)


def test_no_word_is_held_back_when_stopped(tiny_model, monkeypatch):
    tokenizer = tiny_model.processor.tokenizer
    scripted(monkeypatch, tiny_model, tokenizer.encode("The heart is normal", add_special_tokens=False))
    stopped, seen = stop_at(4, tiny_model, KeyboardInterrupt())
    assert stopped.partial.text == tokenizer.decode([token.id for token in seen]) == "".join(token.text for token in seen)


@pytest.mark.parametrize("text", ["肺野に異常なし。心拡大なし。", "صدر سليم", "é“”", "b" * 20])
def test_text_comes_with_the_token_that_ends_each_character(demo, text):
    """Also without spaces, and where a character takes several tokens of one byte each."""
    processor = demo.processor
    decoding = Decoding(processor, [2], Options())
    pieces = [decoding.decode(id, -0.1).text for id in processor.tokenizer.encode(text, add_special_tokens=False)]
    assert [piece for piece in pieces if piece] == list(text)
    assert pieces[-1] and [token.text for token in decoding.end("stop")] == [""]


def test_a_loop_without_spaces_is_seen(demo):
    processor = demo.processor
    decoding = Decoding(processor, [2], Options())
    assert not any(decoding.decode(id, -0.1) and decoding.looping for id in processor.tokenizer.encode("b" * 290, add_special_tokens=False))
    assert any(decoding.decode(id, -0.1) and decoding.looping for id in processor.tokenizer.encode("b" * 40, add_special_tokens=False))


def test_the_model_works_after_a_cancelled_stream(tiny_model):
    before = tiny_model.generate(PROMPT, Options(max_tokens=5))
    stream = tiny_model.stream(PROMPT, Options(max_tokens=50))
    next(stream)
    stream.close()
    assert tiny_model.generate(PROMPT, Options(max_tokens=5)).token_ids == before.token_ids


@pytest.mark.parametrize("error", [ZeroDivisionError, ValueError, OverflowError])
def test_only_a_cancel_is_a_cancel(tiny_model, monkeypatch, error):
    """Whatever else goes wrong inside a generation is an error of the generation."""

    def failing(*_):
        raise error("sliding_window")

    monkeypatch.setattr(LoadedModel, "picture_inputs", failing)
    with pytest.raises(GenerationError, match=error.__name__):
        tiny_model.generate(PROMPT)
