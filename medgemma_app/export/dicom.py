"""Writes a findings report as DICOM, an Encapsulated PDF or a Basic Text SR, in the study of the picture it was written from.

Patient and study identifiers are copied from the source file into the new one, and nowhere else. Every object is new and
UNVERIFIED, an SR also PARTIAL, and its author is a device.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError, OutputError
from medgemma_app.export import pdf
from medgemma_app.export.record import created_at, ordered, sections_of, summary
from medgemma_app.inputs.dicom import Damaged, guarded
from medgemma_app.inputs.files import THE_FOLDER, by_digest, digests_in, looks_like_dicom, sha256_of, shown_name
from medgemma_app.notices import BLIND_SPOT, NOTICE

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom import Dataset

    Scan = str | Path | bytes  # the path of the picture's file, or its content
    Scans = Scan | Sequence[Scan]  # several for a report on several views

ENCAPSULATED_PDF, BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.88.11"
ONLY_DICOM = "only a report on a DICOM picture can be written as DICOM"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
# Of the patient and study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): the elements by which an archive files a report with its pictures.
COPIED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
OPTIONAL = ("PatientAge", "IssuerOfPatientID", "StudyDescription")  # the others are required, but may be empty
HEADINGS = {"findings": ("121070", "Findings", "121071", "Finding"), "impression": ("121072", "Impressions", "121073", "Impression")}


def check_scan(scan: Scans, kind: str) -> None:
    """Raises InputError if no report of that kind on ``scan`` could be filed in DICOM. Called before the model runs."""
    _check_kind(kind)
    first, *_ = scans = _listed(scan)
    if isinstance(first, bytes) or not Path(first).is_dir():
        _headers(scans)
        return
    for path in sorted(path for path in Path(first).rglob("*") if path.is_file()):
        with suppress(InputError):  # of a file that cannot be read, or the DICOMDIR of a CD
            _identifiers(path)
            return
    raise InputError(
        f"{THE_FOLDER} has no DICOM file with a StudyInstanceUID and a SeriesInstanceUID, so a report on it cannot be filed in DICOM"
    )


def check_source(record: Mapping[str, Any], scan: Scans | None) -> Scans:
    """Returns ``scan``. Raises InputError if it is missing, or if the record is not of a findings report on a DICOM picture."""
    _check_kind(str(record.get("kind")))
    facts = (record.get("input") or {}).get("scan") or {}
    if facts.get("format", "DICOM") not in ("DICOM", "DICOM series"):
        raise InputError(f"{ONLY_DICOM}, and {facts.get('name')} is not a DICOM file; use .html or .pdf")
    if scan is None:
        raise InputError("a report in DICOM is filed in the study of its picture; give the file of the picture with --scan (scan=)")
    return scan


def encapsulated_pdf(record: Mapping[str, Any], *, scan: Scans, images: Sequence[tuple[str, Image]] = ()) -> bytes:
    """The PDF of the report as a DICOM object. Raises InputError if ``scan`` is not a DICOM file, or not the one in the record."""
    headers = _headers(_sources(record, scan))
    document = pdf.render_pdf(record, images=images)
    made = _begun(record, headers, ENCAPSULATED_PDF, "DOC")
    return _written(
        made,
        ConversionType="WSD",
        BurnedInAnnotation="YES",
        AcquisitionDateTime=made.ContentDate + made.ContentTime,
        DocumentTitle="Draft findings report, not verified",
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocumentLength=len(document),
        EncapsulatedDocument=document + b"\0" * (len(document) % 2),
    )


def structured_report(record: Mapping[str, Any], *, scan: Scans) -> bytes:
    """The report's text as a Basic Text SR. Raises InputError as ``encapsulated_pdf`` does, and for a record without a date."""
    if record.get("created") is None:
        raise InputError("the record does not say when the report was generated (created), which a structured report must state; use .dcm")
    headers = _headers(_sources(record, scan))
    return _written(
        _begun(record, headers, BASIC_TEXT_SR, "SR"),
        ReferencedPerformedProcedureStepSequence=[],
        PerformedProcedureCodeSequence=[],
        CompletionFlag="PARTIAL",
        CompletionFlagDescription="Draft by a language model",
        ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE",
        CurrentRequestedProcedureEvidenceSequence=[_evidence(headers)],
        ContentSequence=[*_observer(record), *_content(record)],
    )


