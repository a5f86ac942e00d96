"""What notes say about a patient, in a comparable form: numbers, dates and names; and whether two values may be one patient's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.lines import key_words, list_words, sortable_days

PatientFacts: TypeAlias = dict[str, str]  # kind of label -> value: "id mrn", "name", "born"; in JSON also "sex", "age" and "aged"

MOST_PATIENTS = 100  # that are distinguished
SAME_PATIENT = "same"  # instead of a name or id: labels that differ are of one patient
_TITLE = re.compile(
    r"mr|mrs|ms|miss|mx|sir|master|herr|frau|sr|sra|senora?|mme|monsieur|madame|dr|prof|jr|ii|iii|sig|sigra|dhr|mevr|pan|pani"
)
_CREDENTIAL = re.compile(r"\b(?:Dr|Prof|M\.?D|D\.?O|R\.?N|PA-?C|[FD]?NP|PharmD|MBBS|FRC[PS]|PhD|DDS)\b")
_NOBODY = re.compile(
    r"\b(?:unknown|anonymous|redacted|none|na|null|x+|(?:fe)?male|w?o?man|boy|girl|years?|old|yo|not|verified|confirmed|as above)\b"
)
_PARTICLES = frozenset(
    ("van", "von", "de", "den", "der", "del", "la", "le", "da", "dos", "bin", "al", "el", "y", "zu", "di", "du", "ter", "ten")
)
_UNSPACED_NAME = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{2,4}(?:[\s\u3000・·]?[\u3040-\u30ff\u3400-\u9fff]{1,6})?")
_DATE_PARTS = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b|(?<=[^\W\d_])-|-(?=[^\W\d_])|(?<=\d[./-]) | (?=[./-] ?\d)")


def without_accents(text: str) -> str:
    """The text without the accents of Latin letters; its length and case stay the same."""
    return text if text.isascii() else text.translate(_accents())


@cache
def _accents() -> dict[int, str]:
    letters = (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))
    return {letter: unicodedata.normalize("NFD", chr(letter))[0] for letter in letters}


def plain_value(kind: str, said: str) -> str:
    """A value in a form that can be compared; "" if it names nobody."""
    if kind == "born":
        days = sortable_days([_DATE_PARTS.sub(lambda found: " " * (found[0] == "-"), said.strip(" *_"))])
        return days[0][2:] if days else ""
    if not kind.startswith("name"):
        return re.sub(r"^0+(?=\w)", "", re.sub(r"[\W_]", "", said).lower())
    folded = without_accents(unicodedata.normalize("NFKC", said.casefold()))
    words = [word for word in re.findall(r"[^\W\d_]+", re.sub("['’]", "", folded)) if not _TITLE.fullmatch(word)]
    return "" if len(words) > 6 or _NOBODY.search(" ".join(words)) else " ".join(words)


def is_person(said: str) -> bool:
    """Whether a text looks like the first and last name of a person who is not staff."""
    said = said.strip(" *_,-")
    if _UNSPACED_NAME.fullmatch(said):
        return True
    words = re.findall(r"[^\s,.]+", said)
    return 1 < len(words) < 6 and all(word[0].isupper() or word in _PARTICLES for word in words) and may_be_name(said)


def may_be_name(said: str) -> bool:
    """Whether a text may be a patient's name, and not a doctor's, a drug's with its dose, or the title of a document."""
    is_staff = _CREDENTIAL.search(said) or re.search(r"\d|[!?]\W*$", said)
    return said.lstrip()[:1].isupper() and not is_staff and not heading_words() & set(key_words(said).split())


@cache
def heading_words() -> frozenset[str]:
    """The words of labels and headings, of which the names of documents and problems consist."""
    lists = ("clinical_keys", "other_clinical_keys", "long_text_keys", "identity_keys")
    return frozenset(word for name in lists for word in list_words(name) if len(word) > 1)


def agree(kind: str, one: str, other: str) -> bool:
    """Whether two values may be one patient's: names in another order or shorter, days and months in either order, patients grow older."""
    if one == other:
        return True
    if kind == "born":
        return any(a.startswith(b) or b.startswith(a) for a in _orders(one) for b in _orders(other))
    if kind == "aged":
        return one[-1] == other[-1] and abs(int(one[:-1]) - int(other[:-1])) <= 10
    if kind == "age":
        return abs(int(one) - int(other)) <= 1
    if not kind.startswith("name"):
        return False
    few, many = sorted((one.split(), other.split()), key=len)
    return all(any(word == more or (1 in (len(word), len(more)) and word[0] == more[0]) for more in many) for word in few)


def _orders(day: str) -> tuple[str, ...]:
    parts = day.split("-")
    return (day, f"{parts[0]}-{parts[2]}-{parts[1]}") if len(parts) == 3 and parts[2] <= "12" else (day,)


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a value that may be one or a list of them."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Mapping)]


def identifiers(person: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The identifiers of a patient that are objects; only those of one type or system, or at the same place, are compared."""
    for place, one in enumerate(one for key, inner in person.items() if key_words(key).startswith("identifier") for one in objects(inner)):
        if isinstance(said := one.get("value"), str):
            yield f"id {one.get('type') or one.get('system') or place}", plain_value("id", said)


def parts_of_name(key: str, value: Any) -> Mapping[str, Any]:
    """The parts of a name that is an object, or of the first of several, which may be a maiden name; anything else as it is."""
    if key_words(key) not in ("name", "names") or not (names := objects(value)):
        return {key: value}
    return {part: " ".join(map(str, one)) if isinstance(one, list) else one for part, one in names[0].items()}


def overlap(one: PatientFacts, other: PatientFacts) -> bool:
    """Whether both say something of the same kind, other than sex and age, or have a number in common."""
    return bool(one.keys() & other.keys() - {"sex", "age", "aged"} or ids_of(one) & ids_of(other))


def differ(one: PatientFacts, other: PatientFacts) -> bool:
    """Whether the two cannot be one patient: no number is the same, and a value of one kind is not."""
    return not ids_of(one) & ids_of(other) and any(not agree(kind, one[kind], other[kind]) for kind in one.keys() & other.keys())


def ids_of(identity: PatientFacts) -> set[str]:
    """The numbers of a patient, of any register."""
    return {said for kind, said in identity.items() if kind.startswith("id ")}


class SeveralPatients(InputError):
    """The notes are about more than one patient; ``can_choose`` if a name or an id identifies each of them.

    ``differ`` names the labels that differ. Labels can mislead, so the message then offers ``SAME_PATIENT``.
    """

    def __init__(self, name: str, number: int, *, can_choose: bool = True, differ: str = "") -> None:
        ways = ["give one file for each", *["choose one with --patient ID"] * can_choose]
        ways += [f"if they are one patient's, add --patient {SAME_PATIENT}"] * bool(differ)
        several = f"{number} or more patients" if number == MOST_PATIENTS else f"{number} patients"
        super().__init__(f"{name} holds the notes of {several}{differ and f' ({differ} differ)'}; {', or '.join(ways)}")


def is_called(patient: str, names: Iterable[str]) -> bool:
    """Whether a user's words for a patient are one of the patient's ids, in any case, or the name, with its words in any order."""
    called = _folded(patient)
    return bool(called) and called in map(_folded, names)


def _folded(called: str) -> str:
    called = called.casefold()
    return " ".join(called.split() if re.search(r"\d", called) else sorted(re.findall(r"[^\W_]+", called)))


def no_such_patient(name: str) -> InputError:
    """The error for a ``patient`` that the notes do not name."""
    return InputError(f"{name} names no patient with the given ID; give the ID, record number or name as the file writes it")
