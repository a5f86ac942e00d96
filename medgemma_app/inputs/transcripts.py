"""Reads transcripts as turns: who speaks, and every word once. Times, confidences and token ids are left out.

Subtitles: SRT, WebVTT, what whisper prints on a terminal, and its table. JSON of whisper and similar programs, AWS Transcribe,
Google Speech-to-Text, Azure, Deepgram, AssemblyAI, Rev.ai, Speechmatics, ElevenLabs, IBM Watson and Soniox.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from medgemma_app.inputs.json_notes import clinical_keys, word_list_of
from medgemma_app.inputs.lines import inside, key_words

Turn: TypeAlias = tuple[str, str]  # the speaker ("" if unknown), and the words
_CUE_TIME = re.compile(r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}")
# Whisper writes the text beside the time in brackets; in other formats the position of the text may follow the time.
_CUE = re.compile(rf"(?m)^[ \t]*(?:\[{_CUE_TIME.pattern} *--> *{_CUE_TIME.pattern}\](.*)|{_CUE_TIME.pattern} *--> *{_CUE_TIME.pattern}.*)$")
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]*)>")
_SAYS = re.compile(r"^(?:(?:-|>>)\s*)?([^\W\d_][\w .'-]{0,30}|SPEAKER_\d+|\[[^\W_][\w .'-]{0,30}\]):\s+(?=\S)")
_TSV = re.compile(r"^start\tend\t(?:speaker\t)?text\s*$")

# Keys of JSON, as ``key_words`` writes them; the best of several comes first.
_TEXTS = ("text", "transcript", "content", "utterance", "sentence", "display", "caption", "body", "punctuated word", "word")
_WORDS = ("content", "punctuated word", "word", *_TEXTS, "value")
_SPEAKERS = (
    "speaker", "speaker label", "speaker tag", "speaker id", "participant role", "speaker name", "role", "channel tag", "channel label",
    "participant details",
)  # fmt: skip
# Lists of the pieces of a transcript. Where there are several, each holds every word.
_LISTS = (
    "utterances", "audio segments", "segments", "transcript segments", "chunks", "transcription", "phrases",
    "recognized phrases", "paragraphs", "sentences", "turns", "transcript", "captions", "cues",
)  # fmt: skip
_LISTS_OF_WORDS = ("items", "words", "tokens", "word segments", "elements")
_HOLDERS = frozenset(("results", "channels", "channel", "channel labels", "monologues", *_LISTS, *_LISTS_OF_WORDS))
_BEGINNING = re.compile(r"(start|begin)( .*)?|from|offsets?( .*)?|time ?stamps?|time|ts")
_OFFSET = re.compile(r"-?\d+(\.\d+)?s?|PT[\d.HMS]+|\d{1,3}:\d\d(:\d\d)?[.,]\d+")
_OFFSET_OF_A_TURN = re.compile(rf"{_OFFSET.pattern}|\d{{1,2}}:\d\d(:\d\d)?")
_WRAPPING = frozenset(("metadata", "job name", "account id", "request id", "usage", "system info"))


def looks_like_subtitles(text: str) -> bool:
    """True for SRT, WebVTT, what whisper prints on a terminal, and its table."""
    lines = text.lstrip("\ufeff").lstrip().splitlines()[:40]
    return bool(lines) and (lines[0].startswith("WEBVTT") or bool(_TSV.match(lines[0])) or any(map(_CUE.match, lines)))


def subtitle_turns(text: str) -> list[Turn]:
    """What was spoken in subtitles, without their numbers, times, styles and comments."""
    lines = text.lstrip("\ufeff").splitlines()
    if lines and _TSV.match(lines[0]):
        return joined_turns((row[-2] if len(row) > 3 else "", row[-1]) for row in (line.split("\t") for line in lines[1:]) if len(row) > 2)
    parts = _CUE.split("\n".join([*lines, "", ""]))[1:]
    cues: list[list[Turn]] = []
    for beside, below in zip(parts[::2], parts[1::2], strict=True):
        shown = below.split("\n")
        if len(shown) > 2 and (shown[-2].strip().isdigit() or (len(shown) > 3 and not shown[-3].strip())):
            del shown[-2]  # the number or the name of the next cue
        blocks = re.split(r"\n\s*\n", "\n".join([beside or "", *shown]))
        shown = [line for block in blocks if not block.startswith(("NOTE", "STYLE", "REGION")) for line in block.split("\n")]
        cues += [cue] if (cue := [turn for turn in _cue_turns(shown) if turn[1]]) else []
    return joined_turns(_unrolled(cues))


def _unrolled(cues: Sequence[Sequence[Turn]]) -> Iterator[Turn]:
    """The turns of all cues, each word once if at least half of the cues begin with the end of the one before (rolling captions)."""
    words = [[], *([word for _, said in cue for word in said.split()] for cue in cues)]
    most = [min(len(before), len(here), 100) for before, here in pairwise(words)]  # captions are shorter than that
    repeated = [next((n for n in range(many, 0, -1) if words[at][-n:] == words[at + 1][:n]), 0) for at, many in enumerate(most)]
    is_rolling = 2 * sum(map(bool, repeated)) >= len(cues) > 2
    for cue, left_out in zip(cues, repeated, strict=True):
        for who, said in cue:
            yield who, " ".join(said.split()[left_out * is_rolling :])
            left_out = max(0, left_out - len(said.split()))


def _cue_turns(lines: Iterable[str]) -> Iterator[Turn]:
    who = ""
    for line in lines:
        voice = _VOICE.search(line)
        said = html.unescape(re.sub(r"</?[a-zA-Z0-9:.][^<>]*>|\{\\[^{}]*\}", "", line)).strip()
        named = None if voice else _SAYS.match(said)
        is_new = re.match(r"- |>>\s*", said)
        who = voice[1].strip() if voice else named[1].strip("[]") if named else "-" if is_new else who
        yield who, (said[named.end() :] if named else said[is_new.end() :] if is_new else said).strip()


def joined_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Pieces of one speaker in a row as one turn."""
    found: list[Turn] = []
    for who, said in ((who, " ".join(said.split())) for who, said in turns):
        if said and found and found[-1][0] == who != "-":
            found[-1] = (who, f"{found[-1][1]} {said}")
        elif said:
            found.append((who, said))
    return found


