"""The square that the model sees, without ever holding the whole square around a large picture."""

from typing import Any

import numpy as np
import pytest
from pictures import drawing
from PIL import Image

from medgemma_app.inputs.images import squared


@pytest.mark.parametrize("size", [(1000, 3000), (3001, 1777), (2048, 2048), (897, 900), (64, 2000), (1999, 65)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_picture_has_the_pixels_that_the_model_s_processor_would_make_of_the_padded_one(size: tuple[int, int], mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    picture = Image.fromarray(noise[..., 0] if mode == "L" else noise)
    left, top = ((max(size) - length) // 2 for length in size)
    padded = picture.crop((-left, -top, max(size) - left, max(size) - top))
    small, borders = squared(picture, pad=True)
    assert small.tobytes() == padded.resize((896, 896), Image.Resampling.BILINEAR).tobytes()
    assert borders == {"left": left, "top": top, "right": max(size) - size[0] - left, "bottom": max(size) - size[1] - top}


@pytest.mark.parametrize("size", [(64, 12_000), (12_000, 64)])
def test_a_thin_picture_is_never_held_as_the_square_around_it(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    areas, crop = [], Image.Image.crop

    def watched(picture: Image.Image, box: Any) -> Image.Image:
        areas.append((box[2] - box[0]) * (box[3] - box[1]))
        return crop(picture, box)

    monkeypatch.setattr(Image.Image, "crop", watched)
    squared(drawing(*size), pad=True)
    assert max(areas) <= 896**2
