"""How the next token is drawn, and what its log-probability is."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from medgemma_app import Options
from medgemma_app.model.loaded import Sampler, normalise

VOCABULARY = 262_208


def exact(logits):
    """In float64."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=-1, keepdims=True)
    return wide - top - np.log(np.exp(wide - top).sum(axis=-1, keepdims=True))


def as_mlx_does(logits):
    values = mx.array(logits)
    return values - mx.logsumexp(values, axis=-1, keepdims=True)


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_log_probabilities_over_gemmas_vocabulary_are_right(spread):
    logits = np.random.default_rng(0).normal(0, spread, (2, VOCABULARY)).astype(np.float32)
    logprobs = as_mlx_does(logits)
    drawn = Sampler(Options()).sample_target(logprobs, row_ids=[0, 0], positions=[0, 0])
    assert drawn.tolist() == logits.argmax(axis=-1).tolist()
    assert np.abs(np.array(logprobs) - exact(logits)).max() < 2e-5


def test_mlx_alone_is_still_further_off():
    """When this fails, mlx adds up better, and ``normalise`` can go."""
    logits = np.random.default_rng(0).normal(0, 3.0, (1, VOCABULARY)).astype(np.float32)
    assert np.abs(np.array(as_mlx_does(logits)) - exact(logits)).max() > 2e-4


def test_a_small_vocabulary_is_left_to_mlx():
    values = as_mlx_does(np.random.default_rng(0).normal(0, 3.0, (1, 1000)).astype(np.float32))
    before = np.array(values)
    normalise(values)
    assert (np.array(values) == before).all()


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "drawn"])
def test_one_prompt_and_a_batch_report_the_corrected_values(tiny_model, monkeypatch, options):
    from medgemma_app import Prompt

    prompt, chosen = Prompt(("The lungs are clear.",)), Options(max_tokens=4, **options)
    as_it_is = [token.logprob for token in tiny_model.stream(prompt, chosen)][:4]

    def shift(logprobs):
        logprobs -= 1.0

    monkeypatch.setattr("medgemma_app.model.loaded.normalise", shift)
    assert [token.logprob + 1 for token in tiny_model.stream(prompt, chosen) if token.id] == pytest.approx(as_it_is, abs=1e-5)
    shown = []
    take = tiny_model.start
    monkeypatch.setattr(tiny_model, "start", lambda *given: shown.append(take(*given)) or shown[-1])
    list(tiny_model.generate_many([prompt], chosen))
    assert [token.logprob + 1 for token in shown[0].tokens if token.id] == pytest.approx(as_it_is, abs=1e-5)