def turns_text(turns: Sequence[Turn]) -> str:
    """One line for each turn, with its speaker if speakers are known, or with a dash for a change of speaker."""
    known = any(who for who, _ in turns)
    return "\n".join(f"- {said}" if who == "-" else f"{who or 'Unknown speaker'}: {said}" if known else said for who, said in turns)


def without_machine_fields(value: Any) -> tuple[Any, bool]:
    """JSON in which every machine transcript is replaced by what was spoken, and whether there was one."""
    if not isinstance(value, Mapping | list):
        return value, False
    turns, rest = _spoken(value)
    if turns:
        said: Any = [{"speaker": who or "Unknown speaker", "text": said} for who, said in turns]
        said = said if any(who for who, _ in turns) else "\n".join(said for _, said in turns)
        label = "dialogue" if "transcript" in rest else "transcript"
        return {**{key: without_machine_fields(inner)[0] for key, inner in rest.items()}, label: said} if rest else said, True
    if isinstance(value, Mapping):
        inner = {key: without_machine_fields(one) for key, one in value.items()}
        is_machines = any(found for _, found in inner.values())
        kept = {key: one for key, (one, found) in inner.items() if found or not is_machines or key_words(key) not in _WRAPPING}
        return kept, is_machines
    items = [without_machine_fields(one) for one in value]
    return [one for one, _ in items], any(found for _, found in items)


