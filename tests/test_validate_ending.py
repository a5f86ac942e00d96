"""Complete texts are not taken for cut ones, whatever their form, and cut ones are seen."""

import random
import re

import complete
import pytest

from medgemma_app.validate import validate_findings, validate_soap

TEXTS = [
    ("notes", validate_soap, list(complete.notes(seed=1, count=144))),
    ("reports", validate_findings, list(complete.reports(seed=2, count=144))),
]
NO_END = ("truncated", "missing-section", "empty-section")


@pytest.mark.parametrize(("name", "validate", "texts"), TEXTS, ids=["notes", "reports"])
def test_no_complete_text_is_an_error(name, validate, texts):
    assert [(text[-80:], validate(text).errors) for text in texts if validate(text).errors] == []


def cut_in_a_word(text, rng):
    """The text up to a letter within one of the words of its last two thirds, before any signature."""
    words = [word for word in re.finditer(r"[A-Za-z]{4,}", text) if len(text) // 3 < word.start() < len(text) - 60] or [
        re.search("[a-z]+", text)
    ]
    word = rng.choice(words)
    return text[: rng.randrange(word.start() + 1, word.end())]


@pytest.mark.parametrize(("name", "validate", "texts"), TEXTS, ids=["notes", "reports"])
def test_most_texts_that_are_cut_in_a_word_are_errors(name, validate, texts):
    rng = random.Random(7)
    caught = [not {issue.code for issue in validate(cut_in_a_word(text, rng)).errors}.isdisjoint(NO_END) for text in texts]
    assert sum(caught) >= 0.93 * len(caught)
