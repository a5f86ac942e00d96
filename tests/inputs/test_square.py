"""The square that the model sees."""

import numpy as np
import pytest
from PIL import Image

from medgemma_app.inputs.images import squared


@pytest.mark.parametrize("size", [(1000, 3000), (3001, 1777), (2048, 2048), (897, 900), (64, 2000), (64, 12_000)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_picture_has_the_pixels_that_the_model_s_processor_would_make_of_the_padded_one(size: tuple[int, int], mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode)), np.uint8).squeeze()
    left, top = ((max(size) - length) // 2 for length in size)
    borders = {"left": left, "top": top, "right": max(size) - size[0] - left, "bottom": max(size) - size[1] - top}
    padded = np.pad(pixels, [(top, borders["bottom"]), (left, borders["right"])] + [(0, 0)] * (pixels.ndim - 2))
    small, told = squared(Image.fromarray(pixels), pad=True)
    assert small.tobytes() == Image.fromarray(padded).resize((896, 896), Image.Resampling.BILINEAR).tobytes()
    assert told == borders
