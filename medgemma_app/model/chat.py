"""Encodes a prompt as Gemma 3 turns by the checkpoint's own template, and these as token ids with exactly one <bos>.

No text of a prompt can become a control token: a control string in a part or in the system text is passed to the tokenizer in two
pieces, so that it is encoded as ordinary tokens and decodes to the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.prompts import Prompt

    Turns = Sequence[tuple[str, Sequence[str | Image]]]  # role, and the parts of the turn

# Gemma's tokenizer marks these as ordinary added tokens although they steer the model: <unused94> opens a thought.
_STEERING = re.compile(r"<unused\d+>|<mask>|\[multimodal\]")
# Replaces the first character of control strings in texts, so that they can be told from those of the template.
_BLANK = "\ufdd0"


def blind() -> ModelError:
    """The error for a picture given to a text-only model."""
    return ModelError("this is a text-only model, which cannot see pictures; use it for SOAP notes, and a multimodal model for findings")


class ChatTemplate:
    """The checkpoint's chat template and tokenizer. ``processor`` is mlx-vlm's; with ``sees`` False it has no picture tokens."""

    def __init__(self, processor: Any, *, sees: bool = True) -> None:
        self.tokenizer = processor.tokenizer
        if not self.tokenizer.chat_template:
            raise ModelError("the checkpoint has no chat template; use an instruction-tuned one (its name ends in -it)")
        self._sees = sees
        self._picture = processor.full_image_sequence if sees else ""
        self._boi = processor.boi_token if sees else _BLANK
        added = self.tokenizer.added_tokens_decoder.values()
        self._control = sorted({t.content for t in added if t.special or _STEERING.fullmatch(t.content)}, key=len, reverse=True)
        self._pattern = re.compile("(?=(" + "|".join(map(re.escape, self._control)) + "))")
        self._blanked = str.maketrans({token[0]: _BLANK for token in self._control})
        self.encode_turns([("user", ["x"])])  # a broken template fails here

    def encode(self, prompt: Prompt) -> list[int]:
        """The token ids for the model: <bos>, the turn with every picture as its soft tokens, and the beginning of the answer's turn."""
        return self.encode_turns([("user", prompt.parts)], prompt.system)

    def encode_turns(self, turns: Turns, system: str | None = None) -> list[int]:
        """Like ``encode``, for a conversation in which "user" and "assistant" alternate; the user is first and last."""
        if not self._sees and any(not isinstance(part, str) for _, parts in turns for part in parts):
            raise blind()
        ids: list[int] = []
        for piece in self._pieces(turns, system):
            ids += self.tokenizer.encode(piece.replace(self._boi, self._picture), add_special_tokens=False)
        bos = self.tokenizer.bos_token_id
        return ids if ids[:1] == [bos] else [bos, *ids]

    def _pieces(self, turns: Turns, system: str | None) -> Iterator[str]:
        """The rendered turns, cut after the first character of every control string that comes from a text."""
        rendered = self._apply_template(turns, system, blank=False)
        # Rendered again with the first characters of control strings blanked out in texts: where the two differ, the text is the source.
        template_only = self._apply_template(turns, system, blank=True)
        pictures = sum(not isinstance(part, str) for _, parts in turns for part in parts)
        if len(template_only) != len(rendered) or (pictures and template_only.count(self._boi) != pictures):
            raise ModelError("the checkpoint's chat template changes texts or leaves out pictures; use the one that MedGemma came with")
        start = 0
        for match in self._pattern.finditer(rendered):
            if rendered[match.start()] != template_only[match.start()]:
                yield rendered[start : match.start() + 1]
                start = match.start() + 1
        yield rendered[start:]

    def _apply_template(self, turns: Turns, system: str | None, *, blank: bool) -> str:
        def text(part: str) -> dict[str, str]:
            return {"type": "text", "text": part.translate(self._blanked) if blank else part}

        messages: list[dict[str, Any]] = [
            {"role": role, "content": [text(part) if isinstance(part, str) else {"type": "image"} for part in parts]}
            for role, parts in turns
        ]
        if system:
            messages.insert(0, {"role": "system", "content": [text(system)]})
        try:
            return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # whatever a template does; its message may quote the text
            raise ModelError(
                f"the checkpoint's chat template fails ({type(error).__name__}); use the one that MedGemma came with"
            ) from error
