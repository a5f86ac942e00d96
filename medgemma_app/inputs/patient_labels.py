"""The labels of record numbers, birth dates and names of patients, in texts, tables and keys of JSON.

The labels are in ``data/patient_labels.txt``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any

from medgemma_app.inputs.lines import key_words, list_lines
from medgemma_app.inputs.patient_values import heading_words, is_person, may_be_name, plain_value, without_accents

_JOINED = r"[\W_]{0,3}"
_GAP = r"[\s:：#=|*_.()-]{0,8}"
_FIELD = r"(?:^|[|;,>*_\t(\[]|  |\d[.)]? )[ *_#>-]{0,6}"  # what comes before a label such as "Name"
_SEPARATOR = r"[*_ ]{0,9}(?:[:：#=|;][ *_|\t]{0,9}|[ \t]{1,9}[–—-][ \t]{1,9})"
_VALUE_OF_ID = (
    r"(?P<id>(?>\d{3} \d{3,4}(?: \d{3,4})?\b(?![./-])|(?:[^\W\d_]{1,5}[/-]?)?\d(?:[\w/-]|\.(?=\d))*))"
    r"(?! ?(?:m?g|[mµ]?l|mcg|%))"  # which would be a dose
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_SENTENCE = re.compile(r"[.!?;|]\s")
_HEADING = re.compile(r"[\W_]*[^\W\d_][^:|\d.]{2,40}:?[\s*_=-]*")
_SPEECH = re.compile(r"(?im)^[^\w\n]*(?:patient(?:in)?|pt|client|paciente?)\W*: +\S+ (?-i:(?!(?:v[ao]n|de|la|le|da|dos|bin|al|el) )[a-z])")
_SURNAME_FIRST = re.compile(  # DOE, Jane
    r"(?m)^[^\w\n]*(?:\w{1,3}[.):]? +)?(?P<said>[A-Z][A-Z'’-]+(?:[ '’-][A-Z]+)?, [A-Z][a-z]+)(?=\s*$|  |\t| ?[|(,]| \d)"
)
_END_OF_SENTENCE = re.compile(r"[^\W\d_]{3}[.!?]\W*$")  # and not "Jr."
_BETWEEN_CELLS = re.compile(r"[|\t]| {2,}")
_HEADER_WITHIN = 4  # lines
# Fields that stand beside the name of a drug, or of somebody else.
_NOT_OF_PATIENTS = (
    r"relation(?:ship)?|dos(?:e|age|is)|posolog(?:ie|ía)|strength|route"
    r"|frequency|sig|quantity|reaction|manufacturer|title|role|npi|specialty"
)
_OF_A_DRUG = re.compile(rf"(?i)[^\n]{{0,80}}(?:\n[\W_]{{0,6}})?\b(?:{_NOT_OF_PATIENTS})\b\W{{0,3}}[:|]")


@cache
def _labels() -> Mapping[str, str]:
    """A pattern of the labels of each kind, the longest first. Registers have two: "id mrn", and "id mrn #" for labels with "number"."""
    found: dict[str, list[str]] = {}
    for line in list_lines("patient_labels"):
        kind, _, labels = line.partition(":")
        for label in labels.split("|"):
            label = without_accents(label.strip())
            found.setdefault(kind + " #" * label.endswith("#"), []).append(label.removesuffix("#").strip())
    return {kind: f"(?:{'|'.join(map(_pattern, sorted(labels, key=len, reverse=True)))})" for kind, labels in found.items()}


def _pattern(label: str) -> str:
    """The pattern of a label: its words may be joined by other signs, its dots may be missing, and "*" stands for any ending."""
    return _JOINED.join(re.escape(word).replace(r"\.", r"\.? ?").replace(r"\*", r"\w*") for word in label.split())


@cache
def _of_kinds(*kinds: str) -> str:
    """A pattern of the labels of some kinds, with a group for each kind."""
    return "(?:" + "|".join(f"(?P<{_group(kind)}>{_labels()[kind]})" for kind in kinds) + ")"


def _group(kind: str) -> str:
    return kind.replace(" ", "_").replace("#", "no")


def _ids() -> str:
    """A pattern of the labels of record numbers; ``_register`` says whether one that needs a word for "number" has it."""
    number = f"{_labels()['number']}s?(?![^\\W\\d_])"
    labels = _of_kinds(*(kind for kind in _labels() if kind.startswith("id ")))
    return (
        rf"(?P<before>{number}{_JOINED}(?:d[eio]{_JOINED})?)?(?!urn:(?:uuid|oid):){labels}(?P<after>{_JOINED}(?:{number}|#))?(?![^\W\d_])"
    )


def _register(found: re.Match[str]) -> str:
    """The kind of record number that a label of ``_ids`` means; "" if it means something else."""
    kind = next(kind for kind in _labels() if kind.startswith("id ") and found[_group(kind)])
    if kind.endswith("#") and not (found["before"] or found["after"]):
        return ""
    return kind.removesuffix(" #") + " uuid" * (found["after"] or "").lower().endswith("uuid")


@cache
def _compiled(name: str) -> re.Pattern[str]:
    labels, own, sex = _labels(), _of_kinds("own"), _of_kinds("male", "female")
    patterns = {
        "id": rf"(?i)(?<![^\W_]){_ids()}(?P<gap>{_GAP}){_VALUE_OF_ID}",
        "key of id": rf"(?i){_ids()}",
        "born": rf"(?i)(?<![^\W_]){labels['born']}(?![^\W_]){_GAP}(?P<said>[^\n|;]{{4,30}})",
        "name": rf"(?im){_FIELD}(?P<label>{_of_kinds('family', 'given', 'name', 'patient')}){_SEPARATOR}(?=(?P<said>[^\n]{{2,80}}))",
        "own": rf"(?im)(?<!\w){own}(?:{_SEPARATOR}|\s{{0,9}}\n|  |\t)[\s*_]{{0,9}}(?=(?P<said>[^\n]{{2,80}}))",
        "numbered": rf"(?im)^(?:[^\w\n]|_)*{labels['numbered']} ?(?:#|no\.?|nr\.?|number)? ?"
        r"(?P<number>\d{1,4}|[A-Z]|one|two|three|four|five)\b"
        r"(?=(?:[^\w\n]|_)*$| ?[:.)(](?!\d)| [–—-] | of \d)",
        "title": rf"(?im)^[^\w\n]*(?:\w{{1,3}}[.):]? +)?{labels['title']} (?P<said>(?-i:[A-Z])[\w.'’-]*(?: (?-i:[A-Z])[\w'’-]*)*)",
        "end of name": rf"(?i)[|;\t(\[\d*，]|  | [–—-] |(?<=[^\W\d_]{{3}})\. "
        rf"|\W(?:{_ids()}|{labels['born']}|age|sex|gender|alter)\b|[ ,]+\w+ ?[:：#=]",
        "age": r"(?i)(?<![\w./])(?<!\d,)(?P<age>\d{1,3})"
        rf"(?:[- ]?{labels['years']}(?![^\W_]| (?:ago|later|history))|[岁歳代]|(?= ?(?-i:[MF])(?:$|[^\w ]| \|)))",
        "sex": rf"(?i)(?:(?<![^\W_])(?:{sex})(?![^\W_])|(?P<m>男)|(?P<f>女))",
        "relative": rf"(?i)\b{labels['relative']}\b",
        "somebody else": rf"(?i)\b(?:{labels['relative']}|{labels['staff']})\b",
        "not the patient's": rf"(?i)\b{labels['relative']}\b|\b{labels['earlier']}(?:'s)?\W*$",
    }  # fmt: skip
    return re.compile(patterns[name])


def is_relative(words: str) -> bool:
    """Whether words name a relative, so that the values below them are not the patient's."""
    return _compiled("relative").search(without_accents(words)) is not None


