"""Checks on the form of any answer: that it is complete and readable, does not refuse, and contains no remains of a prompt or template."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import islice

from medgemma_app.prompts import prompt_paths, read_prompt
from medgemma_app.validate.core import SPECIAL_TOKEN, WORD, Draft, Issue, excerpt, sentence_spans, without_tokens
from medgemma_app.validate.lists import finder, lines, word_list
from medgemma_app.validate.quantities import UNITS
from medgemma_app.validate.sections import BARE_THOUGHT, is_heading

_OPEN_THOUGHT = re.compile(r"\s*<unused94>(?!.*<unused95>)", re.DOTALL)


def no_answer(draft: Draft) -> Iterator[Issue]:
    """Flags an empty answer, and a thought that never reached an answer."""
    opened = _OPEN_THOUGHT.match(draft.text) or (None if draft.answers() else BARE_THOUGHT.match(draft.text))
    if opened or (draft.has_thought and not draft.text.strip()):
        message = "the token budget ran out inside the model's thought, so there is no answer; raise --max-tokens"
        yield draft.issue("thought-only", "error", message, (opened.end(), len(draft.text)) if opened else (0, 0))
    elif not without_tokens(draft.text).strip():
        message = "the model wrote no text; set --temperature above 0 to get another answer"
        yield draft.issue("no-answer", "error", message, (0, len(draft.text)))


def special_token(draft: Draft) -> Iterator[Issue]:
    """Flags control tokens, and a thought that the model left in the answer."""
    thought, found = BARE_THOUGHT.match(draft.text), SPECIAL_TOKEN.search(draft.text)
    if thought:
        yield draft.issue("special-token", "error", "the model's thought comes before the answer; remove it", thought.span())
    elif found:
        shown = excerpt(draft.text[max(0, found.start() - 20) : found.end() + 20])
        yield Issue("special-token", "error", f"a control token was left in the text: {found.group()}", shown, *found.span())


# --- cut off

_LAST_WORD = re.compile(r"(?P<before>.?)(?<![^\W_])(?P<word>[A-Za-z]+)\Z")
_SAME_WORD = frozenset(("s", "es", "d", "ed", "er", "ing", "ly", "al"))
_HANGS = re.compile(r"[^:?] no$|[,;] then$|[,;:(\[/&+=–—-]$|\([^()\n]{0,80}$|^\s*(?:[-*•+]|\d{1,2}[.)])$", re.MULTILINE)
_RULE = re.compile(r"\n[ \t]*(?:`{3,}|-{3,}|\*{3,}|_{3,})\s*$")
_STOPPED = {
    "length": "the token budget ran out before the report was complete; raise --max-tokens",
    "cancelled": "the generation was stopped before the report was complete; run it again",
}


def stopped(draft: Draft) -> Iterator[Issue]:
    """Flags a generation that was stopped early."""
    if message := _STOPPED.get(draft.finish_reason):
        yield draft.issue("truncated", "error", message, _end(draft.text))


def truncated(draft: Draft) -> Iterator[Issue]:
    """Flags a stopped generation, text that ends within a word (error), and text that may end within a sentence (warning)."""
    text = _RULE.sub("", draft.text.rstrip()[-400:]).rstrip()
    bare = text.rpartition("\n")[2][-200:].rstrip(" *`\"'”’")
    last = finder("endings", "unfinished").fullmatch(bare.rpartition(" ")[2])
    if draft.finish_reason in _STOPPED:
        yield from stopped(draft)
    elif _ends_within_a_word(draft, text):
        message = "the text ends within a word; raise --max-tokens, or complete it"
        yield draft.issue("truncated", "error", message, _end(draft.text))
    elif _HANGS.search(bare) or (last and last.group().islower()):
        message = "the text may end within a sentence; check that it is complete"
        yield draft.issue("truncated", "warning", message, _end(draft.text))


def _end(text: str) -> tuple[int, int]:
    """The span of the last words."""
    end = len(text.rstrip())
    start = max(0, end - 70)
    return (text.find(" ", start, end) + 1 or start) if start else 0, end


def _ends_within_a_word(draft: Draft, text: str) -> bool:
    """Whether the last word is only the beginning of a word of the word lists, the text or its source; not if it begins its line."""
    last = _LAST_WORD.search(text[-60:])
    if not last or not last["before"] or (len(last["word"]) > 1 and last["word"].isupper()):
        return False
    word, before = last["word"].lower(), draft.text[: draft.text.rindex(last["word"])]
    if len(word) == 1:
        named = finder("endings", "lettered").search(before[-20:]) or before.rstrip()[-1:].isdigit()
        return last["word"].islower() and word != "a" and last["before"] in " \t" and not named
    own = {one for part in (before, draft.source or "") for one in WORD.findall(part.lower())}
    known = word_list("words") | word_list("clinical_words") | UNITS.keys()
    if word in own:
        return False
    if any(one.startswith(word) and one[len(word) :] not in _SAME_WORD for one in own):
        return True
    if word in known:
        return False
    if not set(word) & set("aeiouy"):  # an abbreviation such as "htn" or "fx", or the beginning of a syllable
        return finder("endings", "onset").fullmatch(word) is not None
    return any(one.startswith(word) and one[len(word) :] not in _SAME_WORD for one in known)


# --- readable

_LETTERS = re.compile(r"[^\W\d_]+")
# The longest word in a medical dictionary, pneumonoultramicroscopicsilicovolcanoconiosis, has 45 letters.
_LONGEST_WORD = 60
_MOST_SCRIPTS = 2  # of one text: its own, and Latin for drugs and units
_WRITTEN_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK", "GREEK": "LATIN"}


def gibberish(draft: Draft) -> Iterator[Issue]:
    """Flags unreadable text: without words, mostly symbols, with impossibly long words, or with mixed alphabets."""
    text = without_tokens(draft.text)
    reason, sample = _nonsense(text, _LETTERS.findall(text))
    if reason:
        at = max(0, draft.text.find(sample))
        span = at, min(len(draft.text), at + len(sample))
        yield draft.issue("gibberish", "error", f"the text is not readable: {reason}; discard it", span)


def _nonsense(text: str, words: list[str]) -> tuple[str, str]:
    """Returns what is wrong and a sample of it; both are empty for readable text.

    Long and mixed words are only looked for in scripts with capital letters: others may not put spaces between words.
    """
    marks, letters = len(re.sub(r"\s+", "", text)), len(re.sub(r"[\W_]+", "", text))
    spaced = [word for word in words if word.lower() != word.upper()]
    mixed = (word for word in spaced if len({_script(letter) for letter in word if letter.lower() != letter.upper()}) > 1)
    scripts = {_script(word[0]): word for word in words if len(word) > 1}
    rules = (
        ("it has no words", "" if any(len(word) > 1 for word in words) else text),
        ("most of it is symbols", text if 2 * letters < marks else ""),
        ("a word is impossibly long", next((word for word in spaced if len(word) > _LONGEST_WORD), "")),
        ("a word mixes alphabets", next(mixed, "")),
        ("it mixes several scripts", next(reversed(scripts.values())) if len(scripts) > _MOST_SCRIPTS else ""),
    )
    return next(((reason, sample) for reason, sample in rules if sample), ("", ""))


@lru_cache(maxsize=1024)
def _script(letter: str) -> str:
    """The script of a letter; signs such as µ, the micro sign, count as the letter that they show."""
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "")
    script = name.partition(" ")[0]
    return _WRITTEN_TOGETHER.get(script, script)


# --- refusal

_LONG_FORMS = (("’", "'"), ("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"), ("'m", " am"))
_MOST_SENTENCES = 100
DECLINED = "the model declined to answer; check that the input is the right one"


def refusal(draft: Draft) -> Iterator[Issue]:
    """Flags an answer that declines to write the report or one of its sections, or whose every section says that nothing is known."""
    answers = draft.answers()
    spans = [(one.start, one.end) for one in answers]
    found = next(filter(None, (_declined(draft.text, [span], _is_wording) for span in spans)), None)
    found = found or _declined(draft.text, spans or [(0, len(draft.text))], _declines)
    if found is None and len(answers) > 1 and all(finder("refusals", "unanswered").fullmatch(one.body.strip(" .*_-\n")) for one in answers):
        found = spans[-1]
    if found:
        yield draft.issue("refusal", "error", DECLINED, found)


def unhelpful(draft: Draft) -> Iterator[Issue]:
    """Flags a refusal to answer a question, in the first person and without any answer beside it."""
    if found := _declined(draft.text, [(0, len(draft.text))], lambda said: finder("refusals", "unhelpful").search(said) is not None):
        yield draft.issue("refusal", "error", DECLINED, found)


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


def unfilled_template(draft: Draft) -> Iterator[Issue]:
    """Flags a placeholder, or an instruction from a prompt or template, that was left in the text."""
    brackets = (found.span() for found in _BRACKET.finditer(draft.text) if not found[1] or _is_placeholder(found[1]))
    left = (found.span() for pattern in _left_over() if (found := pattern.search(draft.text)))
    if span := min((*islice(brackets, 1), *left), default=None) or _echo(draft):
        message = "a placeholder or an instruction was left in the text; fill it in or remove it"
        yield draft.issue("unfilled-template", "error", message, span)


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


def _echo(draft: Draft) -> tuple[int, int] | None:
    """The span of words copied from a prompt: a section that is only a line of it, or a longer clause anywhere."""
    lines, clauses = _instructions(draft.prompt)
    sections = ((one.start, one.end) for one in draft.answers() if _folded(one.body) in lines)
    said = ((span, f" {_folded(draft.text[slice(*span)])} ") for span in sentence_spans(draft.text))
    return next(sections, None) or next((span for span, words in said if any(f" {clause} " in words for clause in clauses)), None)


def _folded(text: str) -> str:
    return " ".join(WORD.findall(text.casefold()))
