"""The last words of a text: which want another one, which can end a phrase, and which are no words."""

from __future__ import annotations

import re
from bisect import bisect_left

from medgemma_app.validate.terms import DRUGS, WORD_ENDS, rows

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
    walker cane refill script referral note form letter call consult portal list log diary chart drop spray cream ointment gel pill
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
INFLECTIONS = frozenset("s es d ed r er ing ly y al".split())  # noqa: SIM905
SHORTEST_BEGINNING = 3
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
_NAMES = tuple(spelling for words in ("conditions", "symptoms") for row, _ in rows(words) for name in row for spelling in name.split("/"))
_NAMES += tuple(DRUGS)
_TERMS = sorted({word for name in _NAMES for word in name.split()})
_NOUNS = frozenset(noun for name in _NAMES if len(noun := name.rpartition(" ")[2]) >= _SHORTEST_STUB)
_PARTS_OF_UNITS = frozenset("da we wee mon mont ye yea ho hou minu un uni table tabl puf".split())  # noqa: SIM905
# A subject whose verb is yet to come, or a verb whose object is.
_SUBJECT = re.compile(
    r"(?:^|[.,:;•*-]\s+)(?:the |this )?patient$"
    r"|\b(?:I|we|he|she|they|patient)(?: also| has| have| had| was| were| is| are)* (?:discussed|recommended|advised|explained|reviewed"
    r"|verbalized|denies|reports|states|endorses|notes|takes|presents|would|will|continues|mentions|says|complains|appears|seems|shows|demonstrates|reveals)$",
    re.IGNORECASE,
)
# An adjective whose noun is yet to come, a negation without its verb, a dose without how often, a title without its name.
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
    r"|(?:low|clear) lung|no (?:pleural|pericardial|pulmonary|focal)|[0-9.]{1,6} mm(?: \w+){0,2} (?:upper|lower|middle|lobe|lung))$"
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
_TAIL = 200


def awaits_more(line: str) -> bool:
    """Whether the last words of a line want another one."""
    tail = line[-_TAIL:]
    word = tail.rstrip("\"'”’)]}*_` \t").rpartition(" ")[2]
    return word in _NEEDS_MORE or any(sign.search(tail) for sign in (_COUNTS, _SUBJECT, _AWAITED))


def can_end(word: str) -> bool:
    """Whether a word, or what it is the plural of, can end a phrase."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return any(form in _LAST_WORDS or form in _NOUNS or form.endswith(_LAST_SYLLABLES) for form in forms)


def is_cut(written: str, *, after: str) -> bool:
    """Whether a word of Latin letters is none: too short, of an ending that no word has, or the beginning of a term."""
    word = written.casefold()
    if after[-1:].isdigit():
        return word in _PARTS_OF_UNITS
    if len(word) < SHORTEST_BEGINNING or (len(word) == SHORTEST_BEGINNING and not written.isupper()):
        opens_line = not re.search(r"[^\W\d]", after)
        return word not in _SHORT_WORDS and not _ABBREVIATED.fullmatch(word) and (written.islower() or opens_line)
    if word[-2:] not in WORD_ENDS and not written.isupper():
        return True
    return _begins_a_term(word) or _begins_a_common_word(word)


def _begins_a_term(word: str) -> bool:
    """Whether a word is the beginning of a clinical term and none itself: "bronchit"; not a short form, as "cardio" or "derm"."""
    at = bisect_left(_TERMS, word)
    term = _TERMS[at] if at < len(_TERMS) else ""
    is_stub = len(word) >= _SHORTEST_STUB and not word.endswith("o") and word != term and term.startswith(word)
    return is_stub and term[len(word) :] not in INFLECTIONS and not can_end(word)


def _begins_a_common_word(word: str) -> bool:
    """Whether a word is the beginning of one that reports are full of, and none itself: "patien", "contro"."""
    at = bisect_left(_STUBS, word)
    whole = _STUBS[at] if at < len(_STUBS) else ""
    is_stub = len(word) >= _SHORTEST_COMMON and word != whole and whole.startswith(word)
    return is_stub and word not in _SHORT_FORMS and whole[len(word) :] not in INFLECTIONS