def is_somebody_else(words: str) -> bool:
    """Whether words name a relative, staff, or a thing that has a name, such as a drug."""
    return _compiled("somebody else").search(without_accents(words)) is not None


@lru_cache(maxsize=4096)
def kind_of_key(key: str) -> str:
    """The kind of a key of JSON, or of the heading of a column: "id mrn", "born", "name own", "name", "patient"; "" for others."""
    words = key_words(without_accents(key)).rstrip("_. :")
    if (found := _compiled("key of id").fullmatch(words)) and (register := _register(found)):
        return register
    kinds = {"born": "born", "own": "name own", "family": "name family", "given": "name given", "name": "name", "patient": "patient"}
    return next((kind for group, kind in kinds.items() if re.fullmatch(_labels()[group], words, re.IGNORECASE)), "")


def labelled(text: str) -> Iterator[tuple[str, str]]:
    """What the labels in a text say about its patient: the kind of each, and its value from ``plain_value``."""
    text = without_accents(text)
    for kind, said in (*_after_labels(text), *_in_columns(text)):
        if value := plain_value(kind, said):
            yield kind.removesuffix(" own"), value


def described(text: str) -> Iterator[tuple[str, str]]:
    """What a text says about its patient without labels: "Patient 1", "Mr Lee" or "LEE, Ann" at the start of a line, and ages."""
    text = without_accents(text)
    found = [("id label", one["number"]) for one in _compiled("numbered").finditer(text)]
    for names in (_compiled("title"), _SURNAME_FIRST):
        found += [("name", one["said"]) for one in names.finditer(text) if may_be_name(one["said"])]
    yield from ((kind, plain_value(kind, said)) for kind, said in (*found, *(("aged", said) for said in ages(text))))