def _spoken(value: Any) -> tuple[list[Turn], dict[str, Any]]:
    """The turns of a machine transcript, none for anything else; and the fields beside it that are not part of it."""
    if isinstance(value, list):
        return joined_turns(_of_list(value, {})), {}
    turns = joined_turns(_of_object(_fields(value)))
    if not turns:
        return [], {}
    rest = {key: inner for key, inner in value.items() if key_words(key) not in _HOLDERS or not _of_object(_fields({key: inner}))}
    is_visit = {key_words(key) for key in rest} & clinical_keys()  # the notes of a visit, which the transcript is a part of
    machine = {key for key in rest if not is_visit and key_words(key) in word_list_of("machine_keys")}
    repeated = {key for key in rest if isinstance(rest[key], str) and _letters([("", rest[key])]) == _letters(turns)}
    return turns, {key: inner for key, inner in rest.items() if key not in machine | repeated}


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an object under normalised keys; empty for anything else."""
    return {key_words(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    """The fields of each object in a list."""
    return [_fields(one) for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _text(fields: Mapping[str, Any], names: Iterable[str] = _TEXTS) -> str:
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), "")


def _letters(turns: Iterable[Turn]) -> str:
    """What was said, as letters alone, to compare two versions of it."""
    return re.sub(r"[\W_]", "", "".join(said for _, said in turns)).casefold()


def _is_whole(turns: Iterable[Turn], other: Iterable[Turn]) -> bool:
    """Whether a version lacks hardly a word of the other one."""
    return len(_letters(turns)) * 10 >= len(_letters(other)) * 9


def _are_timed(value: Any) -> bool:
    """True for a list of pieces of speech of which at least half say where in a recording they were spoken.

    Times of day, dates and years do not count: {"text": "metformin", "start": "2020"}, {"text": "given", "time": "08:30"}.
    """
    pieces = _objects(value)
    if not pieces or len(pieces) < len(value) or not all(_text(piece) or _best_guess(piece) for piece in pieces):
        return False
    offsets = list(filter(None, map(_offset, pieces)))
    return 2 * len(offsets) >= len(pieces) and not all(re.fullmatch(r"(19|20)\d\d", offset) for offset in offsets)


def _offset(fields: Mapping[str, Any]) -> str:
    """Where in a recording a piece of speech begins, as it says; "" where it does not."""
    begins = [inner for name, inner in fields.items() if _BEGINNING.fullmatch(name)]
    said = [str(one) for inner in begins for one in (inside(inner) if isinstance(inner, Mapping | list) else [inner])]
    return next((one for one in said if (_OFFSET_OF_A_TURN if _speaker(fields) else _OFFSET).fullmatch(one)), "")


def _best_guess(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The first and most likely of several readings of a piece; empty if there are none."""
    fields = _fields(fields.get("channel")) or fields
    guesses = next((fields[name] for name in ("alternatives", "n best") if isinstance(fields.get(name), list)), None)
    guess = _fields(guesses[0]) if guesses else {}
    return guess if guess.keys() & {"transcript", "content", "display", "words"} else {}


def _speaker(fields: Mapping[str, Any]) -> str:
    """The speaker of a piece; a number becomes "Speaker 1", and 0 is nobody if the machine counts from 1."""
    for name in _SPEAKERS:
        who = fields.get(name)
        if isinstance(who, Mapping):
            who = _text(_fields(who), ("participant role", "name", "id"))
        if isinstance(who, str) and who.strip() and not (who == "0" and name == "speaker tag"):
            return f"Speaker {who.strip()}" if who.strip().isdigit() or len(who.strip()) == 1 else who.strip()
    return ""


def _of_object(fields: Mapping[str, Any]) -> list[Turn]:
    """The turns of an object that holds a transcript: the first of its versions that names speakers and has all the words."""
    results, speakers = fields.get("results"), _speakers_by_time(fields.get("speaker labels"))
    versions = [_of_list(results, speakers) if isinstance(results, list) else _of_object(_fields(results))] if results else []
    versions += [[turn for piece in _objects(fields.get("monologues")) for turn in _of_piece(piece, speakers)]]
    versions += [_of_list(fields.get(name), speakers) for name in _LISTS]
    versions += [_of_channels(_objects(_fields(fields.get("channel labels")).get("channels")) or _objects(fields.get("channels")))]
    versions += [_of_piece(_fields(fields.get("channel")), speakers) if _best_guess(fields) else []]
    versions += [[("", _text(one)) for one in _objects(_fields(results).get("transcripts"))]]
    by_word = [list(_words(_objects(fields.get(name)), speakers)) for name in _LISTS_OF_WORDS if _are_timed(fields.get(name))]
    if by_word or fields.get("segments") == [] or "total tokens" in _fields(fields.get("usage")):
        versions += [*by_word, [(_speaker(fields), _text(fields, ["text"]))]]
    longest = max(versions, key=lambda turns: len(_letters(turns)))
    whole = [turns for turns in versions if turns and _is_whole(turns, longest)]
    return next((turns for turns in whole if any(who for who, _ in turns)), whole[0] if whole else [])


