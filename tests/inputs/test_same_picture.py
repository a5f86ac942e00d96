"""A prior that is the scan itself is recognised in another form; another picture of the same patient is not."""

import io
from typing import Any

import numpy as np
import pytest
from dicoms import STORED, made
from PIL import Image, ImageOps

from medgemma_app.demo.phantoms import draw_pair, draw_phantom
from medgemma_app.inputs.images import is_same_picture, read_image

CHEST = draw_phantom(3)[0].convert("L")
HALF = CHEST.resize((CHEST.width // 2, CHEST.height // 2))
NARROW = ImageOps.expand(HALF, (400, 0))  # most of it is black, as around a hand
DARK, BRIGHT = ({"WindowCenter": center, "WindowWidth": 2000, "SOPInstanceUID": "1.2.9"} for center in (1500, 2500))
FRAMES = made(NumberOfFrames=2, PixelData=np.stack([STORED, STORED[::-1]]).tobytes())


def as_jpeg(picture: Image.Image) -> bytes:
    picture.save(file := io.BytesIO(), "JPEG", quality=75)
    return file.getvalue()


@pytest.mark.parametrize(
    ("prior", "scan", "same"),
    [
        (CHEST, CHEST.convert("RGB"), True),
        (CHEST, as_jpeg(CHEST), True),
        (CHEST, as_jpeg(HALF), True),
        (NARROW, as_jpeg(NARROW), True),
        (made(**DARK), made(**BRIGHT), True),
        (made(**DARK), made(**{**BRIGHT, "SOPInstanceUID": "1.2.10"}), False),
        (CHEST, CHEST.rotate(180), False),
        (NARROW, ImageOps.mirror(NARROW), False),
        *((*draw_pair(seed)[:2], False) for seed in range(4)),
    ],
)
def test_the_same_picture_is_recognised_in_another_form(prior: Any, scan: Any, same: bool) -> None:
    assert is_same_picture(read_image(prior), read_image(scan)) is same


def test_another_frame_of_a_file_is_another_picture() -> None:
    first, second = (read_image(FRAMES, frame=number) for number in (1, 2))
    assert is_same_picture(first, first)
    assert not is_same_picture(first, second)
