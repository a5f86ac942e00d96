"""The stored pixels of one DICOM frame, whatever their compression.

Where the header and the pixels disagree, the pixels are read as a viewer would read them, with a warning.
"""

from __future__ import annotations

import struct
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.dicom import INSTALL, for_frame, numbers, unreadable
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.levels import refuse_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.uid import UID

Pixels: TypeAlias = "NDArray[Any]"
# Not gdcm, which pydicom would try first if it is installed: it crashes the process on many damaged frames.
PLUGINS = ("pylibjpeg", "pyjpegls", "pillow", "pydicom")
JPEG, JPEG_2000, JP2 = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
# Start of frame in every process of JPEG (not the tables C4 and CC, nor the reserved C8), and in JPEG-LS.
STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
SEQUENTIAL, START_OF_SCAN, LAST_COEFFICIENT = (0xC0, 0xC1), 0xDA, 63
MOST_CORNERS = 2000  # of a polygonal shutter
MODALITY_TRANSFORM = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType")
NOT_TRANSFORMED = ("XA", "RF")  # their modality transform is for measuring, not for viewing (PS3.3 C.8.7.1.1.2); DCMTK ignores it too


@dataclass(frozen=True)
class StoredFrame:
    """The stored pixels of one frame, [rows, columns], or [rows, columns, 3] as RGB; its own header, the name of its file, and warnings."""

    pixels: Pixels
    header: Dataset
    name: str
    warnings: tuple[str, ...]

    def is_colour(self) -> bool:
        return self.pixels.ndim == 3 or self.header.PhotometricInterpretation == "PALETTE COLOR"

    def visible(self) -> NDArray[np.bool_] | None:
        """The pixels that no display shutter hides; None where there is none."""
        return _visible_part(self.header, (self.pixels.shape[0], self.pixels.shape[1]))


def bits_of(header: Dataset) -> int:
    """The bits stored per pixel; float pixel data state only the allocated bits (PS3.3 C.7.6.24)."""
    return int(header.get("BitsStored") or header.BitsAllocated)


def decode_frame(header: Dataset, name: str, index: int) -> StoredFrame:
    """The frame with that index, from 0. Raises InputError when no decoder is installed."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import ExplicitVRBigEndian, RLELossless

    refuse_size(int(header.Columns), int(header.Rows), name)
    flat, syntax = for_frame(header, index), header.file_meta.TransferSyntaxUID
    if ImageHeader.from_dict(flat).modality in NOT_TRANSFORMED:
        for keyword in MODALITY_TRANSFORM:
            flat.pop(keyword, None)
    warnings: tuple[str, ...] = ()
    plugin = _plugin(syntax, name) if syntax.is_encapsulated else ""
    has_spare = "PixelData" in header and int(header.get("SamplesPerPixel") or 1) == 1 and 1 < header.BitsStored < header.BitsAllocated
    if syntax.is_encapsulated and syntax != RLELossless:
        header, warnings = _single_frame(header, index, name)
        index, has_spare = 0, False
    elif has_spare:  # pydicom would take the lowest bits, whatever the high bit is
        header = _with(header, BitsStored=header.BitsAllocated, HighBit=header.BitsAllocated - 1)
    pixels = pixel_array(header, index=index, view_only=True, decoding_plugin=plugin)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if syntax == ExplicitVRBigEndian and header.BitsAllocated == 8 and header["PixelData"].VR == "OW" and pixels.size % 2 == 0:
        pixels, warnings = _smoother(pixels, name)
    elif has_spare:
        pixels, warnings = _used_bits(pixels, flat, name)
    return StoredFrame(pixels, flat, name, warnings)


def _smoother(pixels: Pixels, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Big-endian words have their two bytes swapped, but many writers do not swap them. The smoother picture is taken to be right."""
    import numpy as np

    turned = pixels.reshape(-1, 2)[:, ::-1].reshape(pixels.shape)
    unturned, as_written = (np.abs(np.diff(each.astype(np.int16), axis=1)).sum() for each in (pixels, turned))
    if unturned <= as_written:
        return pixels, ()
    return turned, (f"{name} has its pixels in another byte order than its header says; the order that gives a smooth picture is used",)


