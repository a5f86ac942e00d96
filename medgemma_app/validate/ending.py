"""Whether a text was cut off in the middle."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from medgemma_app.validate.common import Issue, Report, excerpt, without_tokens
from medgemma_app.validate.conditions import NAMES
from medgemma_app.validate.drugs import DRUGS
from medgemma_app.validate.symptoms import SYMPTOMS
from medgemma_app.validate.terms import WORD_ENDS, words

# Words that need another one after them. Left out are those that end a sentence in clinical English:
# "follow up", "ruled out", "turned on", "carried over", "vitamin A".
_NEEDS_MORE = frozenset(
    """
    a an the and or nor but with without of for from to into in at by as than that which who whose while because if
    when where is are was were be been being am has have had will would should could can may might must his her its
    their our my your between within during per via versus vs due either very more consistent suggestive compatible
    no any every each including another upon until unless whether although she he they we i
    """.split()  # noqa: SIM905
)
# A phrase without a full stop is complete where its last word can end one, as in "No acute disease".
_LAST_SYLLABLES = tuple(
    """
    ment tion sion itis oma osis emia ema thorax thorace ity itie megaly pathy ance ence ness ing ure ectomy otomy
    phy scopy therapy graph gram logy able ible ally eal nal mal ral tal val sal less cted ated ized sed ked ned red
    wed ded ged ied med ted ved phragm contour stinum
    """.split()  # noqa: SIM905
)
_LAST_WORDS = frozenset(
    """
    disease change process chest spine aorta study exam infiltrate mass nodule lesion lobe base side lung heart film
    view report limit size silhouette volume diaphragm fluid air tissue hernia osteophyte prior region image body
    bodie scar rib catheter tube cyst stone line tip lead device level zone apex apice angle space airspace shadow
    marking vessel bone abdomen colon artifact syndrome injury injurie shift stripe infarct artery vein trachea
    carina hilum ventricle atrium stomach pneumonia atelectasis surgery history clear unclear normal intact positive
    negative low seen given shown midline borderline none present prn right left today above below visit clinic well
    adult age symptom time day week month year hour daily weekly pain plan patient regimen strain knee diabetes test
    result lab issue problem concern relief diet exercise home work care health ago draft otherwise throughout aware
    better worse unchanged resolved stable benign attempt advised given reviewed anyway apart together elsewhere
    kidney liver spleen bladder uterus ovary ovarie prostate pancreas gallbladder bowel brain toe finger hand foot feet ankle
    wrist elbow shoulder hip neck arm leg skin throat eye ear nose sinus tendon ligament muscle nerve node breast thyroid
    scan film biopsy mri x-ray ultrasound echo panel count screen swab smear splint brace cast boot cuff pad cup sling
    walker cane refill script referral note form letter call portal list log diary chart drop spray cream ointment gel pill
    tablet capsule patch vaccine shot dose hemorrhage bleed clot stone polyp cyst tumor fibroid goiter abscess ulcer edema
    rash wound burn sprain strain tear spasm cramp virus cold oil water food salt fiber meal sleep rest ice heat
    """.split()  # noqa: SIM905
)
# The words of up to three letters, and the abbreviations in small letters, that may end a line.
_SHORT_WORDS = frozenset(
    """
    up it on off out go us me so do am pm mg ml kg lb lbs cm mm wk wks hr hrs mo mos yr yrs po pr im iv sl bid tid
    qid prn qd qhs hs qam qpm mcg max min neg pos abd ext tab tabs cap caps day leg arm eye ear hip rib toe jaw lip
    gut fat flu gas cut red low new old one two six ten all few now not own put run see sit try use way wet who why
    yes yet you age ago air bad bed big bit box boy car cup did die dry due eat end far fit fix fun get got her him
    hot ice ill job key kit lab lay led let lie lot man men met mom dad nap net nut oil pad pan pay pen pet pin pit
    pop pot pus ray raw rid row rub sad sat sex shy son sub sun tan tea tip top tub vet web win zip low her its our x
    y nil log mri abx ekg ecg qod uti icu ent sob
    """.split()  # noqa: SIM905
)
# Abbreviations in small letters: "dz", "fx", "atx" and "pna", "htn", of consonants that no word begins with.
_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_ABBREVIATED = re.compile(rf"(?!s[cpt][hlr]|thr|chr|phr|phl|shr|sch)[{_CONSONANTS}]{{3}}a?|[{_CONSONANTS}]{{1,2}}[xz]|pn[ax]|atx")
_INFLECTIONS = frozenset("s es d ed r er ing ly y al".split())  # noqa: SIM905
_SHORTEST_BEGINNING = 3
_SHORTEST_STUB = 6
# Words of findings and plans whose beginnings are no words, and short forms that are beginnings all the same.
_COMMON = """
    patient report reports reported generated follow following continue monitor monitoring return clinic clinical physical therapy exercise
    exercises support supportive sodium inhaler question questions counseling current currently control controlled pressure understanding
    verbalized verbalizes contrast lumbar cervical thoracic bronchitis appointment cardiology neurology dermatology colonoscopy endoscopy
    saline weekly monthly months weight education information instructions laboratory medication medications symptoms provider specialist
    emergency department evaluation consultation recommended discussed reviewed referral schedule scheduled increase decrease tolerated
    avoid avoidance smoking cessation nutrition hydration ultrasound radiograph effusion pneumothorax consolidation mediastinal pulmonary
    cardiopulmonary cardiomediastinal silhouette vascular osseous degenerative unremarkable evidence abnormality bilateral interstitial
    vaccine vaccination glucose hemoglobin creatinine potassium electrolytes antibiotic antibiotics physician morning evening bedtime
    improvement worsening persistent compliance adherence surgical surgery orthopedic orthopedics gastroenterology psychiatry
