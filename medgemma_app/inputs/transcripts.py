"""Transcripts -> turns: who speaks, and every word once. Times, confidences and token ids are left out.

Subtitles (SRT, WebVTT, what whisper prints, its table), and JSON of whisper and its kin, AWS Transcribe, Google Speech-to-Text,
Azure, Deepgram and AssemblyAI.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from medgemma_app.inputs.json_notes import clinical_keys
from medgemma_app.inputs.lines import inside, key_words

Turn: TypeAlias = tuple[str, str]  # who speaks ("" where that is not known), and what

_CUE_TIME = re.compile(r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_CUE = re.compile(rf"^\s*\[?{_CUE_TIME.pattern}\s*-->\s*{_CUE_TIME.pattern}\]?(.*)$")
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]*)>")
_SAYS = re.compile(r"^(?:-\s*)?([^\W\d_][\w .'-]{0,30}|\[?SPEAKER_\d+\]?):\s+(?=\S)")
_CLOCK = re.compile(r"\s*[\[(](\d{1,2}):\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*-+>?\s*[\d:.,]+)?[\])]\s*")
_TSV = re.compile(r"^start\tend\t(?:speaker\t)?text\s*$")
_TEXTS = ("text", "transcript", "content", "utterance", "sentence", "display", "caption", "body", "punctuated word", "word")
_SPEAKERS = ("speaker", "speaker label", "speaker tag", "speaker id", "participant role", "speaker name", "role", "channel tag")
# Lists of a transcript's pieces, the best first: where there are several, each holds every word.
_LISTS = ("utterances", "audio segments", "segments", "transcript segments", "chunks", "transcription", "phrases", "monologues",
          "recognized phrases", "paragraphs", "sentences", "turns", "transcript", "captions", "cues")  # fmt: skip
_USED = frozenset(("results", "channels", "channel", "combined recognized phrases", "combined phrases", *_LISTS))
_TIME = re.compile(
    r"(duration|offset|(start|end|begin|stop)( audio)? (time|offset|ms|millis|seconds?|in)|result end (time|offset))( .*)?|seek"
    r"|start|end|begin|from|to|offsets|time ?stamps?|time|ts"
)
_BEGINNING = re.compile(r"(start|begin)( .*)?|from|offsets?( .*)?|time ?stamps?|time|ts")
_OFFSET = re.compile(r"-?\d+(\.\d+)?s?|PT[\d.HMS]+|\d{1,3}:\d\d(:\d\d)?[.,]\d+")
_OFFSET_OF_A_TURN = re.compile(rf"{_OFFSET.pattern}|\d{{1,2}}:\d\d(:\d\d)?")
_MOMENT = re.compile(rf"{_OFFSET_OF_A_TURN.pattern}|\d{{4}}-\d\d-\d\dT\S*")
# What else machines write beside a transcript.
_MACHINE = re.compile(
    r"(language( code| probability)?|task|word segments|words|tokens|avg log ?prob|no speech prob|compression ratio|logprobs"
    r"|confidence|probability|id|seek|model|params|result|system ?info|usage|job name|account id|status|metadata"
    r"|type|is final|speech final|channel index"
    r"|request id|total billed time|audio duration|speaker embeddings|segments|source|text|transcript|speakers?|channels?)"
)
_WRAPPING = frozenset(("metadata", "job name", "account id", "request id", "usage", "system info"))


def looks_like_subtitles(text: str) -> bool:
    """True for SRT, WebVTT, what whisper prints on a terminal, and its table."""
    lines = text.lstrip("\ufeff").lstrip().splitlines()[:40]
    return bool(lines) and (lines[0].startswith("WEBVTT") or bool(_TSV.match(lines[0])) or any(map(_CUE.match, lines)))


def subtitle_turns(text: str) -> list[Turn]:
    """What was spoken in subtitles: no numbers, times, styles or notes of them."""
    lines = text.lstrip("\ufeff").splitlines()
    if lines and _TSV.match(lines[0]):
        rows = [row for row in (line.split("\t") for line in lines[1:]) if len(row) > 2]
        return joined_turns((row[-2] if len(row) > 3 else "", row[-1]) for row in rows)
    cues: list[list[str]] = []
    skipping = True  # a header, a style, a note
    for line, next_line in zip(lines, [*lines[1:], ""], strict=True):
        cue = _CUE.match(line)
        if cue:
            inline = cue[1].strip() if line.lstrip().startswith("[") else ""  # else settings of the place on the screen
            cues.append([inline] if inline else [])
            skipping = False
        elif not line.strip():
            skipping = True
        elif _CUE.match(next_line) and (skipping or line.strip().isdigit()):
            continue  # the number or the name of the next cue
        elif not skipping or (cues and not line.startswith(("NOTE", "STYLE", "REGION"))):  # a cue may have an empty line in it
            cues[-1].append(line.strip())
            skipping = False
    return joined_turns(turn for cue in cues for turn in _cue_turns(cue))


def _cue_turns(lines: Sequence[str]) -> Iterator[Turn]:
    who = ""
    for line in lines:
        voice = _VOICE.search(line)
        said = html.unescape(re.sub(r"</?[a-zA-Z0-9:.][^<>]*>|\{\\[^{}]*\}", "", line)).strip()
        named = None if voice else _SAYS.match(said)
        if voice or named or line.startswith("- "):
            who = voice[1].strip() if voice else named[1].strip("[]") if named else "-"
        yield who, (said[named.end() :] if named else said.removeprefix("- ")).strip()


def without_times(text: str) -> str:
    """A text without the times in brackets that a recorder puts before each line: [00:12] Doctor: ..."""
    lines = [line for line in text.split("\n") if line.strip()]
    timed = [found for line in lines if (found := _CLOCK.match(line))]
    if len(timed) < 2 or len(timed) * 10 < len(lines) * 8 or int(timed[0][1]) > 4:
        return text
    return "\n".join(_CLOCK.sub("", line) for line in text.split("\n"))


def joined_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Pieces of one speaker in a row as one turn. A piece that repeats the one before, as rolling captions do, is said once."""
    found: list[Turn] = []
    last = ""
    for who, said in turns:
        said = " ".join(said.split())
        if not said or (said == last and found and found[-1][0] == who and len(said.split()) > 3):
            continue
        if found and found[-1][0] == who != "-":
            found[-1] = (who, f"{found[-1][1]} {said}")
        else:
            found.append((who, said))
        last = said
    return found


