"""The word lists in ``data/*.txt``, which a clinician can edit: lines of ``key: word, two words`` or of words only; # begins a comment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial

from medgemma_app.inputs.lines import list_lines, list_words

lines = partial(list_lines, room="validate")


@cache
def word_list(name: str) -> frozenset[str]:
    """The words of a list without keys."""
    return frozenset(list_words(name, "validate"))


@cache
def entries(name: str) -> dict[str, list[str]]:
    """The names under each key of a list; a key may have several lines."""
    found: dict[str, list[str]] = {}
    for line in lines(name):
        key, _, listed = line.partition(":")
        found.setdefault(key, []).extend(map(str.strip, listed.split(",")))
    return found


@cache
def finder(name: str, *keys: str) -> re.Pattern[str]:
    """A pattern for the names of a list, or of some of its keys; the name of the matched group is the key, with _ for a space.

    In a name, * stands for any letters, "..." for up to 40 characters, and ? after a word makes it optional. A word in capitals
    stands for any of the names listed under that key.
    """
    listed = entries(name)
    chosen = keys or tuple(filter(str.islower, listed))
    return re.compile(
        "|".join(rf"(?<!\w)(?P<{key.replace(' ', '_')}>{_any_of(listed[key], listed)})(?!\w)" for key in chosen), re.IGNORECASE
    )


def _any_of(names: list[str], listed: Mapping[str, list[str]]) -> str:
    return rf"(?:{'|'.join(_name(one.split(), listed) for one in names)})"


def _name(words: list[str], listed: Mapping[str, list[str]]) -> str:
    """The words one after the other, with a space or a hyphen between them."""
    pattern, gap = "", ""
    for word in words:
        bare = word.rstrip("?")
        escaped = re.escape(bare).replace(r"\*", r"\w*").replace("'", "['’]")
        one = gap + (_any_of(listed[bare], listed) if bare in listed and bare.isupper() else escaped)
        pattern += r"\b[^.;\n]{0,40}?\b" if word == "..." else f"(?:{one})?" if word.endswith("?") else one
        gap = gap if word.endswith("?") else "" if word == "..." or word.endswith("-") else r"[\s-]+"
    return pattern
