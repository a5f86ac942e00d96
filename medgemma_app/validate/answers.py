"""Checks for text that is not an answer: refusals, and unfilled parts of a prompt or a template."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import islice

from medgemma_app.prompts import prompt_paths, read_prompt
from medgemma_app.validate.core import WORD, Issue, Text, sentence_spans
from medgemma_app.validate.lists import finder, lines, word_list
from medgemma_app.validate.sections import is_heading

# --- refusal

_LONG_FORMS = (("’", "'"), ("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"), ("'m", " am"))
_MOST_SENTENCES = 100
DECLINED = "the model declined to answer; check that the input is the right one"


def refusal(report: Text) -> Iterator[Issue]:
    """The model declines to write the report or one of its sections, or every section says that nothing is known."""
    answers = report.answers()
    spans = [(one.start, one.end) for one in answers]
    found = next(filter(None, (_declined(report.text, [span], _is_wording) for span in spans)), None)
    found = found or _declined(report.text, spans or [(0, len(report.text))], _declines)
    if found is None and len(answers) > 1 and all(finder("refusals", "unanswered").fullmatch(one.body.strip(" .*_-\n")) for one in answers):
        found = spans[-1]
    if found:
        yield report.issue("refusal", "error", DECLINED, found)


def unhelpful(report: Text) -> Iterator[Issue]:
    """The model declines to answer a question: in the first person, and with no answer beside it."""
    if found := _declined(report.text, [(0, len(report.text))], lambda said: finder("refusals", "unhelpful").search(said) is not None):
        yield report.issue("refusal", "error", DECLINED, found)


def _declined(text: str, parts: list[tuple[int, int]], declines: Callable[[str], bool]) -> tuple[int, int] | None:
    """The first sentence of the parts that declines, if the rest is only apologies, advice and offers.

    In a text without sections, some other words are allowed, up to half the length of the refusal.
    """
    refused, answered, first = 0, 0, None
    for begun, ended in islice((span for part in parts for span in sentence_spans(text, *part)), _MOST_SENTENCES):
        sentence = text[begun : min(ended, begun + 400)].lower()
        for short, long in _LONG_FORMS:
            sentence = sentence.replace(short, long)
        if declines(sentence):
            first = first or (begun, ended)
            refused += len(sentence)
        elif finder("refusals", "around").search(sentence):
            refused += len(sentence)
        elif sentence.count(" "):
            answered += len(sentence)
    has_sections = parts != [(0, len(text))]
    return first if (not answered if has_sections else 2 * answered < refused) else None


def _is_wording(sentence: str) -> bool:
    """Whether a sentence contains a known wording of a refusal."""
    return bool(finder("refusals", "begins").match(sentence.lstrip("*_-• ")) or finder("refusals", "refuses").search(sentence))


def _declines(sentence: str) -> bool:
    """Whether a sentence contains a known wording, or says that the task was not done and nothing clinical."""
    words = (word for word in WORD.findall(sentence) if not finder("refusals", "about").fullmatch(word))
    withheld = finder("refusals", "task").search(sentence) and finder("refusals", "withholds").search(sentence)
    return _is_wording(sentence) or (withheld is not None and word_list("clinical_words").isdisjoint(words))


# --- unfilled templates

_BRACKET = re.compile(r"\[([A-Za-z][^\[\]\n\d<>=]{2,200})\](?!\()|\[(?i:insert|enter|specify|describe|provide|fill)\b[^\[\]\n]{0,200}\]")
_HEADED = re.compile(r"^[^:a-z]{3,60}: ?")
_FEWEST_ECHOED, _FEWEST_IN_LINE = 6, 5  # words of a clause, and of a line of the caller's own prompt


def unfilled_template(report: Text) -> Iterator[Issue]:
    """A placeholder, or an instruction of a prompt or a template, was left in the text."""
    brackets = (found.span() for found in _BRACKET.finditer(report.text) if not found[1] or _is_placeholder(found[1]))
    left = (found.span() for pattern in _left_over() if (found := pattern.search(report.text)))
    if span := min((*islice(brackets, 1), *left), default=None) or _echo(report):
        message = "a placeholder or an instruction was left in the text; fill it in or remove it"
        yield report.issue("unfilled-template", "error", message, span)


def _is_placeholder(written: str) -> bool:
    """Whether the words in a bracket are a placeholder: common words with a noun such as "date"; a proper name makes it a fact."""
    said = [word.lower() for word in re.findall(r"[A-Za-z'-]+", written)]
    if finder("placeholders", "tells").match(written):
        return True
    if finder("placeholders", "answer").search(written) or is_heading(written):
        return False
    if len(said) < 2:
        return finder("placeholders", "lone").fullmatch(written) is not None and not written.islower()
    nouns = [word for word in said if finder("placeholders", "noun").fullmatch(word)]
    return len(nouns) == len(said) or (
        written[0].isupper() and bool(nouns) and word_list("words").union(word_list("clinical_words"), nouns).issuperset(said)
    )


@cache
def _left_over() -> tuple[re.Pattern[str], ...]:
    """The patterns of ``data/leftovers.txt``."""
    return tuple(map(re.compile, lines("leftovers")))


@lru_cache(maxsize=8)
def _instructions(own: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """The words of this package's prompts and of the caller's own: whole lines without their heading, and the longer clauses."""
    shipped = [_HEADED.sub("", line) for path in prompt_paths() for line in read_prompt(path.stem).text.splitlines() if "$" not in line]
    theirs = [_HEADED.sub("", line) for line in own.splitlines() if "$" not in line]
    clauses = {_folded(clause) for line in (*shipped, *theirs) for clause in re.split(r"[.,;:]", line)}
    long = {line for line in map(_folded, theirs) if line.count(" ") >= _FEWEST_IN_LINE - 1}  # a short one may be an answer
    return frozenset(map(_folded, shipped)) - {""} | long, tuple(sorted(one for one in clauses if one.count(" ") >= _FEWEST_ECHOED - 1))


def _echo(report: Text) -> tuple[int, int] | None:
    """The span of words copied from a prompt: a section that is only a line of it, or a longer clause anywhere."""
    lines, clauses = _instructions(report.prompt)
    sections = ((one.start, one.end) for one in report.answers() if _folded(one.body) in lines)
    said = ((span, f" {_folded(report.text[slice(*span)])} ") for span in sentence_spans(report.text))
    return next(sections, None) or next((span for span, words in said if any(f" {clause} " in words for clause in clauses)), None)


def _folded(text: str) -> str:
    return " ".join(WORD.findall(text.casefold()))
