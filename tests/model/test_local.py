"""Options, stream, generate, encode_image: the contract of the engine on a random checkpoint."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from tiny import make_checkpoint, picture, scripted

from medgemma_app import ContextError, GenerationError, MedGemma, Model, OptionError, Options, Prompt
from medgemma_app.model import gemma3

PROMPT = Prompt((picture(1), "The lungs are clear? "))


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": value} for value in (0, -1, 2.0, True, "9")]
    + [{"temperature": value} for value in (-0.1, math.nan, math.inf, "0")]
    + [{"top_p": value} for value in (0.0, 1.1, math.nan)]
    + [{"top_k": value} for value in (-1, 1.5, False)]
    + [{"seed": value} for value in (-1, 1.0)]
    + [{"repetition_penalty": value} for value in (0.0, -1.0, math.nan)],
    ids=str,
)
def test_a_value_outside_its_range_is_refused_by_name(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Options(**wrong)


def test_a_misspelled_option_fails():
    with pytest.raises(TypeError):
        Options(temprature=0.5)


def test_generate_is_the_fold_of_stream(tiny_model):
    options = Options(max_tokens=12)
    tokens = list(tiny_model.stream(PROMPT, options))
    generation = tiny_model.generate(PROMPT, options)
    assert generation.text == "".join(token.text for token in tokens)
    assert list(generation.token_ids) == [token.id for token in tokens if token.id is not None]
    assert generation.finish_reason == tokens[-1].finish_reason
    assert generation.prompt_tokens == len(tiny_model.tokenize(PROMPT))


def test_only_the_last_item_has_a_finish_reason_and_it_has_no_id(tiny_model):
    *tokens, last = tiny_model.stream(PROMPT, Options(max_tokens=6))
    assert [token.finish_reason for token in tokens] == [None] * 6
    assert all(token.id is not None and token.logprob <= 0 for token in tokens)
    assert (last.id, last.logprob, last.finish_reason) == (None, None, "length")


@pytest.mark.parametrize("stop", ["<eos>", "<end_of_turn>"])
def test_end_of_turn_and_eos_stop_and_are_not_text(tiny_model, monkeypatch, stop):
    encode = tiny_model.processor.tokenizer.encode
    heart = encode("heart", add_special_tokens=False)
    scripted(monkeypatch, tiny_model, [*heart, tiny_model.processor.tokenizer.convert_tokens_to_ids(stop), *heart])
    generation = tiny_model.generate(PROMPT, Options(max_tokens=40))
    assert (generation.text, generation.finish_reason, list(generation.token_ids)) == ("heart", "stop", heart)


def test_characters_that_span_tokens_stay_whole(tiny_model, monkeypatch):
    tokenizer = tiny_model.processor.tokenizer
    text = "naïve 日本 🫀 ok"
    scripted(monkeypatch, tiny_model, [*tokenizer.encode(text, add_special_tokens=False), 1])
    pieces = [token.text for token in tiny_model.stream(PROMPT, Options(max_tokens=60))]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_limit_inside_a_character_keeps_the_text_before_it(tiny_model, monkeypatch):
    tokenizer = tiny_model.processor.tokenizer
    ids = tokenizer.encode("heart 日", add_special_tokens=False)
    scripted(monkeypatch, tiny_model, ids)
    assert tiny_model.generate(PROMPT, Options(max_tokens=len(ids) - 1)).text.startswith("heart ")


def test_the_thought_is_kept_apart(tiny_model, monkeypatch):
    encode = tiny_model.processor.tokenizer.encode
    scripted(monkeypatch, tiny_model, [*encode("<unused94>thought\nclear<unused95>normal", add_special_tokens=False), 1])
    generation = tiny_model.generate(PROMPT, Options(max_tokens=60))
    assert (generation.thought, generation.text) == ("clear", "normal")


def test_greedy_is_the_default_whatever_the_checkpoint_says(tiny_model):
    """The checkpoint's generation_config.json asks for sampling at temperature 2."""
    assert len({tiny_model.generate(PROMPT, Options(max_tokens=8)).token_ids for _ in range(3)}) == 1


def sampled(model, **options):
    return model.generate(PROMPT, Options(max_tokens=8, temperature=1.5, **options)).token_ids


