"""From a machine's transcript, the model is told who speaks, and every word once; times, confidences and token ids are left out."""

import json
import re

import pytest

from medgemma_app.inputs.notes import read_raw_notes

ASKED, SAID = "What brings you in?", "A cough for two weeks."


def read(content):
    return read_raw_notes(content if isinstance(content, bytes) else json.dumps(content).encode(), "transcript")


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
    {
        "channel_label": "ch_1",
        "items": [amazon_word("Since", "0.6"), amazon_word("May", "0.8"), AMAZON_SIGN, amazon_word("yes", "4.5")],
    },
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
GOOGLE_SPEAKERS = {"alternatives": [{"words": [*words("what hurts", speakerTag=1), *words("my chest", speakerTag=2)]}]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param({"text": f"{ASKED} {SAID}", "segments": segments(), "language": "en"}, f"{ASKED} {SAID}", id="whisper"),
        pytest.param(segments(), f"{ASKED} {SAID}", id="a list of segments"),
        pytest.param(
            {"segments": [{**segments()[0], "speaker": "SPEAKER_00"}, segments(speaker="SPEAKER_01")[1]], "word_segments": words(SAID)},
            f"SPEAKER_00: {ASKED}\nSPEAKER_01: {SAID}",
            id="whisperX",
        ),
        pytest.param(
            {"segments": [{"start": 1, "end": 2, "text": "x", "words": [*words("hurts there", speaker="A"), *words("yes", speaker="B")]}]},
            "Speaker A: hurts there\nSpeaker B: yes",
            id="speakers of words",
        ),
        pytest.param({"text": SAID, "chunks": [{"timestamp": [0.0, 3.25], "text": f" {SAID}"}]}, SAID, id="transformers"),
        pytest.param(
            {
                "model": {"type": "base"},
                "result": {"language": "en"},
                "transcription": [
                    {
                        "timestamps": {"from": "00:00:00,000"},
                        "offsets": {"from": 0, "to": 3250},
                        "text": f" {SAID}",
                        "tokens": [{"id": 50364, "p": 0.9}],
                    }
                ],
            },
            SAID,
            id="whisper.cpp",
        ),
        pytest.param({"text": SAID, "usage": {"type": "tokens", "total_tokens": 114}}, SAID, id="OpenAI"),
        pytest.param(
            {
                "jobName": "j",
                "results": {
                    "transcripts": [{"transcript": "Hurts. Yes."}],
                    "speaker_labels": AMAZON_LABELS,
                    "items": [amazon_word("Hurts", "0.5"), AMAZON_SIGN, amazon_word("Yes", "2.5"), AMAZON_SIGN],
                },
            },
            "spk_0: Hurts.\nspk_1: Yes.",
            id="AWS with speakers",
        ),
        pytest.param(
            {"results": {"transcripts": [{"transcript": SAID}], "items": [amazon_word("A", "0.5")]}, "status": "COMPLETED"}, SAID, id="AWS"
        ),
        pytest.param(
            {
                "Conversation": {
                    "TranscriptSegments": [{"BeginAudioTime": 0.5, "Content": SAID, "ParticipantDetails": {"ParticipantRole": "PATIENT"}}]
                }
            },
            f"Conversation:\nPATIENT: {SAID}",
            id="AWS HealthScribe",
        ),
        pytest.param({"channels": [{"alternatives": [{"transcript": SAID, "confidence": 0.98}]}]}, SAID, id="Deepgram"),
        pytest.param(
            {"results": {"channels": [{"alternatives": [{"transcript": SAID, "words": words("A", speaker=0)}]}]}},
            SAID,
            id="Deepgram, whose words with speakers are not all there",
        ),
        pytest.param(
            {"results": {"channels": [{"alternatives": [{"transcript": SAID, "words": words(SAID, speaker=0)}]}]}},
            f"Speaker 0: {SAID}",
            id="Deepgram with speakers",
        ),
        pytest.param(
            [
                {"type": "Results", "start": 0.5, "duration": 1.25, "is_final": final, "channel": {"alternatives": [{"transcript": said}]}}
                for said, final in ((ASKED, True), ("A cough", False), (SAID, True))
            ],
            f"{ASKED} {SAID}",
            id="Deepgram as a stream",
        ),
        pytest.param(
            {"text": f"{ASKED} {SAID}", "segments": [segments()[0], {"id": 1, "end": 7.5, "text": SAID, "tokens": [366]}]},
            f"{ASKED} {SAID}",
            id="whisper, a segment without a start",
        ),
        pytest.param(
            {"durationMilliseconds": 5000, "combinedPhrases": [{"text": SAID}], "phrases": [{"offsetMilliseconds": 40, "text": SAID}]},
            SAID,
            id="Azure fast transcription",
        ),
        pytest.param({"results": GOOGLE}, "what hurts my chest", id="Google"),
        pytest.param(
            {"results": [*GOOGLE, GOOGLE_SPEAKERS], "totalBilledTime": "15s"},
            "Speaker 1: what hurts\nSpeaker 2: my chest",
            id="Google repeats all words with their speakers",
        ),
        pytest.param(
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
            id="Azure, the best reading alone",
        ),
        pytest.param(
            {
                "utterances": [{"speaker": "A", "text": SAID, "start": 250, "end": 900, "confidence": 0.97}],
                "words": words(SAID),
                "text": SAID,
            },
            f"Speaker A: {SAID}",
            id="AssemblyAI",
        ),
        pytest.param(
            {"chief_complaint": "cough", "transcript": {"text": SAID, "segments": segments()[1:]}},
            f"Chief complaint: cough\nTranscript: {SAID}",
            id="within notes",
        ),
        pytest.param([{"speaker": "Patient", "text": SAID, "start": 12.5, "end": 14.5}], f"Patient: {SAID}", id="turns with times"),
        pytest.param(
            {"results": {"transcripts": [{"transcript": "Hurts. Since Yes."}], "items": [], "channel_labels": {"channels": CHANNELS}}},
            "ch_0: Hurts.\nch_1: Since May.\nch_0: Badly\nch_1: yes",
            id="AWS, two channels who speak at once",
        ),
        pytest.param(
            {"results": {"channels": [deepgram_channel("Hurts? Badly?", 0.5, 3.5), deepgram_channel("Yes. Very.", 1.5, 4.5)]}},
            "Channel 0: Hurts?\nChannel 1: Yes.\nChannel 0: Badly?\nChannel 1: Very.",
            id="Deepgram, two channels",
        ),
        pytest.param(
            {
                "recognizedPhrases": [
                    {"channel": n, "offset": "PT1.5S", "nBest": [{"display": said}]} for n, said in enumerate((ASKED, SAID))
                ]
            },
            f"Channel 0: {ASKED}\nChannel 1: {SAID}",
            id="Azure, two channels",
        ),
        pytest.param(
            {
                "segments": [
                    {"start": 0, "text": "hurts there yes", "speaker": "A", "words": [*words("hurts there"), *words("yes", speaker="B")]}
                ]
            },
            "Speaker A: hurts there\nSpeaker B: yes",
            id="a word of another speaker than its segment",
        ),
        pytest.param(
            {"segments": [{"start": 0, "text": "hurts there yes", "speaker": "A", "words": words("hurts yes", speaker="B")}]},
            "Speaker A: hurts there yes",
            id="words that are not all there",
        ),
        pytest.param(
            {"segments": [{"start": 0, "text": "hurts there yes", "words": words("hurts yes", speaker="B")}]},
            "hurts there yes",
            id="words that are not all there, of nobody",
        ),
        pytest.param(
            {"monologues": [{"speaker": 0, "elements": rev("Hurts", "?")}, {"speaker": 1, "elements": rev("My", " ", "chest", ".")}]},
            "Speaker 0: Hurts?\nSpeaker 1: My chest.",
            id="Rev.ai",
        ),
        pytest.param(
            {"format": "2.9", "job": {"duration": 95, "id": "366"}, "metadata": {"type": "transcription"}, "results": SPEECHMATICS},
            "S1: Hurts?\nS2: yes",
            id="Speechmatics",
        ),
        pytest.param(
            {"language_code": "en", "language_probability": 0.98, "text": "Hurts? yes", "words": ELEVENLABS},
            "speaker_0: Hurts?\nspeaker_1: yes",
            id="ElevenLabs",
        ),
    ],
)
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