def _listed(scan: Scans) -> list[Scan]:
    return [scan] if isinstance(scan, str | Path | bytes) else list(scan)


def _opened(scan: Scan) -> BinaryIO:
    return io.BytesIO(scan) if isinstance(scan, bytes) else Path(scan).open("rb")


def _name(scan: Scan) -> str:
    return "the picture" if isinstance(scan, bytes) else THE_FOLDER if Path(scan).is_dir() else shown_name(scan)


def _identifiers(scan: Scan) -> Dataset:
    """The elements that are copied from the source file, and those that identify its picture."""
    try:
        from pydicom import dcmread
    except ModuleNotFoundError as error:
        raise OutputError("DICOM needs the pydicom package; pip install 'medgemma-app[dicom]'") from error
    try:
        with guarded(_name(scan)), _opened(scan) as file:
            if not looks_like_dicom(file):
                raise InputError(f"{_name(scan)} is not a DICOM file; {ONLY_DICOM}")
            wanted = [*COPIED, "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet"]
            header = dcmread(file, specific_tags=wanted, force=True)  # a file without its preamble is read too
            header.decode()  # parses the values now, so that a damaged one raises here and not later
    except Damaged as error:
        raise InputError(f"{_name(scan)} is damaged, or is not a DICOM file; {ONLY_DICOM}") from error
    if missing := [keyword for keyword in ("StudyInstanceUID", "SeriesInstanceUID") if not header.get(keyword)]:
        raise InputError(f"{_name(scan)} has no {' and no '.join(missing)}, so a report on it cannot be filed in DICOM")
    return header


def _headers(files: Sequence[Scan]) -> list[Dataset]:
    """The identifiers of ``files``. Raises InputError unless they are of one patient and one study."""
    headers = [_identifiers(file) for file in files]
    if any(header.get(keyword) != headers[0].get(keyword) for header in headers for keyword in ("PatientID", "StudyInstanceUID")):
        raise InputError("the pictures differ in PatientID or StudyInstanceUID, so a report on them cannot be filed in one study")
    return headers


def _begun(record: Mapping[str, Any], headers: Sequence[Dataset], kind: str, modality: str) -> Dataset:
    """A new object in a new series of the patient and study that the headers name."""
    from pydicom.uid import generate_uid

    source, created = headers[0], created_at(record)
    copied = {keyword: source.get(keyword) or "" for keyword in COPIED if source.get(keyword) or keyword not in OPTIONAL}
    # In local time, as the times of the study are.
    date, time = f"{created.astimezone():%Y%m%d %H%M%S}".split() if created else ("", "")
    return _dataset(
        **copied,
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=kind,
        SOPInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(),
        Modality=modality,
        SeriesNumber=1,
        InstanceNumber=1,
        SeriesDescription="Draft report by a language model, not verified",
        Manufacturer="medgemma-app",
        ManufacturerModelName=_plain((record.get("model") or {}).get("id", "")),
        SoftwareVersions=_plain((record.get("versions") or {}).get("medgemma-app", "")),
        ContentDate=date,
        ContentTime=time,
        VerificationFlag="UNVERIFIED",
        ConceptNameCodeSequence=[_code("18748-4", "LN", "Diagnostic imaging report")],
    )


def _plain(value: object) -> str:
    """A value that fits a DICOM name: ASCII, at most 64 characters, and no backslash, which would separate two values."""
    return re.sub(r"[^ -~]|\\", "_", str(value))[:64]


