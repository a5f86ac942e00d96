"""From a machine's transcript, the model is told who speaks, and every word once; times, confidences and token ids are left out."""

import re

import pytest
from resources import read

from medgemma_app.inputs import transcripts

ASKED, SAID = "What brings you in?", "A cough for two weeks."


def words(text, **more):
    return [{"word": word, "start": 1.25, "end": 1.75, "score": 0.875, **more} for word in text.split()]


def segments(**second):
    return [
        {"id": 0, "seek": 0, "start": 0.0, "end": 3.25, "text": f" {ASKED}", "tokens": [50364, 1012, 95], "avg_logprob": -0.23},
        {"id": 1, "seek": 0, "start": 3.25, "end": 7.5, "text": f" {SAID}", "tokens": [366, 120, 80], "no_speech_prob": 0.01, **second},
    ]


def rev(*said):
    return [{"type": "text" if one.isalpha() else "punct", "value": one, "ts": 3.25, "end_ts": 5.25, "confidence": 0.95} for one in said]


def deepgram_channel(text, *starts):
    spoken = [{"word": word.lower(), "punctuated_word": word, "start": start} for word, start in zip(text.split(), starts, strict=True)]
    return {"alternatives": [{"transcript": text, "confidence": 0.95, "words": spoken}]}


def amazon_word(word, start, **more):
    return {
        "type": "pronunciation",
        "start_time": start,
        "end_time": start + "9",
        "alternatives": [{"confidence": "0.98", "content": word}],
        **more,
    }


AMAZON_SIGN = {"type": "punctuation", "alternatives": [{"confidence": "0.0", "content": "."}]}
AMAZON_LABELS = {
    "speakers": 2,
    "segments": [
        {"start_time": "0.5", "speaker_label": "spk_0", "items": [{"start_time": "0.5", "speaker_label": "spk_0"}]},
        {"start_time": "2.5", "speaker_label": "spk_1", "items": [{"start_time": "2.5", "speaker_label": "spk_1"}]},
    ],
}
CHANNELS = [
    {"channel_label": "ch_0", "items": [amazon_word("Hurts", "0.5"), AMAZON_SIGN, amazon_word("Badly", "3.5")]},
    {"channel_label": "ch_1", "items": [amazon_word("Since", "0.6"), amazon_word("May", "0.8"), AMAZON_SIGN, amazon_word("yes", "4.5")]},
]
SPEECHMATICS = [
    {"alternatives": [{"content": said, "confidence": 0.95, "speaker": who}], "start_time": 3.25, "end_time": 5.25, "type": kind}
    for who, said, kind in (("S1", "Hurts", "word"), ("S1", "?", "punctuation"), ("S2", "yes", "word"))
]
ELEVENLABS = [
    {"text": said, "type": kind, "start": 3.25, "end": 5.25, "speaker_id": who, "logprob": -0.95}
    for who, said, kind in (("speaker_0", "Hurts?", "word"), ("speaker_0", " ", "spacing"), ("speaker_1", "yes", "word"))
]
GOOGLE = [
    {"alternatives": [{"transcript": "what hurts", "confidence": 0.93, "words": words("what hurts")}], "resultEndTime": "2.5s"},
    {"alternatives": [{"transcript": " my chest", "confidence": 0.91, "words": words("my chest")}], "languageCode": "en-us"},
]
WATSON = [
    {"final": True, "alternatives": [{"transcript": f"{said} ", "timestamps": [[one, f"{at}.5", 9.5] for one in said.split()]}]}
    for at, said in enumerate(("hurts", "yes"))
]
SONIOX = [
    {"text": said, "start_ms": 95, "end_ms": 366, "speaker": who} for who, said in (("1", "Hu"), ("1", "rts"), ("1", "?"), ("2", " yes"))
]
GOOGLE_SPEAKERS = {"alternatives": [{"words": [*words("what hurts", speakerTag=1), *words("my chest", speakerTag=2)]}]}


