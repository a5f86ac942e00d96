"""Transcripts of speech recognition -> turns: who speaks, and every word once. Times, confidences and token ids are no part of a visit.

Subtitles (SRT, WebVTT), and the JSON of whisper and its kin, AWS Transcribe, Google Speech-to-Text, Azure, Deepgram and AssemblyAI.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from medgemma_app.inputs.json_notes import key_words

Turn: TypeAlias = tuple[str, str]  # who speaks ("" where that is not known), and what

_TEXTS = ("text", "transcript", "content", "utterance", "sentence", "display", "caption", "body", "punctuated word", "word")
_SPEAKERS = ("speaker", "speaker label", "speaker tag", "speaker id", "participant role", "speaker name", "role", "channel tag")
# Lists of a transcript's pieces, the best first: where there are several, each holds every word.
_LISTS = ("utterances", "audio segments", "segments", "transcript segments", "chunks", "transcription", "phrases", "monologues",
          "recognized phrases", "paragraphs", "sentences", "turns", "transcript", "captions", "cues")  # fmt: skip
_TIME = re.compile(
    r"(start|end|begin|from|to|time ?stamps?|offsets?|seek|duration"
    r"|(start|end|begin|stop)( audio)? ?(time|offset|ms|millis|seconds?|in ticks)?"
    r"( ?(millis|ms|milliseconds|seconds|in ticks))?|offset ?(in ticks|milliseconds|millis)|result end (time|offset)|ts|time)"
)
# What else machines say of a transcript; none of it was spoken.
_MACHINE = re.compile(
    r"(language( code| probability)?|task|duration|word segments|words|tokens|avg log ?prob|no speech prob|compression ratio|logprobs"
    r"|temperature|confidence|score|probability|id|seek|model|params|result|system ?info|usage|job name|account id|status|metadata"
    r"|request id|total billed time|audio duration|speaker embeddings|segments|source|text|transcript|speakers?|channels?)"
)
_CUE_TIME = re.compile(r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_CUE = re.compile(rf"^\s*\[?{_CUE_TIME.pattern}\s*-->\s*{_CUE_TIME.pattern}\]?(.*)$")
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]*)>")
_SAYS = re.compile(r"^(?:-\s*)?([^\W\d_][\w .'-]{0,30}|\[?SPEAKER_\d+\]?):\s+(?=\S)")
_CLOCK = re.compile(r"\s*[\[(](\d{1,2}):\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*-+>?\s*[\d:.,]+)?[\])]\s*")
_TSV = re.compile(r"^start\tend\t(?:speaker\t)?text\s*$")


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
    for at, line in enumerate(lines):
        cue = _CUE.match(line)
        if cue:
            inline = cue[1].strip() if line.lstrip().startswith("[") else ""  # else settings of the place on the screen
            cues.append([inline] if inline else [])
            skipping = False
        elif not line.strip():
            skipping = True
        elif not skipping and not (line.strip().isdigit() and at + 1 < len(lines) and _CUE.match(lines[at + 1])):
            cues[-1].append(line.strip())
        elif skipping and cues and not _names_a_cue(lines, at) and not line.startswith(("NOTE", "STYLE", "REGION")):
            cues[-1].append(line.strip())  # a cue with an empty line in it
            skipping = False
    return joined_turns(turn for cue in cues for turn in _cue_turns(cue))


def _names_a_cue(lines: Sequence[str], at: int) -> bool:
    return at + 1 < len(lines) and bool(_CUE.match(lines[at + 1]))


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
    turns, rest = _spoken(value)
    if turns is not None:
        said = _as_notes(turns)
        return ({**{key: without_machine_fields(inner)[0] for key, inner in rest.items()}, "transcript": said} if rest else said), True
    if isinstance(value, Mapping):
        inner = {key: without_machine_fields(one) for key, one in value.items()}
        is_machines = any(found for _, found in inner.values())
        kept = {key: one for key, (one, found) in inner.items() if found or not is_machines or not _MACHINE.fullmatch(key_words(key))}
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
        return (joined_turns(_pieces(value)), {}) if _are_timed(value) else (None, {})
    if not isinstance(value, Mapping):
        return None, {}
    told = {key_words(key): inner for key, inner in value.items()}
    turns = _of_results(told.get("results")) if isinstance(told.get("results"), Mapping | list) else None
    if turns is None:
        turns = _of_lists(told)
    if turns is None:
        turns = _of_deepgram(_list(told.get("channels")))
    beside = told.keys() & {"words", "result", "word segments", "usage", "logprobs", "segments"}
    beside = told.keys() & {"words", "result", "word segments", "usage", "logprobs", "segments"}
    if turns is None and isinstance(told.get("text"), str) and beside and all(_is_machines(told[name]) for name in beside):
        turns = [("", told["text"])]
    if turns is None:
        return None, {}
    used = {"results", *_LISTS, "combined recognized phrases", "combined phrases"}
    rest = {key: inner for key, inner in value.items() if key_words(key) not in used and not _MACHINE.fullmatch(key_words(key))}
    return joined_turns(turns), {key: inner for key, inner in rest.items() if not _TIME.fullmatch(key_words(key)) or isinstance(inner, str)}


def _is_machines(value: Any) -> bool:
    return not value or _are_timed(value) or (isinstance(value, Mapping) and "total_tokens" in value)


def _of_lists(told: Mapping[str, Any]) -> list[Turn] | None:
    found = {name: told[name] for name in _LISTS if _are_timed(told.get(name))}
    with_speakers = [name for name in found if any(who for who, _ in _pieces(found[name]))]
    best = next(iter(with_speakers or found), None)
    return None if best is None else list(_pieces(found[best]))


def _are_timed(value: Any) -> bool:
    """True for a list of pieces of speech that say when they were spoken, or how sure the machine is."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and _is_timed(one) for one in value)


def _is_timed(piece: Mapping[str, Any]) -> bool:
    told = {key_words(key): inner for key, inner in piece.items()}
    has_text = any(isinstance(told.get(name), str) for name in _TEXTS) or _best_guess(told) is not None
    return has_text and any(_TIME.fullmatch(name) for name in told)


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
        text = next((found[name] for found in (guess, told) for name in ("content", *_TEXTS[::-1]) if isinstance(found.get(name), str)), "")
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
        words = guess.get("words") if guess else None
        if isinstance(words, list) and any(isinstance(word, Mapping) and _speaker_of(word) for word in words):
            found += _words(words)
        elif guess and isinstance(guess.get("transcript"), str):
            found.append(("", guess["transcript"]))
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