def _used_bits(pixels: Pixels, header: Dataset, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """The bits that hold the values (PS3.5 8.1.1); others may hold an overlay."""
    import numpy as np

    bits, above = int(header.BitsStored), max(0, int(header.get("HighBit") or 0) + 1 - int(header.BitsStored))
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    seen, mask, warnings = int(np.bitwise_or.reduce(unsigned, axis=None)), (1 << bits) - 1, []
    if above and seen <= mask and seen & ((1 << above) - 1):
        warnings.append(f"{name} says that its values are in the upper bits, but they are in the lower bits, from which they are read")
        above = 0
    signed = pixels.dtype.kind == "i"
    if not signed and seen & ~(mask << above):
        warnings.append(f"{name} has bits set besides the {bits} of its picture (an overlay, or a wrong header); they are ignored")
    if not above and not seen & ~mask and not signed:
        return pixels, tuple(warnings)
    values = unsigned >> above & np.array(mask, unsigned.dtype)
    if signed:
        sign = np.array(1 << bits - 1, unsigned.dtype)
        values = ((values ^ sign) - sign).view(pixels.dtype)
    return values, tuple(warnings)


def _plugin(syntax: UID, name: str) -> str:
    """The decoder to use. Raises InputError if none is installed or none exists."""
    from pydicom.pixels import get_decoder

    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError:
        raise unreadable(syntax, name) from None
    plugin = next((known for known in PLUGINS if known in available), "")
    if not plugin:
        raise InputError(f"{name} is compressed as {syntax.name}, which needs: {INSTALL}")
    return plugin


def _single_frame(header: Dataset, index: int, name: str) -> tuple[Dataset, tuple[str, ...]]:
    """The header with that one compressed frame alone, corrected by its code stream, and warnings.

    Raises ValueError when the frame is of another size than the header says: its decoder would follow the frame, and might never end.
    """
    from pydicom.encaps import encapsulate, get_frame

    frame = get_frame(header.PixelData, index, number_of_frames=int(header.get("NumberOfFrames") or 1))
    stream = read_code_stream(frame)
    if stream is None or (stream.rows, stream.columns) != (header.Rows, header.Columns):
        raise ValueError("the compressed frame has another size")
    changed: dict[str, Any] = {"PixelData": encapsulate([stream.frame]), "NumberOfFrames": 1}
    warnings = [f"{name} has a JPEG scan that claims to end too early; it is read to the end"] if stream.mended else []
    if stream.is_signed is not None and stream.is_signed != bool(header.PixelRepresentation):
        changed["PixelRepresentation"] = int(stream.is_signed)
        kinds = ("signed", "unsigned") if stream.is_signed else ("unsigned", "signed")
        warnings.append(f"{name} has {kinds[0]} values, but its header says {kinds[1]}; they are read as {kinds[0]}")
    if header.BitsStored < stream.bits <= header.BitsAllocated:
        changed |= {"BitsStored": stream.bits, "HighBit": stream.bits - 1}
        warnings.append(
            f"{name} has values of {stream.bits} bits, but its header says {header.BitsStored}; all {stream.bits} bits are read"
        )
    return _with(header, **changed), tuple(warnings)


def _with(header: Dataset, **values: Any) -> Dataset:
    """A copy of the header with other values; setting them in a plain copy would change the original too."""
    from pydicom.datadict import tag_for_keyword

    tags = {tag_for_keyword(keyword) for keyword in values}
    changed = copy(header)
    changed._dict = {tag: element for tag, element in header._dict.items() if tag not in tags}
    for keyword, value in values.items():
        setattr(changed, keyword, value)
    return changed


@dataclass(frozen=True)
class CodeStream:
    """What a compressed frame says about itself, which decoders follow whatever the DICOM header says."""

    rows: int
    columns: int
    bits: int
    is_signed: bool | None  # None where the compression does not say
    frame: bytes  # bare, and mended
    mended: bool = False


def read_code_stream(frame: bytes) -> CodeStream | None:
    """The header of a JPEG, JPEG-LS or JPEG 2000 frame; None for any other. Raises struct.error when it is cut short."""
    if frame.startswith(JP2):  # as some writers do; decoders hang on damaged boxes
        frame = frame[max(0, frame.find(JPEG_2000)) :]
    if frame.startswith(JPEG_2000):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        (depth,) = struct.unpack_from(">B", frame, 42)
        return CodeStream(bottom - top, right - left, (depth & 0x7F) + 1, bool(depth & 0x80), frame)
    return _read_jpeg(frame) if frame.startswith(JPEG) else None


def _read_jpeg(frame: bytes) -> CodeStream | None:
    place, found = len(JPEG), None
    while place < len(frame):
        prefix, marker = struct.unpack_from(">BB", frame, place)
        if prefix != 0xFF:
            return None
        if marker in STARTS_OF_FRAME:
            bits, rows, columns = struct.unpack_from(">BHH", frame, place + 4)
            found = CodeStream(rows, columns, bits, None, frame)
            if marker not in SEQUENTIAL:
                return found
        if marker == START_OF_SCAN and found:
            # A sequential scan has all coefficients; some writers say that it ends with coefficient 0.
            end = place + 6 + 2 * struct.unpack_from(">B", frame, place + 4)[0]
            if frame[end : end + 1] == b"\0":
                return replace(found, frame=frame[:end] + bytes([LAST_COEFFICIENT]) + frame[end + 1 :], mended=True)
            return found
        # A marker may be preceded by any number of FF; every other segment here has a length.
        place += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return found


def is_padding(source: Pixels, header: Dataset) -> NDArray[np.bool_]:
    """Which of the values are padding (PS3.3 C.7.5.1.1.2). Signed ones may be written as unsigned numbers."""
    import numpy as np

    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(source.dtype.str[1:], "")
    said = numbers(header, f"{kind}PixelPaddingValue") + numbers(header, "PixelPaddingRangeLimit")
    if not said:
        return np.zeros(source.shape, bool)
    if source.dtype.kind != "f":
        bits = 8 * source.dtype.itemsize
        wrapped = np.array([int(number) % (1 << bits) for number in said], np.uint64)
        said = wrapped.astype(f"u{source.dtype.itemsize}").view(source.dtype).tolist()
    return np.asarray((source >= min(said)) & (source <= max(said)))


def _visible_part(header: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The pixels that no display shutter hides (PS3.3 C.7.6.11); None where there is none, or one that would hide everything."""
    import numpy as np
    from PIL import Image, ImageDraw

    shapes = header.get("ShutterShape") or ()
    visible, drawn = np.ones(shape, bool), False
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    for kind in (shapes,) if isinstance(shapes, str) else shapes:
        edges = [numbers(header, f"Shutter{side}Edge") for side in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")]
        center, radius = numbers(header, "CenterOfCircularShutter"), numbers(header, "RadiusOfCircularShutter")
        corners = numbers(header, "VerticesOfThePolygonalShutter")
        if kind == "RECTANGULAR" and all(edges):
            left, right, top, bottom = (edge[0] for edge in edges)
            part = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        elif kind == "CIRCULAR" and len(center) == 2 and radius:
            part = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius[0] ** 2
        elif kind == "POLYGONAL" and 6 <= len(corners) <= MOST_CORNERS and len(corners) % 2 == 0:
            mask = Image.new("1", (shape[1], shape[0]))
            ImageDraw.Draw(mask).polygon([(across - 1, down - 1) for down, across in zip(corners[::2], corners[1::2], strict=True)], fill=1)
            part = np.asarray(mask)
        else:
            continue
        visible, drawn = visible & part, True
    return visible if drawn and visible.any() and not visible.all() else None
