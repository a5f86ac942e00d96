"""A radiology report held against itself, its picture and the order: priors, sides, sizes, denials."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.inputs.header import ImageHeader
from medgemma_app.validate import validate_findings

FINDINGS = "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax."


def report(findings=FINDINGS, impression="No acute disease."):
    return f"FINDINGS:\n{findings}\n\nIMPRESSION:\n{impression}"


def warnings(text, **known):
    return {issue.code for issue in validate_findings(text, **known).warnings}


CLAIMS = [
    "Compared to the prior study, the effusion is smaller.",
    "The nodule is unchanged.",
    "Interval resolution of the opacity.",
    "The opacity has decreased.",
    "No significant change since the last film.",
    "Granuloma again seen.",
    "The previously noted mass is no longer visible.",
    "Worsening edema.",
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_comparison_with_a_prior_that_nobody_gave_is_a_warning(claim):
    assert warnings(report(impression=claim)) == {"invented-prior"}
    assert "invented-prior" not in warnings(report(impression=claim), has_prior=True)


@pytest.mark.parametrize(
    "sentence",
    [
        "No prior study is available for comparison.",
        "Comparison with old films is recommended.",
        "Prior sternotomy.",
        "Chronic interstitial change.",
        "Degenerative changes of the spine.",
        "Compared to the left, the right lung is small.",
        "Increased density at the base.",
    ],
)
def test_a_word_of_time_alone_is_no_comparison(sentence):
    assert "invented-prior" not in warnings(report(impression=sentence))


def test_what_stands_before_the_findings_is_no_comparison():
    assert warnings(f"COMPARISON: Compared with the prior study of last year.\n{report()}") == set()


def test_stable_without_a_prior_and_no_comparison_with_one_are_remarks():
    (implied,) = validate_findings(report(impression="Stable cardiac silhouette.")).issues
    (missed,) = validate_findings(report(), has_prior=True).issues
    assert (implied.code, implied.severity) == ("implied-prior", "info")
    assert (missed.code, missed.severity) == ("missed-comparison", "info")


@pytest.mark.parametrize("size", ["1.2 cm", "8 mm", "five millimeter", "3 x 4 cm", "12-mm", "2 centimeters"])
def test_a_size_needs_a_picture_with_a_scale(size):
    text = report(findings=f"A {size} nodule is seen.")
    assert warnings(text, header=ImageHeader()) == {"unscaled-measurement"}
    assert warnings(text, header=ImageHeader(pixel_spacing=(0.1, 0.1))) == warnings(text) == set()


def test_a_number_without_a_unit_of_length_is_no_size():
    assert warnings(report(findings="Cardiothoracic ratio 0.55. T12 is wedged. Two nodules at 10 o'clock."), header=ImageHeader()) == set()


@pytest.mark.parametrize(
    ("impression", "code"),
    [
        ("Nodule of 12 mm.", None),
        ("12 mm nodule, 3 mm growth.", None),
        ("1.2 cm nodule.", None),
        ("Nodule of 2.1 cm.", "measurement-mismatch"),
    ],
)
def test_a_size_in_the_impression_is_one_of_the_findings(impression, code):
    assert warnings(report(findings="A 12 mm nodule in the right upper lobe.", impression=impression)) == ({code} if code else set())


@pytest.mark.parametrize(
    ("findings", "impression", "wrong"),
    [
        ("Small left pleural effusion.", "Small right pleural effusion.", True),
        ("RLL opacity.", "Left lower lobe pneumonia.", True),
        ("Left effusion. Right basal opacity.", "Right effusion.", True),
        ("Left effusion.", "Left effusion.", False),
        ("Bilateral effusions.", "Right effusion.", False),
        ("Effusion.", "Right effusion.", False),
        ("Left nodule.", "Enlarged right ventricle.", False),
        ("Opacity behind the heart. Right lung is clear.", "Left lower lobe collapse.", False),
        ("Large right effusion, mediastinum shifted to the left.", "Large left effusion.", True),
        ("Wedge fracture of T12.", "L2 fracture.", True),
        ("Disc herniation at L3/4.", "Herniation at L4/5.", True),
        ("Fracture of L1.", "L1 fracture.", False),
        ("Disc herniation at L4-L5.", "L5 root compressed.", False),
        ("Lesion of L3.", "The lesion is bright on T2.", False),
    ],
)
def test_the_side_in_the_impression_is_the_one_in_the_findings(findings, impression, wrong):
    assert warnings(report(findings, impression)) == ({"contradicting-side"} if wrong else set())


@pytest.mark.parametrize(
    ("findings", "impression", "wrong"),
    [
        (FINDINGS, "Small right pneumothorax.", True),
        (FINDINGS, "Moderate pleural effusion.", True),
        (FINDINGS, "Cardiomegaly.", True),
        ("Large effusion.", "No effusion.", True),
        ("No focal consolidation.", "Consolidation at the base.", True),
        ("No large effusion.", "Small effusion.", False),
        ("No left effusion.", "Right effusion.", False),
        ("No acute fracture.", "Fracture of a rib.", False),
        ("No rib fracture.", "Fracture of the right seventh rib.", True),
        ("Large left pneumothorax.", "Normal chest.", True),
        ("Large left pneumothorax.", "No acute cardiopulmonary process.", True),
        ("Dense opacity of the middle lobe.", "Normal chest radiograph.", True),
        ("Small effusion. Old rib fracture.", "No acute disease.", False),
        ("Tiny left pneumothorax.", "Large left pneumothorax.", True),
        ("Small right and large left effusions.", "Large left effusion.", False),
        ("Gallstones. Ducts not dilated.", "No cholelithiasis.", True),
        ("**Haemorrhage:** None.", "No haemorrhage.", False),
        (FINDINGS, "Possible pneumothorax.", False),
        (FINDINGS, "No pneumothorax; the effusion has been ruled out.", False),
        ("Heart size is at the upper limits of normal.", "Cardiomegaly.", False),
    ],
)
def test_what_is_denied_altogether_is_not_affirmed_elsewhere(findings, impression, wrong):
    assert warnings(report(findings, impression)) == ({"contradiction"} if wrong else set())


HEADER = ImageHeader(modality="DX", body_part="CHEST", view="PA", sex="F", age="058Y", pixel_spacing=(0.1, 0.1))


@pytest.mark.parametrize(
    ("header", "text", "code"),
    [
        (HEADER, report(), None),
        (HEADER, report(impression="This CT scan shows no acute disease."), "wrong-modality"),
        (HEADER, report(impression="CT of the chest is recommended."), None),
        (ImageHeader(modality="MR", body_part="BRAIN"), report(), "wrong-body-part"),
        (
            ImageHeader(modality="DX", body_part="KNEE", laterality="L"),
            report("The right knee is normal.", "Normal right knee."),
            "wrong-side",
        ),
        (ImageHeader(modality="DX", body_part="KNEE", laterality="L"), report("The left knee is normal.", "Normal."), None),
        (None, report(impression="This CT scan shows no acute disease."), None),
    ],
)
def test_a_report_is_of_the_picture_the_header_names(header, text, code):
    assert warnings(text, header=header) == ({code} if code else set())


def test_sex_and_age_are_those_of_the_header_or_the_indication():
    man = report(findings=f"A 61-year-old man. {FINDINGS}")
    woman = report(findings=f"A 58-year-old woman. {FINDINGS}")
    assert {issue.code for issue in validate_findings(man, header=HEADER).errors} == {"wrong-sex", "wrong-age"}
    assert {issue.code for issue in validate_findings(man, indication="58-year-old woman with cough").errors} == {"wrong-sex", "wrong-age"}
    assert validate_findings(woman, header=HEADER, indication="cough").issues == ()


def test_findings_given_again_as_the_impression_are_a_warning_and_one_sentence_of_them_is_none():
    long = f"{FINDINGS} The mediastinal contour is within normal limits. The bones are intact, with mild curvature of the spine."
    assert warnings(report(long, long)) == {"repeated-section"}
    assert warnings(report(long, "The lungs are clear. The bones are intact, with mild curvature of the spine.")) == set()
    assert warnings(f"FINDINGS AND IMPRESSION:\n{long}") == set()


@pytest.mark.parametrize(
    "text",
    [
        "El corazón es de tamaño normal. Los pulmones están claros, sin derrame. No se observa neumotórax en la radiografía del paciente.",
        "Das Herz ist nicht vergrößert. Die Lunge ist frei, kein Erguss und kein Pneumothorax. Die Knochen sind intakt.",
        "Сердце нормальных размеров. Лёгкие чистые, без выпота.",
        "Le cœur est de taille normale. Les poumons sont clairs, sans épanchement. Pas de pneumothorax dans le champ.",
    ],
)
def test_an_answer_in_another_language_is_a_warning(text):
    assert "other-language" in warnings(report(text, text))


PIECES = ["no", "effusion", "left", "right", "12", "mm", "x", ".", "\n", "CT", "IMPRESSION:", "unchanged", "XXXX", "½", "٣", "or", "but"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join), st.text(max_size=30))
def test_any_text_and_any_indication_get_an_answer(text, indication):
    for issue in validate_findings(report(text, text), header=ImageHeader(), indication=indication).issues:
        assert "\n" not in issue.message
        assert len(issue.excerpt) <= 80


@pytest.mark.parametrize(
    "trap", ["nodule ", "left effusion ", "no large effusion ", "L4/5 ", "stable a b ", "3 mm growth ", "small effusion. large "]
)
def test_the_longest_report_that_is_compared_takes_a_moment(trap):
    half = trap * (19_500 // len(trap))
    begun = time.process_time()
    validate_findings(report(half, half), header=ImageHeader())
    assert time.process_time() - begun < 5
