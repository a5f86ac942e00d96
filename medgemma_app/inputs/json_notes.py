"""Reads plain JSON as lines of notes: keys become labels, values stay as written. Also decides whether they say anything."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from medgemma_app.errors import InputError
from medgemma_app.inputs.lines import (
    FLAGS,
    Line,
    Reading,
    count_words,
    day_or_month,
    inside,
    key_words,
    list_lines,
    sortable_days,
    status_mark,
    with_counts,
)

DEEPEST = 100
_SMALL = 40  # words; so short a line is kept whatever its rank
_TOO_DEEP = "is nested too deeply; give a flat JSON object"
# Ranks of lines: if notes are too long, the highest are left out first.
_CURRENT, _LONG, _UNKNOWN, _HISTORY = range(4)
_IS_HISTORY = re.compile(r"\b(history|histories|past|prior|previous|old|earlier|former|pmh|psh|fh|sh)\b")
_DATED_KEY = re.compile(r"\d{1,2}\D|(?:19|20)\d\d")
SPEAKERS, SPEECH = ("speaker", "role"), ("text", "content", "utterance")
_PERSONS = frozenset(("", "patient", "person", "demographics", "subject"))
# The beginning of a word, and neither a unit ("5mg") nor the path of a file.
_WORD = re.compile(r"""(?<![^\s("'«\u2018-\u201f*#>|:,;-])[^\W\d_]""")
_NOTHING = re.compile(r"\W*+(n\s*/?\s*a|nan|none|null|nil|unknown|tbd|not (documented|recorded|applicable|available))?\W*+", re.IGNORECASE)
_SETTING = re.compile(r"\s*(?:(?P<heading>\[[^\]]*\])|[#;].*|(?P<key>[\w.-]+)\s*=.*)\s*")
_STATUS_KEYS = ("status", "doc status", "verification status", "clinical status", "lifecycle status", "record status", "state")
_DELETED = ("deleted", "is deleted", "entered in error", "voided", "retracted")
# Keys in the responses of servers: of an error, of a message, of a status, and others beside them.
_ERROR_KEY = re.compile(r"(errors?|exception|fault)( (message|description|code|type|details?))?|failure reason|traceback|stack trace")
_MESSAGE_KEYS = {"message", "msg", "title", "detail", "details", "diagnostics"}
_STATE_KEYS = {"code", "status", "status code", "success", "ok"}
_RESPONSE_KEYS = {*_MESSAGE_KEYS, *_STATE_KEYS, "path", "timestamp", "request id", "trace id", "type", "instance"}
_SHORT_MESSAGE = 80  # characters; a longer message without an error or a status may be a note


def parse_notes(raw: bytes | str, name: str) -> Any:
    """Parses JSON with every number as written in the file (37.20 must not become 37.2) and no key lost. Raises InputError."""
    encoding = json.detect_encoding(raw) if isinstance(raw, bytes) else ""
    try:
        text = raw.decode(encoding) if isinstance(raw, bytes) else raw
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_every_pair)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name} is not {encoding.upper().removesuffix('-SIG')} text at line {line}; save it as UTF-8 JSON") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{name} {_TOO_DEEP}") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in inside(outer)]
    if level:
        raise InputError(f"{name} {_TOO_DEEP}")
    return value


