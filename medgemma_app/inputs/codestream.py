"""The size that a compressed frame claims for itself: decoders believe it, whatever the DICOM header says."""

from __future__ import annotations

import struct

JPEG, JPEG_2000, JP2 = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
# Start of frame in every process of JPEG (not the tables C4 and CC, nor the reserved C8), and in JPEG-LS.
STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def without_boxes(frame: bytes) -> bytes:
    """The bare JPEG 2000 stream of a frame that came as a JP2 file, as some writers do; decoders hang on damaged boxes."""
    return frame[max(0, frame.find(JPEG_2000)) :] if frame.startswith(JP2) else frame


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 code stream; None when it is none of them. Raises struct.error when cut short."""
    if frame.startswith(JPEG_2000):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        return bottom - top, right - left
    return _jpeg_size(frame) if frame.startswith(JPEG) else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    place = len(JPEG)
    while place < len(frame):
        prefix, marker = struct.unpack_from(">BB", frame, place)
        if prefix != 0xFF:
            return None
        if marker in STARTS_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            return rows, columns
        # A marker may be preceded by any number of FF; every other segment here has a length.
        place += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None
