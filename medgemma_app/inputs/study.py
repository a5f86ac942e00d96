"""One study, whatever it came in: a picture file, a folder of slices, or a file of several frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import Scan, Series, read_image
from medgemma_app.inputs.raster import OnePicture, SeveralPictures

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | Image | Scan


def read_study(
    source: Picture | Series,
    *,
    pad: bool = True,
    frame: int | None = None,
    window: str | None = None,
    slices: int | None = None,
    series: int | str | None = None,
    several_files: bool = False,
) -> Scan | Series:
    """A picture file, or slices, read but not yet shown to a model; see ``read_image`` and ``read_series``.

    Slices are a folder of them, or with ``slices`` a DICOM file of several frames. Where the study has ``several_files``, a
    ``frame`` may be meant for another one.
    """
    if isinstance(source, Scan | Series):
        return source
    if isinstance(source, str | Path) and Path(source).is_dir():
        if frame is not None:
            raise InputError("a folder is read as a series of slices; name one file of it to choose a frame")
        return _slices(source, slices, pad, window, series)
    try:
        scan = read_image(source, pad=pad, frame=frame, window=window)
    except OnePicture:
        if not several_files:
            raise
        scan = read_image(source, pad=pad, window=window)
    except SeveralPictures:
        if slices is None or not isinstance(source, str | Path):
            raise
        return _slices(source, slices, pad, window)
    unused = [option for option, value in (("--slices", slices), ("--series", series)) if value is not None]
    doubts = (f"{scan.facts.get('name', 'the picture')} is one picture: {' and '.join(unused)} made no difference",) if unused else ()
    return replace(scan, warnings=(*scan.warnings, *doubts))


def _slices(source: str | Path, most: int | None, pad: bool, window: str | None, series: int | str | None = None) -> Series:
    from medgemma_app.inputs.series import MOST_SLICES, read_series  # of no use to an ordinary picture

    return read_series(source, slices=MOST_SLICES if most is None else most, pad=pad, window=window, series=series)