def turns_text(turns: Sequence[Turn]) -> str:
    """A turn a line, with its speaker where speakers are known, or the dash that says that another one speaks."""
    known = any(who for who, _ in turns)
    return "\n".join(f"- {said}" if who == "-" else f"{who or 'Unknown speaker'}: {said}" if known else said for who, said in turns)


def without_machine_fields(value: Any) -> tuple[Any, bool]:
    """JSON with every transcript of a machine in it replaced by what was spoken; and whether there was one."""
    if not isinstance(value, Mapping | list):
        return value, False
    turns, rest = _spoken(value)
    if turns is not None:
        said: Any = [{"speaker": who or "Unknown speaker", "text": said} for who, said in turns]
        said = said if any(who for who, _ in turns) else "\n".join(said for _, said in turns)
        return ({**{key: without_machine_fields(inner)[0] for key, inner in rest.items()}, "transcript": said} if rest else said), True
    if isinstance(value, Mapping):
        inner = {key: without_machine_fields(one) for key, one in value.items()}
        is_machines = any(found for _, found in inner.values())
        kept = {key: one for key, (one, found) in inner.items() if found or not is_machines or key_words(key) not in _WRAPPING}
        return kept, is_machines
    items = [without_machine_fields(one) for one in value]
    return [one for one, _ in items], any(found for _, found in items)


