"""Prompt -> the messages of an OpenAI chat request: the parts in their order, the server's own template around them."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.prompts import Prompt

# Every string that Gemma 3's tokenizer turns into a token that steers the model, and the placeholder servers count pictures by.
_CONTROL = re.compile(r"<(?=(?:(?:start|end)_of_(?:turn|image)|image_soft_token|bos|eos|pad|unk|mask|unused\d+)>)|\[(?=multimodal\])")
# U+2060 WORD JOINER: invisible, without width, no space, and kept by tokenizers that normalise spaces.
_JOINER = "\u2060"


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A system message where there is a system text, and one user turn."""
    turn = {"role": "user", "content": [_part(part) for part in prompt.parts]}
    return [{"role": "system", "content": inert(prompt.system)}, turn] if prompt.system else [turn]


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": inert(part)}
    return {"type": "image_url", "image_url": {"url": _data_url(part)}}


def inert(text: str) -> str:
    """The text with a word joiner inside every control string: a server tokenises what it is sent as a whole.

    Here the tokenizer is fed such a string in two pieces (see ``chat``); over the wire only the text itself can be changed.
    It reads the same and says the same, in ordinary tokens.
    """
    return _CONTROL.sub(lambda match: match[0] + _JOINER, text)


def _data_url(image: Image) -> str:
    """The picture's RGB pixels as they are, in a PNG; where all are grey in one channel, which is a third less to send."""
    rgb, file = image.convert("RGB"), io.BytesIO()
    red, green, blue = rgb.split()
    (red if red.tobytes() == green.tobytes() == blue.tobytes() else rgb).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
