"""Pictures made for the tests, and files of them that Pillow would not write."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def drawing(width: int = 120, height: int = 80) -> Image.Image:
    picture = Image.linear_gradient("L").resize((width, height))
    ImageDraw.Draw(picture).ellipse((10, 10, 50, 40), fill=255)
    return picture


def ramp(top: int, dtype: Any = np.uint16) -> np.ndarray:
    """128 x 128 pixels whose values rise evenly from 0 to ``top``."""
    return np.linspace(0, top, 128 * 128).reshape(128, 128).astype(dtype)


def save(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(int)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, rows: bytes = b"", *, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG written by hand, so that it can claim a size it does not have."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    drawing(300, 300).save(buffer, kind)
    return buffer.getvalue()