def _spoken(value: Any) -> tuple[list[Turn] | None, dict[str, Any]]:
    """The turns of a machine's transcript, None for anything else; and what stands beside it and is not part of it."""
    if isinstance(value, list):
        streamed = [_told(one).get("channel") for one in value if _told(one).get("is final") is not False]
        turns = _of_guesses(streamed) or (list(_pieces(value)) if _are_timed(value) else None)
        return turns and joined_turns(turns), {}
    told = _told(value)
    turns = _of_object(told)
    beside = told.keys() & {"words", "result", "word segments", "usage", "logprobs", "segments"}
    if turns is None and isinstance(told.get("text"), str) and beside and all(_is_machines(told[name]) for name in beside):
        turns = [("", told["text"])]
    if turns is None:
        return None, {}
    joined = joined_turns(turns)
    rest = {key: inner for key, inner in value.items() if key_words(key) not in _USED and not _is_machines(inner)}
    machine = {key for key, inner in rest.items() if _MACHINE.fullmatch(key_words(key)) or _is_time(key, inner)}
    if {key_words(key) for key in rest} & clinical_keys():  # the notes of a visit, which the transcript is a part of
        words = " ".join(said for _, said in joined).split()
        machine = {key for key in rest if isinstance(rest[key], str) and rest[key].split() == words}
    return joined, {key: inner for key, inner in rest.items() if key not in machine}


