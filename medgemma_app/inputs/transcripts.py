"""Transcripts in JSON -> turns: who speaks, and every word once. Times, confidences and token ids are left out.

Those of whisper and its kin, AWS Transcribe, Google Speech-to-Text, Azure, Deepgram, AssemblyAI, Rev.ai, Speechmatics and ElevenLabs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from medgemma_app.inputs.json_notes import clinical_keys
from medgemma_app.inputs.lines import inside, key_words
from medgemma_app.inputs.subtitles import Turn, joined_turns

_TEXTS = ("text", "transcript", "content", "utterance", "sentence", "display", "caption", "body", "punctuated word", "word")
_WORDS = ("content", *_TEXTS[-2:], *_TEXTS)
_SPEAKERS = (
    "speaker", "speaker label", "speaker tag", "speaker id", "participant role", "speaker name", "role", "channel tag", "channel label",
)  # fmt: skip
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
    r"|type|is final|speech final|channel index|format|job|speaker labels|result index|full transcript|languages"
    r"|request id|total billed time|audio duration|speaker embeddings|segments|source|text|transcript|speakers?|channels?)"
)
_WRAPPING = frozenset(("metadata", "job name", "account id", "request id", "usage", "system info"))


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
        turns = _of_piece(told)
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

    Times of day, dates and years do not count: {"text": "metformin", "start": "2020"}, {"text": "given", "time": "08:30"}.
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
    """The first and most likely of several readings; empty if there are none."""
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
    told = list(map(_told, pieces))
    has_channels = len({str(one.get("channel")) for one in told}) > 1
    for one in told:
        turns, channel = _of_piece(one), one.get("channel")
        yield from ((who or (f"Channel {channel}" if has_channels and isinstance(channel, str) else ""), said) for who, said in turns)


def _of_piece(told: Mapping[str, Any]) -> list[Turn]:
    """A piece of speech: its text, or its words where all of them are there and say who speaks."""
    who, text, words = _speaker(told), _text({**told, **_best_guess(told)}, _TEXTS), list(map(_told, _list(told.get("words"))))
    are_all = sum(bool(_text(word, _TEXTS).strip()) for word in words) >= len(text.split())
    if are_all and any(map(_speaker, words)):
        return list(_words(words, who=who))
    return [(who, text)]


def _words(words: Iterable[Mapping[str, Any]], speakers: Mapping[str, str] | None = None, who: str = "") -> Iterator[Turn]:
    """Single words as runs of one speaker, signs close to the word before them. ``who`` speaks until a word says otherwise."""
    said = ""
    for told in ({**word, **_best_guess(word)} for word in words):
        text = _text(told, _WORDS)
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
    turns = turns or _of_monologues(told.get("monologues"))
    timed = {name: told[name] for name in _LISTS if _are_timed(told.get(name))}
    with_speakers = [name for name in timed if any(who for who, _ in _pieces(timed[name]))]
    turns = turns or ([] if with_speakers else _of_channels(_channels(told))) or None
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


def _of_monologues(monologues: Any) -> list[Turn] | None:
    """Rev.ai: words, signs and the spaces between them, in the order in which they are written."""
    elements = [(_speaker(told), list(map(_told, _list(told.get("elements"))))) for told in map(_told, _list(monologues))]
    return [(who, "".join(_text(one, ["value"]) for one in some)) for who, some in elements if some] or None


def _channels(told: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The words of each channel with its name, as AWS and Deepgram write them; none where there is one channel alone."""
    labelled = list(map(_told, _list(_told(told.get("channel labels")).get("channels"))))
    found = [(_speaker(one), one.get("items")) for one in labelled]
    if not found:
        guesses = map(_best_guess, map(_told, _list(told.get("channels"))))
        found = [(f"Channel {at}", one.get("words")) for at, one in enumerate(guesses)]
    return [(who, list(map(_told, _list(words)))) for who, words in found] if len(found) > 1 and all(words for _, words in found) else []


def _of_channels(channels: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[Turn]:
    """The sentences of all channels, in the order in which they begin."""
    sentences = sorted(
        ((_second(one[0], "start"), who, one) for who, words in channels for one in _sentences(words)), key=lambda one: one[0]
    )
    return [turn for _, who, words in sentences for turn in _words(words, who=who)]


def _sentences(words: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Words up to a full stop, or to a pause of more than a second."""
    sentence: list[dict[str, Any]] = []
    for word in words:
        last = _text({**sentence[-1], **_best_guess(sentence[-1])}, _WORDS) if sentence else ""
        ended = max((_second(one, "end") for one in sentence[-2:]), default=0)  # a sign has no time
        if sentence and word.get("type") != "punctuation" and (last.endswith((".", "?", "!")) or _second(word, "start") > ended + 1):
            yield sentence
            sentence = []
        sentence.append(word)
    yield from [sentence] if sentence else []


def _second(word: Mapping[str, Any], which: str) -> float:
    """Where in the recording a word starts or ends; 0 where that is not said."""
    written = str(word.get(f"{which} time", word.get(which)))
    return float(written) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", written) else 0


def _speakers_of_aws(told: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Start time of a word -> its speaker."""
    segments = list(map(_told, _list(_told(told.get("speaker labels")).get("segments"))))
    pieces = [*segments, *(_told(item) for segment in segments for item in _list(segment.get("items"))), *items]
    return {str(piece.get("start time")): who for piece in pieces if (who := _speaker(piece))} if items else {}


def _of_guesses(results: Any) -> list[Turn] | None:
    """Google's results or Deepgram's channels. Where Google repeats every word with its speaker in the last result, that one is told."""
    told = [one for one in map(_told, _list(results)) if one.get("is final") is not False and _best_guess(one)]
    guesses = list(map(_best_guess, told))
    if guesses and all(isinstance(guess.get("content"), str) for guess in guesses):  # Speechmatics: a word or a sign each
        return list(_words(told))
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