def _sources(record: Mapping[str, Any], given: Scans) -> list[Scan]:
    """The files that the record was written from, recognised by their digests, so that no report is filed under another patient.

    In a folder, they are looked for by their names. Raises InputError where one is missing.
    """
    inputs, scans = record.get("input") or {}, _listed(given)
    main = digests_in(inputs.get("scan") or {})
    wanted = main | {digest: name for view in inputs.get("views") or () for digest, name in digests_in(view).items()}
    found: dict[str, Scan] = {sha256_of(io.BytesIO(scan)): scan for scan in scans if isinstance(scan, bytes)}
    found |= by_digest([scan for scan in scans if not isinstance(scan, bytes)], wanted.values())
    if not main.keys() <= found.keys():
        raise InputError(
            f"the report was not written from {' and '.join(map(_name, scans))}; give the file or folder that it was written from"
        )
    if others := [str(name) for digest, name in wanted.items() if digest not in found]:
        raise InputError(f"the report was written from {' and '.join(others)} too; give that as well, with another --scan (scan=[...])")
    return [found[digest] for digest in wanted]


def _check_kind(kind: str) -> None:
    if kind != "findings":
        raise InputError("only findings reports can be written as DICOM; use .html, .pdf or .json")


def _dataset(**values: Any) -> Dataset:
    from pydicom import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _item(relation: str, kind: str, name: Dataset, **values: Any) -> Dataset:
    return _dataset(RelationshipType=relation, ValueType=kind, ConceptNameCodeSequence=[name], **values)


def _observer(record: Mapping[str, Any]) -> list[Dataset]:
    """The author is a device (PS3.16 TID 1004)."""
    from pydicom.uid import generate_uid

    model = (record.get("model") or {}).get("id", "an unnamed model")
    return [
        _item("HAS OBS CONTEXT", "CODE", _code("121005", "DCM", "Observer Type"), ConceptCodeSequence=[_code("121007", "DCM", "Device")]),
        _item("HAS OBS CONTEXT", "UIDREF", _code("121012", "DCM", "Device Observer UID"), UID=generate_uid()),
        _item("HAS OBS CONTEXT", "TEXT", _code("121013", "DCM", "Device Observer Name"), TextValue=f"medgemma-app with {model}"),
    ]


def _content(record: Mapping[str, Any]) -> list[Dataset]:
    """The notice, a container for each section, and what the checks found."""
    comment = _code("121106", "DCM", "Comment")
    items = [_item("CONTAINS", "TEXT", comment, TextValue=f"DRAFT. {NOTICE}")]
    for name, heading, text in sections_of(record):
        outer, outer_name, inner, inner_name = HEADINGS.get(name, HEADINGS["findings"])
        said = text if heading.strip(" *_#:").lower() == name in ("", *HEADINGS) else f"{heading}\n{text}"
        finding = _item("CONTAINS", "TEXT", _code(inner, "DCM", inner_name), TextValue=said)
        items.append(
            _item("CONTAINS", "CONTAINER", _code(outer, "DCM", outer_name), ContinuityOfContent="SEPARATE", ContentSequence=[finding])
        )
    issues = ordered(record)
    checks = [summary(issues), *(f"{issue['severity']}: {issue['message']}" for issue in issues), BLIND_SPOT]
    return [*items, _item("CONTAINS", "TEXT", comment, TextValue="Text checks: " + "\n".join(checks))]


def _evidence(pictures: Sequence[Dataset]) -> Dataset:
    """References to the pictures that the report is about, in their series of one study (PS3.3 C.17.2.3)."""
    groups: dict[str, list[Dataset]] = {}
    for picture in pictures:
        instance = _dataset(ReferencedSOPClassUID=picture.SOPClassUID, ReferencedSOPInstanceUID=picture.SOPInstanceUID)
        groups.setdefault(picture.SeriesInstanceUID, []).append(instance)
    series = [_dataset(SeriesInstanceUID=uid, ReferencedSOPSequence=instances) for uid, instances in groups.items()]
    return _dataset(StudyInstanceUID=pictures[0].StudyInstanceUID, ReferencedSeriesSequence=series)


def _written(made: Dataset, **values: Any) -> bytes:
    """The bytes of the file of ``made`` with further ``values``."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset

    made.update(_dataset(**values))
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID, made.file_meta.MediaStorageSOPClassUID = EXPLICIT_LITTLE_ENDIAN, made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    file = io.BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()
