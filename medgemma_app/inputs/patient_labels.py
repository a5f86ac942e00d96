"""The labels of record numbers, birth dates and names of patients in texts, columns and keys of JSON, and how their values are compared."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

from medgemma_app.inputs.lines import key_words, list_lines, sortable_days

Identity: TypeAlias = dict[str, str]  # kind of label -> value: "id mrn", "name", "born"; in JSON also "sex", "age" and "aged"

# Numbers of different registers are not compared. Where a register ends with "_no", its label needs a word such as "number".
_REGISTERS = {
    "mrn": r"(?:patient{0})?m\.?r\.?n", "mrn_no": "mr|(?:med(?:ical)?{0})?rec(?:ord)?", "hospital_no": "hosp(?:ital)?|krankenhaus",
    "patient_no": "patient(?:en|in)?|pat|pt|paciente|client|resident|person|subject", "chart_no": "chart", "nhs_no": "nhs", "chi_no": "chi",
    "emr_no": "emr|ehr", "member_no": "member", "ssn": "ssn|social{0}security", "uhid": "uhid", "empi": "empi", "pid": "pid",
    "nhc": "nhc|historia{0}cl[ií]nica", "ipp": "ipp|dossier",
}  # fmt: skip
_JOINED = r"[\W_]{0,3}"
_NUMBER = rf"{_JOINED}(?:(?:number|num|no|nr|nummer|id|identifier|uuid|key|ref|reference|code)s?(?![^\W\d_])|#)"
_ID = "(?:{})".format("|".join(
    f"(?P<{kind}>{words.format(_JOINED)})" + (_NUMBER if kind.endswith("_no") else rf"(?:{_NUMBER}|(?![^\W\d_]))")
    for kind, words in _REGISTERS.items()
))  # fmt: skip
_OF_PATIENT = rf"(?:patient|pt|client|resident|person|subject)(?:'?s)?{_JOINED}"
_BORN = (
    rf"(?:{_OF_PATIENT})?(?:d\.? ?o\.? ?b\b|date of birth|birth[\W_]?da(?:te|y)|geb(?:oren)?\b(?: am)?|geburts(?:datum|tag)|née? le"
    r"|date de naissance|fecha de nacimiento|nacid[oa] el|f\.? ?nac\b|born(?=[ *_]*[:|]|$))"
)
_OWN_NAME = (
    rf"{_OF_PATIENT}(?:full{_JOINED})?name|name of (?:the )?patient|patientenname|name des patienten|nom du patient|nombre del paciente"
)
_NAMES = {
    "name own": _OWN_NAME, "name family": r"(?:last|family)[\W_]?name|surname|nachname", "name given": r"(?:first|given)[\W_]?name|vorname",
    "name": r"(?:full[\W_]?)?name|nom|nombre|patient(?:in)?|pt|paciente?|client",
}  # fmt: skip

_VALUE_OF_ID = r"(?P<id>\d{3} \d{3,4}(?: \d{3,4})?\b(?![./-])|(?:[^\W\d_]{1,5}[/-]?)?\d[\w/-]*)"
_GAP = r"[\s:#=|*_.()-]{0,8}"
_FIELD = r"(?:^|[|;,>*_\t(\[]|  |\d[.)]? )[ *_#>-]{0,6}"  # what comes before a label such as "Name"
_NAME = "|".join(f"(?P<{kind.replace(' ', '_')}>{words})" for kind, words in _NAMES.items())
_SEPARATOR = r"[*_ ]*(?:[:#=|;][ *_|\t]*|[ \t]+[–—-][ \t]+)"
_NUMBERED = r"(?:patient|pt|case|client|resident|subject) ?(?:#|no\.?|nr\.?|number)? ?(?P<numbered>\d{1,4}|[A-Z]|one|two|three|four|five)\b"
_LABELLED = (
    re.compile(rf"(?i)(?<![^\W_]){_ID}(?P<gap>{_GAP}){_VALUE_OF_ID}"),
    re.compile(rf"(?i)(?<![^\W_]){_BORN}{_GAP}(?P<born>[^\n|;]{{4,30}})"),
    re.compile(rf"(?im){_FIELD}(?P<label>{_NAME}){_SEPARATOR}(?=(?P<said>[^\n]{{2,80}}))"),
    re.compile(rf"(?im)(?<!\w)(?P<name_own>{_OWN_NAME})(?:{_SEPARATOR}|\s*\n|  |\t)[\s*_]*(?=(?P<said>[^\n]{{2,80}}))"),
    re.compile(rf"(?im)^(?:[^\w\n]|_)*{_NUMBERED}(?=(?:[^\w\n]|_)*$| ?[:.)(](?!\d)| [–—-] | of \d)"),
)

# A record number or birth date may be a relative's, and a name anybody's: what follows these words is not the patient's.
_RELATIVE = (
    r"mother|father|mom|dad|mum|parent|guardian|wife|husband|spouse|partner|sons?|daughter|child|children|siblings?|brother|sister"
    r"|grand\w+|aunt|uncle|family (?:history|members?)|relatives?|kin|emergency contact|caregiver|carer|donor|subscriber|holder|insured"
    r"|guarantor|proxy|poa|power of attorney|responsible party|niece|nephew|cousin"
    r"|step(?:father|mother|parent|son|daughter|brother|sister)|obstetric history"
    r"|mutter|vater|tochter|sohn|ehe(?:mann|frau)|angehörige\w*|mère|père|épou\w+|madre|padre|hij[oa]|espos[oa]"
    r"|ansprechpartner(?:in)?|notfallkontakt|personne de confiance|contacto de emergencia"
)
_STAFF = (
    r"providers?|doctors?|physicians?|nurses?|surgeon|attending|referring|referred|pcp|gp|consultants?|clinicians?|practitioners?|performers?"
    r"|authors?|staff|users?|signed|contacts?|pharmac\w+|facility|clinic|practice|organi[sz]ation|location|insur\w+|payer|company"
    r"|employer|school|med(?:ication|icine)?s?|drugs?|prescriptions?|tests?|labs?|procedures?|devices?|immuni[sz]ations?|allerg\w+"
    r"|hausarzt|hausärztin|médecin traitant|médic[oa] (?:responsable|de cabecera)"
    r"|problems?|care team|interpreter|vaccin\w+|supplements?|equipment|visitors?|students?"
)
SOMEONE_ELSE = re.compile(rf"(?i)\b(?:{_RELATIVE}|{_STAFF})\b")
RELATIVE = re.compile(rf"(?i)\b(?:{_RELATIVE})\b")
# Pelvic inflammatory disease and proton pump inhibitors are abbreviated like two registers.
_UNCERTAIN, _LONG_NUMBER = ("id pid", "id ipp"), re.compile(r"[:#=|]\W*[^\W\d_]{0,5}\d{5,}$")
_IS_RELATIVE = re.compile(
    rf"{RELATIVE.pattern}"
    r"|\b(?:old|previous(?:ly)?|former(?:ly)?|prior|maternal|paternal"
    r"|outside(?: hospital)?|other|baby|infant|newborn|neonate)(?:'s)?\W*$"
)
_SENTENCE = re.compile(r"[.!?;|]\s")
_HEADING = re.compile(r"[\W_]*[^\W\d_][^:|\d.]{2,40}:?[\s*_=-]*")
_SPEECH = re.compile(
    r"(?m)^[^\w\n]*(?:[Pp]atient(?:in)?|PATIENT|P[tT]|[Cc]lient|[Pp]aciente?)\W*: +\S+ (?!(?:v[ao]n|de|la|le|da|dos|bin|al|el) )[a-z]"
)
_END_OF_SENTENCE = re.compile(r"[^\W\d_]{3}[.!?]\W*$")  # and not "Jr."
# Fields that stand beside the name of a drug, or of somebody else.
_NOT_OF_PATIENTS = (
    r"relation(?:ship)?|dos(?:e|age|is)|posolog(?:ie|ía)|strength|route"
    r"|frequency|sig|quantity|reaction|manufacturer|title|role|npi|specialty"
)
_OF_A_DRUG = re.compile(rf"(?i)[^\n]*(?:\n[\W_]*)?\b(?:{_NOT_OF_PATIENTS})\b\W{{0,3}}[:|]")
_END_OF_NAME = re.compile(rf"(?i)[|;\t(\[\d*]|  | [–—-] |(?<=[^\W\d_]{{3}})\. |\W(?:{_ID}|{_BORN}|age|sex|gender|alter)\b|[ ,]+\w+ ?[:#=]")
_TITLE = re.compile(r"mr|mrs|ms|miss|mx|sir|master|herr|frau|sr|sra|senora?|mme|monsieur|madame|dr|prof|jr|ii|iii")
_CREDENTIAL = re.compile(r"\b(?:Dr|Prof|M\.?D|D\.?O|R\.?N|PA-?C|[FD]?NP|PharmD|MBBS|FRC[PS]|PhD|DDS)\b")
_NOBODY = re.compile(
    r"\b(?:unknown|anonymous|redacted|none|na|null|x+|(?:fe)?male|w?o?man|boy|girl|years?|old|yo|not|verified|confirmed|as above)\b"
)
_CAPITALISED = re.compile(r"(?:[A-ZÀ-Þ][\w'’.-]*|v[ao]n|de[rnl]?|la|le|da|dos|bin|al|el|y|zu)")
_PATIENT_HEADINGS, _HEADER_WITHIN = ("patient", "patientin", "paciente", "paziente"), 4
_DATE_PARTS = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b|(?<=[^\W\d_])-|-(?=[^\W\d_])|(?<=\d[./-]) | (?=[./-] ?\d)")


def kind_of_key(key: str) -> str:
    """The kind of a key of JSON, or of the heading of a column: "id mrn", "born", "name own", "name"; "" if it is not about a patient."""
    words = key_words(key).rstrip("_. :")
    if found := re.fullmatch(_ID, words, re.IGNORECASE):
        return _register(found)
    if re.fullmatch(_BORN, words, re.IGNORECASE):
        return "born"
    return next((kind for kind, names in _NAMES.items() if re.fullmatch(names, words, re.IGNORECASE)), "")


def _register(found: re.Match[str]) -> str:
    kind = next(kind for kind in _REGISTERS if found[kind]).removesuffix("_no")
    return f"id {kind}" + " uuid" * found[0].lower().endswith("uuid")


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Mapping)]


def identifiers(person: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The identifiers of a patient that are objects; only those of one type or system, or at the same place, are compared."""
    for place, one in enumerate(one for key, inner in person.items() if key_words(key).startswith("identifier") for one in _objects(inner)):
        if isinstance(said := one.get("value"), str):
            yield f"id {one.get('type') or one.get('system') or place}", plain_value("id", said)


