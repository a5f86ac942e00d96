"""The project computes what Google's reference in transformers computes (figures in golden.json, from ``make reference``)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cases import CHECKPOINTS, GOLDEN, RANDOM, STEPS, demo_prompts
from tiny import make_checkpoint

from medgemma_app import MedGemma, Options, Prompt

golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
FLOAT32_NOISE = 2e-5
NOISIEST = {"image-across-the-chunk-boundary": 4e-5}  # of the demo, 2,074 tokens; it is at 2.9e-5, the next one at 1.3e-5


@pytest.fixture(autouse=True)
def _no_watch(monkeypatch):
    """Random weights may repeat one token, which would end the answer; the reference goes on."""
    monkeypatch.setattr("medgemma_app.validate.loops.LoopWatch.feed", lambda *_: False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    loaded = {}

    def load(name):
        if name not in loaded:
            folder = make_checkpoint(tmp_path_factory.mktemp(name) / "checkpoint", **CHECKPOINTS[name])
            loaded[name] = MedGemma.load(str(folder))
        return loaded[name]

    return load


def assert_agrees(model, prompt, wanted, noise=FLOAT32_NOISE):
    assert model.tokenize(prompt) == wanted["prompt"]
    tokens = [token for token in model.stream(prompt, Options(max_tokens=STEPS)) if token.id is not None]
    stop = set(model.processor.tokenizer.stopping_criteria.eos_token_ids)
    ids = wanted["ids"][:-1] if wanted["ids"][-1] in stop else wanted["ids"]
    assert [token.id for token in tokens] == ids
    gap = np.abs(np.array([token.logprob for token in tokens]) - wanted["logprobs"][: len(ids)])
    assert gap.max() < noise


def cases(names):
    """The prompts of thousands of tokens take seconds each."""
    return [pytest.param(name, marks=pytest.mark.slow if "chunk" in name else ()) for name in names]


@pytest.mark.parametrize("name", cases(golden["demo"]))
def test_the_demo_agrees_with_the_reference(demo, name):
    assert_agrees(demo, demo_prompts()[name], golden["demo"][name], NOISIEST.get(name, FLOAT32_NOISE))


@pytest.mark.parametrize("case", cases(RANDOM))
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_random_checkpoints_agree_with_the_reference(checkpoint, name, case):
    assert_agrees(checkpoint(name), Prompt(RANDOM[case]), golden[name][case])


def test_every_case_has_its_figures():
    assert set(golden) == {"demo", *CHECKPOINTS}
    assert set(golden["demo"]) == set(demo_prompts())


def test_another_picture_does_not_agree(demo):
    """The comparison can fail: one changed picture is enough."""
    prompts = demo_prompts()
    changed = Prompt((prompts["findings-1"].parts[0], prompts["findings-0"].parts[1]))
    with pytest.raises(AssertionError):
        assert_agrees(demo, changed, golden["demo"]["findings-0"])