TRANSCRIPTS = {
    "whisper": ({"text": f"{ASKED} {SAID}", "segments": segments(), "language": "en"}, f"{ASKED} {SAID}"),
    "a list of segments": (segments(), f"{ASKED} {SAID}"),
    "whisperX": (
        {"segments": [{**segments()[0], "speaker": "SPEAKER_00"}, segments(speaker="SPEAKER_01")[1]], "word_segments": words(SAID)},
        f"SPEAKER_00: {ASKED}\nSPEAKER_01: {SAID}",
    ),
    "speakers of words": (
        {"segments": [{"start": 1, "end": 2, "text": "x", "words": [*words("hurts there", speaker="A"), *words("yes", speaker="B")]}]},
        "Speaker A: hurts there\nSpeaker B: yes",
    ),
    "transformers": ({"text": SAID, "chunks": [{"timestamp": [0.0, 3.25], "text": f" {SAID}"}]}, SAID),
    "whisper.cpp": (
        {
            "model": {"type": "base"},
            "result": {"language": "en"},
            "transcription": [{"timestamps": {"from": "00:00:00,000"}, "text": f" {SAID}", "tokens": [{"id": 50364, "p": 0.9}]}],
        },
        SAID,
    ),
    "OpenAI": ({"text": SAID, "usage": {"type": "tokens", "total_tokens": 114}}, SAID),
    "AWS with speakers": (
        {
            "jobName": "j",
            "results": {
                "transcripts": [{"transcript": "Hurts. Yes."}],
                "speaker_labels": AMAZON_LABELS,
                "items": [amazon_word("Hurts", "0.5"), AMAZON_SIGN, amazon_word("Yes", "2.5"), AMAZON_SIGN],
            },
        },
        "spk_0: Hurts.\nspk_1: Yes.",
    ),
    "AWS": ({"results": {"transcripts": [{"transcript": SAID}], "items": [amazon_word("A", "0.5")]}, "status": "COMPLETED"}, SAID),
    "AWS HealthScribe": (
        {
            "Conversation": {
                "TranscriptSegments": [{"BeginAudioTime": 0.5, "Content": SAID, "ParticipantDetails": {"ParticipantRole": "PATIENT"}}]
            }
        },
        f"Conversation:\nPATIENT: {SAID}",
    ),
    "Deepgram": ({"channels": [{"alternatives": [{"transcript": SAID, "confidence": 0.98}]}]}, SAID),
    "Deepgram, whose words with speakers are not all there": (
        {"results": {"channels": [{"alternatives": [{"transcript": SAID, "words": words("A", speaker=0)}]}]}},
        SAID,
    ),
    "Deepgram with speakers": (
        {"results": {"channels": [{"alternatives": [{"transcript": SAID, "words": words(SAID, speaker=0)}]}]}},
        f"Speaker 0: {SAID}",
    ),
    "Deepgram as a stream": (
        [
            {"type": "Results", "start": 0.5, "duration": 1.25, "is_final": final, "channel": {"alternatives": [{"transcript": said}]}}
            for said, final in ((ASKED, True), ("A cough", False), (SAID, True))
        ],
        f"{ASKED} {SAID}",
    ),
    "whisper, a segment without a start": (
        {"text": f"{ASKED} {SAID}", "segments": [segments()[0], {"id": 1, "end": 7.5, "text": SAID, "tokens": [366]}]},
        f"{ASKED} {SAID}",
    ),
    "Azure fast transcription": (
        {"durationMilliseconds": 5000, "combinedPhrases": [{"text": SAID}], "phrases": [{"offsetMilliseconds": 40, "text": SAID}]},
        SAID,
    ),
    "Google": ({"results": GOOGLE}, "what hurts my chest"),
    "Google repeats all words with their speakers": (
        {"results": [*GOOGLE, GOOGLE_SPEAKERS], "totalBilledTime": "15s"},
        "Speaker 1: what hurts\nSpeaker 2: my chest",
    ),
    "Azure, the best reading alone": (
        {
            "durationInTicks": 15000,
            "duration": "PT1.5S",
            "timestamp": "2024-05-06T10:00:00Z",
            "recognizedPhrases": [
                {
                    "offset": "PT1.5S",
                    "offsetInTicks": 15000,
                    "speaker": 2,
                    "nBest": [{"confidence": 0.9, "display": SAID}, {"confidence": 0.1, "display": "another reading"}],
                }
            ],
        },
        f"Speaker 2: {SAID}",
    ),
    "AssemblyAI": (
        {"utterances": [{"speaker": "A", "text": SAID, "start": 250, "end": 900, "confidence": 0.97}], "words": words(SAID), "text": SAID},
        f"Speaker A: {SAID}",
    ),
    "within notes": (
        {"chief_complaint": "cough", "transcript": {"text": SAID, "segments": segments()[1:]}},
        f"Chief complaint: cough\nTranscript: {SAID}",
    ),
    "turns with times": ([{"speaker": "Patient", "text": SAID, "start": 12.5, "end": 14.5}], f"Patient: {SAID}"),
    "AWS, two channels who speak at once": (
        {"results": {"transcripts": [{"transcript": "Hurts. Since Yes."}], "items": [], "channel_labels": {"channels": CHANNELS}}},
        "ch_0: Hurts.\nch_1: Since May.\nch_0: Badly\nch_1: yes",
    ),
    "Deepgram, two channels": (
        {"results": {"channels": [deepgram_channel("Hurts? Badly?", 0.5, 3.5), deepgram_channel("Yes. Very.", 1.5, 4.5)]}},
        "Channel 0: Hurts?\nChannel 1: Yes.\nChannel 0: Badly?\nChannel 1: Very.",
    ),
    "Azure, two channels": (
        {"recognizedPhrases": [{"channel": n, "offset": "PT1.5S", "nBest": [{"display": said}]} for n, said in enumerate((ASKED, SAID))]},
        f"Channel 0: {ASKED}\nChannel 1: {SAID}",
    ),
    "a word of another speaker than its segment": (
        {
            "segments": [
                {"start": 0, "text": "hurts there yes", "speaker": "A", "words": [*words("hurts there"), *words("yes", speaker="B")]}
            ]
        },
        "Speaker A: hurts there\nSpeaker B: yes",
    ),
    "words that are not all there": (
        {"segments": [{"start": 0, "text": "hurts there yes", "speaker": "A", "words": words("hurts yes", speaker="B")}]},
        "Speaker A: hurts there yes",
    ),
    "words that are not all there, of nobody": (
        {"segments": [{"start": 0, "text": "hurts there yes", "words": words("hurts yes", speaker="B")}]},
        "hurts there yes",
    ),
    "Rev.ai": (
        {"monologues": [{"speaker": 0, "elements": rev("Hurts", "?")}, {"speaker": 1, "elements": rev("My", " ", "chest", ".")}]},
        "Speaker 0: Hurts?\nSpeaker 1: My chest.",
    ),
    "Speechmatics": (
        {"format": "2.9", "job": {"duration": 95, "id": "366"}, "metadata": {"type": "transcription"}, "results": SPEECHMATICS},
        "S1: Hurts?\nS2: yes",
    ),
    "ElevenLabs": (
        {"language_code": "en", "language_probability": 0.98, "text": "Hurts? yes", "words": ELEVENLABS},
        "speaker_0: Hurts?\nspeaker_1: yes",
    ),
    "IBM Watson": (
        {"results": WATSON, "speaker_labels": [{"from": "0.5", "to": 9.5, "speaker": 0}, {"from": "1.5", "to": 9.5, "speaker": 1}]},
        "Speaker 0: hurts\nSpeaker 1: yes",
    ),
    "Soniox, whose tokens are no words": ({"text": "Hurts? yes", "tokens": SONIOX}, "Speaker 1: Hurts?\nSpeaker 2: yes"),
    "words of which most are missing": ({"text": SAID, "words": words("A cough", speaker="B")}, SAID),
    "text without segments": ({"text": SAID, "segments": [], "language": "en"}, SAID),
    "a channel whose words are not all there": (
        {"results": {"channels": [deepgram_channel("Hurts?", 0.5), {"alternatives": [{"transcript": SAID, "words": words("A")}]}]}},
        f"Channel 0: Hurts?\nChannel 1: {SAID}",
    ),
    "other keys of words": ({"monologues": [{"speaker": 0, "elements": [{"type": "text", "text": "Hurts"}]}]}, "Speaker 0: Hurts"),
}