def test_a_seed_makes_sampling_repeatable_and_another_one_differs(tiny_model):
    assert sampled(tiny_model, seed=3) == sampled(tiny_model, seed=3)
    assert len({sampled(tiny_model, seed=seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("restriction", [{"top_k": 1}, {"top_p": 1e-9}])
def test_sampling_restricted_to_one_token_is_greedy(tiny_model, restriction):
    assert sampled(tiny_model, seed=5, **restriction) == tiny_model.generate(PROMPT, Options(max_tokens=8)).token_ids
    assert sampled(tiny_model, seed=5) != sampled(tiny_model, seed=5, **restriction)


def test_top_k_samples_only_the_likeliest(tiny_model):
    first = next(iter(tiny_model._results(PROMPT, tiny_model.start(tiny_model.tokenize(PROMPT), Options(max_tokens=1)))))
    likeliest = set(np.argsort(np.array(first.logprobs))[-3:].tolist())
    drawn = {tiny_model.generate(PROMPT, Options(max_tokens=1, temperature=5.0, top_k=3, seed=seed)).token_ids[0] for seed in range(25)}
    assert drawn == likeliest


def test_a_top_k_beyond_the_vocabulary_restricts_nothing(tiny_model):
    assert sampled(tiny_model, seed=1, top_k=10**6) == sampled(tiny_model, seed=1)


def test_a_repetition_penalty_looks_at_the_answer_and_not_at_the_prompt(tiny_model):
    plain = tiny_model.generate(PROMPT, Options(max_tokens=30)).token_ids
    penalised = tiny_model.generate(PROMPT, Options(max_tokens=30, repetition_penalty=3.0)).token_ids
    assert plain[0] == penalised[0]
    assert len(set(penalised)) > len(set(plain))


def test_seeded_options_can_be_repeated():
    assert Options(temperature=0.5).seeded().seed is not None
    assert Options(temperature=0.5, seed=4).seeded().seed == 4
    assert Options().seeded().seed is None


def test_a_prompt_that_does_not_fit_says_how_many_tokens_fit(tmp_path):
    model = MedGemma.load(str(make_checkpoint(tmp_path / "short", text={"max_position_embeddings": 64})))
    with pytest.raises(ContextError, match="at most 63") as caught:
        model.stream(Prompt(("clear " * 100,)))
    assert caught.value.tokens > caught.value.limit == 63


def test_the_answer_stops_where_the_context_ends(tmp_path):
    model = MedGemma.load(str(make_checkpoint(tmp_path / "short", text={"max_position_embeddings": 64})))
    generation = model.generate(PROMPT)
    assert generation.prompt_tokens + len(generation.token_ids) == 64
    assert generation.finish_reason == "length"


def test_encode_image_is_repeatable_and_depends_on_the_picture(tiny_model):
    one, again, other = (np.array(tiny_model.encode_image(picture(seed))) for seed in (1, 1, 2))
    assert one.shape == (4, 48)
    assert (one == again).all()
    assert not np.allclose(one, other)


def test_a_quantised_checkpoint_sees_the_same_picture(tiny_folder, tiny_model):
    model = MedGemma.load(str(tiny_folder))
    nn.quantize(
        model.model,
        group_size=32,
        bits=8,
        class_predicate=lambda _, module: hasattr(module, "to_quantized") and module.weight.shape[-1] % 32 == 0,
    )
    whole, quantised = (np.array(each.encode_image(picture(1))) for each in (tiny_model, model))
    assert np.abs(quantised - whole).max() < 0.1 * np.abs(whole).max()
    assert len(model.generate(PROMPT, Options(max_tokens=3)).token_ids) == 3


def test_numbers_that_are_not_finite_are_an_error(tiny_folder):
    model = MedGemma.load(str(tiny_folder))
    model.model.language_model.model.norm.weight = mx.full((48,), math.nan)
    with pytest.raises(GenerationError, match="finite"):
        model.generate(PROMPT, Options(max_tokens=2))


@pytest.mark.slow
def test_generations_do_not_grow_memory(tiny_model):
    def run(times):
        for _ in range(times):
            tiny_model.generate(PROMPT, Options(max_tokens=3))
        return mx.get_active_memory() + mx.get_cache_memory()

    settled = run(5)
    assert run(60) <= settled + 100_000


@pytest.mark.parametrize(("before", "after"), [(1 << 40, 256 << 20), (1 << 20, 1 << 20)])
def test_mlx_keeps_little_freed_memory_once_a_model_is_loaded(tiny_folder, before, after):
    mx.set_cache_limit(before)
    MedGemma.load(str(tiny_folder))
    assert mx.set_cache_limit(256 << 20) == after


def test_a_loop_ends_the_generation_and_is_the_finish_reason(tiny_model, monkeypatch):
    phrase = tiny_model.processor.tokenizer.encode("the lungs are clear ", add_special_tokens=False)
    scripted(monkeypatch, tiny_model, phrase * 20)
    generation = tiny_model.generate(PROMPT, Options(max_tokens=len(phrase) * 20))
    assert generation.finish_reason == "repetition"
    assert generation.text.count("lungs are clear") <= 8


def test_a_recent_picture_is_not_encoded_again(tiny_model, monkeypatch):
    first = tiny_model.encode_image(picture(77))
    monkeypatch.setattr(gemma3, "image_features", lambda *_: pytest.fail("looked again"))
    assert mx.array_equal(tiny_model.encode_image(picture(77).copy()), first)


def test_only_the_last_pictures_are_kept(tiny_model):
    for seed in range(20):
        tiny_model.encode_image(picture(seed))
    assert len(tiny_model._embeddings) == 16


def test_a_token_that_has_no_text_is_an_error_in_one_line(tiny_model, monkeypatch):
    scripted(monkeypatch, tiny_model, [tiny_model.model.config.text_config.vocab_size - 1])
    with pytest.raises(GenerationError, match="tokenizer does not have"):
        tiny_model.generate(PROMPT, Options(max_tokens=4))


@pytest.mark.parametrize("many", [False, True])
def test_a_second_thread_gets_an_error_while_the_model_is_busy(tiny_model, many):
    options = Options(max_tokens=4)
    stream = tiny_model.generate_many([PROMPT] * 2, options, batch_size=1) if many else tiny_model.stream(PROMPT, options)
    next(stream)
    with ThreadPoolExecutor(1) as pool, pytest.raises(GenerationError, match="generating in another thread"):
        pool.submit(tiny_model.generate, PROMPT, Options(max_tokens=1)).result()
    assert len(list(tiny_model.stream(PROMPT, Options(max_tokens=2)))) == 3  # the same thread may begin another
    stream.close()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: len(tiny_model.tokenize(PROMPT))).result()


def test_every_model_has_what_the_protocol_names():
    from medgemma_app.remote.model import RemoteModel
    from medgemma_app.serve.served import ServedModel

    names = {name for name in vars(Model) if not name.startswith("_")} | set(Model.__annotations__)
    for kind in (MedGemma, RemoteModel, ServedModel):
        assert {name for name in names if not hasattr(kind, name)} <= {"id", "context", "can_count"}  # set when one is made