def _after_labels(text: str) -> Iterator[tuple[str, str]]:
    for found in _compiled("id").finditer(text):
        is_number = re.search("[:：#=|]", found["gap"]) or (len(found["id"]) > 2 and not _YEAR.fullmatch(found["id"]))
        if is_number and (kind := _register(found)) and not _is_of_another(text, found, "not the patient's"):
            yield kind, found["id"]
    for found in _compiled("born").finditer(text):
        if not _is_of_another(text, found, "not the patient's"):
            yield "born", found["said"]
    is_dialogue = len(_SPEECH.findall(text)) > 1
    for found in _compiled("name").finditer(text):
        kind = next(kind for kind in ("family", "given", "name", "patient") if found[kind])
        said = _compiled("end of name").split(found["said"], maxsplit=1)[0]
        if is_dialogue and kind == "patient":
            continue
        said = said.title() if kind == "name" and said.islower() else said
        looks_right = may_be_name if kind in ("family", "given") else is_person
        if looks_right(said) and not _END_OF_SENTENCE.search(said) and not _is_of_another(text, found, "somebody else"):
            yield f"name {kind}" if kind in ("family", "given") else "name", said
    for found in _compiled("own").finditer(text):
        yield "name own", _compiled("end of name").split(found["said"], maxsplit=1)[0]


def ages(text: str) -> list[str]:
    """The ages in a text that are next to a word for a man or a woman: "64 m" for "64-year-old retired man"."""
    text = without_accents(text)
    return [said for found in _compiled("age").finditer(text) if (said := _age_and_sex(text, found))]


def _age_and_sex(text: str, found: re.Match[str]) -> str:
    if _is_of_another(text, found, "not the patient's"):
        return ""
    before = text[max(0, found.start() - 16) : found.start()]
    after = re.split(r"[.;:\n]", text[found.end() : found.end() + 40])[0]
    if _compiled("relative").search(after):  # "a 33-year-old woman, his sister"
        return ""
    sexes = [
        one for one in _compiled("sex").finditer(before) if re.fullmatch(r"性?[ ,，、(]*(?:(?:de|di|of|aged?) )?", before[one.end() :])
    ]
    sexes += _compiled("sex").finditer(after[:16])
    return f"{found['age']} {'m' if sexes[0]['male'] or sexes[0]['m'] else 'f'}" if sexes else ""


def _is_of_another(text: str, found: re.Match[str], who: str) -> bool:
    """Whether a label belongs to a relative named before it on its line, to ``who`` in the heading above it, or to a drug."""
    start = found.start() + text[found.start() : found.end()].startswith("\n")
    above, _, line = text[max(0, start - 300) : start].rpartition("\n")
    if _compiled("not the patient's").search(_SENTENCE.split(line)[-1][-40:]):
        return True
    if who == "somebody else" and _OF_A_DRUG.match(text, start):
        return True
    # The nearest line above without a value, unless a blank line stands between.
    lines = reversed(above.rstrip().split("\n"))
    heading = next((one for one in lines if not one.strip() or (_HEADING.fullmatch(one))), "")
    return _compiled(who).search(heading) is not None


