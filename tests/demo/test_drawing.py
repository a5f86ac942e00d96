"""The drawn phantoms and the made-up notes: what the demo is trained on, and what it is tested with."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from PIL import Image

from medgemma_app.demo import draw_nodule, draw_pair, draw_phantom, write_notes
from medgemma_app.demo.__main__ import main
from medgemma_app.demo.findings import EFFUSIONS, NODULES, Findings, random_findings
from medgemma_app.demo.phantoms import Body, draw, taken_again
from medgemma_app.demo.visits import ALTERNATIVES, CONDITIONS, DRUGS, TABLES
from medgemma_app.inputs.json_notes import notes_text
from medgemma_app.inputs.notes import read_notes, read_raw_notes
from medgemma_app.validate import validate_soap

PICTURE = "6aaa75d0b1a6d8680625881ba03f7f2e6125d92b5b294410485a570d812da429"
NOTES = "b3378d32e048fe08f7ca476c78ea61742780cbe7895552684057a806a98da4be"
BODY = Body(
    width=160, height=150, x=128, y=126, tilt=0.0, dome=0.46, heart=0.0, tissue=0.7, lung=0.2, rib=0.06, ribs=0.05, bubble=False,
    fluid=(0.5, 0.5), nodule=(0.5, 0.5, 0.5, 0.5),
)  # fmt: skip


def pixels(findings: Findings) -> np.ndarray:
    return draw(findings, BODY, np.random.default_rng(7)).pixels.astype(float)


def test_one_seed_gives_the_same_picture_and_text_on_every_machine() -> None:
    image, text = draw_phantom(7)
    assert hashlib.sha256(image.tobytes()).hexdigest() == PICTURE
    assert text == (
        "FINDINGS:\nThe heart is normal in size. There is no pleural effusion. There is a nodule in the right middle zone.\n\n"
        "IMPRESSION:\n1. Nodule in the right middle zone."
    )


def test_one_seed_gives_the_same_notes_on_every_machine() -> None:
    assert hashlib.sha256(json.dumps(write_notes(7)).encode()).hexdigest() == NOTES


def test_different_seeds_give_different_pictures_and_notes() -> None:
    assert len({draw_phantom(seed)[0].tobytes() for seed in range(20)}) == 20
    assert len({json.dumps(write_notes(seed)) for seed in range(200)}) == 200


def test_a_phantom_is_a_square_grey_picture_in_rgb() -> None:
    image, _ = draw_phantom(3)
    channels = np.asarray(image)
    assert isinstance(image, Image.Image) and image.mode == "RGB" and image.size == (256, 256)
    assert np.ptp(channels, axis=2).max() == 0


def test_every_combination_of_findings_comes_up() -> None:
    rng = np.random.default_rng(0)
    seen = {random_findings(rng) for _ in range(4000)}
    assert seen == {Findings(*combination) for combination in product((False, True), EFFUSIONS, NODULES)}


def test_every_combination_of_findings_has_its_own_report() -> None:
    reports = {Findings(*combination).report() for combination in product((False, True), EFFUSIONS, NODULES)}
    assert len(reports) == 56


@pytest.mark.parametrize(("side", "columns"), [("left", slice(175, 215)), ("right", slice(41, 81))])
def test_fluid_brightens_the_lower_zone_on_the_opposite_half_of_the_picture(side: str, columns: slice) -> None:
    """The patient's left is on the picture's right, as on every radiograph."""
    clear, fluid = pixels(Findings()), pixels(Findings(effusions=(side,)))  # type: ignore[arg-type]
    brighter = fluid - clear
    assert brighter[180:205, columns].mean() > 25
    assert abs(brighter[:, 256 - columns.stop : 256 - columns.start].mean()) < 3


def test_an_enlarged_heart_is_wider_in_the_picture() -> None:
    row = slice(160, 170)
    bright = [(pixels(Findings(enlarged=enlarged))[row] > 140)[:, 40:216].mean() for enlarged in (False, True)]
    assert bright[1] > bright[0] + 0.15


@pytest.mark.parametrize("nodule", NODULES[1:])
def test_a_nodule_shows_on_its_side_and_in_its_zone(nodule: tuple[str, str]) -> None:
    drawing = draw(Findings(nodule=nodule), BODY, np.random.default_rng(1))  # type: ignore[arg-type]
    y, x = (float((axis * drawing.nodule).sum() / drawing.nodule.sum()) for axis in np.mgrid[:256, :256])
    assert (x < 128) == (nodule[0] == "right")
    assert nodule[1] == ("upper" if y < 80 else "middle" if y < 135 else "lower")


def test_the_box_of_a_nodule_is_where_it_brightens_the_picture() -> None:
    clear, nodule = (
        draw(Findings(), BODY, np.random.default_rng(7)),
        draw(Findings(nodule=("left", "upper")), BODY, np.random.default_rng(7)),
    )
    box = nodule.box()
    assert clear.box() is None and box
    y0, x0, y1, x1 = (round(edge * 256 / 1000) for edge in box)
    brighter = nodule.pixels.astype(int) - clear.pixels
    inside, outside = brighter[y0:y1, x0:x1].copy(), brighter.copy()
    outside[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4] = 0
    assert inside.mean() > 20 and not outside.any()


def test_some_pictures_to_locate_a_nodule_in_have_none() -> None:
    boxes = [draw_nodule(seed)[1] for seed in range(60)]
    assert 0 < boxes.count(None) < 15


def test_the_same_patient_taken_again_has_the_same_nodule_in_the_same_place() -> None:
    findings, rng = Findings(nodule=("right", "middle")), np.random.default_rng(3)
    first, second = (draw(findings, body, rng).box() for body in (BODY, taken_again(BODY, rng)))
    moved = [after - before for before, after in zip(first, second, strict=True)]
    assert max(moved[0::2]) - min(moved[0::2]) <= 4 and max(moved[1::2]) - min(moved[1::2]) <= 4


def test_a_pair_shows_two_pictures_and_says_what_changed() -> None:
    endings = {draw_pair(seed)[2].split("\n\n")[0].split(". ")[-1].split(" ")[-4:][-1] for seed in range(40)}
    prior, current, text = draw_pair(0)
    assert prior.size == current.size and prior.tobytes() != current.tobytes()
    assert "prior" in text and endings == {"prior.", "resolved."}


def test_every_report_has_both_sections_with_text() -> None:
    for seed in range(50):
        assert re.fullmatch(r"FINDINGS:\n.+\n\nIMPRESSION:\n(.+\n?)+", draw_phantom(seed)[1])


@pytest.mark.parametrize("invented", [0.0, 1.0])
@pytest.mark.parametrize("form", ["json", "text", "dialogue"])
def test_a_soap_note_holds_every_number_of_the_notes_and_no_other(form, invented) -> None:
    for seed in range(200):
        notes, expected = write_notes(seed, form=form, invented=invented)
        assert sorted(re.findall(r"\d+", notes_text(notes))) == sorted(re.findall(r"\d+", expected)), seed


@pytest.mark.parametrize("form", ["json", "text", "dialogue"])
def test_notes_are_read_as_training_writes_them_and_their_soap_note_passes_validation(form) -> None:
    for seed in range(60):
        notes, expected = write_notes(seed, form=form)
        read = read_raw_notes(notes.encode(), "notes") if isinstance(notes, str) else read_notes(notes)
        assert read.text == notes_text(notes)
        assert validate_soap(expected, source=read.text).ok, seed


def test_the_tables_of_the_visits_fit_together() -> None:
    histories = TABLES["histories"]
    taken = {drug for row in histories.values() for drug in row["drugs"]}
    assert taken | {drug for one in CONDITIONS for drug in one.treatments} == set(DRUGS)
    assert {order for one in CONDITIONS for order in one.orders} == set(TABLES["orders"])
    assert {lab for one in CONDITIONS for lab in one.labs} == set(TABLES["labs"])
    assert {name for one in CONDITIONS for name in one.vitals} <= set(TABLES["normal"])
    assert {name for one in CONDITIONS for name in one.histories} <= set(histories)
    assert {one.needs for one in CONDITIONS} == {"", "BP", "labs"}
    assert set(DRUGS) >= ALTERNATIVES
    assert {name for drug in DRUGS.values() for name in drug.unsuitable} <= {*histories, *TABLES["allergies"]}


def test_every_dose_and_frequency_is_one_in_which_the_drug_is_taken() -> None:
    for seed in range(300):
        medications = re.findall(r"(?:Medications:|;|Start) ([a-zV ]+) ([\d.]+ (?:mg|mcg|units)) ([a-z0-9 ]+)", write_notes(seed)[1])
        assert all(dose in DRUGS[drug].doses and frequency in DRUGS[drug].frequencies for drug, dose, frequency in medications), seed


def test_a_diagnosis_follows_from_what_the_notes_say() -> None:
    """A complaint or a sign, and the measurement without which nobody makes it: a blood pressure, or a laboratory value."""
    needs = {f"{one.diagnosis}.": {"": "", "BP": "BP ", "labs": next(iter(one.labs), "")}[one.needs] for one in CONDITIONS}
    assert {one.diagnosis for one in CONDITIONS if one.needs} == {
        "Hypertension",
        "Type 2 diabetes",
        "Iron deficiency anemia",
        "Hypothyroidism",
    }
    signs = {sign for one in CONDITIONS for sign in one.signs}
    for seed in range(1000):
        said, diagnosis = re.split("ASSESSMENT:\n", write_notes(seed)[1].split("\n\nPLAN")[0])
        if diagnosis != "Not documented.":
            said = said.replace("Blood pressure ", "BP ")
            assert " with " in said or any(sign.split("{")[0] in said for sign in signs), seed
            assert needs[diagnosis] in said, seed


def test_a_patient_is_told_the_diagnosis_with_its_article() -> None:
    told = set()
    for seed in range(400):
        said = re.search(r"(?:You have|This is|It looks like|I think it is) ([^.]+)\.", notes_text(write_notes(seed, form="dialogue")[0]))
        told.update(said.groups() if said else ())
    assert {"a kidney stone", "an asthma exacerbation", "a COPD exacerbation", "acute gout", "hypertension"} <= told
    assert not {"kidney stone", "a gout", "an acute gout", "a hypertension"} & told


def test_one_drug_of_a_kind_is_taken_and_doses_begin_low() -> None:
    for seed in range(1000):
        before, plan = write_notes(seed)[1].split("PLAN:\n")
        assert sum(f" {drug} " in before + plan for drug in ALTERNATIVES) < 2, seed
        started = re.findall(r"Start ([a-zV ]+) ([\d.]+ \w+)", plan)
        assert all(dose == DRUGS[drug].doses[0] for drug, dose in started if DRUGS[drug].raised), seed


def test_no_drug_is_started_that_the_history_an_allergy_or_the_medications_forbid() -> None:
    started = 0
    for seed in range(1000):
        before, plan = write_notes(seed)[1].split("PLAN:\n")
        for drug in re.findall(r"Start ([a-zV ]+) \d", plan):
            started += 1
            assert f" {drug} " not in before, seed
            assert not any(f" {word}." in before for word in DRUGS[drug].unsuitable), seed
    assert started > 300


def test_a_soap_note_has_four_sections_in_order_and_says_where_the_notes_are_silent() -> None:
    texts = [write_notes(seed)[1] for seed in range(100)]
    assert all(re.findall(r"^[A-Z]+(?=:$)", text, re.M) == ["SUBJECTIVE", "OBJECTIVE", "ASSESSMENT", "PLAN"] for text in texts)
    assert any("PLAN:\nNot documented." in text for text in texts)


def test_invented_names_are_in_no_table_and_may_come_from_a_list() -> None:
    for seed in range(100):
        expected = write_notes(seed, invented=1.0, words=("quux",))[1]
        assert not any(f" {drug} " in expected for drug in DRUGS) and not any(one.diagnosis in expected for one in CONDITIONS)
    assert sum("quux" in write_notes(seed, invented=1.0, words=("quux",))[1] for seed in range(100)) > 50


@pytest.mark.parametrize("form", ["json", "text", "dialogue"])
def test_notes_are_plain_json(form) -> None:
    notes, _ = write_notes(11, form=form)
    assert json.loads(json.dumps(notes)) == notes


def test_drawing_needs_neither_torch_nor_mlx() -> None:
    code = "import sys, medgemma_app.demo; sys.exit(bool({'torch', 'mlx', 'mlx_vlm', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("arguments", "code"), [(["FOLDER"], 0), (["FOLDER", "7"], 0), ([], 2), (["FOLDER", "x"], 2), (["/dev/null"], 2)])
def test_the_demo_command_writes_its_files_or_says_in_a_line_what_is_wrong(tmp_path, capsys, arguments, code):
    assert main([word.replace("FOLDER", str(tmp_path / "new")) for word in arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "new" / "scan.png").exists() == (code == 0)
