"""Complete texts are not taken for cut ones, whatever their form, and cut ones are seen."""

import random

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


@pytest.mark.parametrize(("name", "validate", "texts"), TEXTS, ids=["notes", "reports"])
def test_most_texts_that_are_cut_in_a_word_are_errors(name, validate, texts):
    rng = random.Random(7)
    caught = [not {issue.code for issue in validate(complete.cut_in_a_word(text, rng)).errors}.isdisjoint(NO_END) for text in texts]
    assert sum(caught) >= 0.93 * len(caught)
