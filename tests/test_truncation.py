"""Notes that do not fit: an error, or cut where it is said how much is missing."""

from __future__ import annotations

import re

import pytest

from medgemma_app import ContextError, Options, soap
from medgemma_app.inputs.notes import Notes, read_notes
from medgemma_app.prompts import soap_prompt
from medgemma_app.reports import _fit

LONG = "Sentence one is here. " * 100 + "\nThe last line.\n"


@pytest.fixture
def short(demo, monkeypatch):
    """The demo with room for 388 tokens of prompt beside its answer."""
    monkeypatch.setattr(demo, "context", 900)
    return demo


def test_notes_that_do_not_fit_are_an_error_that_counts(short):
    with pytest.raises(ContextError, match="--truncate") as caught:
        soap(short, Notes(LONG, {}))
    assert caught.value.limit == 388
    assert caught.value.tokens > caught.value.limit


def test_truncated_notes_are_cut_at_a_sentence_and_the_report_says_how_much_is_missing(short):
    report = soap(short, Notes(LONG, {}), truncate=True, options=Options(max_tokens=512))
    assert report.to_dict()["input"]["notes"] == {"truncated": True}
    (warning,) = report.warnings
    left_out, all_words = (int(number) for number in re.findall(r"\d+", warning))
    assert all_words == len(LONG.split())
    assert 0 < left_out < all_words
    assert report.generation.prompt_tokens <= 388
    assert " ".join(LONG.split()[: all_words - left_out]).endswith("here.")


def test_truncation_keeps_as_much_as_fits(short):
    kept, _ = _fit(short, Notes(LONG, {}), Options(), truncate=True)
    assert len(short.tokenize(soap_prompt(kept)[0])) <= 388 < len(short.tokenize(soap_prompt(kept + " Sentence one is here.")[0]))


@pytest.mark.parametrize(
    "text",
    ["\u767a\u71b1\u304c\u3042\u308b\u3002" * 300, "\u767a\u71b1" * 900, "word " * 900, "One. " + "word " * 900],
    ids=["ideographic stops", "no stops", "words", "one sentence"],
)
def test_notes_without_ends_of_sentences_are_cut_where_a_word_ends(short, text):
    kept, (warning,) = _fit(short, Notes(text, {}), Options(), truncate=True)
    assert text.startswith(kept) and (kept + " ").endswith(("word ", "\u3002 ", "\u71b1 ", "\u767a "))
    assert 190 < len(short.tokenize(soap_prompt(kept)[0])) <= 388
    left_out, all_words = map(int, re.findall(r"\d+", warning))
    assert 0 < left_out < all_words


def test_truncation_names_the_parts_that_are_missing(short):
    notes = read_notes({"plan": "rest", "history": "Cough for days. " * 200, "pregnancy status": "yes", "jane doe 1970": "x", "note": "y"})
    _, (warning,) = _fit(short, notes, Options(), truncate=True)
    assert warning.endswith(" words were left out (part of History)")


def test_notes_that_fit_are_never_cut(demo):
    assert _fit(demo, Notes("cough for 3 days", {}), Options(), truncate=True) == ("cough for 3 days", ())