def parts_of_name(key: str, value: Any) -> Mapping[str, Any]:
    """The parts of a name that is an object, or of the first of several, which may be a maiden name; anything else as it is."""
    if key_words(key) not in ("name", "names") or not (names := _objects(value)):
        return {key: value}
    return {part: " ".join(map(str, one)) if isinstance(one, list) else one for part, one in names[0].items()}


def labelled(text: str) -> Iterator[tuple[str, str]]:
    """What a text says of its patient: the kind of each label, and its value as ``plain_value`` gives it."""
    for kind, said in (*_after_labels(text), *_in_columns(text)):
        if value := plain_value(kind, said):
            yield kind.removesuffix(" own"), value


def _after_labels(text: str) -> Iterator[tuple[str, str]]:
    ids, born, names, own_names, numbered = _LABELLED
    for found in ids.finditer(text):
        kind = _register(found)
        is_number = _LONG_NUMBER.search(found[0]) if kind in _UNCERTAIN else len(found["id"]) > 2 or re.search("[:#=|]", found["gap"])
        if is_number and not _is_of_another(text, found, _IS_RELATIVE):
            yield kind, found["id"]
    for found in born.finditer(text):
        if not _is_of_another(text, found, _IS_RELATIVE):
            yield "born", found["born"]
    is_dialogue = len(_SPEECH.findall(text)) > 1
    for found in (*names.finditer(text), *own_names.finditer(text)):
        kind = next(kind for kind in _NAMES if found.groupdict().get(kind.replace(" ", "_")))
        said = _END_OF_NAME.split(found["said"], maxsplit=1)[0]
        looks_right = may_be_name if kind in ("name family", "name given") else is_person
        if is_dialogue and kind == "name" and found["label"][:1] in "pPcC":
            continue
        if kind == "name own" or (
            looks_right(said) and not _END_OF_SENTENCE.search(said) and not _is_of_another(text, found, SOMEONE_ELSE)
        ):
            yield kind, said
    yield from (("id label", found["numbered"]) for found in numbered.finditer(text))