def _of_list(value: Any, speakers: Mapping[str, str]) -> list[Turn]:
    """The turns of a list of pieces of speech, or of single words; none for other lists. Provisional pieces are left out."""
    pieces = [piece for piece in _objects(value) if piece.get("is final", piece.get("final")) is not False]
    are_guesses = any(map(_best_guess, pieces)) and not any(_text(piece) and not _best_guess(piece) for piece in pieces)
    if not (_are_timed(value) or are_guesses) or len(_objects(value)) < len(value):
        return []
    if all(isinstance(_best_guess(piece).get("content"), str) for piece in pieces):
        return list(_words(pieces, speakers))
    channels = {str(piece.get("channel")) for piece in pieces}
    *before, last = [_of_piece(piece, speakers, has_channels=len(channels) > 1) for piece in pieces]
    earlier = [turn for turns in before for turn in turns]
    repeats = any(who for who, _ in last) and _letters(last).startswith(_letters(earlier))  # Google's last result has every word
    return last if repeats else [*earlier, *last]


def _of_piece(fields: Mapping[str, Any], speakers: Mapping[str, str], *, has_channels: bool = False) -> list[Turn]:
    """A piece of speech: its text, or its words if there is no text or if all words are present with their speakers."""
    merged, channel = {**fields, **_best_guess(fields)}, fields.get("channel")
    who = _speaker(fields) or (f"Channel {channel}" if has_channels and isinstance(channel, str) else "")
    words, text = _words_in(merged), _text(merged)
    if text and not any(_speaker(word) or str(word.get("start time")) in speakers for word in words):
        return [(who, text)]
    spoken = list(_words(words, speakers, who))
    return spoken if _is_whole(spoken, [(who, text)]) else [(who, text)]


def _words_in(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The single words of a piece or a channel, among them those of IBM Watson: ["hurts", 0.5, 0.9]."""
    for name in _LISTS_OF_WORDS:
        if words := _objects(fields.get(name)):
            return words
    stamps = fields.get("timestamps")
    rows = [row for row in stamps if isinstance(row, list) and len(row) > 1] if isinstance(stamps, list) else []
    return [{"word": row[0], "start time": row[1]} for row in rows]


def _words(words: Iterable[Mapping[str, Any]], speakers: Mapping[str, str], who: str = "") -> Iterator[Turn]:
    """Single words as runs of one speaker, with punctuation joined to the word before it. ``who`` speaks until a word says otherwise."""
    merged = [{**word, **_best_guess(word)} for word in words]
    gap = "" if any(_text(word, _WORDS)[:1].isspace() for word in merged) else " "  # some write the spaces themselves
    said = ""
    for word in merged:
        text = _text(word, _WORDS)
        is_sign = word.get("type") == "punctuation" or re.fullmatch(r"[.,;:!?%]+", text) is not None
        speaker = who if is_sign else _speaker(word) or speakers.get(str(word.get("start time")), "") or who
        if speaker != who and said:
            yield who, said
            said = ""
        who, said = speaker, said + ("" if is_sign else gap) + text
    if said:
        yield who, said


def _speakers_by_time(labels: Any) -> dict[str, str]:
    """Maps the start time of a word to its speaker, from the list of IBM Watson or the segments and items of AWS."""
    segments = _objects(labels) or _objects(_fields(labels).get("segments"))
    pieces = [*segments, *(item for segment in segments for item in _objects(segment.get("items")))]
    return {str(piece.get("start time", piece.get("from"))): who for piece in pieces if (who := _speaker(piece))}


def _of_channels(channels: list[dict[str, Any]]) -> list[Turn]:
    """The sentences of all channels in the order in which they begin; one channel after the other if words are missing."""
    if len(channels) < 2:
        return _of_list(channels, {})
    turns: list[Turn] = []
    sentences: list[tuple[float, str, list[dict[str, Any]]]] = []  # when each begins, who speaks, its words
    for at, channel in enumerate(channels):
        fields = {**channel, **_best_guess(channel)}
        who, words = _speaker(channel) or f"Channel {at}", _words_in(fields)
        turns += [(who, _text(fields))] if _text(fields) else _words(words, {}, who)
        begin, is_end = 0.0, False
        for number, word in enumerate(words):
            written = str(word.get("start time", word.get("start")))
            start = float(written) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", written) else begin
            if not number or (word.get("type") != "punctuation" and (is_end or start > begin + 2)):  # seconds
                sentences.append((start, who, []))
            sentences[-1][2].append(word)
            begin, is_end = start, _text({**word, **_best_guess(word)}, _WORDS).endswith((".", "?", "!"))
    by_time = [turn for _, who, words in sorted(sentences, key=lambda one: one[0]) for turn in _words(words, {}, who)]
    return by_time if _is_whole(by_time, turns) else turns
