"""Turns a DICOM file into the picture that a viewer shows (PS3.3 C.11), with its facts and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.contrast import (
    Contrast,
    HounsfieldWindows,
    ValueRange,
    VoiWindow,
    choose_contrast,
    grey_levels,
    meaning_of,
    percentiles,
    shows_almost_nothing,
    value_range,
)
from medgemma_app.inputs.dicom import guarded, header_warnings, numbers, read_header
from medgemma_app.inputs.files import open_input, shown_name
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.levels import LARGEST_SIDE, PERCENTILES, is_blank, thumbnail, warn_doubtful
from medgemma_app.inputs.pixels import StoredFrame, bits_of, decode_frame
from medgemma_app.inputs.raster import choose_frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

Frames: TypeAlias = Sequence[tuple[Path, int]]  # files, and the numbers of their frames from 0
_NUMBER = r"\s*([-+]?\d+(?:\.\d+)?)\s*"


def decode_dicom(
    header: Dataset, name: str, *, frame: int | None = None, window: str | None = None
) -> tuple[Image, dict[str, Any], tuple[str, ...]]:
    """The picture as L or RGB, its facts, and warnings; ``frame`` counts from 1, ``window`` is "C/W". Raises InputError."""
    chosen = None if window is None else parse_window(window)
    frames = int(header.get("NumberOfFrames") or 1)
    number = choose_frame(frame, frames, name)
    stored = decode_frame(header, name, number - 1)
    picture, contrast, more = show(stored, chosen)
    if frames > 1 and isinstance(contrast, ValueRange) and contrast.of_stored:
        contrast = of_acquisition(contrast, (decode_frame(header, name, index) for index in range(frames)))
        picture = show_frame(stored, contrast)
    facts = ImageHeader.from_dict(stored.header)
    found = {
        "format": "DICOM",
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "width": int(header.Columns),
        "height": int(header.Rows),
        "mode": facts.photometric_interpretation,
        "bit_depth": bits_of(header),
        "header": facts.to_dict(),
        "frame": number,
        "frames": frames,
        "window": contrast and contrast.facts(),
        "patient": header.patient,
        "instance": str(header.get("SOPInstanceUID") or "") or None,
    }
    return picture, found, (*header_warnings(stored.header, name), *stored.warnings, *more)


def parse_window(text: str) -> VoiWindow:
    """The window in "C/W". Raises OptionError."""
    found = re.fullmatch(f"{_NUMBER}/{_NUMBER}", text)
    if not found or float(found[2]) <= 0:
        raise OptionError("a window is centre/width, two numbers and a width above 0, as in 40/400")
    function = "LINEAR" if float(found[2]) >= 1 else "LINEAR_EXACT"
    return VoiWindow(float(found[1]), float(found[2]), function, source="option")


def show(frame: StoredFrame, window: VoiWindow | None) -> tuple[Image, Contrast | None, tuple[str, ...]]:
    """The picture, its contrast (None for colour), and warnings. Raises InputError."""
    contrast, warnings = choose_contrast(frame, window)
    picture, name = show_frame(frame, contrast), frame.name
    if contrast is None or isinstance(contrast, ValueRange):
        return picture, contrast, warnings
    if not (is_blank(thumbnail(picture)) or shows_almost_nothing(frame, contrast)):
        return picture, contrast, warnings
    if window:
        low, high = value_range(frame)
        raise InputError(
            f"{name} shows nothing in the {window}; its values lie between {low:g} and {high:g}: choose another --window, or leave it out"
        )
    spread = ValueRange(*percentiles(frame), PERCENTILES)
    useless = f"{name} shows almost nothing in the {contrast}; it is shown by percentiles of its values; --window C/W sets another window"
    return show_frame(frame, spread), spread, (*warnings, useless)


def of_acquisition(contrast: ValueRange, every: Iterable[StoredFrame]) -> ValueRange:
    """From the smallest to the largest stored value of all the frames of an acquisition."""
    ranges = [value_range(frame, of_stored=True) for frame in every]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return replace(contrast, low=low, high=high, source=f"{contrast.source} of the series")


def show_frames(frames: Frames, stack: Frames, name: str, window: VoiWindow | None) -> tuple[list[Image], dict[str, Any], tuple[str, ...]]:
    """The pictures of the frames of a stack, all in the contrast that the middle one decides, facts, and warnings.

    MR is scaled by the values of the whole stack. Hounsfield windows apply to all frames even if the middle one shows nothing in them,
    unless none shows anything.
    """
    [middle] = _decoded([frames[len(frames) // 2]])
    middle = replace(middle, name=name)
    drawn: list[Image] = []
    with guarded(name):
        contrast, more = choose_contrast(middle, window)
        if isinstance(contrast, HounsfieldWindows):
            drawn = _drawn(frames, contrast, name)
        if _are_blank(drawn):
            _, contrast, more = show(middle, window)
    if isinstance(contrast, ValueRange) and contrast.source == PERCENTILES:
        contrast = replace(contrast, source=f"{PERCENTILES} of the middle slice")
    if isinstance(contrast, ValueRange) and contrast.of_stored:
        contrast = of_acquisition(contrast, _decoded(stack))
    if not isinstance(contrast, HounsfieldWindows):
        drawn = _drawn(frames, contrast, name)
    if _are_blank(drawn):
        raise InputError(f"{name} is blank or nearly so in every slice; give a series that shows something")
    header, window_facts = middle.header, None if contrast is None else contrast.facts()
    of_the_picture = warn_doubtful(thumbnail(drawn[len(drawn) // 2]), name, window_facts)
    with guarded(name):
        size = {"width": int(header.Columns), "height": int(header.Rows), "bit_depth": bits_of(header)}
        facts = {"format": "DICOM series", **size, "header": ImageHeader.from_dict(header).to_dict(), "window": window_facts}
        return drawn, facts, (*header_warnings(header, name), *middle.warnings, *more, *of_the_picture)


def _drawn(frames: Frames, contrast: Contrast | None, name: str) -> list[Image]:
    """The pictures of the frames. Raises InputError where their headers do not agree on what their values mean."""
    drawn: list[Image] = []
    meaning: tuple[bool, ...] = ()
    for (path, _), frame in zip(frames, _decoded(frames), strict=True):
        if frame.is_colour() != (contrast is None):
            raise InputError(f"{name} has pictures in colour and in grey; choose a series of one kind")
        meaning = meaning or meaning_of(frame.header, contrast)
        if meaning_of(frame.header, contrast) != meaning:
            both = " and ".join(dict.fromkeys((shown_name(frames[0][0]), shown_name(path))))
            raise InputError(f"{name} mixes kinds of values (rescale, units or polarity differ in {both}); export the series again")
        with guarded(shown_name(path)):
            drawn.append(show_frame(frame, contrast))
    return drawn


def _are_blank(drawn: list[Image]) -> bool:
    return all(is_blank(thumbnail(picture)) for picture in drawn)


def _decoded(frames: Frames) -> Iterator[StoredFrame]:
    """Yields each frame; a file with several frames is read once."""
    for path, some in groupby(frames, lambda frame: frame[0]):
        name = shown_name(path)
        with open_input(path, what="a DICOM file") as file, guarded(name):
            header = read_header(file, name)
            yield from (decode_frame(header, name, number) for _, number in some)


def show_frame(frame: StoredFrame, contrast: Contrast | None) -> Image:
    """The picture a viewer shows: L, or RGB for colour and for Hounsfield windows."""
    from PIL import Image

    shown = _colour(frame) if contrast is None else grey_levels(frame, contrast)
    if (visible := frame.visible()) is not None:
        shown[~visible] = 0
    return _square_pixels(Image.fromarray(shown), frame.header)


def _colour(frame: StoredFrame) -> NDArray[Any]:
    """RGB of 8 bits; pydicom has turned YBR into RGB already."""
    import numpy as np

    if frame.header.PhotometricInterpretation == "PALETTE COLOR":
        table, first = _palette(frame.header)
        return table[np.clip(frame.pixels.astype(np.int64) - first, 0, len(table) - 1)]
    return (frame.pixels >> max(0, int(frame.header.BitsStored) - 8)).astype(np.uint8)[..., :3]


def _palette(header: Dataset) -> tuple[NDArray[np.uint8], int]:
    """The colours [entries, 3] of a palette, and the value that the first one is for."""
    import numpy as np

    order = "<" if header.original_encoding[1] is not False else ">"
    count, first, bits = (int(number) for number in header.RedPaletteColorLookupTableDescriptor[:3])
    count, columns = count or 1 << 16, []
    for colour in ("Red", "Green", "Blue"):
        data = header.get(f"{colour}PaletteColorLookupTableData")
        if data:
            columns.append(np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else np.uint8)[:count])
        else:
            segments = header[f"Segmented{colour}PaletteColorLookupTableData"].value
            columns.append(_without_segments(np.frombuffer(segments, f"{order}u{max(8, bits) // 8}").tolist(), count))
    table = np.stack([np.resize(column, count) for column in columns], axis=1).astype(np.uint16)
    return (table if table.max() <= 255 else table >> 8).astype(np.uint8), first


def _without_segments(words: list[int], count: int) -> NDArray[Any]:
    """The entries of a segmented palette (PS3.3 C.7.9.2): discrete, linear and indirect (repeated) segments."""
    import numpy as np

    entries: list[int] = []

    def read(place: int, most: int, *, is_repeated: bool = False) -> None:
        """Adds the entries of at most ``most`` segments, from index ``place`` on."""
        while most and place + 1 < len(words) and len(entries) < count:
            kind, length = words[place : place + 2]
            if kind == 0:
                entries.extend(words[place + 2 : place + 2 + length])
                place += 2 + length
            elif kind == 1:
                line = np.linspace(entries[-1] if entries else 0, words[place + 2], length + 1)[1:]
                entries.extend(np.rint(line).astype(int).tolist())
                place += 3
            elif kind == 2 and not is_repeated:
                read((words[place + 2] + (words[place + 3] << 16)) // 2, length, is_repeated=True)
                place += 4
            else:
                raise ValueError("an unknown segment")
            most -= 1

    read(0, len(words))
    return np.array(entries[:count])


def _square_pixels(picture: Image, header: Dataset) -> Image:
    """Enlarges the coarser direction if pixels are not square, as a viewer does. Absurd ratios are ignored."""
    from PIL import Image

    ratio = numbers(header, "PixelSpacing") or numbers(header, "PixelAspectRatio")
    if len(ratio) != 2 or min(ratio) <= 0 or not 1.01 < max(ratio) / min(ratio) <= 4:
        return picture
    down, across = (side / min(ratio) for side in ratio)
    width, height = round(picture.width * across), round(picture.height * down)
    return picture if max(width, height) > LARGEST_SIDE else picture.resize((width, height), Image.Resampling.BILINEAR)