def _is_of_another(text: str, found: re.Match[str], who: re.Pattern[str]) -> bool:
    """Whether a label belongs to a relative named before it on its line, to ``who`` in the heading above it, or to a drug."""
    start = found.start() + text[found.start() : found.end()].startswith("\n")
    above, _, line = text[max(0, start - 300) : start].rpartition("\n")
    if _IS_RELATIVE.search(_SENTENCE.split(line)[-1][-40:]) or (who is SOMEONE_ELSE and _OF_A_DRUG.match(text, start)):
        return True
    # The nearest line above without a value, unless a blank line stands between.
    lines = reversed(above.rstrip().split("\n"))
    heading = next((one for one in lines if not one.strip() or (_HEADING.fullmatch(one))), "")
    return who.search(heading) is not None


def _in_columns(text: str) -> Iterator[tuple[str, str]]:
    """The cells of tables: a line of labels between bars, followed by lines with the same number of cells."""
    kinds: list[str] = []
    for line in text.split("\n") if "|" in text else ():
        cells = [cell.strip(" *_") for cell in line.strip().strip("|").split("|")]
        if is_header(cells):
            is_elses = SOMEONE_ELSE.search(cells[0]) is not None  # "Name" is then not the patient's
            kinds = ["" if is_elses and key_words(cell) in ("name", "full name") else kind_of_key(cell) for cell in cells]
        elif len(cells) == len(kinds):
            yield from ((kind, said) for kind, said in zip(kinds, cells, strict=True) if kind and (kind[0] != "n" or is_person(said)))


