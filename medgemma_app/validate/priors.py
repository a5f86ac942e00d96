"""Comparison with an earlier study: claimed without one, or missed with one. The error is the commonest that models learn from reports.

Ramesh et al. 2022 (CXR-ReDonE) list the words; the strict half of their list is a warning, the rest, which 7 % of real reports
without a prior use as well ("stable cardiomediastinal silhouette"), no more than a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.negation import sentences

_STUDY = r"(?:exam\w*|stud(?:y|ies)|films?|radiographs?|x-?rays?|images?|imaging|cts?|scans?|mris?|reports?|chest|views?)"
_EARLIER = r"(?:prior|previous|earlier|last|most recent|preceding|old|outside|baseline)"
_TIME = r"(?:hours?|days?|weeks?|months?|years?)"
_MORE = r"(?:(?:bigger|larger|smaller|better|worse|greater|fuller|denser|wider|narrower|longer|shorter|less|more|stable)(?: \w+){0,3}?)"
_HAPPENED = (
    r"(?:re-?expanded|moved|migrated|multiplied|deteriorated|eased|dropped|fallen|risen|changed|removed|placed|inserted|withdrawn|advanced"
    r"|replaced|repositioned|tapped|drained|extubated|intubated|cleared|shrunk|grown|spread|appeared|disappeared|developed|emerged|healed"
    r"|regressed|diminished|lessened|doubled|reaccumulated|collapsed|evolved|organi[sz]ed|consolidated|increased|decreased|improved|worsened"
    r"|resolved|progressed|enlarged)"
)
_CLAIM = (
    # the earlier study itself
    r"compar(?:ed|ison) (?:to|with)(?! (?:the )?(?:right|left|contralateral|opposite|other))",
    rf"(?:since|from|than|with|to|on) (?:the |a |an |his |her |patient's )?{_EARLIER} (?:\w+ )?{_STUDY}|{_EARLIER} (?:chest )?{_STUDY}",
    r"(?:relative|similar|identical) to (?:the |those |that )?(?:of |on )?(?:\w+-)?(?:prior|previous|earlier|last|post\w*|pre\w*)",
    r"serial (?:films|images|studies|radiographs)",
    # an earlier time
    r"(?:stable|unchanged?|changed?|increased?|decreased?|new|resolved|improved|appeared|developed) since|since (?:19|20)[0-9]{2}",
    r"previously (?:seen|noted|described|demonstrated|visuali[sz]ed|identified|reported|known)|formerly",
    r"(?:as|than|of|to) (?:before|previously|earlier)|in the interval",
    rf"(?:over|in|within|during) the (?:last|past|intervening) (?:[\w-]+ )?{_TIME}",
    rf"(?:over|for) (?:\w+ )?{_TIME}|{_TIME} (?:ago|earlier|before)",
    # a change, or that there was none
    r"interval (?:change|increase|decrease|improve\w*|develop\w*|resol\w*|worsen\w*|progress\w*|remov\w*|place\w*|growth"
    r"|enlarge\w*|clear\w*|heal\w*|appear\w*|reduc\w*)",
    rf"ha(?:s|ve) (?:since |now |not |all |both |been |\w+ly )*{_HAPPENED}",
    r"(?:slight|mild|marked|significant|further|gradual|some|partial|complete) (?:increase|decrease|decline|growth|improvement|worsening"
    r"|progression|regression|clearing|resolution|reduction|deterioration|re-?expansion) (?:in|of)|growth of",
    r", (?:\w+ly |much )?(?:increased|decreased|improved|unchanged|resolved|larger|smaller|worse|better)(?=\W*$)",
    r"worsen(?:ed|ing)|improv(?:ed|ing)|resolv(?:ed|ing)|(?:increas|decreas|enlarg|progress)ing",
    r"unchanged|not (?:significantly |appreciably |substantially )?changed|no (?:\w+ )?change (?:from|since|in|compared)",
    rf"{_MORE} (?:now|today|this time|than (?:it|they|on|in|at|before|previously|earlier|formerly))|now {_MORE}|{_MORE} since",
    rf"{_MORE} (?:over|in|within) (?:the )?(?:(?:last|past|intervening) )?(?:[\w-]+ )?{_TIME}",
    # what is still so, or so now
    r"again (?:seen|noted|demonstrated|identified|visuali[sz]ed|present|shown|evident)|re-?demonstrat\w*",
    r"continues|persists|remains? (?:stable|enlarged|elevated|in (?:place|position)|unchanged)|no longer",
    r"(?:is|are|looks?|appears?) (?:now|similar to)|there (?:is|are) now",
    r"now (?:seen|present|visible|shows?|measures?|lies?|cleared|resolved|projects)",
)
_CLAIMS = re.compile(rf"(?:\b|(?=,))(?:{'|'.join(_CLAIM)})\b", re.IGNORECASE)
_HINTS = re.compile(r"\b(?:stable|persist\w*|remains?|chronic change|new|no change|resolution of|progression)\b", re.IGNORECASE)
# A sentence that asks for a comparison, or says that there is none, claims nothing.
_ASKS = re.compile(
    r"\b(?:would be )?expected\b|"
    r"\bno (?:available |known )?(?:compar\w+|prior|previous|earlier|old|outside)\b"
    r"|\b(?:without|absen(?:t|ce)|unavailable|not available|none|recommend\w*|suggest\w*|advis\w*|would|could|if|correlat\w*|follow\w*"
    r"|obtain)\b[^.]{0,60}\b(?:compar\w*|prior|previous|earlier|old|outside)\b|\bcomparison\b[^.]{0,60}\b(?:recommended|helpful|advised|none|suggested)\b",
    re.IGNORECASE,
)


def invented_prior(report: Text) -> Iterator[Issue]:
    """Without a prior image nothing is compared with one."""
    if report.has_prior:
        return
    for _, sentence in sentences(_answer(report)):
        found = _CLAIMS.search(sentence)
        if found and not _ASKS.search(sentence):
            message = "the report compares with an earlier study, and none was given; take the comparison out"
            yield Issue("invented-prior", "warning", message, excerpt(sentence))
            return
    hint = _HINTS.search(_answer(report))
    if hint:
        yield Issue("implied-prior", "info", "this reads as if there had been an earlier study; none was given", excerpt(hint.group()))


def missed_comparison(report: Text) -> Iterator[Issue]:
    """With a prior image the report says what has changed."""
    text = _answer(report)
    if report.has_prior and text and not _CLAIMS.search(text) and not _HINTS.search(text):
        yield Issue("missed-comparison", "info", "a prior image was given, and the report compares nothing with it")


def _answer(report: Text) -> str:
    """Findings and impression; what stands before them, as a comparison line does, tells of the order."""
    return "\n".join(report.sections.texts().get(key, "") for key in report.required)
