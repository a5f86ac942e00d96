"""DICOM -> one upright 8-bit picture and the facts of its header that name nobody (needs the extra ``dicom``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_dicom(file: BinaryIO, name: str, *, frame: int | None = None, window: str | None = None) -> tuple[Image, dict[str, Any]]:
    """The picture in ``file`` as L or RGB, and its facts. Raises InputError."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(f"{name} is a DICOM file, and reading it needs: pip install 'medgemma-app[dicom]'") from error
    raise InputError(f"{name} is a DICOM file, which this version cannot read yet; export it as PNG")
