"""Rows that are decoded together come out as they would alone."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import pytest
from cases import MIXED_PROMPTS
from mlx_vlm.generate.ar import BatchGenerator

from medgemma_app import ContextError, GenerationError, Options, Prompt
from medgemma_app.model.loaded import LoadedModel
from medgemma_app.model.local import Batch


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (Options(max_tokens=20), 3),
        (Options(max_tokens=20), 6),
        (Options(max_tokens=8, temperature=0.8, seed=5, top_k=40), 4),
        (Options(max_tokens=8, repetition_penalty=1.3), 4),
    ],
    ids=["greedy, three at a time", "greedy, all at once", "sampled", "penalised"],
)
def test_a_batch_gives_the_same_answers_as_one_prompt_at_a_time(tiny_model, options, size):
    alone = [tiny_model.generate(prompt, options) for prompt in MIXED_PROMPTS]
    together = list(tiny_model.generate_many(MIXED_PROMPTS, options, batch_size=size))
    assert [row.token_ids for row in together] == [row.token_ids for row in alone]
    assert [(row.text, row.finish_reason, row.prompt_tokens) for row in together] == [
        (row.text, row.finish_reason, row.prompt_tokens) for row in alone
    ]


def test_every_row_has_the_length_that_its_prompt_allows(tiny_model):
    prompts = [replace(prompt, answer_tokens=length) for prompt, length in zip(MIXED_PROMPTS, (2, 5, 3), strict=False)]
    lengths = [len(row.token_ids) for row in tiny_model.generate_many(prompts, batch_size=3)]
    assert lengths == [len(tiny_model.generate(prompt).token_ids) for prompt in prompts] == [2, 5, 3]


def test_a_prompt_that_does_not_fit_fails_alone_and_in_its_place(tiny_model):
    prompts = [MIXED_PROMPTS[0], Prompt(("x " * 9000,)), MIXED_PROMPTS[1]]
    first, error, last = tiny_model.generate_many(prompts, Options(max_tokens=3), batch_size=2)
    assert isinstance(error, ContextError)
    assert [len(row.token_ids) for row in (first, last)] == [3, 3]


def test_prompts_are_taken_only_as_there_is_room(tiny_model):
    taken = []
    results = tiny_model.generate_many((taken.append(prompt) or prompt for prompt in MIXED_PROMPTS), Options(max_tokens=2), batch_size=2)
    next(results)
    assert len(taken) <= 4
    results.close()


def test_a_row_without_finite_numbers_fails_and_the_others_go_on(tiny_model, monkeypatch):
    wanted = [row.token_ids for row in tiny_model.generate_many(MIXED_PROMPTS[:3], Options(max_tokens=4), batch_size=3)]
    embed = LoadedModel.embed

    def broken(self, prompt, ids):
        return embed(self, prompt, ids) * (mx.nan if prompt is MIXED_PROMPTS[1] else 1)

    monkeypatch.setattr(LoadedModel, "embed", broken)
    first, error, last = tiny_model.generate_many(MIXED_PROMPTS[:3], Options(max_tokens=4), batch_size=3)
    assert [first.token_ids, last.token_ids] == [wanted[0], wanted[2]]
    assert isinstance(error, GenerationError)


def test_out_of_memory_goes_on_with_half_as_many(tiny_model, monkeypatch):
    sizes, step, start = [], BatchGenerator.next, Batch.__init__

    def noted(self, model, options, size):
        sizes.append(size)
        start(self, model, options, size)

    def scarce(self):
        if len(self._unprocessed_sequences) + len(self._generation_batch) > 2:
            raise RuntimeError("[malloc] Unable to allocate\nmore")
        return step(self)

    monkeypatch.setattr(Batch, "__init__", noted)
    monkeypatch.setattr(BatchGenerator, "next", scarce)
    rows = list(tiny_model.generate_many(MIXED_PROMPTS, Options(max_tokens=4), batch_size=6))
    assert sizes == [6, 3, 1]
    assert [row.token_ids for row in rows] == [tiny_model.generate(prompt, Options(max_tokens=4)).token_ids for prompt in MIXED_PROMPTS]


def test_what_fails_even_alone_is_an_error_in_one_line(tiny_model, monkeypatch):
    monkeypatch.setattr(BatchGenerator, "next", lambda self: (_ for _ in ()).throw(RuntimeError("[malloc] no\nmore")))
    for result in tiny_model.generate_many(MIXED_PROMPTS[:2], Options(max_tokens=4), batch_size=2):
        assert isinstance(result, GenerationError)
        assert str(result) == "the model failed while generating: [malloc] no"


def test_memory_decides_how_many_rows_there_are(tiny_model, monkeypatch):
    assert tiny_model.batch_size(100) == 16
    monkeypatch.setattr(mx, "get_active_memory", lambda: 1 << 60)
    assert tiny_model.batch_size(100) == 1
