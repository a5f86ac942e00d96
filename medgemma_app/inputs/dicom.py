"""Reads the header of a DICOM file (needs the extra ``dicom``).

Only the elements named here are read. Those that name the patient are kept as digests only, to distinguish patients.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError, MedGemmaError
from medgemma_app.inputs.files import DAMAGE
from medgemma_app.inputs.header import HEADER_KEYWORDS, OF_PATIENT, ImageHeader, take_patient

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

INSTALL = "pip install 'medgemma-app[dicom]'"
LARGEST_INFLATED = 1 << 30
LARGEST_META, META_LENGTH = 1 << 20, b"\x02\0\0\0UL\4\0"
MOST_READS = 200_000  # of pieces of a file or sequence: enough for 100,000 elements, and takes about a second
LARGEST_NESTED = 1 << 20  # bytes of a sequence inside a sequence: look-up tables are the largest
_PIXELS = (
    "SOPClassUID", "ImageType", "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "FloatPixelPaddingValue",
    "DoubleFloatPixelPaddingValue", "PixelAspectRatio", "ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape", "ShutterShape",
    "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge", "ShutterLowerHorizontalEdge",
    "CenterOfCircularShutter", "RadiusOfCircularShutter", "VerticesOfThePolygonalShutter",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
_PALETTES = tuple(
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
OF_SLICE = ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation")  # its position, which each frame of a file may have
READ = ("SOPInstanceUID", *HEADER_KEYWORDS, *_PIXELS, *_PALETTES)
STORAGE = "1.2.840.10008.5.1.4.1.1."  # the UIDs of the classes of stored objects begin with this (PS3.4 B.5)
# What shows no patient even where it holds pixels, and what may show none: by modality, or by the rest of the UID or its first part.
NO_PATIENT = {
    "a segmentation, which is a mask drawn over other pictures": {"66.4", "66.7", "66.8", "SEG"},
    "a map of radiotherapy doses": {"481.2", "RTDOSE"},
    "a presentation state, which says how other pictures are shown": {"11", "PR"},
    "a structured report": {"88", "SR", "KO"},
    "a document": {"104", "DOC"},
}
DOUBTFUL = {
    "a radiotherapy image (a portal image, or one computed for planning)": {"481.1", "481.23", "481.24", "RTIMAGE"},
    "a parametric map (computed values, not an acquired image)": {"30"},
    "a secondary capture, which may be a screenshot, a scanned document or text": {"7"},
}
NEWER_SYNTAXES = {  # pydicom has no names for them yet
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless", "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL", "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}  # fmt: skip


class NoPicture(InputError):
    """A DICOM object that is not a picture of a patient: a report, a directory, a plan, a segmentation."""


class ExtraMissing(InputError):
    """pydicom is not installed."""


class Damaged(InputError):
    """A file that begins like DICOM but cannot be read as DICOM."""


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Damage becomes one InputError, and pydicom's warnings and log lines are held back: they quote header values."""
    try:
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise ExtraMissing(f"{name} is a DICOM file, and reading it needs: {INSTALL}") from error
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MedGemmaError:
        raise
    except (*DAMAGE, BytesLengthException, InvalidDicomError) as error:
        # The decoder's own message may quote the header.
        cause = MemoryError() if isinstance(error, MemoryError) else RuntimeError(type(error).__name__)
        raise Damaged(f"{name} is damaged, or is not a DICOM file; export it again, or export it as PNG") from cause
    finally:
        log.disabled = before