def _every_pair(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keeps both values of a key that occurs twice; JSON readers usually keep only the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = [found[key], value] if key in found else value
    return found


def read_json_notes(value: Any, name: str) -> Reading:
    """Notes of one patient in plain JSON. Raises InputError for what looks like an error message from a server."""
    if is_error_message(value):
        raise InputError(f"{name} looks like an error message from a server; fetch the notes again, or give their text alone")
    doubts: set[str] = set()
    lines = labelled_lines(newest_first(value, doubts))
    lines = [replace(line, rank=_CURRENT) if count_words(line.text) <= _SMALL else line for line in lines]
    kind = "dialogue" if is_turns(value) else f"JSON {'object' if isinstance(value, Mapping) else type(value).__name__}"
    return Reading(lines, kind, says_something(value), warnings=sorted(doubts))


def by_status(value: Any) -> tuple[Any, list[Line], list[str]]:
    """Notes without the entries whose status says that they are not valid.

    Also returns a line, which begins with a mark, for each entry that is refuted, not done or stopped; and the entries that were
    left out because they are withdrawn. The notes as a whole get no mark.
    """
    marked: list[Line] = []
    left_out: Counter[str] = Counter()

    def holds(inner: Any, key: str) -> bool:
        mark, reason = _entry_mark(inner)
        left_out[f"entry ({reason})"] += bool(reason)
        if mark and not reason and inner is not value:
            marked.append(Line(f"{mark}{_line(key, kept(inner, key))}", _label(key), _keeping(key)))
        return not reason and (not mark or inner is value)

    def kept(inner: Any, key: str = "entry") -> Any:
        if isinstance(inner, Mapping):
            staying = {below: kept(one, below) for below, one in inner.items() if holds(one, below)}
            # "Drugs:" alone would mean that there are none.
            return {below: one for below, one in staying.items() if one or not inner[below]}
        if isinstance(inner, list):
            items = [(one, kept(one, key)) for one in inner if holds(one, key)]
            return [staying for one, staying in items if staying or not one]
        return inner

    return (kept(value) if holds(value, "") else {}), marked, with_counts(left_out)


def _entry_mark(value: Any) -> tuple[str, str]:
    """The mark of an entry of plain JSON and why it is withdrawn, as ``status_mark`` finds them."""
    if not isinstance(value, Mapping):
        return "", ""
    fields = {key_words(key): one for key, one in value.items()}
    is_deleted = any(fields.get(flag) in (True, "true") for flag in _DELETED)
    flags = {flag: fields.get(key_words(flag)) for flag in FLAGS}
    flags["taken"] = fields.get("taking", fields.get("taken"))
    return status_mark({"status": [fields.get(key) for key in _STATUS_KEYS], "deleted": is_deleted, **flags})


def is_error_message(value: Any) -> bool:
    """True for a server's response without notes: {"error": ...}, {"message": ..., "status": 401}, or a short message alone."""
    if not isinstance(value, Mapping):
        return False
    fields = {name: inner for key, inner in value.items() if (name := key_words(key)) in _STATE_KEYS or inner}
    errors = {name for name in fields if _ERROR_KEY.fullmatch(name)}
    if not fields.keys() - errors <= _RESPONSE_KEYS:
        return False
    messages = [inner for name, inner in fields.items() if name in _MESSAGE_KEYS]
    return bool(errors or (messages and (fields.keys() & _STATE_KEYS or len(_inline(messages)) < _SHORT_MESSAGE)))


def newest_first(value: Any, doubts: set[str]) -> Any:
    """Sorts dated visits, in lists or under dates as keys, newest first, so that the oldest are cut if there is no room for all."""
    if isinstance(value, list):
        items = [newest_first(item, doubts) for item in value]
        return _sorted_by_date(items, _dates_of(value), doubts)
    if isinstance(value, Mapping):
        dated = [key for key in value if _DATED_KEY.match(key) and sortable_days([key])]
        in_order = dict.fromkeys(_sorted_by_date(dated, dated, doubts))
        keys = [*(key for key in value if key not in in_order), *in_order]
        return {key: newest_first(value[key], doubts) for key in keys}
    return value


def _sorted_by_date(items: list[Any], written: list[str], doubts: set[str]) -> list[Any]:
    days = sortable_days(written)
    doubts |= set(day_or_month(written)) if days else set()
    return [items[at] for at in sorted(range(len(items)), key=lambda at: days[at], reverse=True)] if days else items


def _dates_of(items: list[Any]) -> list[str]:
    """The dates of the entries of a list, as written: of the first key, whatever its name, whose values are dates that differ."""
    fields = [_date_fields(item) for item in items]
    columns = [[one[key] for one in fields] for key in (fields[0] if fields else ()) if all(key in one for one in fields)]
    return next((written for written in columns if len(set(sortable_days(written))) > 1), [])


def _date_fields(item: Any) -> dict[str, str]:
    """The dates in an entry and in the objects that it holds directly. A bare year counts only under a key such as "date" or "year"."""
    found: dict[str, Any] = {}
    for key, value in item.items() if isinstance(item, Mapping) else ():
        found |= {f"{key} {below}": one for below, one in value.items()} if isinstance(value, Mapping) else {key: value}
    texts = {key: said.strip() for key, said in found.items() if isinstance(said, str)}
    days = {key: sortable_days([said]) for key, said in texts.items()}
    return {key: texts[key] for key, day in days.items() if day and ("-" in day[0] or re.search(r"(?i)date|year", key))}


def notes_text(value: Any) -> str:
    """Parsed JSON as text: a string as it is, an object as ``Label: value`` lines, a list as one line per entry."""
    return "\n".join(line.text for line in labelled_lines(value))


def labelled_lines(value: Any) -> list[Line]:
    """A line for each key of an object, or for each entry of a list."""
    if isinstance(value, Mapping):
        return [Line(_line(key, value[key]), _label(key), _keeping(key)) for key in sorted(value, key=_place)]
    return [Line(_turn(item)) for item in value] if isinstance(value, list) else [Line(_inline(value))]


def _place(key: str) -> int:
    name, order, last = key_words(key), word_list_of("clinical_keys"), word_list_of("long_text_keys")
    return order.get(name, len(order) + 1 + last[name] if name in last else len(order))


def _keeping(key: str) -> int:
    return rank_of(key_words(key), known=key_words(key) in word_list_of("clinical_keys"))


def rank_of(label: str, *, known: bool = True) -> int:
    """How soon the text under a label is cut: history first, then unknown labels, then the end of long texts."""
    if label in word_list_of("long_text_keys"):
        return _LONG
    if _IS_HISTORY.search(label) and "present" not in label:
        return _HISTORY
    return _CURRENT if known else _UNKNOWN


@cache
def word_list_of(name: str) -> dict[str, int]:
    """The words of a list in ``data/``, each with its position."""
    return {word: place for place, word in enumerate(list_lines(name))}


@cache
def clinical_keys() -> frozenset[str]:
    """Keys whose values are clinical."""
    order = list_lines("clinical_keys")
    return frozenset((*order[order.index("chief complaint") :], *list_lines("other_clinical_keys")))


def _label(key: str) -> str:
    name = key_words(key)
    known = (name in word_list_of("clinical_keys") or name in word_list_of("long_text_keys")) and not key.isupper()
    label = name if known else key.replace("_", " ").strip()
    return label.capitalize() if label.islower() else label  # pH and pO2 stay as they are


def _line(key: str, value: Any, *, nested: bool = False) -> str:
    said = "\n" + notes_text(value) if is_turns(value) else f" {_inline(value, nested=nested)}"
    return f"{_label(key)}:{said}"


def is_turns(value: Any) -> bool:
    """True for a list of turns: who speaks, and what is said."""
    return isinstance(value, list) and bool(value) and all(_turn_keys(item) for item in value)


def _turn_keys(item: Any) -> tuple[str, str] | None:
    """The keys of who speaks and of what is said, where an item is a turn of a dialogue."""
    if not isinstance(item, Mapping):
        return None
    who, what = ([key for key in keys if key in item] for keys in (SPEAKERS, SPEECH))
    return (who[0], what[0]) if who and what else None


def _turn(item: Any) -> str:
    keys = _turn_keys(item)
    if not keys:
        return _inline(item)
    more = "; ".join(_line(key, value) for key, value in item.items() if key not in keys)
    return f"{_inline(item[keys[0]])}: {_inline(item[keys[1]])}" + (f" ({more})" if more else "")


def _inline(value: Any, *, nested: bool = False) -> str:
    """A value on one line: semicolons between the entries of a list or object, brackets around an inner one, and nothing for null."""
    if isinstance(value, Mapping):
        parts = [_line(key, item, nested=True) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [_inline(item, nested=True) for item in value]
    elif value is None:
        return ""
    else:
        return value.strip() if isinstance(value, str) else json.dumps(value)
    return f"({'; '.join(parts)})" if nested and parts else "; ".join(parts)


def says_something(value: Any, key: str = "") -> bool:
    """False if no note can be written from a value: nothing at all, bare numbers and dates, or only who was seen, when and by whom.

    It does not judge whether words are clinical: refusing a real note does harm, reading a shopping list does none.
    """
    if isinstance(value, list):
        return any(says_something(inner, key) for inner in value)
    if not isinstance(value, Mapping):
        is_word = bool(key) or (isinstance(value, str) and _WORD.search(value) is not None)
        return is_word and not _NOTHING.fullmatch(str(value))
    speaker = (_turn_keys(value) or ("",))[0]
    return any(
        says_something(inner, key_words(below)) for below, inner in value.items() if below != speaker and not _is_about(value, key, below)
    )


def _is_about(value: Mapping[str, Any], key: str, below: str) -> bool:
    """True for a key that says who was seen, or when. A name is a person's unless it has a value or is below a key such as "drug"."""
    name = key_words(below)
    return name in word_list_of("identity_keys") or (name == "name" and key in _PERSONS and "value" not in value)


def text_says_something(text: str) -> bool:
    """Like ``says_something``, for text. Empty headings ("Plan:") do not count, nor do the settings of a program."""
    return not is_settings(text) and says_something(re.sub(r"(?m)^[^:\n]{1,60}:[\s_.-]*$", "", text))


def is_settings(text: str) -> bool:
    """True for the settings of a program: lines of ``key = value`` with ``[headings]`` or names such as API_KEY, and no clinical key."""
    found = [_SETTING.fullmatch(line) for line in text.splitlines() if line.strip()]
    keys = {key_words(line["key"]) for line in found if line and line["key"]}
    is_program = any(line and (line["heading"] or re.search(r"[_.]", line["key"] or "")) for line in found)
    return all(found) and bool(keys) and is_program and not keys & clinical_keys()