def _in_columns(text: str) -> Iterator[tuple[str, str]]:
    """The cells of tables: a line of labels between bars, tabs or spaces, followed by lines with the same number of cells."""
    kinds: list[str] = []
    for line in text.split("\n"):
        cells = [cell.strip(" *_") for cell in _BETWEEN_CELLS.split(line.strip(" \t|"))]
        if len(cells) > 1 and _is_header(cells):
            is_elses = is_somebody_else(cells[0])  # "Name" is then not the patient's
            kinds = ["" if is_elses and key_words(cell) in ("name", "full name") else kind_of_key(cell) for cell in cells]
        elif len(cells) == len(kinds):
            for kind, said in zip(kinds, cells, strict=True):
                if kind and (kind.startswith(("id ", "born")) or is_person(said)):
                    yield ("name" if kind == "patient" else kind), said


def table_rows(text: str) -> list[dict[str, str]]:
    """The rows of a text that is one table (CSV, TSV) with a column that names patients, or of a transcript; none for any other text.

    Lines above the header, and rows of a single cell, have the key "row".
    """
    lines = text.strip().split("\n")
    for at, line in enumerate(lines[:_HEADER_WITHIN]):
        for delimiter in ",;\t|":
            cells = line.replace('"', "").split(delimiter)
            is_transcript = {"text", "transcript"} & set(map(key_words, cells)) and re.search(r"(?i)\bstart", line)
            if is_transcript or _is_header(cells, fewest=3 if delimiter == "," else 2):
                with suppress(csv.Error):
                    table = csv.reader(io.StringIO("\n".join(lines[at:])), delimiter=delimiter, skipinitialspace=f'{delimiter} "' in text)
                    header, *rows = (row for row in table if any(row))
                    is_mixed = delimiter == "|" and any(len(row) == 1 for row in rows)  # a text with tables between bars in it
                    are_rows = 2 * sum(len(row) >= len(header) for row in rows) > len(rows) and not is_mixed
                    if are_rows and len(set(header)) == len(header):
                        return [{"row": one} for one in lines[:at] if one.strip()] + [_cells(header, row, delimiter) for row in rows]
    return []


def objects_of_rows(value: Any) -> Any:
    """The rows of a JSON table that names patients as objects; anything else as it is. A table is a list of rows of which the first
    is a header, or an object with ``columns`` and ``data``.
    """
    if isinstance(value, Mapping) and isinstance(value.get("columns"), list):
        value = [value["columns"], *rows] if isinstance(rows := value.get("data"), list) else value
    if not (isinstance(value, list) and value and all(isinstance(row, list) for row in value)):
        return value
    header, *rows = value
    if not (all(isinstance(cell, str) for cell in header) and _is_header(header)):
        return value
    return [dict(zip(header, row, strict=False)) if len(row) <= len(header) else {"row": row} for row in rows]


def _cells(header: list[str], row: list[str], delimiter: str) -> dict[str, str]:
    last = len(header) - 1  # an unquoted delimiter in the last cell makes a row too long
    cells = [*row[:last], delimiter.join(row[last:])] if len(row) > last else row
    return {key.strip(): cell.strip() for key, cell in zip(header, cells, strict=False)} if len(row) > 1 else {"row": row[0]}


def _is_header(cells: list[str], *, fewest: int = 2) -> bool:
    """Whether the cells of a row are labels, one of them of a patient; ``fewest`` may be in any language if one is "Patient"."""
    kinds = sum(bool(kind_of_key(cell) or key_words(cell) == "id") for cell in cells)
    known = sum(bool(kind_of_key(cell) or heading_words() & set(key_words(cell).split())) for cell in cells)
    are_short = len(cells) >= fewest and all(len(cell.split()) < 4 and not cell.rstrip().endswith(".") for cell in cells)
    is_list = are_short and any(kind_of_key(cell) == "patient" for cell in cells) and not any(map(is_person, cells))
    return kinds > 0 and (known > 1 or is_list) and not re.search(rf"(?i)\d|\b(?:{_NOT_OF_PATIENTS})\b", " ".join(cells))