class _Bounded:
    """A file that allows a limited number of reads, since megabytes of zeros would be millions of empty elements."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MOST_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("more elements than a picture has")
        return self._file.read(size)


def read_header(file: BinaryIO, name: str, *, tags: Sequence[str] = READ, pixels: bool = True) -> Dataset:
    """Reads the elements of ``tags`` only. Guesses the transfer syntax if the file does not state it. Raises InputError."""
    from pydicom import dcmread

    bounded = _Bounded(file)
    syntax = _check_encoding(bounded, name)
    wanted = [*tags, "SOPClassUID", "Modality", *OF_PATIENT]
    header = dcmread(bounded, force=True, specific_tags=wanted, stop_before_pixels=not pixels)
    if syntax:
        header.file_meta.TransferSyntaxUID = syntax
    _parse_sequences(header)
    return _checked(header, name)


def _parse_sequences(header: Dataset) -> None:
    """Parses the sequences, which pydicom would do on access, with a limit on items: empty ones take a minute for every 16 MB."""
    from pydicom import DataElement
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_sequence

    for tag, raw in list(header._dict.items()):
        if isinstance(raw, RawDataElement) and raw.value and dictionary_VR(tag) == "SQ":
            pieces = _Bounded(io.BytesIO(raw.value))
            sequence = read_sequence(pieces, raw.is_implicit_VR, raw.is_little_endian, len(raw.value), ["iso8859"])
            header._dict[tag] = DataElement(tag, "SQ", sequence, already_converted=True)


def read_directory(file: BinaryIO, name: str) -> list[list[str]]:
    """The paths of the files that a DICOMDIR lists, in parts. Raises InputError."""
    from pydicom import dcmread

    with guarded(name):
        header = dcmread(_Bounded(file), force=True, specific_tags=["DirectoryRecordSequence"])
        _parse_sequences(header)
        listed = [record.get("ReferencedFileID") for record in header.get("DirectoryRecordSequence") or []]
        return [[ids] if isinstance(ids, str) else [str(part) for part in ids] for ids in listed if ids]


def header_of(dataset: Dataset, name: str) -> Dataset:
    """Like ``read_header``, for a Dataset in memory, which stays unchanged."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset

    found = [dataset.get_item(keyword) for keyword in (*READ, *OF_PATIENT)]
    header = Dataset({element.tag: element for element in found if element is not None})
    header.file_meta = FileMetaDataset(getattr(dataset, "file_meta", {}))
    implicit, little = dataset.original_encoding
    header.set_original_encoding(bool(implicit), little is not False)
    return _checked(header, name)


def _checked(header: Dataset, name: str) -> Dataset:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    header.patient = take_patient(header)
    if "Rows" not in header or "Columns" not in header:
        kind = class_of(header).name
        if "Image Storage" in kind:
            raise ValueError("a picture that is cut short before its size")
        what = f" ({kind})" if kind.endswith("Storage") else ""
        raise NoPicture(f"{name} holds no picture{what}; give a DICOM image (not a report, directory, plan or waveform)")
    if shown := _listed(NO_PATIENT, header):
        raise NoPicture(f"{name} is {shown}; give the picture that it belongs to")
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        explicit = ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return header


