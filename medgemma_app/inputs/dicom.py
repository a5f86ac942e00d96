"""DICOM -> one 8-bit picture as a viewer shows it, and the facts of its header that name nobody (needs the extra ``dicom``)."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError
from medgemma_app.inputs import header as headers
from medgemma_app.inputs import voi
from medgemma_app.inputs.gates import LARGEST_SIDE, refuse_size
from medgemma_app.inputs.raster import choose_frame
from medgemma_app.inputs.scaling import FEWEST_LEVELS, apply_table, counts, limits, scale_numbers, to_levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

    Pixels = NDArray[Any]

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


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Damage becomes one InputError, and pydicom's warnings and log lines are held back: they quote header values."""
    try:
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise InputError(f"{name} is a DICOM file, and reading it needs: {INSTALL}") from error
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (*DAMAGE, BytesLengthException, InvalidDicomError):
        # "from None": the decoder's own message may quote the header.
        raise InputError(f"{name} is a damaged DICOM file or none at all; export it again, or export it as PNG") from None
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
        number = choose_frame(frame, int(header.get("NumberOfFrames") or 1), name)
        flat = headers.merged(header, number - 1)
        pixels = decode_pixels(header, name, number - 1)
        picture, shown = render(pixels, flat, name, chosen)
        if chosen and not shown:
            raise InputError(f"{name} is a colour picture, which has no window; leave the window out")
        facts = {**_facts(header, flat), "frame": number, "frames": int(header.get("NumberOfFrames") or 1), "window": shown}
        return _square_pixels(picture, flat), facts, _doubts(flat, name, shown)


def read_header(file: BinaryIO, name: str, *, tags: tuple[str, ...] = headers.READ, pixels: bool = True) -> Dataset:
    """The elements of ``tags`` only, with the transfer syntax guessed where the file does not say. Raises InputError."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _refuse_bomb(file, name)
    header = dcmread(file, force=True, specific_tags=list(tags), stop_before_pixels=not pixels)
    if "Rows" not in header or "Columns" not in header:
        raise NoPicture(f"{name} holds no picture; give a DICOM image (not a report, directory, plan or waveform)")
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return header


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
    from pydicom.pixels import get_decoder, pixel_array

    refuse_size(int(header.Columns), int(header.Rows), name)
    syntax = header.file_meta.TransferSyntaxUID
    plugin = ""
    if syntax.is_encapsulated:
        available = get_decoder(syntax).available_plugins
        plugin = next((known for known in PLUGINS if known in available), "")
        if not plugin:
            raise InputError(f"{name} is compressed as {syntax.name}, which needs: {INSTALL}")
    pixels: Pixels = pixel_array(header, index=index, view_only=True, decoding_plugin=plugin)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def render(pixels: Pixels, header: Dataset, name: str, window: voi.Window | None = None) -> tuple[Image, dict[str, Any] | None]:
    """Stored pixels -> the picture a viewer shows, and the facts of the window it is shown in."""
    from PIL import Image, ImageChops

    if pixels.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
        return Image.fromarray(_colour(pixels, header)), None
    grey, shown = _grey(pixels, header, name, window)
    picture = Image.fromarray(grey)
    inverse = header.PhotometricInterpretation == "MONOCHROME1"
    return ImageChops.invert(picture) if inverse else picture, shown


def _colour(pixels: Pixels, header: Dataset) -> NDArray[np.uint8]:
    """RGB of 8 bits; pydicom has turned YBR into RGB already."""
    import numpy as np
    from pydicom.pixels import apply_color_lut

    bits = int(header.BitsStored)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        bits = 8 * pixels.dtype.itemsize
    return (pixels >> max(0, bits - 8)).astype(np.uint8)[..., :3]


def _grey(pixels: Pixels, header: Dataset, name: str, window: voi.Window | None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2:
        return _grey_numbers(pixels, header, name, window)
    values = voi.modality_values(stored_values(pixels.dtype), header)
    table, shown = _display_table(values, as_index(pixels), header, name, window)
    return apply_table(as_index(pixels), table, pixels.shape), shown


def stored_values(dtype: np.dtype[Any]) -> Pixels:
    """The value of every bit pattern a pixel of ``dtype`` (8 or 16 bits, signed or not) may have."""
    import numpy as np

    return np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)


def as_index(pixels: Pixels) -> Pixels:
    """The pixels' bit patterns, as positions in a table of stored_values."""
    return pixels.view(f"u{pixels.dtype.itemsize}")