""".split()  # noqa: SIM905
_SHORT_FORMS = frozenset(
    """
    abnormal adhere anti antibio avoid bilat card cardio clinic colon cons consult cont contr control counsel creat
    depart derm disc discuss electro emerg eval exerc follow gastro gene hemo hydra improve info inform inst instr
    instruct inter interst labor medi medic monitor month morn neuro orth ortho osse persist physic pneumo pres press
    prov provide psych pulm question radio recommend refer report review sched schedule spec special support surg surge
    symptom therap tolerate ultra under unremark vasc verb verbal week weigh worse
    """.split()  # noqa: SIM905
)
_STUBS = sorted(_COMMON)
_SHORTEST_COMMON = 4
_TERMS = sorted({word for name in (*NAMES, *SYMPTOMS, *DRUGS) for word in name.split()})
_NOUNS = frozenset(noun for name in (*NAMES, *SYMPTOMS, *DRUGS) if len(noun := name.rpartition(" ")[2]) >= _SHORTEST_STUB)
_ABBREVIATION = re.compile(
    r"(?:XXXX)+|\??(?!X+$)[A-Z]{2,5}s?|[A-Za-z]{1,4}(?:/[A-Z][A-Za-z]{0,4}){1,2}|[A-Za-z]/[A-Za-z]|#|q\.?[0-9-]{0,3}\.?(?:h|hs|d|am|pm|mo|wk)|[bt]ds|[oq]d",
    re.ASCII,
)
LONGEST_TAIL = 70
_SHORTEST_PROSE = 3
_MOST_SENTENCES = 3
_LONGEST_PHRASE = 8
_SHORTEST_FRAGMENT, _LONGEST_FRAGMENT = 2, 6
# A fragment without an article or an auxiliary verb is in the style of telegrams, which have no full stops: "RTC 2 wks".
_OF_SENTENCES = re.compile(
    r"\b(?:the|an?|is|are|was|were|be|been|has|have|had|will|would|should|there|this|that|which|patient)\b", re.IGNORECASE
)
_TELEGRAPHIC = 0.34  # of the sentences before it, so many at most are whole ones
_MEASURED = re.compile(r"[0-9][ -]?(?:mm|cm|mg|mcg|m?[lL]|units?|wks?|weeks?|days?|mos?|months?|yrs?|years?|hrs?|hours?|min|minutes?|d|h)$")
_CLOSERS = "\"'”’)]}*_` \t"
_CLOSED = re.compile(r"[.!?…。]$")
_SENTENCE_END = re.compile(r"[a-z)\]%][.!?](?=\s|$)", re.IGNORECASE)
_SENTENCE_BREAK = re.compile(r"(?<=[.!?;])\s|\n")
_NOT_A_RULE = re.compile(r"\w|^\s*[-*•+]\s*$")
_PARTS_OF_UNITS = frozenset("da we wee mon mont ye yea ho hou minu un uni table tabl puf".split())  # noqa: SIM905
_LONE_BULLET = re.compile(r"[-*•+]|\d{1,2}[.)]")
_SIGNATURE = re.compile(
    r"^\W*(?:electronically |digitally )?(?:sign(?:ed|ature)|dictated|transcribed|reported by|dr\.? |disclaimer)\b"
    r"|^\W*(?:note: )?(?:this|ai-generated|draft)\b"
    r"|\b(?-i:M\.?D|D\.?O|N\.?P|P\.?A(?:-C)?|R\.?N|MBBS)\.?$",
    re.IGNORECASE,
)
_LINES_OF_SIGNATURE = 3
# A subject whose verb is yet to come, or a verb whose object is.
_SUBJECT = re.compile(
    r"(?:^|[.,:;•*-]\s+)(?:the |this )?patient$"
    r"|\b(?:I|we|he|she|they|patient)(?: also| has| have| had| was| were| is| are)* (?:discussed|recommended|advised|explained|reviewed"
    r"|verbalized|denies|reports|states|endorses|notes|takes|presents|would|will|continues|mentions|says|complains|appears|seems|shows|demonstrates|reveals)$",
    re.IGNORECASE,
)
# An adjective that has been given its article or preposition, a negation without its verb, a dose without how often, a title.
_AWAITED = re.compile(
    r"\b(?:the|an?|for|from|to|with|of|into|both|this|that|her|his|iv|po|by) (?:new|oral|first|second|third|next|same|other"
    r"|small|mild|moderate|severe|large|acute|chronic|upper|lower|middle|mid|anterior|posterior|medial|lateral|superior|inferior|proximal"
    r"|distal|high|low|full|further|additional|repeat|initial|final|primary|possible|total|increased|decreased)$"
    r"|\b(?:in|of|from|into|with) the (?:left|right)$|\b(?:do|does|did|is|are|was|were|has|have|will|can|could|should|would) not$"
    r"|\b(?:needs|requires|includes?|causes?|involving)$"
    r"|[0-9] ?(?:mg|mcg|g|ml|units?|tablets?|capsules?|puffs?) (?:twice|two|three|four)$|\b(?:Dr|Drs|Mr|Mrs|Ms)\.?$"
    r"|\b(?:no|without|any) (?:\w+ )?(?:acute|active|new|focal|radiographic|significant|visible|definite|obvious|large|evidence)$"
    r"|\b(?:cardiopulmonary|radiographic|osseous|bony|mediastinal|perihilar|bibasilar|subsegmental|airspace|intrathoracic|degenerative"
    r"|obstructive|calcified|ascending|descending|representing|suggesting|reflecting|containing|following|not limited|most likely|at this"
    r"|(?:low|clear) lung|no (?:pleural|pericardial|pulmonary|focal)|[0-9.]+ mm(?: \w+){0,2} (?:upper|lower|middle|lobe|lung))$"
    r"|(?:^|[:.] |[0-9][.)] )(?:stable|low|mild|moderate|small|large|left|right|partially|scattered|bilateral|possible|probable|no|acute)$"
    r"|\b(?:advised|encouraged|counsel(?:ed|led)|told|asked|instructed|recommended) (?:that )?(?:the patient|him|her|them)$",
    re.IGNORECASE,
)
# A number behind one of these counts something that should follow: "in 6" what? Years and times of day stand alone.
_COUNTS = re.compile(
    r"(?:\b(?:in|for|every|after|within|over|next|past|last|another|at least|up to)|(?<![0-9]) x)"
    r"\s+[0-9]{1,3}(?:\.[0-9]{1,2})?$",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*(?:[-*•+]|\d{1,2}[.)])\s")
_CONSISTENT = 0.8
_FEWEST_CLOSED = 1


@dataclass(frozen=True, slots=True)
class _Habit:
    """How the lines before the last one end."""

    closed: int
    open: int

    @property
    def full_stops(self) -> bool:
        """Whether this text closes its sentences, so that an open one at the end stands out."""
        return self.closed >= _FEWEST_CLOSED and self.closed >= _CONSISTENT * (self.closed + self.open)


def truncated(report: Report) -> Iterator[Issue]:
    """The generation was stopped before its end, or the last line reads as if it was."""
    end = excerpt(report.text.rstrip()[-LONGEST_TAIL:])
    if report.finish_reason == "length":
        yield Issue("truncated", "error", "the token budget ran out before the report was complete; raise --max-tokens", end)
    elif report.finish_reason == "cancelled":
        yield Issue("truncated", "error", "the generation was stopped before the report was complete; run it again", end)
    elif _hangs(report) or _stops(report):
        yield Issue("truncated", "error", "the text stops in mid-sentence; raise --max-tokens, or do not use it as it is", end)


def _hangs(report: Report) -> bool:
    """Whether the last thing in the text is a heading."""
    last = report.parsed.sections[-1] if report.parsed.sections else None
    return last is not None and not last.body and report.text.rstrip(_CLOSERS + ":-\n").endswith(last.heading)


def _stops(report: Report) -> bool:
    """Whether the last line breaks off: by a sign of its own, before a section that never came, or unlike all other lines."""
    lines = _lines(without_tokens(report.text))
    last = " ".join(lines[-1].split()) if lines else ""
    bare = last.rstrip(_CLOSERS)
    if _LONE_BULLET.fullmatch(last) or last.endswith((" Dr.", " Drs.")) or _lacks_cells(lines):
        return True
    if not bare or _CLOSED.search(bare) or any(_SIGNATURE.search(line.strip()) for line in lines[-_LINES_OF_SIGNATURE:]):
        return False
    if _broken(last, bare) or _within_a_word(report, bare):
        return True
    if _is_value(last, bare):
        return False
    return _unfinished(report) or (_habit(lines, _last_body(report)).full_stops and not _is_phrase(report))


def _lacks_cells(lines: list[str]) -> bool:
    """Whether the last row of a table is shorter than the one before it."""
    return len(lines) > 1 and lines[-1].lstrip()[:1] == lines[-2].lstrip()[:1] == "|" and lines[-1].count("|") < lines[-2].count("|")


def _lines(text: str) -> list[str]:
    """The lines that are more than a rule or a fence."""
    return [line for line in text.splitlines() if _NOT_A_RULE.search(line)]


def _broken(last: str, bare: str) -> bool:
    """Signs that need no comparison: a mark or a word that wants more, a count of nothing, a bracket or bold passage left open."""
    word = bare.rsplit(maxsplit=1)[-1]
    wants_more = bare[-1] in ",;:-–—/(&+[<=" or word in _NEEDS_MORE or any(sign.search(last) for sign in (_COUNTS, _SUBJECT, _AWAITED))
    return wants_more or last.count("(") > last.count(")") or last.count("**") % 2 == 1


def _within_a_word(report: Report, bare: str) -> bool:
    """Whether the last word is none: too short, of an ending no word has, or the beginning of one that the text or its source has."""
    before, _, written = bare.rpartition(" ")
    word = written.lstrip("*_(\"'“").casefold()
    if not (word.isascii() and word.isalpha()):
        return False
    if before[-1:].isdigit():
        return word in _PARTS_OF_UNITS
    opens_line = not re.search(r"[^\W\d]", before)
    if len(word) < _SHORTEST_BEGINNING or (len(word) == _SHORTEST_BEGINNING and not written.isupper()):
        return word not in _SHORT_WORDS and not _ABBREVIATED.fullmatch(word) and (written.islower() or opens_line)
    if word[-2:] not in WORD_ENDS and not written.isupper():
        return True
    return _begins_a_term(word) or _begins_a_common_word(word) or _begins_another(report, word, bare)


def _begins_a_term(word: str) -> bool:
    """Whether a word is the beginning of a clinical term and none itself: "bronchit"; not a short form, as "cardio" or "derm"."""
    at = bisect_left(_TERMS, word)
    term = _TERMS[at] if at < len(_TERMS) else ""
    is_stub = len(word) >= _SHORTEST_STUB and not word.endswith("o") and word != term and term.startswith(word)
    return is_stub and term[len(word) :] not in _INFLECTIONS and not _can_end(word)


def _begins_a_common_word(word: str) -> bool:
    """Whether a word is the beginning of one that reports are full of, and none itself: "patien", "contro"."""
    at = bisect_left(_STUBS, word)
    whole = _STUBS[at] if at < len(_STUBS) else ""
    is_stub = len(word) >= _SHORTEST_COMMON and word != whole and whole.startswith(word)
    return is_stub and word not in _SHORT_FORMS and whole[len(word) :] not in _INFLECTIONS


def _begins_another(report: Report, word: str, bare: str) -> bool:
    """Whether a word is nowhere else in the text or its source, and a longer one with this beginning is."""
    text = report.text[: report.text.rfind(bare.rpartition(" ")[2])]
    said = {one for part in (text, report.source or "") for one in words(part).texts}
    longer = any(one.startswith(word) and one[len(word) :] not in _INFLECTIONS for one in said)
    return longer and word not in said and not _can_end(word)


def _is_value(last: str, bare: str) -> bool:
    """Whether the open last line ends in a quotation or a measured value."""
    sentence = re.split(r"[.!?]\s", bare)[-1]
    end = sentence.rsplit(maxsplit=1)[-1]
    measured = any(char.isdigit() for char in end) and (":" in sentence or "/" in end or "%" in end or sentence == end)
    return last != bare or measured


def _unfinished(report: Report) -> bool:
    """Whether a section that comes after the last one is missing."""
    present, sections = report.parsed.texts(), report.parsed.sections
    known = [report.required.index(key) for key in sections[-1].keys if key in report.required] if sections else []
    return bool(known) and any(key not in present for key in report.required[max(known) :])


def _last_body(report: Report) -> str:
    return "\n".join(_lines(without_tokens(report.parsed.sections[-1].body if report.parsed.sections else report.text)))


def _is_phrase(report: Report) -> bool:
    """Whether the last section is short and ends in a phrase that a reader takes for complete."""
    body = _last_body(report)
    closed = len(_SENTENCE_END.findall(body))
    last = _SENTENCE_END.split(body.rstrip(_CLOSERS).rpartition("\n")[2])[-1]
    words = _BULLET.sub("", last, count=1).split()
    if not closed and _SHORTEST_FRAGMENT <= len(words) <= _LONGEST_FRAGMENT and _is_telegraphic(report.text, last):
        return True
    if closed > _MOST_SENTENCES or (closed and len(words) > _LONGEST_PHRASE):
        return False
    is_unit = _MEASURED.search(last) is not None
    return bool(words) and (is_unit or _ABBREVIATION.fullmatch(words[-1]) is not None or _can_end(words[-1].casefold()))


def _is_telegraphic(text: str, last: str) -> bool:
    """Whether a fragment is no sentence, and hardly a sentence of the text is a whole one."""
    if _OF_SENTENCES.search(last):
        return False
    said = [part for part in _SENTENCE_BREAK.split(text) if len(part.split()) >= _SHORTEST_PROSE]
    return sum(_OF_SENTENCES.search(part) is not None for part in said) <= _TELEGRAPHIC * len(said)


def _can_end(word: str) -> bool:
    """Whether a word, or what it is the plural of, can end a phrase."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return any(form in _LAST_WORDS or form in _NOUNS or form.endswith(_LAST_SYLLABLES) for form in forms)


def _habit(lines: list[str], body: str) -> _Habit:
    """The ends of the other lines of the last section; where it has only one line, those of all sentences."""
    inside = [line for line in body.splitlines() if _BULLET.match(line) or len(line.split()) >= _SHORTEST_PROSE][:-1]
    nearest = [line for line in inside if _BULLET.match(line)] if _BULLET.match(lines[-1]) else inside
    if nearest:
        closed = sum(map(_ends_closed, nearest))
        return _Habit(closed + len(_SENTENCE_END.findall(lines[-1])), len(nearest) - closed)
    closed = sum(len(_SENTENCE_END.findall(line)) for line in lines)
    return _Habit(closed, sum(not _ends_closed(line) and len(line.split()) >= _SHORTEST_PROSE for line in lines[:-1]))


def _ends_closed(line: str) -> bool:
    return _CLOSED.search(line.rstrip(_CLOSERS)) is not None
