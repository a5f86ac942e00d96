"""Narratives of FHIR documents and lists that tell what their own entries deny, stop or withdraw."""

from typing import Any

import pytest
from resources import SAID, asked, bundle, concept, condition, drug, read

REFUTED = condition("Pulmonary embolism", id="1", verificationStatus={"coding": [{"code": "refuted"}]})
WRONG = condition("Pulmonary embolism", id="1", verificationStatus="entered-in-error")
STANDING = condition("Gout", id="2")
NOT_NAMED = "section Problems with an entry that is denied, stopped or withdrawn, and not named in its text"


def section(div: str, *entries: dict[str, Any], title: str = "Problems", **more: Any) -> dict[str, Any]:
    """A document with one section, and the resources that it refers to."""
    told = [{"reference": f"{one['resourceType']}/{one['id']}"} for one in entries]
    one = {"title": title, "text": {"status": "generated", "div": f"<div>{div}</div>"}, "entry": told, **more}
    return bundle(condition(SAID), {"resourceType": "Composition", "title": "Summary", "section": [one]}, *entries)


def request(**more: Any) -> dict[str, Any]:
    return {"resourceType": "MedicationRequest", "id": "3", "status": "stopped", **more}


def of_document(record: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The lines of the document, and what was left out of it."""
    notes = read(record)
    named = [what for what in notes.facts["left_out"] if what.startswith(("section", "DiagnosticReport:", "Composition:"))]
    return [line for line in notes.text.splitlines() if "omposition: " in line or "eport: " in line or "List: " in line], named


TWO_LINES = "<ul><li>Pulmonary embolism</li><li>Gout</li></ul>"
WITHDRAWN, PLAIN = "section Problems: entry withdrawn", "Composition: Summary; section: Gout; title: Problems"
MARKED = "REFUTED: Composition: Problems: Pulmonary embolism"
STOPPED = "STOPPED: Composition: Medications: Warfarin 5 mg daily"


@pytest.mark.parametrize(
    ("record", "lines", "left_out"),
    [
        (section(TWO_LINES, REFUTED, STANDING), [f"{PLAIN}; entry: condition (refuted); Gout", MARKED], []),
        (section(TWO_LINES, WRONG, STANDING), [f"{PLAIN}; entry: Gout"], [WITHDRAWN]),
        (section("<table><tr><td>Pulmonary embolism</td><td>2019</td></tr><tr><td>Gout</td></tr></table>", REFUTED, STANDING),
         [f"{PLAIN}; entry: condition (refuted); Gout", f"{MARKED} | 2019"], []),
        (section("PULMONARY  EMBOLISM, no anticoagulation", REFUTED),
         ["Composition: Summary; section: title: Problems; entry: condition (refuted)",
          "REFUTED: Composition: Problems: PULMONARY EMBOLISM, no anticoagulation"], []),
        (section("Pulmonary embolism and gout", WRONG, STANDING), ["Composition: Summary; section: title: Problems; entry: Gout"],
         ["section Problems: line that names entries that stand and entries that do not"]),
        (section("<p>Chronic pulmonary embolism</p>Pulmonary embolism", condition("Chronic pulmonary embolism", id="2"), WRONG),
         ["Composition: Summary; section: Chronic pulmonary embolism; title: Problems; entry: Chronic pulmonary embolism"], [WITHDRAWN]),
        (section("Pulmonary embolism", WRONG | {"code": {"coding": [{"display": "Pulmonary embolism (disorder)"}]}}),
         ["Composition: Summary; section: title: Problems"], [WITHDRAWN]),
        # An entry that is not named leaves open which part of the text it means.
        (section("Lung clot", REFUTED), ["Composition: Summary; section: title: Problems; entry: condition (refuted)"], [NOT_NAMED]),
        (section("Lung clot", WRONG), ["Composition: Summary; section: title: Problems"], [NOT_NAMED]),
        (section("Embolism", WRONG, title="Jane Doe, 1950"), ["Composition: Summary; section: title: Jane Doe, 1950"],
         [NOT_NAMED.replace(" Problems", "")]),
        # What denies itself is not denied once more.
        (section("No history of pulmonary embolism", REFUTED),
         ["Composition: Summary; section: No history of pulmonary embolism; title: Problems; entry: condition (refuted)"], []),
        (section("No lung clots", REFUTED),
         ["Composition: Summary; section: No lung clots; title: Problems; entry: condition (refuted)"], []),
        (section("No lung clots", WRONG), ["Composition: Summary; section: title: Problems"], [NOT_NAMED]),
        # Drugs are named in the request, by its code or in another resource.
        (section("Warfarin 5 mg daily", request(medicationCodeableConcept=concept("Warfarin 5 mg")), title="Medications"),
         ["Composition: Summary; section: title: Medications; entry: medication request (stopped)", STOPPED], []),
        (section("Warfarin 5 mg daily", request(medication={"concept": {"coding": [{"display": "Warfarin"}]}}), title="Medications"),
         ["Composition: Summary; section: title: Medications; entry: medication request (stopped)", STOPPED], []),
        (section("Warfarin 5 mg daily", title="Medications", entry=[{"reference": "urn:uuid:r"}]) | {"type": "document"},
         ["Composition: Summary; section: title: Medications; entry: medication request (stopped)", STOPPED], []),
        # A section of reports tells their results.
        (section("Scan<br/>Pulmonary embolism", {"resourceType": "DiagnosticReport", "id": "5", "code": concept("Scan"),
                                                 "contained": [WRONG], "result": [{"reference": "#1"}]}),
         ["Diagnostic report: Scan", "Composition: Summary; section: Scan; title: Problems; entry: Scan"], [WITHDRAWN]),
        # Narratives of whole resources that tell several: they stay where they do not name the entry.
        (bundle(condition(SAID), WRONG | {"resourceType": "Observation", "status": "entered-in-error"},
                {"resourceType": "DiagnosticReport", "conclusion": "Normal", "result": [{"reference": "Observation/1"}],
                 "text": {"status": "additional", "div": "<div>Leg scan<br/>Pulmonary embolism</div>"}}),
         ["Diagnostic report: conclusion: Normal; text: Leg scan"], ["DiagnosticReport: entry withdrawn"]),
        (bundle(condition(SAID), WRONG, {"resourceType": "List", "text": {"div": "<div>Seen today</div>"},
                                         "entry": [{"item": {"reference": "Condition/1"}}]}),
         ["List: text: Seen today"], []),
        (bundle(condition(SAID), WRONG, {"resourceType": "Composition", "text": {"div": "<p>Pulmonary embolism</p>Well"},
                                         "section": [{"entry": [{"reference": "Condition/1"}]}]}),
         ["Composition: text: Well"], ["Composition: entry withdrawn"]),
    ],
)  # fmt: skip
def test_a_narrative_does_not_tell_as_fact_what_its_entries_take_back(
    record: dict[str, Any], lines: list[str], left_out: list[str]
) -> None:
    if record.get("type") == "document":
        record["entry"] += [drug("Warfarin"), asked("Medication/1", status="stopped", url="urn:uuid:r")]
    assert of_document(record) == (lines, left_out)


@pytest.mark.parametrize("more", [{"id": "n1"}, {"extension": [{"url": "http://example.org/textLink", "valueString": "n1"}]}])
def test_a_narrative_with_an_id_or_links_is_told_without_its_markup(more: dict[str, Any]) -> None:
    notes = read(section("", STANDING, text={"status": "generated", "div": "<div><p>Gout</p></div>"} | more))
    assert "Composition: Summary; section: Gout; title: Problems; entry: Gout" in notes.text
    assert set(more) <= set(notes.facts["left_out"])
