"""DICOM -> one 8-bit picture as a viewer shows it, and the facts of its header that name nobody (needs the extra ``dicom``)."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError
from medgemma_app.inputs import elements as headers
from medgemma_app.inputs import voi
from medgemma_app.inputs.codestream import claimed_size, without_boxes
from medgemma_app.inputs.gates import refuse_size
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.raster import choose_frame
from medgemma_app.inputs.render import Pixels, render, square_pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom import Dataset
    from pydicom.uid import UID

INSTALL = "pip install 'medgemma-app[dicom]'"
LARGEST_INFLATED = 1 << 30
# Not gdcm, which pydicom would try first where it is installed: it ends the whole process on many a damaged frame.
PLUGINS = ("pylibjpeg", "pyjpegls", "pillow", "pydicom")
# What pydicom and the decoders under it raise on damaged files: values are parsed when they are first looked at, by
# conversions of every kind, and the decoders' own errors arrive as RuntimeError.
DAMAGE = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, ArithmeticError,
    RuntimeError, RecursionError, MemoryError, AssertionError, struct.error, zlib.error,
)  # fmt: skip


class NoPicture(InputError):
    """A DICOM object without pixels: a report, a directory, a plan."""


class ExtraMissing(InputError):
    """pydicom is not installed."""


class Damaged(InputError):
    """A file that begins like DICOM and cannot be read as such."""


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
    except (*DAMAGE, BytesLengthException, InvalidDicomError):
        # "from None": the decoder's own message may quote the header.
        raise Damaged(f"{name} is a damaged DICOM file or none at all; export it again, or export it as PNG") from None
    finally:
        log.disabled = before


def decode_dicom(
    file: BinaryIO, name: str, *, frame: int | None = None, window: str | None = None
) -> tuple[Image, dict[str, Any], tuple[str, ...]]:
    """The picture in ``file`` as L or RGB, its facts, and what deserves a warning.

    ``frame`` counts from 1; ``window`` is "C/W" in modality units. Raises InputError.
    """
    chosen = None if window is None else voi.parse_window(window)
    with guarded(name):
        header = read_header(file, name)
        _refuse_film(header, name)
        number = choose_frame(frame, int(header.get("NumberOfFrames") or 1), name, instead=", or show all as slices with --slices")
        flat = headers.merged(header, number - 1)
        pixels = decode_pixels(header, name, number - 1)
        picture, shown = render(pixels, flat, name, chosen)
        if chosen and not shown:
            raise InputError(f"{name} is a colour picture, which has no window; leave the window out")
        facts = {**_facts(header, flat), "frame": number, "frames": int(header.get("NumberOfFrames") or 1), "window": shown}
        return square_pixels(picture, flat), facts, _doubts(flat, name, shown)


def read_header(file: BinaryIO, name: str, *, tags: tuple[str, ...] = headers.READ, pixels: bool = True) -> Dataset:
    """The elements of ``tags`` only, with the transfer syntax guessed where the file does not say. Raises InputError."""
    from pydicom import dcmread
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _refuse_bomb(file, name)
    header = dcmread(file, force=True, specific_tags=list(tags), stop_before_pixels=not pixels)
    if "Rows" not in header or "Columns" not in header:
        if "Image Storage" in UID(str(header.file_meta.get("MediaStorageSOPClassUID"))).name:
            raise ValueError("a picture that is cut short before its size")
        raise NoPicture(f"{name} holds no picture; give a DICOM image (not a report, directory, plan or waveform)")
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return header


def _refuse_film(header: Dataset, name: str) -> None:
    from pydicom.uid import MPEGTransferSyntaxes

    if header.file_meta.TransferSyntaxUID in MPEGTransferSyntaxes:
        raise InputError(f"{name} is a film (MPEG or HEVC), and films are not read; export the picture that matters")


def _refuse_bomb(file: BinaryIO, name: str) -> None:
    """A deflated file is inflated by pydicom in one go: see first that it stays within a gigabyte."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if file.read(132)[128:] == b"DICM":
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            if len(unpacker.decompress(file.read(), LARGEST_INFLATED)) == LARGEST_INFLATED:
                raise InputError(f"{name} unpacks to more than a gigabyte; export it smaller")
    file.seek(0)


def decode_pixels(header: Dataset, name: str, index: int) -> Pixels:
    """One frame as stored: [rows, columns], or [rows, columns, 3] as RGB. Raises InputError when no decoder is installed."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import RLELossless

    refuse_size(int(header.Columns), int(header.Rows), name)
    syntax = header.file_meta.TransferSyntaxUID
    plugin = ""
    if syntax.is_encapsulated:
        available = _decoders(syntax, name)
        plugin = next((known for known in PLUGINS if known in available), "")
        if not plugin:
            raise InputError(f"{name} is compressed as {syntax.name}, which needs: {INSTALL}")
        if syntax != RLELossless:
            header, index = _single_frame(header, index), 0
    pixels: Pixels = pixel_array(header, index=index, view_only=True, decoding_plugin=plugin)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _decoders(syntax: UID, name: str) -> tuple[str, ...]:
    """Those installed for a compression. Raises InputError for one that no decoder knows."""
    from pydicom.pixels import get_decoder

    try:
        available: tuple[str, ...] = get_decoder(syntax).available_plugins
    except NotImplementedError as error:
        raise InputError(f"{name} is encoded in a way that cannot be read ({syntax.name}); export it uncompressed") from error
    return available


def _single_frame(header: Dataset, index: int) -> Dataset:
    """The header with that one compressed frame alone. Raises ValueError when the frame is of another size than the header says."""
    from pydicom.encaps import encapsulate, get_frame

    frame = without_boxes(get_frame(header.PixelData, index, number_of_frames=int(header.get("NumberOfFrames") or 1)))
    if claimed_size(frame) != (header.Rows, header.Columns):  # its decoder would believe it, and might never end
        raise ValueError("the compressed frame has another size")
    single = _without(header, ("PixelData", "NumberOfFrames"))
    single.PixelData = encapsulate([frame])
    single.NumberOfFrames = 1
    return single


def _without(header: Dataset, keywords: tuple[str, ...]) -> Dataset:
    """A header that lacks these elements; setting them in a plain copy would set them in the first header too."""
    from pydicom.datadict import tag_for_keyword

    tags = {tag_for_keyword(keyword) for keyword in keywords}
    rest = copy(header)
    rest._dict = {tag: element for tag, element in header._dict.items() if tag not in tags}
    return rest


def _facts(header: Dataset, flat: Dataset) -> dict[str, Any]:
    return {
        "format": "DICOM",
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "width": int(header.Columns),
        "height": int(header.Rows),
        "mode": ImageHeader.from_dict(flat).photometric_interpretation,
        "bit_depth": headers.bits_of(header),
        "header": ImageHeader.from_dict(flat).to_dict(),
    }


def _doubts(header: Dataset, name: str, shown: dict[str, Any] | None) -> tuple[str, ...]:
    useless = shown is not None and header.get("WindowWidth") is not None and "percentiles" in shown["from"]
    found = (f"{name} has a window that cannot be applied; percentiles of its values are shown instead",) * useless
    return (*headers.doubts_of(header, name), *found)
