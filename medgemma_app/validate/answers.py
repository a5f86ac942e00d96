"""Checks for an answer that is none: a refusal, or what a prompt or a template left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice

from medgemma_app.prompts import FOLDERS
from medgemma_app.validate.core import Issue, Text, finder, sentence_spans, word_list
from medgemma_app.validate.sections import is_heading

# --- refusal

_LONG_FORMS = (("’", "'"), ("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"), ("'m", " am"))
_UNANSWERED = re.compile(
    r"\W*(?:(?:not|none|no)\W(?:[a-z]+ )?(?:available|provided|documented|discussed|stated|given|applicable|specified|determined)"
    r"|cannot be determined|unable to (?:determine|assess|comment)|n\W?a|unknown|tbd)"
    r"(?: (?:in|from|at|by|on|during|with)\b[^.\n]{0,40})?\W*",
    re.IGNORECASE,
)
_MOST_SENTENCES = 100


def refusal(report: Text) -> Iterator[Issue]:
    """The model declines, where the report or one of its sections should stand; or no section has an answer in it."""
    answers = report.answers()
    spans = [(one.start, one.end) for one in answers]
    found = next(filter(None, (_declined(report.text, [span], _is_wording) for span in spans)), None)
    found = found or _declined(report.text, spans or [(0, len(report.text))], _declines)
    if found is None and len(answers) > 1 and all(_UNANSWERED.fullmatch(one.body) for one in answers):
        found = spans[-1]
    if found:
        yield report.issue("refusal", "error", "the model declined to answer; check that the input is what it should be", found)


def _declined(text: str, parts: list[tuple[int, int]], declines: Callable[[str], bool]) -> tuple[int, int] | None:
    """The first sentence of the parts that declines, where there is nothing else but what surrounds a refusal.

    Where there are no sections, a general remark or two may follow.
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
    """Whether a sentence is one of the known wordings of a refusal."""
    begins = finder("refusals", "begins").match(sentence.lstrip("*_-• "))
    return begins is not None or finder("refusals", "refuses").search(sentence) is not None


def _declines(sentence: str) -> bool:
    """Whether a sentence is one of these wordings, or says of the task, and of nothing clinical, that it is not done."""
    if _is_wording(sentence) or finder("refusals", "absent").search(sentence):
        return True
    words = (word for word in _WORD.findall(sentence) if not finder("refusals", "about").fullmatch(word))
    withheld = finder("refusals", "task").search(sentence) and finder("refusals", "withholds").search(sentence)
    return withheld is not None and word_list("clinical_words").isdisjoint(words)


# --- what a template left behind

# Read only where capitals stand as they are; an answer in brackets, "[Not documented]", is none of these.
_LEFT_OVER = re.compile(
    r"\[(?![^\]\n]{0,60}(?i:redacted)|(?:[Nn]o[nt]?e?|NOT?|NONE|N/?A|Un\w+|Denie[sd]|Normal|Negative|Reviewed|Pending|Awaiting|See|Same|Image|Figure)\b)"
    r"(?:[A-Z][^\[\]\n<>=\d]{0,60}[ /][^\[\]\n<>=]{2,200}"
    r"|(?i:insert|enter|specify|describe|list|include|add|your|fill|e\.g\.|provide|summari[sz]e|state|mention|document|patient |to be |if )"
    r"[^\[\]\n]{0,200}|(?:Name|NAME|Date|DATE|Age|Sex|Gender|Time|Signature|MRN|DOB|Dose|Dosage|Diagnosis|Medication|Symptoms?|Findings?"
    r"|Impression|Value|Number|Provider|Blank|Placeholder|TBD|Duration|Frequency|Location|Side|Size))\](?!\()"
    r"|\[(?:X{1,3}|#+|\.{3}|_+)\](?= ?(?:-|/|mg|mm|cm|days?|weeks?|months?|years?|hours?|times))"
    r"|\((?:Only (?:include|mention|list|use|document|fill)|Include|Insert|Describe|Specify|Mention|Summari[sz]e|Document|State|Provide"
    r"|Write|Fill in|Leave (?:this |it )?blank|List (?:all|any|the|each|every)|Note (?:any|all|the)|Use (?:the|bullet|only)"
    r"|Do not (?:include|write|add|mention|infer|invent)|If (?:\w+ ){0,4}?(?:documented|mentioned|discussed|applicable|available|provided"
    r"|stated|reported|known|given))\b[^()\n]{3,300}\)?"
    r"|\{\{? ?[A-Za-z][A-Za-z_ .-]{1,60}\}?\}|<[A-Za-z]+(?:[ _-][A-Za-z]+){1,8}>|\$[A-Z][A-Z_]{2,}\b"
    r"|(?<![\w_])_{3,}(?!_)(?=[-/ ]?[A-Za-z0-9])(?!\w+_)|\b(?:TODO|FIXME)\b|\bLorem ipsum\b|\bXX/XX/XXXX\b"
    r"|\bInsert (?:any|all|your|relevant)\b"
    r"|\bYou are an? (?:\w+ ){0,3}(?:scribe|assistant|radiologist|physician|doctor|clinician|expert)\b|\bWrite a SOAP note\b"
)
_HEADED = re.compile(r"^[A-Z ]{3,30}: ?")
_FEWEST_ECHOED = 6
_WORD = re.compile(r"[^\W_]+")


def unfilled_template(report: Text) -> Iterator[Issue]:
    """A placeholder or an instruction of a prompt or a template stands where an answer should."""
    left = (found.span() for found in _LEFT_OVER.finditer(report.text) if not is_heading(found.group()))
    span = next(left, None) or _echo(report)
    if span:
        message = "a placeholder or an instruction was left in the text; fill it in or take it out"
        yield report.issue("unfilled-template", "error", message, span)


@cache
def _instructions() -> tuple[frozenset[str], tuple[str, ...]]:
    """The prompts as words only: what they say of a section, and their longer clauses."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), None)
    files = sorted(folder.glob("*.md")) if folder else []
    lines = [_HEADED.sub("", line) for file in files for line in file.read_text(encoding="utf-8").splitlines() if "$" not in line]
    clauses = {_folded(clause) for line in lines for clause in re.split(r"[.,;:]", line)}
    return frozenset(map(_folded, lines)) - {""}, tuple(sorted(one for one in clauses if one.count(" ") >= _FEWEST_ECHOED - 1))


def _echo(report: Text) -> tuple[int, int] | None:
    """Where the words of a prompt stand: a longer clause anywhere, what it says of a section in place of the section."""
    lines, clauses = _instructions()
    for one in report.answers():
        if _folded(one.body) in lines:
            return one.start, one.end
    for span in sentence_spans(report.text):
        words = f" {_folded(report.text[slice(*span)])} "
        if any(f" {clause} " in words for clause in clauses):
            return span
    return None


def _folded(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
