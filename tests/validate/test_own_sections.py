"""Sections that the caller names."""

import pytest

from medgemma_app.prompts import read_prompt
from medgemma_app.validate import validate_findings, validate_soap
from medgemma_app.validate.sections import parse

H_AND_P, REGIONS, DAP = (
    read_prompt("history_and_physical").sections,
    read_prompt("findings_by_region").sections,
    ("data", "assessment", "plan"),
)


@pytest.mark.parametrize(
    ("sections", "text", "expected"),
    [
        (H_AND_P, "HPI: Cough.", {"history of present illness": "HPI: Cough."}),
        (H_AND_P, "**Medication**\nNone.", {"medications": "**Medication**\nNone."}),
        (H_AND_P, "PHYSICAL EXAMINATION: Clear.", {"physical exam": "PHYSICAL EXAMINATION: Clear."}),
        (H_AND_P, "A/P: Rest.", {"assessment and plan": "A/P: Rest."}),
        (H_AND_P, "ASSESSMENT & PLAN: Rest.", {"assessment and plan": "Rest."}),
        (H_AND_P, "ASSESSMENT: Cold.\n\nPLAN: Rest.", {"assessment and plan": "ASSESSMENT: Cold.\n\nPLAN: Rest."}),
        (H_AND_P, "MEDICATIONS: None.\nCURRENT MEDICATIONS: x", {"medications": "None.\nCURRENT MEDICATIONS: x"}),
        (
            H_AND_P,
            "ALLERGIES: None.\n\nVITAL SIGNS: BP 120/80.\n\nPHYSICAL EXAM: Clear.",
            {"allergies": "None.", "physical exam": "VITAL SIGNS: BP 120/80.\n\nClear."},
        ),
        (
            H_AND_P,
            "RESULTS: Chest: clear. Impression: no pneumonia.\nASSESSMENT AND PLAN: Cold.",
            {"results": "Chest: clear. Impression: no pneumonia.", "assessment and plan": "Cold."},
        ),
        (
            H_AND_P,
            "MEDICATIONS: Amlodipine.\nASSESSMENT AND PLAN: High blood pressure.\nMedications: continue amlodipine.",
            {"medications": "Amlodipine.", "assessment and plan": "High blood pressure.\nMedications: continue amlodipine."},
        ),
        (
            REGIONS,
            "HEART: Normal.\nMEDIASTINUM: Normal.\nBONES: Intact.\nCONCLUSION: Normal.",
            {
                "heart and mediastinum": "HEART: Normal.\nMEDIASTINUM: Normal.",
                "bones and soft tissues": "BONES: Intact.",
                "impression": "CONCLUSION: Normal.",
            },
        ),
        (
            H_AND_P,
            "## Allergies\nNone.\n\n## Review of Systems\nNo fever.\n\n## History of Present Illness\nCough.",
            {"allergies": "None.", "history of present illness": "## Review of Systems\nNo fever.\n\nCough."},
        ),
        (H_AND_P, "A/P: Cold. Rest.\nLabs: repeat tomorrow.", {"assessment and plan": "A/P: Cold. Rest.\nLabs: repeat tomorrow."}),
        (DAP, "DATA: Sad.\n\nPLAN: Rest.\n\nDATA: Tired.", {"data": "Sad.\n\nTired.", "plan": "Rest."}),
        (DAP, "DATA: Sad.\n\nPLAN: Rest.\n- DATA: Ask.", {"data": "Sad.", "plan": "Rest.\n- DATA: Ask."}),
        (DAP, "**Data**\nSad.\n\n**Plan:**\nRest.\n\n**Data**\nTired.", {"data": "Sad.\n\nTired.", "plan": "Rest."}),
        (
            DAP,
            "**Data**\nSad.\n\n**Plan**\nRest.\n- **Data**\n**Data:** ask.",
            {"data": "Sad.", "plan": "Rest.\n- **Data**\n**Data:** ask."},
        ),
        (DAP, "TITLE: Note.\n\nDATA: Sad.", {"data": "Sad."}),
        (DAP, "DATA: Sad.\nA/P: Rest.", {"data": "Sad.", "assessment": "A/P: Rest.", "plan": "A/P: Rest."}),
        (("lungs", "heart"), "LUNGS: Clear.\nHeart rate: 80 bpm.", {"lungs": "Clear.\nHeart rate: 80 bpm."}),
        (("主诉", "计划"), "主诉\n咳嗽\n计划\n休息", {"主诉": "咳嗽", "计划": "休息"}),
        (("主诉", "计划"), "【主诉】咳嗽\n【计划】休息", {"主诉": "咳嗽", "计划": "休息"}),
        (("शिकायत", "योजना"), "शिकायत: खांसी\nयोजना\nआराम", {"शिकायत": "खांसी", "योजना": "आराम"}),
        (("évaluation",), "E\u0301VALUATION: Rhume.", {"évaluation": "Rhume."}),
    ],
)
def test_the_callers_sections_are_known_by_their_names_and_by_synonyms_which_stay_in_the_text(sections, text, expected):
    assert parse(text, sections).texts() == expected


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("DATA: Sad.\nSAFETY PLAN: Call.\nPLAN: Rest.", "Sad."),
        ("DATA: Sad.\n\n**VITAL SIGNS**\nBP 120/80.\nPLAN: Rest.", "Sad."),
        ("DATA:\nVITAL SIGNS: BP 120/80.\nBODY WEIGHT: 80 kg.\nPLAN: Rest.", "VITAL SIGNS: BP 120/80.\nBODY WEIGHT: 80 kg."),
        ("DATA: Sad.\nHEENT: Normal.\nPLAN: Rest.", "Sad.\nHEENT: Normal."),
        ("DATA:\nLUNGS: Clear.\nLYMPH NODES: Normal.\nPLAN: Rest.", "LUNGS: Clear.\nLYMPH NODES: Normal."),
        ("DATA: Sad.\nSafety plan: Call.\nPLAN: Rest.", "Sad.\nSafety plan: Call."),
        ("DATA: SAD.\nSAFETY PLAN: CALL.\nPLAN: REST.", "SAD.\nSAFETY PLAN: CALL."),
    ],
    ids=["closes", "alone on its line", "divides", "one word", "one word divides", "not in capitals", "all is in capitals"],
)
def test_a_heading_in_capitals_that_was_not_asked_for_ends_the_callers_section(text, data):
    assert parse(text, DAP).texts() == {"data": data, "plan": text[-5:]}