def _told(value: Any) -> dict[str, Any]:
    """An object by the words of its keys; nothing for anything else."""
    return {key_words(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(told: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((told[name] for name in names if isinstance(told.get(name), str)), "")


def _is_time(key: str, value: Any) -> bool:
    """True for where in a recording something is, and for when the recording was made."""
    return _TIME.fullmatch(key_words(key)) is not None and (not isinstance(value, str) or _MOMENT.fullmatch(value) is not None)


def _is_machines(value: Any) -> bool:
    return value in ([], {}, None) or _are_timed(value) or (isinstance(value, Mapping) and "total_tokens" in value)


def _are_timed(value: Any) -> bool:
    """True for a list of pieces of speech of which at least half say where in a recording they were spoken.

    Times of day, dates and years are none of these: {"text": "metformin", "start": "2020"}, {"text": "given", "time": "08:30"}.
    """
    pieces = list(map(_told, _list(value)))
    if not pieces or not all(any(isinstance(told.get(name), str) for name in _TEXTS) or _best_guess(told) for told in pieces):
        return False
    offsets = list(filter(None, map(_offset, pieces)))
    return 2 * len(offsets) >= len(pieces) and not all(re.fullmatch(r"(19|20)\d\d", offset) for offset in offsets)


def _offset(told: Mapping[str, Any]) -> str:
    """Where in a recording a piece of speech begins, as it says; "" where it does not."""
    begins = [inner for name, inner in told.items() if _BEGINNING.fullmatch(name)]
    said = [str(one) for inner in begins for one in (inside(inner) if isinstance(inner, Mapping | list) else [inner])]
    is_offset = _OFFSET_OF_A_TURN if _speaker(told) else _OFFSET
    return next((one for one in said if is_offset.fullmatch(one)), "")


def _best_guess(told: Mapping[str, Any]) -> dict[str, Any]:
    """The first, most likely of several readings; empty where there is none."""
    guesses = next((told[name] for name in ("alternatives", "n best") if isinstance(told.get(name), list)), None)
    return _told(guesses[0]) if guesses else {}


def _speaker(told: Mapping[str, Any]) -> str:
    """How a piece names who speaks; a number becomes "Speaker 1"; 0 is nobody where machines count from 1."""
    for name in _SPEAKERS:
        who = told.get(name)
        if isinstance(who, Mapping):
            who = who.get("name") or who.get("id")
        if isinstance(who, str) and who.strip() and not (who == "0" and name == "speaker tag"):
            label = "Channel" if name == "channel tag" else "Speaker"
            return f"{label} {who.strip()}" if who.strip().isdigit() or len(who.strip()) == 1 else who.strip()
    return _speaker(_told(told["participant details"])) if told.get("participant details") else ""


def _pieces(pieces: Iterable[Any]) -> Iterator[Turn]:
    for told in map(_told, pieces):
        who, words = _speaker(told), list(map(_told, _list(told.get("words"))))
        if not who and any(map(_speaker, words)):
            yield from _words(words)
        else:
            yield who, _text(told | _best_guess(told), _TEXTS)


def _words(words: Iterable[Mapping[str, Any]], speakers: Mapping[str, str] | None = None) -> Iterator[Turn]:
    """Single words as runs of one speaker, signs close to the word before them."""
    who, said = "", ""
    for told in words:
        text = _text({**told, **_best_guess(told)}, ("content", *_TEXTS[-2:], *_TEXTS))
        is_sign = told.get("type") == "punctuation" or re.fullmatch(r"[.,;:!?%]+", text) is not None
        speaker = who if is_sign else _speaker(told) or (speakers or {}).get(str(told.get("start time")), "") or who
        if speaker != who and said:
            yield who, said
            said = ""
        who, said = speaker, said + text if is_sign else f"{said} {text}"
    if said:
        yield who, said


def _of_object(told: Mapping[str, Any], *, of_results: bool = False) -> list[Turn] | None:
    """The turns of whatever holds a transcript: the best of its lists, its results, or its channels."""
    results, items = told.get("results"), list(map(_told, _list(told.get("items"))))
    turns = _of_guesses(results) if isinstance(results, list) else _of_object(_told(results), of_results=True) if results else None
    timed = {name: told[name] for name in _LISTS if _are_timed(told.get(name))}
    with_speakers = [name for name in timed if any(who for who, _ in _pieces(timed[name]))]
    if turns is None and timed:
        turns = list(_pieces(timed[next(iter(with_speakers or timed))]))
    if turns is None:
        turns = _of_guesses(told.get("channels") or [told.get("channel")])
    if turns is None and (speakers := _speakers_of_aws(told, items)):
        turns = list(_words(items, speakers))
    if turns is None and of_results:
        whole = [("", said) for one in _list(told.get("transcripts")) if (said := _text(_told(one), ["transcript"]))]
        files = (
            _of_object(_told(inner), of_results=True) for inner in told.values()
        )  # Google: {"gs://...": {"transcript": {"results": ...}}}
        turns = whole or [turn for some in files for turn in some or ()] or None
    return turns


def _speakers_of_aws(told: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Start time of a word -> its speaker."""
    segments = list(map(_told, _list(_told(told.get("speaker labels")).get("segments"))))
    pieces = [*segments, *(_told(item) for segment in segments for item in _list(segment.get("items"))), *items]
    return {str(piece.get("start time")): who for piece in pieces if (who := _speaker(piece))} if items else {}


def _of_guesses(results: Any) -> list[Turn] | None:
    """Google's results or Deepgram's channels. Where Google repeats every word with its speaker in the last result, that one is told."""
    told = [one for one in map(_told, _list(results)) if one.get("is final") is not False and _best_guess(one)]
    guesses = list(map(_best_guess, told))
    words = [list(map(_told, _list(guess.get("words")))) for guess in guesses]
    wholes = [_text(guess, ["transcript"]) for guess in guesses]
    lengths = [len(whole.split()) for whole in wholes]
    if words and any(map(_speaker, words[-1])) and len(words[-1]) > lengths[-1] and len(words[-1]) >= sum(lengths[:-1]):
        return list(_words(words[-1]))
    found: list[Turn] = []
    for one, said, whole, length in zip(told, words, wholes, lengths, strict=True):
        with_speakers = any(map(_speaker, said)) and len(said) >= length
        found += _words(said) if said and (with_speakers or not whole) else [(_speaker(one), whole)] if whole else []
    return found or None