def _grey_numbers(pixels: Pixels, header: Dataset, name: str, window: voi.Window | None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Floats and 32-bit integers, as radiotherapy doses and parameter maps use them: too many values for a table."""
    values = voi.modality_values(pixels, header)
    chosen = window or voi.header_window(header)
    if chosen is not None:
        return to_levels(voi.windowed(values, chosen), 0, 1), chosen.facts()
    grey, low, high = scale_numbers(values, name)
    return grey, _spread_facts(low, high)


def _display_table(
    values: NDArray[np.float64], index: Pixels, header: Dataset, name: str, window: voi.Window | None
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The grey level of every stored value: by the window asked for, the header's table or window, or the percentiles."""
    import numpy as np

    table = voi.voi_table(header)
    if window is None and table is not None:
        entries, top = voi.look_up(values, table)
        return to_levels(entries, 0, top), {"from": "VOI LUT"}
    chosen = window or voi.header_window(header)
    if chosen is not None:
        return to_levels(voi.windowed(values, chosen), 0, 1), chosen.facts()
    full = (1 << int(header.BitsStored)) - 1
    if full <= 255 and np.array_equal(values, np.arange(256)):  # 8-bit pictures are shown as they are, as from any other file
        return to_levels(values, 0, full), {"from": "full range", "low": 0, "high": full}
    low, high = _spread(values, index, header, name)
    return to_levels(values, low, high), _spread_facts(low, high)


def shown_range(pixels: Pixels, header: Dataset, name: str) -> voi.Window:
    """The percentiles of one slice as a window, to show its whole series in."""
    values = voi.modality_values(stored_values(pixels.dtype), header)
    low, high = _spread(values, as_index(pixels), header, name)
    return voi.Window((low + high) / 2, high - low, "LINEAR_EXACT", "percentiles 0.1 and 99.9 of the middle slice")


def _spread(values: NDArray[np.float64], index: Pixels, header: Dataset, name: str) -> tuple[float, float]:
    """The percentiles of what is no padding."""
    import numpy as np

    weights = counts(index)
    stored = stored_values(np.dtype(f"{'i' if header.PixelRepresentation else 'u'}{index.dtype.itemsize}"))
    padding = headers.numbers(header, "PixelPaddingValue") + headers.numbers(header, "PixelPaddingRangeLimit")
    if padding:
        weights[: len(stored)][(stored >= min(padding)) & (stored <= max(padding))] = 0
    used = stored[np.flatnonzero(weights)]
    if not used.size or int(used.max()) - int(used.min()) < FEWEST_LEVELS:
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")
    return limits(values, weights)


def _spread_facts(low: float, high: float) -> dict[str, Any]:
    return {"from": "percentiles 0.1 and 99.9", "low": low, "high": high}


def _square_pixels(picture: Image, header: Dataset) -> Image:
    """Enlarged along the coarser direction where pixels are not square, as a viewer does; absurd ratios are left alone."""
    from PIL import Image

    ratio = headers.numbers(header, "PixelSpacing") or headers.numbers(header, "PixelAspectRatio")
    if len(ratio) != 2 or min(ratio) <= 0 or not 1.01 < max(ratio) / min(ratio) <= 4:
        return picture
    down, across = (side / min(ratio) for side in ratio)
    width, height = round(picture.width * across), round(picture.height * down)
    return picture if max(width, height) > LARGEST_SIDE else picture.resize((width, height), Image.Resampling.BILINEAR)


def _facts(header: Dataset, flat: Dataset) -> dict[str, Any]:
    return {
        "format": "DICOM",
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "width": int(header.Columns),
        "height": int(header.Rows),
        "mode": headers.facts_of(flat)["PhotometricInterpretation"],
        "bit_depth": int(header.BitsStored),
        "header": headers.facts_of(flat),
    }


def _doubts(header: Dataset, name: str, shown: dict[str, Any] | None) -> tuple[str, ...]:
    found = []
    if headers.facts_of(header)["PresentationIntentType"] == "FOR PROCESSING":
        found.append(f"{name} holds raw detector data (FOR PROCESSING); the picture made for viewing reads better")
    if headers.facts_of(header)["BurnedInAnnotation"] == "YES":
        found.append(f"{name} has writing burnt into the picture, which may name a person")
    if shown is not None and header.get("WindowWidth") is not None and "percentiles" in shown["from"]:
        found.append(f"{name} has a window that cannot be applied; percentiles of its values are shown instead")
    return tuple(found)