OWN = ("history", "assessment", "plan")
MISSING, WARNING = ("error", "missing-section"), ("warning", "missing-section")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HISTORY: Cough.\nASSESSMENT: Cold.\nPLAN: Rest.", []),
        ("Cough for three days, no fever, no dyspnea, no chest pain at all.\nASSESSMENT: Cold.\nPLAN: Rest.", [WARNING, MISSING]),
        ("Cough for three days, no fever, no dyspnea, no chest pain.\nHISTORY: None.\nASSESSMENT: Cold.\nPLAN: Rest.", [WARNING]),
        ("OBJECTIVE:\nChest pain.\nHISTORY: Cough.\nASSESSMENT: Cold.\nPLAN: Rest.", [WARNING]),
        ("OBJECTIVE:\n\nHISTORY: Cough.\nASSESSMENT: Cold.\nPLAN: Rest.", []),
        ("Here is the note that I wrote from the notes of the visit:\n\n---\nHISTORY: Cough.\nASSESSMENT: Cold.\nPLAN: Rest.", []),
        ("HISTORY: Cough.\n- Plan reviewed with daughter: she agrees.\n\nASSESSMENT: Cold.", [MISSING]),
        ("Plan: Rest.\nHeart rate: 80 bpm.", [MISSING, MISSING]),
        ("Cough for three days, no fever.", [MISSING]),
        ("HISTORY: Cough.\nSAFETY PLAN: Call.\nWORK STATUS: Well.\nASSESSMENT: Cold.\nPLAN: Rest.", [WARNING]),
        ({"history": "Cough.", "assessment": "Cold.", "plan": "Rest."}, []),
        ({"history": "Cough.", "assessment": "Cold."}, [MISSING]),
    ],
)
def test_a_section_of_the_callers_own_is_there_only_if_its_heading_is(text, expected):
    found = validate_soap(text, sections=OWN).issues
    assert [(issue.severity, issue.code) for issue in found] == expected


@pytest.mark.parametrize(
    ("text", "sections", "optional", "expected"),
    [
        ("Rest.", OWN, OWN, "the text has none of the requested headings, so it belongs to no section"),
        ("PLAN: Rest.", OWN, OWN, None),
        ("Rest.", ("plan", "risk"), ("risk",), "the plan section is missing"),
    ],
)
def test_optional_sections_are_not_missing(text, sections, optional, expected):
    found = validate_soap(text, sections=sections, optional=optional).issues
    assert [issue.message for issue in found] == [expected] * bool(expected)


@pytest.mark.parametrize("validate", [validate_findings, validate_soap])
@pytest.mark.parametrize("sections", [[], (), "plan", [1], None])
def test_sections_that_are_not_a_list_of_names_are_a_type_error(validate, sections):
    with pytest.raises(TypeError, match="sections must be a list of headings"):
        validate("PLAN: Rest.", sections=sections)
