"""JSON of speech recognition -> turns: who speaks, and every word once. Times, confidences and token ids are no part of a visit.

Whisper and its kin, AWS Transcribe, Google Speech-to-Text, Azure, Deepgram and AssemblyAI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from medgemma_app.inputs.json_notes import clinical_keys, key_words
from medgemma_app.inputs.lines import inside
from medgemma_app.inputs.subtitles import Turn, joined_turns

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
# What else machines say of a transcript; none of it was spoken.
_MACHINE = re.compile(
    r"(language( code| probability)?|task|word segments|words|tokens|avg log ?prob|no speech prob|compression ratio|logprobs"
    r"|confidence|probability|id|seek|model|params|result|system ?info|usage|job name|account id|status|metadata"
    r"|type|is final|speech final|channel index"
    r"|request id|total billed time|audio duration|speaker embeddings|segments|source|text|transcript|speakers?|channels?)"
)
_WRAPPING = frozenset(("metadata", "job name", "account id", "request id", "usage", "system info"))


def without_machine_fields(value: Any) -> tuple[Any, bool]:
    """JSON with every transcript of a machine in it replaced by what was spoken; and whether there was one."""
    turns, rest = _spoken(value)
    if turns is not None:
        said = _as_notes(turns)
        return ({**{key: without_machine_fields(inner)[0] for key, inner in rest.items()}, "transcript": said} if rest else said), True
    if isinstance(value, Mapping):
        inner = {key: without_machine_fields(one) for key, one in value.items()}
        is_machines = any(found for _, found in inner.values())
        kept = {key: one for key, (one, found) in inner.items() if found or not is_machines or key_words(key) not in _WRAPPING}
        return kept, is_machines
    if isinstance(value, list):
        items = [without_machine_fields(one) for one in value]
        return [one for one, _ in items], any(found for _, found in items)
    return value, False


def _as_notes(turns: Sequence[Turn]) -> Any:
    if any(who for who, _ in turns):
        return [{"speaker": who or "Unknown speaker", "text": said} for who, said in turns]
    return "\n".join(said for _, said in turns)


def _spoken(value: Any) -> tuple[list[Turn] | None, dict[str, Any]]:
    """The turns of a machine's transcript, None for anything else; and what stands beside it that is no part of it."""
    if isinstance(value, list):
        parts = [_of_deepgram([one.get("channel")]) for one in _objects(value) if one.get("is_final") is not False]
        if any(parts):
            return joined_turns(turn for turns in parts for turn in turns or ()), {}
        return (joined_turns(_pieces(value)), {}) if _are_timed(value) else (None, {})
    if not isinstance(value, Mapping):
        return None, {}
    told = {key_words(key): inner for key, inner in value.items()}
    turns = _of_results(told.get("results")) if isinstance(told.get("results"), Mapping | list) else None
    if turns is None:
        turns = _of_lists(told)
    if turns is None:
        turns = _of_deepgram(_list(told.get("channels") or [told.get("channel")]))
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


def _is_time(key: str, value: Any) -> bool:
    """True for where in a recording something is, and for when the recording was made."""
    return _TIME.fullmatch(key_words(key)) is not None and (not isinstance(value, str) or _MOMENT.fullmatch(value) is not None)


def _is_machines(value: Any) -> bool:
    return value in ([], {}, None) or _are_timed(value) or (isinstance(value, Mapping) and "total_tokens" in value)


def _of_lists(told: Mapping[str, Any]) -> list[Turn] | None:
    found = {name: told[name] for name in _LISTS if _are_timed(told.get(name))}
    with_speakers = [name for name in found if any(who for who, _ in _pieces(found[name]))]
    best = next(iter(with_speakers or found), None)
    return None if best is None else list(_pieces(found[best]))


def _are_timed(value: Any) -> bool:
    """True for a list of pieces of speech of which at least half say where in a recording they were spoken.

    Times of day, dates and years are none of these: {"text": "metformin", "start": "2020"}, {"text": "given", "time": "08:30"}.
    """
    if not (isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value)):
        return False
    pieces = [{key_words(key): inner for key, inner in one.items()} for one in value]
    if not all(any(isinstance(told.get(name), str) for name in _TEXTS) or _best_guess(told) is not None for told in pieces):
        return False
    offsets = list(filter(None, map(_offset, pieces)))
    return 2 * len(offsets) >= len(pieces) and not all(re.fullmatch(r"(19|20)\d\d", offset) for offset in offsets)


def _offset(told: Mapping[str, Any]) -> str:
    """Where in a recording a piece of speech begins, as it says; "" where it does not."""
    begins = [inner for name, inner in told.items() if _BEGINNING.fullmatch(name)]
    said = [str(one) for inner in begins for one in (inside(inner) if isinstance(inner, Mapping | list) else [inner])]
    is_offset = _OFFSET_OF_A_TURN if _speaker(told) else _OFFSET
    return next((one for one in said if is_offset.fullmatch(one)), "")


