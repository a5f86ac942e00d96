"""DICOM slices become pictures in the order of their position, shown as one volume; what is not a volume is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import COLUMNS, STORED, a_series, lut, made, placed, shown, written
from pictures import grey
from PIL import Image

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import Series, read_image
from medgemma_app.inputs.series import evenly, read_series
from medgemma_app.inputs.studies import find_studies, read_study


def paths(found):
    return [study.path for study in found.studies]


def test_a_ct_series_is_sorted_by_position_and_shown_in_three_windows(tmp_path: Path) -> None:
    series = read_series(a_series(tmp_path), pad=False)
    assert len(series.images) == 12
    for k, image in enumerate(series.images):
        assert image.getpixel((30, 4 * k + 5)) == (round((300 + 1024) / 2048 * 255), 255, 255)
        assert image.getpixel((70, 69)) == (round((40 + 1024) / 2048 * 255), round((40 + 135) / 350 * 255), round(40 / 80 * 255))
        assert image.getpixel((0, 0)) == (3, 0, 0)
    assert series.facts["slices_used"] == list(range(1, 13))
    assert series.facts["header"]["Modality"] == "CT"


def test_slices_are_taken_evenly_as_in_google_s_notebook(tmp_path: Path) -> None:
    facts = read_series(a_series(tmp_path), slices=4).facts
    assert (facts["slices_found"], facts["slices_used"]) == (12, [4, 7, 9, 12])
    assert len(facts["files"]) == 4


def test_an_mr_series_is_shown_in_one_window(tmp_path: Path) -> None:
    series = read_series(a_series(tmp_path, Modality="PT", WindowCenter=0, WindowWidth=400))
    assert series.facts["window"]["width"] == 400
    assert all(image.size == (COLUMNS, COLUMNS) for image in series.images)
    assert read_series(a_series(tmp_path, Modality="PT")).facts["window"]["from"] == "percentiles 0.1 and 99.9 of the middle slice"


def test_mr_is_shown_from_the_smallest_to_the_largest_value_of_the_acquisition_without_a_window(tmp_path: Path) -> None:
    values = [(STORED // 4 + 300 * k).astype(np.uint16) for k in range(4)]
    for k, pixels in enumerate(values):
        written(tmp_path, made(pixels, Modality="MR", WindowCenter=100, WindowWidth=50, **placed(k)), str(k))
    series = read_series(tmp_path, slices=2, pad=False)
    assert series.facts["window"] == {"from": "minimum and maximum of the series", "low": 0.0, "high": 1923.0}
    assert series.facts["slices_used"] == [3, 4]
    for image, pixels in zip(series.images, values[2:], strict=True):
        assert (np.asarray(image)[..., 0] == np.round(pixels / 1923 * 255)).all()
    assert read_series(tmp_path, window="1000/500").facts["window"]["from"] == "option"
    single = read_image(tmp_path / "0", pad=False)
    assert single.facts["window"] == {"from": "minimum and maximum", "low": 0.0, "high": 1023.0}
    assert (np.asarray(single.image)[..., 0] == np.round(values[0] / 1023 * 255)).all()


def test_a_series_of_32_bit_numbers_is_shown(tmp_path: Path) -> None:
    for k in range(3):
        written(tmp_path, made(STORED.astype(np.uint32) * 1000 + k, Modality="MR", **placed(k)), str(k))
    assert [image.convert("L").getextrema() for image in read_series(tmp_path, pad=False).images] == [(0, 255)] * 3


def test_a_multi_frame_file_is_a_series_in_itself(tmp_path: Path) -> None:
    frames = np.stack([STORED // 2 + 100 * k for k in range(5)])
    written(
        tmp_path,
        made(NumberOfFrames=5, PixelData=frames.tobytes(), Modality="MR", SeriesInstanceUID="1.2", WindowCenter=1500, WindowWidth=3000),
    )
    middles = [image.getpixel((48, 40))[0] for image in read_series(tmp_path, pad=False).images]
    assert middles == sorted(set(middles))
    assert len(middles) == 5


def test_other_files_are_counted_and_other_series_must_be_chosen(tmp_path: Path) -> None:
    a_series(tmp_path)
    (tmp_path / "readme.txt").write_text("not a slice")
    written(tmp_path, made(SeriesInstanceUID="1.9", SeriesNumber=7, Modality="MR"), "other")
    with pytest.raises(InputError, match=r"holds 2 series; choose one with --series: 3 \(CT, 12 pictures\), 7 \(MR, 1 picture\)"):
        read_series(tmp_path)
    assert read_series(tmp_path, series=3).facts["files_ignored"] == 1


def test_a_localizer_in_the_series_is_left_out_with_a_warning(tmp_path: Path) -> None:
    a_series(tmp_path)
    scout = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SeriesInstanceUID": "1.2.3.4"}
    written(tmp_path, made(Modality="CT", SeriesNumber=3, **scout), "scout")
    series = read_series(tmp_path)
    assert len(series.images) == 12
    assert "1 picture left out because of another size or orientation" in series.warnings[0]


def test_noise_in_the_direction_cosines_loses_no_slice_and_no_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(12):
        tilted = np.array([0.9500, 0.0, -0.3122, 0.0, 1.0, 0.0]) + rng.normal(0, 2e-3, 6)
        place = {"ImagePositionPatient": [100, 200, 2 * k], "ImageOrientationPatient": [round(cosine, 6) for cosine in tilted]}
        written(tmp_path, made(STORED, Modality="PT", SeriesInstanceUID="1.2", WindowCenter=4000, WindowWidth=9000 + k, **place), f"{k}")
    series = read_series(tmp_path)
    assert (len(series.images), series.warnings) == (12, ())
    assert list(series.facts["files"]) == [str(k) for k in range(12)]


def test_series_that_share_a_number_or_have_none_can_be_chosen(tmp_path: Path) -> None:
    for uid, number, rows in (("1.2.1", 3, STORED), ("1.2.2", 3, STORED[:-8]), ("1.2.3", None, STORED[:-16])):
        elements = {"Modality": "MR", "SeriesInstanceUID": uid} | ({} if number is None else {"SeriesNumber": number})
        written(tmp_path, made(rows, **elements), uid)
    for wanted in (None, "3", 5):
        with pytest.raises(InputError, match=r"holds 3 series; .*: 0 \(MR, 1 picture\), 3\.1 \(MR, 1 picture\), 3\.2 \(MR, 1 picture\)"):
            read_series(tmp_path, series=wanted)
    assert [read_series(tmp_path, series=label).facts["height"] for label in ("3.1", "3.2", "0", 0)] == [80, 72, 64, 64]


@pytest.mark.parametrize("elements", [{}, {"Modality": "MR"}, {"BurnedInAnnotation": "YES"}])
def test_a_series_is_called_by_its_number_and_never_by_its_folder(tmp_path: Path, elements: dict[str, Any]) -> None:
    folder = tmp_path / "Doe_Jane_MRN12345"
    folder.mkdir()
    a_series(folder, 3, **elements)
    written(folder, made(STORED[:-8], Modality=elements.get("Modality", "CT"), SeriesInstanceUID="1.2.3.4", SeriesNumber=3), "scout")
    series = read_series(folder)
    assert series.facts["name"] == f"series 3 ({elements.get('Modality', 'CT')})"
    assert "1 picture left out because of another size" in series.warnings[0]
    said = json.dumps([series.facts, series.warnings])
    written(folder, made(SeriesInstanceUID="1.9", Modality="MR"), "other")
    with pytest.raises(InputError, match=r"^the folder holds 2 series") as caught:
        read_series(folder)
    assert not any(word in said + str(caught.value) for word in ("Doe", "12345"))


def test_writing_burnt_into_a_ct_slice_is_warned_of(tmp_path: Path) -> None:
    assert "burnt into" in read_series(a_series(tmp_path, 3, BurnedInAnnotation="YES")).warnings[0]


def test_slices_without_the_id_of_a_series_are_told_apart_by_what_they_say(tmp_path: Path) -> None:
    for k in range(6):
        place = {"ImagePositionPatient": [0, 0, k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        said = ({"SeriesNumber": 7 + k % 3}, {"StudyInstanceUID": f"1.{k % 3}"}, {"FrameOfReferenceUID": f"1.{k % 3}"}, {})
        for folder, elements in enumerate(said):
            (tmp_path / str(folder)).mkdir(exist_ok=True)
            written(tmp_path / str(folder), made(Modality="MR", **place, **elements), str(k))
    for folder, labels in enumerate((("7", "8", "9"), ("0.1", "0.2", "0.3"), ("0.1", "0.2", "0.3"))):
        with pytest.raises(InputError, match="holds 3 series"):
            read_series(tmp_path / str(folder))
        assert [read_series(tmp_path / str(folder), series=label).facts["slices_found"] for label in labels] == [2, 2, 2]
    with pytest.raises(InputError, match="holds 6 pictures that do not say which series they belong to"):
        read_series(tmp_path / "3")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_that_do_not_say_how_they_are_turned_are_sorted_along_the_axis_on_which_they_vary(tmp_path: Path, axis: int) -> None:
    for k in range(5):
        place = [0.1 * k % 0.3, 0.1 * k % 0.3, 0.1 * k % 0.3]
        place[axis] = 5.0 * k
        written(tmp_path, made(Modality="MR", SeriesInstanceUID="1.2", InstanceNumber=9 - k, ImagePositionPatient=place), f"{k}")
    series = read_series(tmp_path)
    assert list(series.facts["files"]) == [str(k) for k in range(5)]
    assert "do not state their orientation" in series.warnings[0]


@pytest.mark.parametrize(
    "elements", [{}, {"WindowCenter": 2000, "WindowWidth": 1500}, {"VOILUTSequence": [lut(0, 16, np.arange(4096)[::-1] ** 2 // 256)]}]
)
def test_a_slice_is_shown_as_the_same_file_by_itself(tmp_path: Path, elements: dict[str, Any]) -> None:
    levels = {}
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        (tmp_path / kind).mkdir()
        path = written(tmp_path / kind, made(Modality="MR", PhotometricInterpretation=kind, **elements))
        levels[kind] = grey(read_series(path.parent, pad=False).images[0])
        assert np.abs(levels[kind] - shown(path)).max() <= 1
    assert (levels["MONOCHROME1"] == 255 - levels["MONOCHROME2"]).all()


def test_hounsfield_values_are_shown_with_high_ones_bright_and_a_mark_to_the_contrary_is_told(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.mkdir(), marked.mkdir()
    series = read_series(a_series(marked, 3, PhotometricInterpretation="MONOCHROME1"))
    assert (grey(series.images[0]) == grey(read_series(a_series(plain, 3)).images[0])).all()
    assert "marked as inverse (MONOCHROME1)" in series.warnings[0]


def test_a_file_of_several_frames_is_a_series_where_slices_are_asked_for(tmp_path: Path) -> None:
    frames = np.stack([STORED // 2 + 100 * k for k in range(5)])
    path = written(tmp_path, made(NumberOfFrames=5, PixelData=frames.tobytes(), Modality="US", WindowCenter=1500, WindowWidth=3000))
    with pytest.raises(InputError, match=r"choose one with --frame 1 to --frame 5$"):
        read_study(path)
    series = read_study(path, slices=3)
    assert isinstance(series, Series) and (series.facts["slices_used"], series.warnings) == ([2, 4, 5], ())
    assert not isinstance(read_study(path, slices=3, frame=2), Series)


def test_frames_in_colour_are_a_series_without_a_window(tmp_path: Path) -> None:
    colours = np.stack([STORED // 16, STORED[::-1] // 16, STORED[:, ::-1] // 16], axis=2).astype(np.uint8)
    frames = np.stack([colours, colours[::-1]])
    path = written(tmp_path, made(colours, PhotometricInterpretation="RGB", NumberOfFrames=2, PixelData=frames.tobytes(), Modality="US"))
    series = read_series(path, pad=False)
    assert [np.asarray(image).tolist() for image in series.images] == frames.tolist()
    assert series.facts["window"] is None


def test_a_window_shows_a_ct_series_in_grey(tmp_path: Path) -> None:
    image = read_series(a_series(tmp_path, 3), window="40/400", pad=False).images[0]
    assert image.getpixel((70, 69)) == (128, 128, 128)


def test_a_warning_names_the_options_for_a_series_that_one_picture_cannot_use(tmp_path: Path) -> None:
    path = written(tmp_path, made())
    assert read_study(path, slices=3, series=1).warnings == ("scan.dcm is a single picture, so --slices and --series had no effect",)
    assert read_study(path, frame=2, several_files=True).facts["frame"] == 1


def test_radiographs_in_a_folder_are_studies_of_their_own(tmp_path: Path) -> None:
    for name, modality in (("pa", "DX"), ("lateral", "CR"), ("breast", "MG"), ("loop", "US")):
        written(tmp_path, made(Modality=modality), name)
    content = (tmp_path / "pa").read_bytes()
    (tmp_path / "broken").write_bytes(content[: content.index(b"\x28\0\x10\0US")])  # cut short before its size
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")  # nothing in it
    Image.fromarray(STORED).save(tmp_path / "unnamed", "PNG")
    (tmp_path / "readme").write_text("BM is no picture")
    names = sorted(str(tmp_path / name) for name in ("pa", "lateral", "breast", "loop", "broken", "unnamed"))
    assert paths(find_studies([str(tmp_path)])) == names
    with pytest.raises(InputError, match="is damaged, or is not a DICOM file"):
        read_series(tmp_path)
    (tmp_path / "broken").unlink()
    with pytest.raises(InputError, match="not slices of a volume; give each on its own, or as a further view with --view"):
        read_series(tmp_path)


def test_slices_and_radiographs_in_one_folder_are_kept_apart(tmp_path: Path) -> None:
    a_series(tmp_path, 3)
    radiograph = written(tmp_path, made(Modality="DX", ImagePositionPatient=[0, 0, 0]), "radiograph")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    Image.fromarray(STORED).save(tmp_path / "preview.png")
    assert paths(find_studies([str(tmp_path)])) == [str(tmp_path), str(radiograph)]
    facts = read_series(tmp_path).facts
    assert (facts["slices_found"], facts["files_ignored"]) == (3, 3)


def test_the_outside_of_a_ct_s_field_of_view_is_black(tmp_path: Path) -> None:
    for k in range(3):
        pixels = STORED.copy()
        pixels[:8, :8] = 65535
        ds = made(
            pixels, Modality="CT", BitsStored=16, HighBit=15, RescaleSlope=1, RescaleIntercept=-1024, PixelPaddingValue=65535, **placed(k)
        )
        written(tmp_path, ds, str(k))
    assert not np.asarray(read_series(tmp_path, pad=False).images[0])[:8, :8].any()


def test_ct_without_hounsfield_units_is_shown_in_grey_with_a_warning(tmp_path: Path) -> None:
    series = read_series(a_series(tmp_path, 3, RescaleType="US", WindowCenter=100, WindowWidth=400))
    assert series.facts["window"]["from"] == "header"
    assert "series 3 (CT) is CT, but its header does not say that its values are Hounsfield units" in series.warnings[0]


def test_a_copied_file_is_not_another_slice(tmp_path: Path) -> None:
    shutil.copy(a_series(tmp_path, 6) / "002", tmp_path / "002 (1)")
    series = read_series(tmp_path)
    assert len(series.images) == 6
    assert series.warnings == ("series 3 (CT): 1 picture left out as copies of others (same id and position)",)


def test_slices_that_an_anonymiser_gave_one_id_are_all_there(tmp_path: Path) -> None:
    assert len(read_series(a_series(tmp_path, 6, SOPInstanceUID="1.2.3")).images) == 6


@pytest.mark.parametrize(("total", "most"), [(200, 85), (86, 85), (12, 4), (3, 2)])
def test_slices_are_those_of_google_s_ct_notebook(total: int, most: int) -> None:
    assert evenly(list(range(total)), most) == [round(i / most * (total - 1)) for i in range(1, most + 1)]
    assert evenly(list(range(total)), total) == list(range(total))
    assert evenly(list(range(total)), 1) == [total // 2]
