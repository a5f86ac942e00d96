"""Checks on the form of any report: it is readable and complete, and has all its sections."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from medgemma_app.validate.core import SPECIAL_TOKEN, WORD, Issue, Text, excerpt, without_tokens
from medgemma_app.validate.lists import finder, word_list
from medgemma_app.validate.sections import BARE_THOUGHT, OTHER, SHORTEST_BEGINNING
from medgemma_app.validate.terms import UNITS

_LABEL = re.compile(r"(?m)^[ \t*_#>-]{0,12}(?:\d{1,2}[.)])?[ \t*_]{0,6}[A-Z][\w /&-]{2,40}:")


def special_token(report: Text) -> Iterator[Issue]:
    """A report contains no control tokens, and no thought of the model."""
    thought, found = BARE_THOUGHT.match(report.text), SPECIAL_TOKEN.search(report.text)
    if thought:
        yield report.issue("special-token", "error", "the model's thought comes before the answer; remove it", thought.span())
    elif found:
        shown = excerpt(report.text[max(0, found.start() - 20) : found.end() + 20])
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


def stopped(report: Text) -> Iterator[Issue]:
    """The generation was stopped early."""
    if message := _STOPPED.get(report.finish_reason):
        yield report.issue("truncated", "error", message, _end(report.text))


def truncated(report: Text) -> Iterator[Issue]:
    """The generation was stopped early, or the text ends within a word (an error) or seems to end within a sentence (a warning)."""
    text = _RULE.sub("", report.text.rstrip()[-400:]).rstrip()
    bare = text.rpartition("\n")[2][-200:].rstrip(" *`\"'”’")
    last = finder("endings", "unfinished").fullmatch(bare.rpartition(" ")[2])
    # A disclaimer or an explanation at the end shows that the report before it is complete.
    aside = bool(report.sections.sections) and OTHER in report.sections.sections[-1].keys
    if report.finish_reason in _STOPPED:
        yield from stopped(report)
    elif _ends_within_a_word(report, text):
        message = "the text ends within a word; raise --max-tokens, or complete it"
        yield report.issue("truncated", "error", message, _end(report.text))
    elif not aside and (_HANGS.search(bare) or (last and last.group().islower())):
        message = "the text may end within a sentence; check that it is complete"
        yield report.issue("truncated", "warning", message, _end(report.text))


def _end(text: str) -> tuple[int, int]:
    """The span of the last words."""
    end = len(text.rstrip())
    start = max(0, end - 70)
    return (text.find(" ", start, end) + 1 or start) if start else 0, end


def _ends_within_a_word(report: Text, text: str) -> bool:
    """Whether the last word is only the beginning of a word of the word lists, the text or its source."""
    last = _LAST_WORD.search(text[-60:])
    if not last or last["before"] in "'’@" or (len(last["word"]) > 1 and last["word"].isupper()):
        return False
    word, before = last["word"].lower(), report.text[: report.text.rindex(last["word"])]
    if len(word) == 1:
        named = finder("endings", "lettered").search(before[-20:]) or before.rstrip()[-1:].isdigit()
        return last["word"].islower() and word != "a" and last["before"] in " \t" and not named
    own = {one for part in (before, report.source or "") for one in WORD.findall(part.lower())}
    known = word_list("words") | word_list("clinical_words") | UNITS.keys()
    if word in own or before[-1:].isdigit():
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
_LATIN_OR_GREEK = re.compile(r"[a-z\u00aa-\u03ff\u1d00-\u1fff\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06\uff21-\uff5a]", re.IGNORECASE)
# The longest word in a medical dictionary, pneumonoultramicroscopicsilicovolcanoconiosis, has 45 letters.
_LONGEST_WORD = 60
_MOST_SCRIPTS = 2  # of one text: its own, and Latin for drugs and units
_ONE_SCRIPT = {
    "HIRAGANA": "CJK",
    "KATAKANA": "CJK",
    "HANGUL": "CJK",
    "GREEK": "LATIN",
    "FULLWIDTH": "LATIN",
}  # are written beside each other


def gibberish(report: Text) -> Iterator[Issue]:
    """The text is not readable: it has no words, is mostly symbols, has endless words, or mixes alphabets."""
    text = without_tokens(report.text)
    reason, sample = _nonsense(text, _LETTERS.findall(text))
    if reason:
        at = max(0, report.text.find(sample))
        span = at, min(len(report.text), at + len(sample))
        yield report.issue("gibberish", "error", f"the text is not readable: {reason}; discard it", span)


def _nonsense(text: str, words: list[str]) -> tuple[str, str]:
    """What is wrong and a sample of it; both are empty for readable text.

    Only scripts with capitals put a space between any two words, and keep Latin letters out of their words.
    """
    marks, letters = len(re.sub(r"\s+", "", text)), len(re.sub(r"[\W_]+", "", text))
    spaced = [word for word in words if word.lower() != word.upper()]
    other = {word: _LATIN_OR_GREEK.sub("", word) for word in spaced if not word.isascii()}
    mixed = (word for word, rest in other.items() if rest != word and rest.lower() != rest.upper())
    scripts = {script: word for word in words if len(word) > 1 and (script := _script(word))}
    rules = (
        ("it has no words", "" if any(len(word) > 1 for word in words) else text),
        ("most of it is symbols", text if 2 * letters < marks else ""),
        ("a word never ends", next((word for word in spaced if len(word) > _LONGEST_WORD), "")),
        ("a word mixes alphabets", next(mixed, "")),
        ("it mixes languages", next(reversed(scripts.values())) if len(scripts) > _MOST_SCRIPTS else ""),
    )
    return next(((reason, sample) for reason, sample in rules if sample), ("", ""))


def _script(word: str) -> str:
    script = unicodedata.name(word[0], "").partition(" ")[0]
    return _ONE_SCRIPT.get(script, script)


# --- sections

_PARTS = {
    "plan": "(?:plan|(?:medical )?treatment|management|recommendations?)",
    "findings": r"(?:lungs?|heart|pleura\w*|mediastin\w*|bones?|cardiac|liver|brain)",
}


def missing_section(report: Text) -> Iterator[Issue]:
    """Every required section has a heading of its own, or one that replaces it; what stands under any other heading is in no section."""
    missing = [key for key in report.required if not report.sections.spans(key)]
    bare = next((one for one in report.answers() if not one.heading), None)
    if bare and len(report.answers()) == 1:
        yield Issue("missing-section", "warning", f"the text has no headings; all of it was read as the {bare.keys[0]} section")
        return
    if bare and len(_LABEL.findall(bare.body)) < 2:
        message = f"the text begins without a heading; the beginning was read as the {bare.keys[0]} section"
        yield report.issue("missing-section", "warning", message, (bare.start, bare.end))
    if report.own and not report.sections.sections and not report.required:
        yield Issue("missing-section", "warning", "the text has none of the headings that were asked for, so it is in no section")
    elif (report.own and report.answers()) and _is_content(beginning := report.sections.preamble):
        start = report.text.find(beginning)
        message = "the text before the first heading is in no section"
        yield report.issue("missing-section", "warning", message, (start, start + len(beginning)))
    if other := [one for one in report.sections.sections if report.own and OTHER in one.keys and one.body]:
        named = excerpt(", ".join(one.heading for one in other[:10]))
        message = f"headings that were not asked for, so the text under them is in no section: {named}"
        yield report.issue("missing-section", "warning", message, (other[0].start, other[0].end))
    # In the usual reports, a plan may be given under each problem ("- Plan: rest."), and findings by region ("Lungs: clear.").
    usual = [] if report.own else missing
    labels = {key: re.search(rf"(?im)^[^\w\n]{{0,12}}{_PARTS.get(key, key)}\b[^\n:]{{0,40}}:", report.text) for key in usual}
    if labels.get("findings"):
        yield Issue("missing-section", "warning", "the findings have no heading; write FINDINGS: above them")
    elif 1 < len(missing) == len(report.required):
        yield Issue("missing-section", "error", f"no section has a heading; {', '.join(missing)} are missing")
    else:
        yield from (Issue("missing-section", "error", f"the {key} section is missing") for key in missing if not labels.get(key))


def _is_content(preamble: str) -> bool:
    """Whether the text before the first heading is more than a title and "Here is the note:"."""
    lines = [line for line in preamble.splitlines() if not line.rstrip().endswith(":")]
    return not BARE_THOUGHT.match(preamble) and len(WORD.findall(" ".join(lines))) > SHORTEST_BEGINNING


def empty_section(report: Text) -> Iterator[Issue]:
    """A section contains words; "Not documented." is enough, punctuation or a list number is not."""
    for key in report.required:
        spans = report.sections.spans(key)
        bodies = [without_tokens(report.text[slice(*span)]) for span in spans]
        if spans and not any(WORD.search(body) and not re.fullmatch(r"\W*\d{1,2}[.)]\W*", body) for body in bodies):
            yield report.issue("empty-section", "error", f"the {key} section has no content", spans[0])


def section_order(report: Text) -> Iterator[Issue]:
    """The sections are in the usual order."""
    first = list(dict.fromkeys(key for section in report.answers() for key in section.keys if key in report.required))
    if first != sorted(first, key=report.required.index):
        message = f"the sections are in an unusual order: {excerpt(', '.join(first))}"
        yield Issue("section-order", "warning", message)
