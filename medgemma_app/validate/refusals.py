"""Answers in which the model declines to do the task.

Refusals have no fixed words. What they have in common is what they speak of: the task and its input, which somebody cannot or will
not deal with, and not the patient. A sentence is judged by the vocabularies it draws on; "she is unable to walk", "pneumonia cannot be
excluded" and "I cannot palpate the spleen" speak of a visit or a picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.common import Issue, Report, excerpt, says_something
from medgemma_app.validate.sections import OTHER


def _either(words: str) -> str:
    """One of several patterns, divided by white space."""
    return f"(?:{'|'.join(words.split())})"


def _compiled(*patterns: str) -> re.Pattern[str]:
    """One of several patterns, in which an underscore stands for a blank."""
    return re.compile("|".join(patterns).replace("_", " "), re.IGNORECASE)


_PICTURE = _either("images? imaging pictures? photos? films? scans? x-?rays? radiographs? radiology study studies")
_EXPLAINED = _either("diagnos[ei]s diagnostic interpret[a-z]* explanation analys[ei]s advice reading accurate clinical_judge?ment")
_INPUT = _either(
    f"""{_PICTURE} notes? transcripts? dialogues? conversations? documents? documentation files? attachments? inputs? messages? data context
    details information content"""
)
_EXPERT = _either("(?:radiologist|professional|physician|doctor|provider|specialist|clinician|expert)s? (?:care|medical)_team")
_SPEAKER = _either("I me my we us our (?:this|the|an)_(?:AI|assistant|model|chatbot|machine|tool|system|service)")
_DOING = _either(
    """generat produc writ interpret analy[sz] describ evaluat determin summari[sz] creat draft comment process draw provid attach upload
    receiv suppl share sent load display request open support complet shown work_with give made? read look"""
)
_TASK = _compiled(
    _either(rf"""\b{_INPUT}\b \b{_EXPLAINED}\b \b(?:reports?|soap|opinions?|summary|summaries|impressions?|findings)\b
    \b(?:descriptions?|conclusions?|(?:this|your|the)_(?:request|prompt|question|section))\b
    \b(?:recommendations?|tasks?|requests|ability|abilities|capabilit[a-z]+|limitations|training|expertise|guidelines|rules_I|programming)\b
    \b(?:policy|policies|purpose|remit|scope|medical|anything|my_(?:area|role|design|job|power))\b""")
)
_NEGATION = _compiled(
    _either(r"""\b(?:not|cannot|no|never|nothing|unable|lack|declin(?:e|ing)|refus(?:e|ing)|refrain|abstain|avoid|off_limits)\b n['’]t\b
    \b(?:prevent|prohibit|forbid|restrict|apolog|regret|fail|violat)[a-z]* \btoo_(?:limited|little|few|short)\b
    \b(?:error|empty|blank|missing|insufficient|without|beyond|outside|against|exceeds?|impossible|inappropriate|unsafe|unethical)\b
    \b(?:irresponsible|rather|sorry|unfortunately|pass_on|can_only|leave)\b""")
)
_PERSON = _compiled(rf"\b(?:{_SPEAKER}|you|your|{_EXPERT})\b(?!_(?:the_)?patient)")
_ROLE = _compiled(_PERSON.pattern, rf"\b{_DOING}[a-z]*")
_DOES_NOT = _compiled(
    r"\b(?:I|we|this model|the assistant)\b(?:['’][a-z]{1,2})?(?:,? [\w'’]{1,14},?){0,6}? "
    + _either(
        """assist help comply respond answer proceed continue speculate guess discuss fulfill? do_(?:that|this|it|so|diagnoses)
        see_(?:it|that|this) (?:create|write|generate|produce|interpret|view|analy[sz]e|diagnose)[a-z]*"""
    )
    + r"\b",
)
_IS_A_MACHINE = _compiled(
    r"\b(?:as|being|since|because|for|I am|I['’]m|that|not)(?: I am| I['’]m)?(?: only| just| merely)? an? (?:[\w-]{1,20} ){0,2}?"
    r"(?:AI|artificial intelligence|(?:language|text|learning) model|virtual assistant|text-based|chatbot|program)\b",
)
_ASKS_FOR = _compiled(
    r"\b(?:please|kindly|(?:could|can|would|if|once|when|after|unless) you|need(?:s|ed)?(?: to)?|requires?|required)"
    r"(?: please| kindly| have| can| could| to)?"
    r" (?:(?:re-?)?(?:upload|provide|share|send|sent|attach|submit|supply|paste|include|describe)(?:e?d)? (?:me |us )?(?:with )?)?"
    rf"(?:the|an?|your|some|more) (?:[\w-]{{1,20}} ){{0,2}}{_INPUT}\b(?! from)|\b(?:an?|the) {_INPUT} (?:is|are) (?:required|needed)\b",
)
_DIRECTS = _either(
    """should must requires? needs?_to only best better reserved consult[a-z]* contact in_touch advise_you will_have_to ask seek have
    refer_you leave question"""
)
_REFERS = _compiled(
    rf"\b{_DIRECTS}\b.*\b{_EXPERT}\b|\b{_EXPERT}\b.*\b(?:should|must|needs? to|will have to)\b"
    r"|\brefer you\b|\bnot (?:for|by) me\b|\bI am not one\b",
)
_EXPLAINS = _compiled(rf"\b(?:{_PICTURE}|{_EXPLAINED}|(?:qualified|licensed|trained|medical|health_?care)_[a-z]+|rely|me|you|this)\b")
_SORRY = _compiled(
    r"^\W*(?:(?:I|we)(?: a|['’])(?:m|re) )?(?:(?:my|very|so|really|truly|deeply) )?(?:sorry|apologies|(?:I|we) apologi[sz]e)\b"
    r"[^.!?]{0,40}\b(?:I|we|this|that|there|no|not)\b|^\W*I['’]m afraid\b"
    r"|^\W*(?:insufficient|not enough|no) (?:data|information)\W*$",
)
# What a refusal does not speak of: the patient, another study, and what is done in a clinic or seen on a picture.
_OF_THE_VISIT = _compiled(
    _either(r"""\b(?:she|he|her|his|him|concerns|compar[a-z]*|prior|previous|outside_(?!of)|earlier|old|lateral|views|quality|today|weeks?|months?)\b
    ^\W*(?:the_)?(?:patient|history)\b \b(?:he|she)_said
    \b(?:I|we)(?:_have|_will|_would|_did|_do)?(?:_not|n['’]t)?(?:_also|_again)?_(?:reviewed|recommend(?!_consult)|order|discussed|explained)\b
    \b(?:I|we)(?:_have|_will|_would|_did|_do)?(?:_not|n['’]t)?_(?:advised?(?!_you)|find_(?:an?|any)|counsel[a-z]*|prescribe|repeat|need)\b
    \b(?:I|we)(?:_do|_did|_can)?(?:_?not|n['’]t)?_(?:see_(?:an?|any)_(?!image|pict)|think_(?:we|she|he|it)|palpate|appreciate|feel_(?:an?|any))\b"""),
    _either(r"""\b(?:pneumo|effus|lung|heart|cardi|pleur|opaci|consolid|nodul|mass|fractur|bon[ey]|osse|spin|ribs?\b|apic|apex|apices|bas(?:e|al|ilar)\b)
    \b(?:lob(?:e|ar)|hil(?:ar|um)|mediast|diaphrag|costo|aort|atelect|edema|calcif|granulom|scar|catheter|surg|degener|arthr|unremarkable)
    \b(?:clear\b|acute|abnormal|infect|pain|fever|cough|breath|nausea|tender|murmur|palpa|strength|blood|mg\b|tablet|daily|allerg|diabet)
    \b(?:hypertens|antibiotic|vaccin|mri\b|ct\b|refer_(?:her|him|the)|rotation|inspirat|exposure|technique)"""),
)
# Every section of 296 real chest reports has one of these stems: of a part of the body, of what is seen there, of how it is.
_SEEN = _compiled(
    _either(r"""\b(?:pneumo|effus|lung|heart|cardi|pleur|opaci|consolid|nodul|mass|fractur|bon[ey]|osse|osteo|spin|ribs?\b|apic|apex|apices)
    \b(?:bas(?:e|al|ilar|es)\b|bibas|lob[ea]|hil[au]|mediast|diaphrag|hemidia|costo|aort|atelec|o?edema|calcif|granulom|scar|catheter|surg)
    \b(?:degener|arthr|normal|unremark|clear\b|acute|chronic|abnormal|infect|infiltr|inflam|thora|trache|bronch|vascul|arter|ven(?:ous|a)\b)
    \b(?:pulm|air_?space|interstit|fibro|emphys|copd|hyper|hypo|volume|silhouette|contour|enlarg|right|bilat|upper|lower|mid(?:line|dle)?\b)
    \b(?:small|large|mild|moder|sever|stable|unchang|change|increas|decreas|improv|worsen|resol|disease|lesion|densit|shadow|tubes?\b|lines?\b)
    \b(?:leads?\b|pacemaker|stent|clip|sutur|sternotomy|hernia|stomach|bowel|abdom|liver|spleen|kidney|pelvi|hips?\b|knee|shoulder|ankle)
    \b(?:wrist|elbow|brain|skull|soft_tissue|scoli|kypho|vertebr|dis[ck]s?\b|foreign|within|negative|positive|xxxx|path|tumou?r|cancer)
    \b(?:ventric|ha?emorr|infarct|stone|joint|prominen|tortuo|unfold|asymm|breast|axilla|subcut|deform|heal(?:ed|ing)|tuberc|evidence)
    \b(?:(?:see|as)_above|tib|fib|fem|humer|radius|ulna|carpal|tars|hand|foot|feet|finger|toes?\b|neck|chest_is)""")
)
_ENGLISH = re.compile(r"\b(?:the|are|to|this|you|my|your|it|and|by|I|an)\b")
_FEWEST_WORDS = 3
_RULE = re.compile(r"\n\s{0,9}[-*_]{3,9}[ \t]{0,9}\n")  # what stands below one is a remark
_UNANSWERED = re.compile(
    r"\W*(?:(?:not|none|no)\W(?:[a-z]+ )?(?:available|provided|documented|discussed|stated|given|applicable|specified|determined)"
    r"|unable to (?:determine|assess|comment)|n\W?a|unknown|tbd)(?: (?:in|from|at|by|on|during|with)\b[^.\n]{0,40})?\W*",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s|\n")
_FIRST_SENTENCES = 2
_EARLY = 200
_JUDGED = 200  # no section of a report has more sentences


def refusal(report: Report) -> Iterator[Issue]:
    """The model declines: in its first words, or in the main part of a section; or no section has an answer in it."""
    refused = _refusal(report) or _no_section_answered(report) or _nothing_seen(report)
    if refused:
        message = "the model declined to answer; check that the input is what it should be"
        yield Issue("refusal", "error", message, excerpt(refused))


def _refusal(report: Report) -> str:
    parts = [report.parsed.preamble, *(section.body for section in report.parsed.sections if OTHER not in section.keys)]
    parts = [part for part in dict.fromkeys(parts) if says_something(part)]
    return next(filter(None, (_refused(part, first=number == 0) for number, part in enumerate(parts))), "")


def _refused(part: str, *, first: bool) -> str:
    """The sentence that declines, if it opens the text or if such sentences are half of the part."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(part, maxsplit=_JUDGED)[:_JUDGED] if says_something(sentence)]
    refused = [sentence for sentence in sentences if declines(sentence)]
    opens = first and any(sentence in refused for sentence in sentences[:_FIRST_SENTENCES])
    return refused[0] if refused and (opens or 2 * sum(map(len, refused)) >= sum(map(len, sentences))) else ""


def declines(sentence: str) -> bool:
    """Whether the speaker says, early in the sentence, that they cannot or will not do the task."""
    start = sentence[:_EARLY]
    if _IS_A_MACHINE.search(start) or _SORRY.search(start):
        return True
    if _OF_THE_VISIT.search(start):
        return False
    if _NEGATION.search(start) and (_DOES_NOT.search(start) or (_TASK.search(start) and _ROLE.search(start))):
        return True
    return _ASKS_FOR.search(start) is not None or (_REFERS.search(start) is not None and _EXPLAINS.search(start) is not None)


def _nothing_seen(report: Report) -> str:
    """Findings, in English, without a single word for anything that a picture may show, or an impression that speaks of people instead."""
    for key in report.required[:2] if "findings" in report.required else ():
        for body in (_RULE.split(whole, maxsplit=1)[0] for whole in report.parsed.bodies(key)):
            silent = len(body.split()) >= _FEWEST_WORDS and _ENGLISH.search(body) and not _SEEN.search(body)
            if silent and (key == "findings" or (_PERSON.search(body) and not _OF_THE_VISIT.search(body))):
                return body
    return ""


def _no_section_answered(report: Report) -> str:
    """What stands in the last of several sections, all of which say that there is nothing to say."""
    bodies = [body for key in report.required for body in report.parsed.bodies(key)]
    return bodies[-1] if len(bodies) > 1 and all(map(_UNANSWERED.fullmatch, bodies)) else ""
