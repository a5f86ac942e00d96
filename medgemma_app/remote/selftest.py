"""Checks of a server: pictures, Gemma's chat template, greedy decoding, max_tokens and stop tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from medgemma_app.model.generation import Options
from medgemma_app.model.selftest import CheckResult
from medgemma_app.prompts import Prompt, findings_prompt

if TYPE_CHECKING:
    from medgemma_app.remote.model import RemoteModel

BOS, TURN, TURN_END = 2, 105, 106
# <bos><start_of_turn>user\n?<end_of_turn>\n<start_of_turn>model\n
QUESTION, QUESTION_TOKENS = Prompt(("?",)), 10
CONTROL = re.compile(r"<(?:start|end)_of_turn>|<(?:bos|eos|pad)>")
LIMIT = 8


def endpoint_checks(model: RemoteModel) -> Iterator[CheckResult]:
    """Checks with two drawings, a black picture and short questions. No patient data is sent."""
    yield _template(model)
    yield _greedy(model)
    yield _limit(model)
    yield _stop(model)
    yield _pictures(model)


def _template(model: RemoteModel) -> CheckResult:
    """Checks for one <bos> and Gemma's turns: by the token ids if the server returns them, else by their number."""
    if model.can_count:
        ids = model.tokenize(QUESTION)
        if ids.count(BOS) == 1 and ids[0] == BOS and ids.count(TURN) == 2 and ids.count(TURN_END) == 1:
            return CheckResult("template", "ok", f"one <bos> and Gemma's turns, {len(ids)} tokens")
        found = f"{ids.count(BOS)} <bos>, {ids.count(TURN)} turns opened, {ids.count(TURN_END)} ended"
    else:
        count = model.generate(QUESTION, Options(max_tokens=1)).prompt_tokens
        if count is None:
            return CheckResult("template", "look", "the server does not count prompt tokens", "use vLLM, mlx_vlm.server or medgemma serve")
        if count == QUESTION_TOKENS:
            return CheckResult("template", "ok", f"a question has {count} tokens, as with Gemma's template", figures={"tokens": count})
        found = f"a question has {count} tokens, with Gemma's template it has {QUESTION_TOKENS}"
        if count != QUESTION_TOKENS + 1:
            return CheckResult("template", "look", found, "the server uses another template, or adds a system text: see its settings")
        found += " (a second <bos>?)"
    return CheckResult("template", "failed", found, "start the server with the checkpoint's own chat template and without a second <bos>")


def _greedy(model: RemoteModel) -> CheckResult:
    prompt, options = Prompt(("Name five bones of the arm.",)), Options(max_tokens=48)
    answers = {model.generate(prompt, options).text for _ in range(2)}
    if len(answers) == 1:
        return CheckResult("greedy", "ok", "two answers at temperature 0 are the same")
    advice = "the server samples or batches inexactly: reports cannot be repeated"
    return CheckResult("greedy", "failed", "two answers at temperature 0 differ", advice)


def _limit(model: RemoteModel) -> CheckResult:
    made = model.generate(Prompt(("Count from one to one hundred in words.",)), Options(max_tokens=LIMIT))
    tokens = made.generated_tokens
    if tokens is not None and tokens > LIMIT:
        return CheckResult("limit", "failed", f"{tokens} tokens with max_tokens {LIMIT}", "the server ignores max_tokens: use another one")
    return CheckResult("limit", "ok", f"no more than {LIMIT} tokens with max_tokens {LIMIT}, finish reason {made.finish_reason!r}")


def _stop(model: RemoteModel) -> CheckResult:
    made = model.generate(Prompt(("Answer with one word: is the femur a bone?",)), Options(max_tokens=256))
    advice = "<end_of_turn> (106) must be a stop token of the server: see generation_config.json of the checkpoint"
    if CONTROL.search(made.text):
        return CheckResult("stop", "failed", "the answer contains control tokens", advice)
    if made.finish_reason != "stop":
        found = f"a one-word answer ended with {made.finish_reason!r} after {made.generated_tokens} tokens"
        return CheckResult("stop", "look", found, advice)
    return CheckResult("stop", "ok", "an answer ends by itself, without control tokens")


def _pictures(model: RemoteModel) -> CheckResult:
    """Checks that another picture changes the answer. ``generate`` itself checks that pictures make the prompt longer."""
    from PIL import Image

    from medgemma_app.demo import draw_phantom

    drawn = [draw_phantom(seed)[0] for seed in range(2)]
    made = [model.generate(findings_prompt(picture)[0], Options(max_tokens=96)) for picture in [*drawn, Image.new("RGB", drawn[0].size)]]
    different = len({one.text for one in made})
    found = f"{different} different answers to two drawings and a black picture; each prompt has {made[0].prompt_tokens} tokens"
    if different > 1:
        return CheckResult("picture", "ok", found)
    return CheckResult("picture", "failed", found, "the pictures do not change the answer: do not use findings with this server")
