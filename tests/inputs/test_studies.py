"""What the arguments of a command name: studies in order, once each, with names that name nobody."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from dicoms import STORED, a_series, made, written
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.fileset import FileSet

from medgemma_app.errors import InputError
from medgemma_app.inputs.studies import StudySource, find_notes, find_studies, read_study


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Doe_Jane/visit.json and Doe_Jane/old/scan.png, with the folder above as the current one."""
    (tmp_path / "Doe_Jane" / "old").mkdir(parents=True)
    (tmp_path / "Doe_Jane" / "visit.json").write_text("{}")
    (tmp_path / "Doe_Jane" / "old" / "scan.png").write_bytes(b"\x89PNG\r\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "Doe_Jane"


def test_a_study_named_by_several_paths_is_one(folder: Path) -> None:
    names = ["Doe_Jane/old/scan.png", "./Doe_Jane/old/../old/scan.png", str(folder), "-", "-"]
    assert [study.path for study in find_studies(names).studies] == [names[0], "-"]


def test_a_study_is_shown_without_the_folders_it_lies_in(folder: Path) -> None:
    found = find_studies([str(folder), "missing.png"]).studies
    assert find_studies(["missing.png", "./missing.png"]).left_out == ["missing.png, which was already given"]
    assert [study.name for study in found] == ["scan.png", "missing.png"]
    assert StudySource("visits.jsonl", part=4).name == "visits.jsonl line 4"
    assert StudySource(str(folder), number=3).name == "study 3"


def test_an_over_long_name_is_a_study_that_cannot_be_read() -> None:
    (study,) = find_studies(["x" * 5000]).studies
    with pytest.raises(InputError, match=r"^cannot read xxx.*: File name too long"):
        read_study(study.path)


def test_the_key_of_a_study_is_the_same_by_every_path_and_names_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {find_studies([name]).studies[0].key for name in ("Doe_Jane", "./Doe_Jane/", str(folder))}
    monkeypatch.chdir(folder)
    keys |= {find_studies([name]).studies[0].key for name in (".", "../Doe_Jane")}
    assert len(keys) == 1
    assert "Doe" not in keys.pop()
    assert len({StudySource("a.jsonl", part=part).key for part in (1, 2, None)}) == 3


def test_a_link_to_a_file_elsewhere_has_a_key_too(folder: Path) -> None:
    (folder / "link.png").symlink_to(written(folder.parent, made()))
    assert len({study.key for study in find_studies([str(folder)]).studies}) == 2


def test_notes_are_the_json_files_of_a_folder(folder: Path) -> None:
    assert [visit.name for visit in find_notes([str(folder)]).studies] == ["visit.json"]


def test_a_folder_says_which_pictures_it_leaves_out_beside_slices_and_how_to_get_them(tmp_path: Path) -> None:
    a_series(tmp_path, 3)
    for name in ("chest.png", "hand.png"):
        Image.fromarray(STORED).save(tmp_path / name)
    written(tmp_path, made(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), "mask")
    written(tmp_path, made(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="SR"), "dose report")
    (tmp_path / "visit.txt").write_text("Cough")
    found = find_studies([str(tmp_path)])
    assert [study.path for study in found.studies] == [str(tmp_path)]
    assert found.left_out == [
        "chest.png, hand.png, which are not DICOM, beside a series of slices; give such pictures by their names to have them read",
        "1 file without a picture",
        "2 DICOM files without a picture of a patient (a report, segmentation or plan)",
    ]


def test_a_copy_of_a_picture_or_of_a_folder_of_slices_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    a_series(tmp_path / "ct", 3)
    scan, chest = written(tmp_path, made(Modality="DX"), "a"), tmp_path / "chest.png"
    Image.fromarray(STORED).save(chest)
    first = find_studies([str(tmp_path)])
    assert (len(first.studies), first.left_out) == (3, [])
    shutil.copytree(tmp_path / "ct", tmp_path / "old" / "ct")
    shutil.copy(chest, tmp_path / "old" / "same.png")
    for name in ("b", "old/c"):
        shutil.copy(scan, tmp_path / name)
    found = find_studies([str(tmp_path)])
    assert found.studies == first.studies
    copies = "copies of others (same SOPInstanceUID, or same content): b, c, same.png, a folder of slices; to have one read, give it alone"
    assert found.left_out == [copies]
    by_name = find_studies([str(scan), str(tmp_path / "b")])
    assert [study.name for study in by_name.studies] == ["a"]
    assert by_name.left_out == [copies.replace("b, c, same.png, a folder of slices", "b")]


@pytest.mark.parametrize(("part", "whole"), [("a", "b"), ("b", "a")])
def test_a_folder_of_some_slices_of_another_is_left_out_whichever_comes_first(tmp_path: Path, part: str, whole: str) -> None:
    (tmp_path / whole).mkdir()
    shutil.copytree(a_series(tmp_path / whole, 3), tmp_path / part)
    (tmp_path / part / "001").unlink()
    found = find_studies([str(tmp_path)])
    assert [study.path for study in found.studies] == [str(tmp_path / whole)]
    assert found.left_out == [
        "copies of others (same SOPInstanceUID, or same content): a folder of slices; to have one read, give it alone"
    ]


@pytest.mark.parametrize(
    ("changed", "count"), [({}, 1), ({"PatientID": "other"}, 2), ({"InstanceNumber": 2}, 2), ({"SOPInstanceUID": "1.2.4"}, 2)]
)
@pytest.mark.parametrize("modality", ["DX", "CT"])
def test_pictures_that_share_an_id_only_because_of_an_anonymiser_are_no_copies(
    tmp_path: Path, modality: str, changed: dict[str, Any], count: int
) -> None:
    for name, values in (("a", {}), ("b", changed)):
        (tmp_path / name).mkdir()
        written(tmp_path / name, made(**{"Modality": modality, "SOPInstanceUID": "1.2.3", "InstanceNumber": 1} | values))
    assert len(find_studies([str(tmp_path)]).studies) == count


def test_links_to_folders_that_were_seen_add_no_studies_and_end(tmp_path: Path) -> None:
    Image.fromarray(STORED).save(tmp_path / "scan.png")
    (tmp_path / "below").mkdir()
    for link in ("self", "below/up", "below/too"):
        (tmp_path / link).symlink_to(tmp_path)
    assert [study.name for study in find_studies([str(tmp_path)]).studies] == ["scan.png"]


def test_a_folder_below_that_cannot_be_read_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(STORED).save(tmp_path / "scan.png")
    (tmp_path / "Doe_Jane").mkdir()
    read = Path.iterdir

    def refuse(folder: Path) -> Any:
        if folder.name == "Doe_Jane":
            raise PermissionError(13, "Permission denied")
        return read(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = find_studies([str(tmp_path)])
    assert [study.name for study in found.studies] == ["scan.png"]
    assert found.left_out == ["a subfolder that cannot be read: Permission denied"]
    with pytest.raises(InputError, match="the folder cannot be read: Permission denied"):
        find_studies([str(tmp_path / "Doe_Jane")])


def dicomdir(folder: Path, *datasets: FileDataset) -> Path:
    files = FileSet()
    for number, ds in enumerate(datasets):
        ds.StudyInstanceUID, ds.StudyDate, ds.StudyTime, ds.StudyID, ds.InstanceNumber = "1.2", "20200101", "101010", "1", number
        files.add(ds)
    files.write(folder)
    files._stage["t"].cleanup()  # else it warns when it is collected
    return folder / "DICOMDIR"


def test_a_dicomdir_opens_its_studies(tmp_path: Path) -> None:
    place = {"Modality": "CT", "SeriesInstanceUID": "1.2.1", "SeriesNumber": 3, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    slices = [made(ImagePositionPatient=[0, 0, k], **place) for k in range(3)]
    index = dicomdir(tmp_path / "cd", *slices, made(Modality="DX", SeriesInstanceUID="1.2.2", SeriesNumber=4))
    Image.fromarray(STORED).save(tmp_path / "cd" / "icon.png")
    series, radiograph = find_studies([str(index)]).studies
    assert len(read_study(series.path).images) == 3
    assert read_study(radiograph.path).header.modality == "DX"
    with pytest.raises(InputError, match="DICOMDIR lists 2 studies; give one of its files"):
        read_study(index)
    Path(radiograph.path).unlink()
    found = find_studies([str(index)])
    assert found.left_out == ["1 file listed in DICOMDIR but missing"]
    assert len(read_study(index).images) == 3


def test_a_dicomdir_leads_to_no_file_outside_its_folder(tmp_path: Path) -> None:
    written(tmp_path, made(), "outside")
    index = dicomdir(tmp_path / "cd", made(Modality="DX", SeriesInstanceUID="1.2.2", SeriesNumber=4))
    content = index.read_bytes()
    place, end = content.index(b"PT000000\\ST000000"), content.index(b"IM000000") + 8
    index.write_bytes(content[:place] + b"..\\outside".ljust(end - place) + content[end:])
    with pytest.raises(InputError, match="holds nothing to read"):
        find_studies([str(index)])