def table_rows(text: str) -> list[dict[str, str]]:
    """The rows of a text that is one table (CSV, TSV) with a column that names patients; none for any other text.

    Lines above the header, and rows of a single cell, have the key "row".
    """
    lines = text.strip().split("\n")
    for at, line in enumerate(lines[:_HEADER_WITHIN]):
        for delimiter in ",;\t|":
            if is_header(line.replace('"', "").split(delimiter)):
                with suppress(csv.Error):
                    table = csv.reader(io.StringIO("\n".join(lines[at:])), delimiter=delimiter, skipinitialspace=f'{delimiter} "' in text)
                    header, *rows = (row for row in table if any(row))
                    is_mixed = delimiter == "|" and any(len(row) == 1 for row in rows)  # a text with tables between bars in it
                    are_rows = 2 * sum(len(row) >= len(header) for row in rows) > len(rows) and not is_mixed
                    if are_rows and len(set(header)) == len(header):
                        return [{"row": one} for one in lines[:at] if one.strip()] + [_cells(header, row, delimiter) for row in rows]
    return []


def _cells(header: list[str], row: list[str], delimiter: str) -> dict[str, str]:
    last = len(header) - 1  # an unquoted delimiter in the last cell makes a row too long
    cells = [*row[:last], delimiter.join(row[last:])] if len(row) > last else row
    return {key.strip(): cell.strip() for key, cell in zip(header, cells, strict=False)} if len(row) > 1 else {"row": row[0]}


