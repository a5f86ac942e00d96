"""locate(): a box of the model's square is the same place in the file, whatever its shape, orientation, frame and spacing."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from dicoms import made, written
from PIL import Image
from scripted_model import ScriptedModel

from medgemma_app import InputError, LocateReport, OptionError, Options, locate
from medgemma_app.export.html import draw_boxes
from medgemma_app.export.record import box_lines
from medgemma_app.inputs.images import Scan
from medgemma_app.notices import BOX_NOTICE


def answer(*boxes, label="mark"):
    listed = [{"box_2d": list(box), "label": label} for box in boxes]
    return f"It is bright.\nFinal Answer:\n```json\n{json.dumps(listed)}\n```"


def drawn(height, width, left, top, right, bottom):
    """A dark picture with a bright mark at exactly these pixels."""
    pixels = np.full((height, width), 40, np.uint8)
    pixels[top:bottom, left:right] = 255
    return pixels


def box_seen(image):
    """Where the mark is in the square that the model sees, in thousandths: what a perfect model would answer."""
    bright = np.asarray(image.convert("L")) > 150
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    scale = 1000 / image.width
    return [rows[0] * scale, columns[0] * scale, (rows[-1] + 1) * scale, (columns[-1] + 1) * scale]


def located(source, **how):
    """The report of a model that sees perfectly."""
    seen = locate(ScriptedModel(answer([1, 1, 999, 999])), source, "mark").images[0][1]
    return locate(ScriptedModel(answer(box_seen(seen))), source, "mark", **how)


SHAPES = {
    "square": (200, 200, (50, 20, 90, 80)),
    "portrait": (300, 100, (10, 200, 60, 290)),
    "landscape": (100, 300, (200, 10, 290, 60)),
    "odd padding": (101, 300, (0, 0, 150, 101)),
    "at the edges": (300, 100, (0, 0, 100, 150)),
}
LARGE = {"large portrait": (2400, 1200, (150, 1800, 900, 2250)), "large landscape": (1111, 3000, (1500, 20, 2999, 1000))}


def edges(report):
    (box,) = report.boxes
    return box.x0, box.y0, box.x1, box.y1


@pytest.mark.parametrize(("height", "width", "mark"), SHAPES.values(), ids=SHAPES)
def test_a_box_is_at_exactly_the_pixels_of_the_file(tmp_path, height, width, mark):
    Image.fromarray(drawn(height, width, *mark)).save(tmp_path / "scan.png")
    assert edges(located(tmp_path / "scan.png")) == mark


@pytest.mark.parametrize(("height", "width", "mark"), LARGE.values(), ids=LARGE)
def test_a_box_of_a_picture_that_was_made_smaller_is_right_within_a_pixel_of_what_the_model_sees(tmp_path, height, width, mark):
    Image.fromarray(drawn(height, width, *mark)).save(tmp_path / "scan.png")
    assert edges(located(tmp_path / "scan.png")) == pytest.approx(mark, abs=max(height, width) / 896 + 0.5)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_box_is_in_pixels_of_the_upright_picture(tmp_path, orientation):
    """As every viewer shows it, and as the record gives its width and height."""
    upright = Image.fromarray(drawn(300, 100, 10, 200, 60, 290))
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what undoes the orientation, as a Transpose
    exif = Image.Exif()
    exif[274] = orientation
    upright.transpose(Image.Transpose(turned)).save(tmp_path / "scan.png", exif=exif)
    report = located(tmp_path / "scan.png")
    assert edges(report) == (10, 200, 60, 290)
    assert [report.to_dict()["input"]["scan"][size] for size in ("width", "height")] == [100, 300]


@pytest.mark.parametrize("spacing", [None, [0.5, 0.5], [1.0, 0.5], [0.5, 1.0]])
@pytest.mark.parametrize("shape", ["portrait", "landscape"])
def test_a_box_is_in_the_stored_pixels_of_a_dicom_file_whatever_their_spacing(tmp_path, shape, spacing):
    height, width, mark = SHAPES[shape]
    told = {"PixelSpacing": spacing} if spacing else {}
    report = located(written(tmp_path, made(drawn(height, width, *mark), Modality="DX", **told)))
    assert edges(report) == mark


def test_a_box_names_the_frame_it_is_in(tmp_path):
    from medgemma_app.inputs.images import read_image

    pixels = np.stack([drawn(100, 300, 0, 0, 10, 10), drawn(100, 300, 200, 10, 290, 60)])
    file = made(pixels[0], NumberOfFrames=2, Modality="US")
    file.PixelData = pixels.tobytes()
    report = located(read_image(written(tmp_path, file), frame=2))
    assert (edges(report), report.boxes[0].frame) == ((200, 10, 290, 60), 2)


def test_a_box_is_cut_at_the_edge_of_the_picture_and_one_in_the_padding_is_an_error():
    scan = Image.fromarray(drawn(100, 300, 200, 10, 290, 60))  # in the middle third of its square
    report = locate(ScriptedModel(answer([0, 0, 500, 500], [10, 10, 300, 990])), scan, "mark")
    assert edges(report) == (0, 0, 150, 50)
    assert [(issue.code, issue.severity) for issue in report.validation.issues] == [("impossible-box", "error")]
    assert "padding" in report.validation.issues[0].message


@pytest.mark.parametrize("box", [[500, 500, 501, 502], [0.1, 0.2, 0.3, 1.02]])
def test_a_box_that_is_smaller_than_a_pixel_is_an_error(box):
    report = locate(ScriptedModel(answer(box)), drawn(100, 100, 1, 1, 9, 9), "mark")
    assert [issue.message for issue in report.validation.errors] == ["box 1 is smaller than a pixel"] and report.boxes == ()


@pytest.mark.parametrize(
    ("box", "label", "where"),
    [
        ([500, 400, 700, 600], "rib", "above"),
        ([0, 400, 200, 600], "rib", "below"),
        ([500, 900, 700, 1000], "Gro\u00dfer Schatten", "above"),  # what has no plain letters is numbered
        ([500, 900, 700, 1000], "vergr\u00f6\u00dferter rechter Unterlappen", "above"),
        ([500, 900, 700, 1000], "enlarged right lower lobe", "above"),
    ],
)
def test_a_label_stands_beside_its_box_and_inside_the_picture(box, label, where):
    image = Image.new("RGB", (500, 500))
    drawn = np.asarray(draw_boxes(image, [{"box_2d": box, "label": label}])).any(axis=2)
    y0, x0, y1, x1 = (edge // 2 for edge in box)
    inside = drawn[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1]
    assert (drawn[: y0 - 1] if where == "above" else drawn[y1 + 2 :]).any() and not inside.any()
    assert set(np.flatnonzero(drawn[:, -1])) <= set(range(y0 - 1, y1 + 2))  # nothing but the box itself is at the edge


@pytest.mark.parametrize(
    ("label", "same_as"),
    [
        ("H\u00e9patom\u00e9galie", "Hepatomegalie"),
        ("Gr\u00f6\u00dfe", "Grosse"),
        ("\u53f3\u80ba", "box 1"),
        ("\u03b1", "box 1"),
        ("a\nb", "box 1"),
    ],
)
def test_a_label_is_drawn_in_plain_letters_or_by_its_number(label, same_as):
    images = [draw_boxes(Image.new("RGB", (300, 300)), [{"box_2d": [500, 100, 900, 900], "label": each}]) for each in (label, same_as)]
    assert images[0] == images[1]


def test_a_stretched_picture_has_no_padding():
    scan = Scan(Image.new("RGB", (300, 100)), {"width": 300, "height": 100, "padding": None})
    assert edges(locate(ScriptedModel(answer([100, 200, 300, 400])), scan, "mark")) == (60, 10, 120, 30)


def test_the_record_has_both_kinds_of_box_and_says_what_they_are_good_for():
    record = locate(ScriptedModel(answer([100, 200, 300, 400], label="right clavicle")), drawn(100, 100, 1, 1, 9, 9), "right clavicle")
    assert isinstance(record, LocateReport)
    record = json.loads(json.dumps(record.to_dict()))
    assert record["boxes"] == [
        {"label": "right clavicle", "box_2d": [100, 200, 300, 400], "x0": 20, "y0": 10, "x1": 40, "y1": 30, "frame": 1, "number": 1}
    ]
    assert (record["kind"], record["valid"], record["input"]["target"]) == ("locate", True, "right clavicle")
    assert BOX_NOTICE in record["notice"] and record["prompt"]["file"] == "locate.md"


def test_every_box_keeps_its_number_in_the_answer():
    """Where the first is in the padding, the second stays box 2: in issues, records, lists and drawings."""
    text = """Final Answer:\n```json\n[{"box_2d": [0, 0, 20, 9], "label": "rib"}, {"box_2d": [400, 200, 600, 400], "label": "肺"}]\n```"""
    report = locate(ScriptedModel(text), drawn(100, 200, 1, 1, 9, 9), "lung")
    assert [(box.label, box.number) for box in report.boxes] == [("肺", 2)]
    assert any(issue.message.startswith("box 1 is in the padding") for issue in report.validation.errors)
    assert "box 2, 肺: x " in box_lines(report.to_dict())


def test_a_retry_draws_without_a_penalty_and_one_that_was_asked_for_is_refused():
    model = ScriptedModel("nothing", answer([100, 200, 300, 400]))
    report = locate(model, drawn(100, 100, 1, 1, 9, 9), "mark", retries=1)
    assert (len(report.boxes), report.tries) == (1, 2)
    assert [options.repetition_penalty for options in model.options] == [None, None] and model.options[1].temperature > 0
    with pytest.raises(OptionError, match="penalty"):
        locate(model, drawn(100, 100, 1, 1, 9, 9), "mark", options=Options(repetition_penalty=1.1))


@pytest.mark.parametrize(("scan", "target", "error"), [(".", "mark", InputError), (drawn(9, 9, 0, 0, 4, 4), " ", OptionError)])
def test_a_folder_and_an_empty_target_are_refused(scan, target, error):
    with pytest.raises(error):
        locate(ScriptedModel("x"), scan, target)


def test_the_boxes_are_drawn_on_the_picture_the_model_saw_also_in_html_and_pdf(tmp_path):
    model = ScriptedModel(answer([100, 200, 300, 400], label="<b>rib</b> \N{GREEK SMALL LETTER ALPHA}"))
    report = locate(model, drawn(100, 100, 1, 1, 9, 9), "rib")
    image = report.draw()
    assert image.width == report.images[0][1].width
    assert image.getpixel((20, 20)) == (255, 212, 0) != image.getpixel((60, 60)) == report.images[0][1].getpixel((60, 60))
    report.save(tmp_path / "boxes.html")
    page = (tmp_path / "boxes.html").read_text()
    shown = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])))
    assert shown.getpixel((20, 20)) == (255, 212, 0) != shown.getpixel((60, 60))
    report.save(tmp_path / "boxes.txt")
    for shown in (page, (tmp_path / "boxes.txt").read_text()):
        assert "x 20 to 40, y 10 to 30 pixels" in shown and BOX_NOTICE in shown
    assert "<b>rib" not in page
    locate(ScriptedModel(answer([100, 200, 300, 400])), drawn(100, 100, 1, 1, 9, 9), "rib").save(tmp_path / "boxes.pdf")
    assert (tmp_path / "boxes.pdf").stat().st_size > 1000


def test_a_scan_whose_facts_lack_its_size_is_refused_before_the_model_is_asked():
    model = ScriptedModel(answer([0, 0, 500, 500]))
    with pytest.raises(InputError, match="lack its width and height"):
        locate(model, Scan(Image.new("RGB", (64, 64)), {}), "mark")
    report = locate(model, Scan(Image.new("RGB", (64, 64)), {"width": 64, "height": 64}), "mark")
    assert edges(report) == (0, 0, 32, 32) and len(model.prompts) == 1