@pytest.mark.parametrize(("content", "text"), TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_words_are_told_once_with_their_speakers_and_nothing_of_the_machine(content, text):
    notes = read(content)
    assert notes.text == text
    assert not re.search(r"50364|3\.25|0\.9|95|1\.5|1\.25|5000|PT1|T10|366", notes.text)
    assert notes.facts["format"] == "transcript"
    assert notes.facts["left_out"] == ["times and other machine fields of the transcript"]


def test_a_dialogue_that_a_person_wrote_keeps_what_it_says_of_its_turns():
    assert read([{"speaker": "Patient", "text": SAID, "mood": "anxious"}]).text == f"Patient: {SAID} (Mood: anxious)"


def test_what_notes_say_beside_a_transcript_is_kept():
    visit = {"chief_complaint": "cough", "temperature": "38.2", "text": "Free text.", "status": "smoker", "transcript": segments()}
    assert read(visit).text.splitlines() == [
        "Chief complaint: cough", "Temperature: 38.2", "Status: smoker", f"Transcript: {ASKED} {SAID}", "Text: Free text.",
    ]  # fmt: skip
    assert read({**visit, "text": f"{ASKED}\n{SAID}"}).text.count(SAID) == 1


@pytest.mark.parametrize(
    ("beside", "text"),
    [
        ({"results": [{"name": "K", "value": "5.1"}]}, f"Results: (Name: K; Value: 5.1)\nTranscript: {SAID}"),
        ({"transcript": "Free text."}, f"Dialogue: {SAID}\nTranscript: Free text."),
        ({"paragraphs": "Sepsis."}, f"Paragraphs: Sepsis.\nTranscript: {SAID}"),
        ({"Beschwerde": "Husten"}, f"Beschwerde: Husten\nTranscript: {SAID}"),
    ],
    ids=["results", "another transcript", "a text under the name of a list", "an unknown key"],
)
def test_a_key_that_transcripts_use_too_is_told_where_it_holds_something_else(beside, text):
    assert read({**beside, "segments": segments()[1:]}).text == text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (["Sepsis", {"alternatives": [{"transcript": "hello"}]}], "Sepsis"),
        ([{"elements": [{"name": "Lung", "value": "clear"}], "finding": "mass"}], "Finding: mass"),
        ({"monologues": [{"speaker": 0, "elements": [{"type": "text", "phrase": "Hurts"}]}]}, "Phrase: Hurts"),
    ],
    ids=["a text beside a reading", "elements of findings", "words under an unknown key"],
)
def test_what_is_not_understood_as_a_transcript_is_told_as_json(content, told):
    notes = read(content)
    assert told in notes.text and notes.facts["format"] != "transcript"


