"""A picture file becomes the upright, full-range, square RGB picture the model may see, or one clear line."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import load_image, read_image


def drawing(width: int = 120, height: int = 80) -> Image.Image:
    picture = Image.linear_gradient("L").resize((width, height))
    ImageDraw.Draw(picture).ellipse((10, 10, 50, 40), fill=255)
    return picture


def test_a_picture_is_padded_to_a_centred_black_square(tmp_path: Path) -> None:
    drawing().save(tmp_path / "scan.png")
    image = load_image(tmp_path / "scan.png")
    assert (image.mode, image.size) == ("RGB", (120, 120))
    assert image.crop((0, 0, 120, 20)).getextrema() == ((0, 0),) * 3
    assert image.crop((0, 20, 120, 100)).convert("L").tobytes() == drawing().tobytes()


def test_an_open_picture_has_facts_without_a_file() -> None:
    scan = read_image(drawing(), pad=False)
    assert scan.image.size == (120, 80)
    assert "sha256" not in scan.facts
    assert scan.facts["width"] == 120


@pytest.mark.parametrize("source", ["http://example.org/scan.png", "https://example.org/scan.png", "file:///scan.png"])
def test_an_address_is_refused_and_not_fetched(source: str) -> None:
    with pytest.raises(InputError, match="nothing is fetched"):
        load_image(source)