def _best_guess(told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first, most likely of several readings."""
    guesses = next((told[name] for name in ("alternatives", "n best") if isinstance(told.get(name), list)), None)
    return guesses[0] if guesses and isinstance(guesses[0], Mapping) else None


def _pieces(pieces: Iterable[Mapping[str, Any]]) -> Iterator[Turn]:
    for piece in pieces:
        told = {key_words(key): inner for key, inner in piece.items()}
        who, words = _speaker(told), told.get("words")
        if not who and isinstance(words, list) and any(isinstance(word, Mapping) and _speaker_of(word) for word in words):
            yield from _words(words)
            continue
        said = {**told, **{key_words(key): inner for key, inner in (_best_guess(told) or {}).items()}}
        yield who, next((said[name] for name in _TEXTS if isinstance(said.get(name), str)), "")


def _speaker_of(piece: Mapping[str, Any]) -> str:
    return _speaker({key_words(key): inner for key, inner in piece.items()})


def _speaker(told: Mapping[str, Any]) -> str:
    """How a piece names who speaks; a number becomes "Speaker 1"; 0 is nobody where machines count from 1."""
    for name in _SPEAKERS:
        who = told.get(name)
        if isinstance(who, Mapping):
            who = who.get("name") or who.get("id")
        if isinstance(who, int) and not isinstance(who, bool):
            who = str(who)
        if isinstance(who, str) and who.strip() and not (who == "0" and name == "speaker tag"):
            label = "Channel" if name == "channel tag" else "Speaker"
            return f"{label} {who.strip()}" if who.strip().isdigit() or len(who.strip()) == 1 else who.strip()
    details = told.get("participant details")
    return _speaker_of(details) if isinstance(details, Mapping) else ""


def _words(words: Iterable[Any], speakers: Mapping[str, str] | None = None) -> Iterator[Turn]:
    """Single words as runs of one speaker, signs close to the word before them."""
    who, said = "", ""
    for word in words:
        if not isinstance(word, Mapping):
            continue
        told = {key_words(key): inner for key, inner in word.items()}
        guess = {key_words(key): inner for key, inner in (_best_guess(told) or {}).items()}
        text = next(
            (found[name] for found in (guess, told) for name in ("content", *_TEXTS[-2:], *_TEXTS) if isinstance(found.get(name), str)), ""
        )
        is_sign = told.get("type") == "punctuation" or re.fullmatch(r"[.,;:!?%]+", text) is not None
        speaker = who if is_sign else _speaker(told) or (speakers or {}).get(str(told.get("start time")), "") or who
        if speaker != who and said:
            yield who, said
            said = ""
        who, said = speaker, said + text if is_sign else f"{said} {text}"
    if said:
        yield who, said


def _of_results(results: Any) -> list[Turn] | None:
    """The results of AWS Transcribe or Deepgram (an object), or of Google Speech-to-Text (a list)."""
    if isinstance(results, list):
        return _of_google(results)
    told = {key_words(key): inner for key, inner in results.items()}
    for name in ("utterances", "audio segments"):
        if _are_timed(told.get(name)):
            return list(_pieces(told[name]))
    if isinstance(told.get("channels"), list):
        return _of_deepgram(told["channels"])
    if isinstance(told.get("items"), list) and _speakers_of_aws(told):
        return list(_words(told["items"], _speakers_of_aws(told)))
    transcripts = told.get("transcripts")
    if isinstance(transcripts, list):
        return [("", one["transcript"]) for one in transcripts if isinstance(one, Mapping) and isinstance(one.get("transcript"), str)]
    nested = [_of_results(one) for inner in told.values() if isinstance(inner, Mapping) for one in _google_batch(inner)]
    found = [turn for turns in nested if turns for turn in turns]
    return found or None


def _google_batch(inner: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Results of Google by file: {"gs://...": {"transcript": {"results": [...]}}}."""
    for one in (inner, inner.get("transcript"), inner.get("inlineResult")):
        if isinstance(one, Mapping) and isinstance(one.get("results"), list):
            yield one["results"]


def _of_deepgram(channels: Sequence[Any]) -> list[Turn] | None:
    found: list[Turn] = []
    for channel in channels:
        guess = _best_guess({key_words(key): inner for key, inner in channel.items()}) if isinstance(channel, Mapping) else None
        words, transcript = _objects(guess.get("words") if guess else None), guess.get("transcript") if guess else None
        whole = transcript if isinstance(transcript, str) else ""
        if words and (not whole or (any(map(_speaker_of, words)) and len(words) >= len(whole.split()))):
            found += _words(words)
        elif whole:
            found.append(("", whole))
    return found or None


def _speakers_of_aws(told: Mapping[str, Any]) -> dict[str, str]:
    """Start time of a word -> its speaker."""
    labels = told.get("speaker labels")
    pieces = _objects(labels.get("segments") if isinstance(labels, Mapping) else None)
    pieces += [item for segment in pieces for item in _objects(segment.get("items"))]
    pieces += _objects(told["items"])
    return {str(piece.get("start_time")): who for piece in pieces if (who := _speaker_of(piece))}


def _of_google(results: Sequence[Any]) -> list[Turn] | None:
    """Google repeats every word with its speaker in the last result: then only that one is told."""
    told = [{key_words(key): inner for key, inner in one.items()} for one in results if isinstance(one, Mapping)]
    guesses = [(one, guess) for one in told if one.get("is final", True) is not False and (guess := _best_guess(one))]
    if not guesses or not all(isinstance(guess.get("transcript"), str) or isinstance(guess.get("words"), list) for _, guess in guesses):
        return None
    words = [_list(guess.get("words")) for _, guess in guesses]
    tagged = [any(isinstance(word, Mapping) and _speaker_of(word) for word in said) for said in words]
    if tagged[-1] and len(words[-1]) >= sum(len(str(guess.get("transcript") or "").split()) for _, guess in guesses[:-1]):
        return list(_words(words[-1]))
    found: list[Turn] = []
    for (one, guess), said, has_speakers in zip(guesses, words, tagged, strict=True):
        transcript = guess.get("transcript")
        found += _words(said) if has_speakers else [(_speaker(one), transcript if isinstance(transcript, str) else "")]
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, Mapping)]