def is_header(cells: list[str]) -> bool:
    """Whether the cells of a row are labels, one of them of a patient. Three cells may be in any language if one is "Patient"."""
    kinds = sum(bool(kind_of_key(cell) or key_words(cell) == "id") for cell in cells)
    known = sum(bool(kind_of_key(cell) or _of_headings() & set(key_words(cell).split())) for cell in cells)
    are_short = len(cells) > 2 and all(len(cell.split()) < 4 and not cell.rstrip().endswith(".") for cell in cells)
    is_list = are_short and any(key_words(cell) in _PATIENT_HEADINGS for cell in cells) and not any(map(is_person, cells))
    return kinds > 0 and (known > 1 or is_list) and not re.search(rf"(?i)\d|\b(?:{_NOT_OF_PATIENTS})\b", " ".join(cells))


def plain_value(kind: str, said: str) -> str:
    """A value in a form that can be compared; "" if it names nobody."""
    if kind == "born":
        days = sortable_days([_DATE_PARTS.sub(lambda found: " " * (found[0] == "-"), said.strip(" *_"))])
        return days[0][2:] if days else ""
    if not kind.startswith("name"):
        return re.sub(r"^0+(?=\w)", "", re.sub(r"[\W_]", "", said).lower())
    folded = "".join(sign for sign in unicodedata.normalize("NFKD", said.casefold()) if not unicodedata.combining(sign))
    words = [word for word in re.findall(r"[^\W\d_]+", re.sub("['’]", "", folded)) if not _TITLE.fullmatch(word)]
    return "" if len(words) > 6 or _NOBODY.search(" ".join(words)) else " ".join(words)


def is_person(said: str) -> bool:
    """Whether a text looks like the first and last name of a person who is not staff."""
    words = re.findall(r"[^\s,.]+", said.strip(" *_,-"))
    return 1 < len(words) < 6 and all(map(_CAPITALISED.fullmatch, words)) and may_be_name(said)


def may_be_name(said: str) -> bool:
    """Whether a text may be a patient's name, and not a doctor's, a drug's with its dose, or the title of a document."""
    is_staff = _CREDENTIAL.search(said) or re.search(r"\d|[!?]\W*$", said)
    return said.lstrip()[:1].isupper() and not is_staff and not _of_headings() & set(key_words(said).split())


@cache
def _of_headings() -> frozenset[str]:
    """Words of labels and headings, which the names of documents and problems consist of."""
    lists = ("clinical_keys", "other_clinical_keys", "long_text_keys", "identity_keys")
    return frozenset(word for name in lists for line in list_lines(name) for word in line.split() if len(word) > 1)


def agree(kind: str, one: str, other: str) -> bool:
    """Whether two values may be one patient's: names in another order or shorter, days and months in either order, patients grow older."""
    if one == other:
        return True
    if kind == "born":
        return any(a.startswith(b) or b.startswith(a) for a in _orders(one) for b in _orders(other))
    if kind == "aged":
        return abs(int(one) - int(other)) <= 5
    if kind == "age":
        return abs(int(one) - int(other)) <= 1
    if not kind.startswith("name"):
        return False
    few, many = sorted((one.split(), other.split()), key=len)
    return all(any(word == more or (1 in (len(word), len(more)) and word[0] == more[0]) for more in many) for word in few)


def _orders(day: str) -> tuple[str, ...]:
    parts = day.split("-")
    return (day, f"{parts[0]}-{parts[2]}-{parts[1]}") if len(parts) == 3 and parts[2] <= "12" else (day,)