def class_of(header: Dataset) -> UID:
    """The class of the object; its name is the UID itself where pydicom has no name for it."""
    from pydicom.uid import UID

    return UID(str(header.get("SOPClassUID") or getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID") or ""))


def _listed(kinds: Mapping[str, Collection[str]], header: Dataset) -> str | None:
    """What the object is, by its class or modality: one of ``kinds``, or None."""
    number = class_of(header).removeprefix(STORAGE)
    codes = {number, number.partition(".")[0], str(header.get("Modality") or "").strip().upper()}
    return next((kind for kind, listed in kinds.items() if not codes.isdisjoint(listed)), None)


def _check_encoding(file: _Bounded, name: str) -> UID:
    """Returns the transfer syntax, which is empty if the file does not state it, and rewinds the file.

    Raises InputError for encodings in which not even the header can be read, and for a deflated file of over a gigabyte.
    """
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MPEGTransferSyntaxes

    start = file.read(144)
    if start[128:132] != b"DICM":
        file.seek(0)
        return UID("")
    length = min(struct.unpack("<I", start[140:])[0], LARGEST_META) if start[132:140] == META_LENGTH else LARGEST_META
    meta_only = _Bounded(io.BytesIO(start[132:] + file.read(length)))  # a second, wrong one may follow
    meta = read_dataset(meta_only, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    syntax = UID(str(meta.get("TransferSyntaxUID") or ""))
    if syntax in MPEGTransferSyntaxes:
        raise InputError(f"{name} is a video (MPEG or HEVC), which cannot be read; export the frame that matters as a picture")
    if syntax == DeflatedExplicitVRLittleEndian:  # pydicom inflates it in one go
        file.seek(132 + meta_only.tell())
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        if len(unpacker.decompress(file.read(), LARGEST_INFLATED)) == LARGEST_INFLATED:
            raise InputError(f"{name} unpacks to more than a gigabyte; export it smaller")
    elif syntax and (syntax.is_private or syntax.name == syntax):
        raise unreadable(syntax, name)
    file.seek(0)
    return syntax


def unreadable(syntax: UID, name: str) -> InputError:
    """The error for a transfer syntax that nothing here can decode, by its name."""
    known = "".join(character for character in NEWER_SYNTAXES.get(syntax, syntax.name) if character.isprintable())[:80]
    shown = f"the private transfer syntax {known}" if syntax.is_private else known
    return InputError(f"{name} is encoded in a way that cannot be read ({shown}); export it uncompressed (Explicit VR Little Endian)")


def header_warnings(header: Dataset, name: str) -> tuple[str, ...]:
    """Warnings about facts that the header states."""
    facts, found = ImageHeader.from_dict(header), []
    if doubtful := _listed(DOUBTFUL, header):
        found.append(f"{name} is {doubtful}; give the original picture from the scanner, if there is one")
    if facts.presentation_intent == "FOR PROCESSING":
        found.append(f"{name} holds raw detector data (FOR PROCESSING); give the picture made for viewing, if there is one")
    if facts.burned_in_annotation == "YES":
        found.append(f"{name} has text burnt into the picture, which may name a person; check it")
    polarity, shape = header.get("PhotometricInterpretation"), _presentation(header)
    if (polarity, shape) in (("MONOCHROME2", "INVERSE"), ("MONOCHROME1", "IDENTITY")):
        found.append(f"{name} says both {polarity} and presentation {shape}, which contradict each other; low values are shown bright")
    return tuple(found)


def is_inverse(header: Dataset) -> bool:
    """True where low values are bright."""
    return bool(header.PhotometricInterpretation == "MONOCHROME1" or _presentation(header) == "INVERSE")


def _presentation(header: Dataset) -> str:
    return str(header.get("PresentationLUTShape") or "").strip().upper()


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The finite numbers of an element with one or several values; empty when any of them is not a number."""
    found = several_numbers(header, keyword)
    return [] if None in found else [number for number in found if number is not None]


def several_numbers(header: Dataset, keyword: str) -> list[float | None]:
    """The values of an element, with None in place of those that are not finite numbers."""
    value = header.get(keyword)
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return [_number(item) for item in (value if several else [] if value in (None, "") else [value])]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def for_frame(header: Dataset, frame: int) -> Dataset:
    """The header as it holds for one frame (from 0): an enhanced multi-frame file keeps per-frame values in nested groups."""
    from pydicom import Dataset

    flat = Dataset()
    flat.set_original_encoding(*header.original_encoding)
    flat.update(header)
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*(header.get("SharedFunctionalGroupsSequence") or [])[:1], *per_frame[frame : frame + 1]]
    if any(getattr(group.get_item(tag), "length", 0) > LARGEST_NESTED for group in groups for tag in group.keys()):  # noqa: SIM118
        raise ValueError("more of a frame than a header says")
    for sequence in (element for group in groups for element in group if element.VR == "SQ"):
        for item in (sequence.value or [])[:1]:
            flat.update({element.tag: element for element in item if element.keyword in READ or element.keyword in OF_SLICE})
    return flat
