"""Checks on answers that have no sections: nothing of their content is judged."""

from __future__ import annotations

from medgemma_app.errors import expect
from medgemma_app.validate.answers import refusal
from medgemma_app.validate.core import FinishReason, Text, Validation, run
from medgemma_app.validate.form import special_token, truncated
from medgemma_app.validate.loops import repetition
from medgemma_app.validate.sections import Sections


def validate_answer(text: str, *, finish_reason: FinishReason = "stop", has_thought: bool = False) -> Validation:
    """What is wrong with the form of an answer: none, a loop, a cut, a control token, a refusal; raises nothing, whatever the text."""
    expect(text, str, "the answer must be a string")
    return run(Text(text, Sections("", ()), (), finish_reason, has_thought), (special_token, refusal, repetition, truncated), ())
