"""Comparison with an earlier study: claimed without one, or missed with one. The error is the commonest that models learn from reports.

Ramesh et al. 2022 (CXR-ReDonE) list the words; the strict half of their list is a warning, the rest, which 7 % of real reports
without a prior use as well ("stable cardiomediastinal silhouette"), no more than a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.common import Issue, Report, excerpt
from medgemma_app.validate.negation import sentences

_STUDY = r"(?:exam\w*|stud(?:y|ies)|films?|radiographs?|x-?rays?|images?|imaging|cts?|scans?|mris?|reports?|chest|views?)"
_EARLIER = r"(?:prior|previous|earlier|last|most recent|preceding|old|outside|baseline)"
_CLAIMS = re.compile(
    rf"\b(?:(?:as |when |in )?compar(?:ed|ison) (?:to|with)(?! (?:the )?(?:right|left|contralateral|opposite|other))"
    rf"|(?:since|from|than|with|to|on) (?:the |a |an |his |her |patient's )?{_EARLIER} (?:\w+ )?{_STUDY}"
    rf"|{_EARLIER} (?:chest )?{_STUDY}|(?:stable|unchanged?|changed?|increased?|decreased?|new|resolved|improved|appeared|developed) since"
    r"|interval (?:change|increase|decrease|improve\w*|develop\w*|resol\w*|worsen\w*|progress\w*|remov\w*|place\w*|growth"
    r"|enlarge\w*|clear\w*|heal\w*|appear\w*|reduc\w*)|in the interval"
    r"|again (?:seen|noted|demonstrated|identified|visuali[sz]ed|present|shown|evident)"
    r"|re-?demonstrat\w*|unchanged|not (?:significantly |appreciably |substantially )?changed|no (?:\w+ )?change (?:from|since|in|compared)"
    r"|ha(?:s|ve) (?:\w+ly |not |since |now |been )?(?:increased|decreased|improved|worsened|resolved|progressed|enlarged|cleared|grown)"
    r"|(?:larger|smaller|better|worse|greater|less|more \w+|less \w+) than (?:before|previously|on (?:the )?(?:prior|previous))"
    r"|previously (?:seen|noted|described|demonstrated|visuali[sz]ed|identified|reported|known)"
    r"|no longer (?:seen|present|visible|visuali[sz]ed)"
    r"|worsen(?:ed|ing)|improv(?:ed|ing)|resolv(?:ed|ing)|(?:increas|decreas|enlarg|progress)ing)\b",
    re.IGNORECASE,
)
_HINTS = re.compile(r"\b(?:stable|persist\w*|remains?|chronic change|new|no change|resolution of|progression)\b", re.IGNORECASE)
# A sentence that asks for a comparison, or says that there is none, claims nothing.
_ASKS = re.compile(
    r"\bno (?:available |known )?(?:compar\w+|prior|previous|earlier|old|outside)\b"
    r"|\b(?:without|absen(?:t|ce)|unavailable|not available|none|recommend\w*|suggest\w*|advis\w*|would|could|if|correlat\w*|follow\w*"
    r"|obtain)\b[^.]{0,60}\b(?:compar\w*|prior|previous|earlier|old|outside)\b|\bcomparison\b[^.]{0,60}\b(?:recommended|helpful|advised|none|suggested)\b",
    re.IGNORECASE,
)


def invented_prior(report: Report) -> Iterator[Issue]:
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


def missed_comparison(report: Report) -> Iterator[Issue]:
    """With a prior image the report says what has changed."""
    text = _answer(report)
    if report.has_prior and text and not _CLAIMS.search(text) and not _HINTS.search(text):
        yield Issue("missed-comparison", "info", "a prior image was given, and the report compares nothing with it")


def _answer(report: Report) -> str:
    """Findings and impression; what stands before them, as a comparison line does, tells of the order."""
    return "\n".join(report.parsed.texts().get(key, "") for key in report.required)