def test_a_channel_may_begin_with_a_sign():
    channels = [{"channel_label": f"ch_{n}", "items": [AMAZON_SIGN, amazon_word("Hurts", "0.5")]} for n in range(2)]
    assert read({"results": {"channel_labels": {"channels": channels}}}).text == "ch_0: .\nch_1: .\nch_0: Hurts\nch_1: Hurts"


@pytest.mark.parametrize(
    "entries",
    [
        [{"time": "08:30", "text": "morphine given"}, {"time": "09:15", "text": "pain less"}],
        [{"text": "metformin", "start": "2020-01-01", "end": "2024-05-06"}],
        [{"text": "smoker", "start": 1990, "end": 2005}],
        [{"text": "amoxicillin", "duration": 7}],
    ],
    ids=["times of day", "dates", "years", "a duration"],
)
def test_times_of_a_record_are_kept(entries):
    told = read({"findings": entries}).text
    assert all(str(value) in told for entry in entries for value in entry.values())


def test_only_keys_that_may_hold_a_transcript_are_searched_for_one(monkeypatch):
    asked, search = [], transcripts._of_object
    monkeypatch.setattr(transcripts, "_of_object", lambda fields: asked.append(fields) or search(fields))
    read({"segments": segments(), **{f"key {number}": [number] for number in range(500)}})
    assert len(asked) < 10
