"""Splits a thought off the answer while the text streams: pure text, so that a remote engine can use it too."""

from __future__ import annotations

from typing import Literal, NamedTuple

OPEN, CLOSE = "<unused94>", "<unused95>"
LABEL = "thought\n"  # what MedGemma writes right after OPEN


class Piece(NamedTuple):
    """A piece of streamed text and where it belongs."""

    kind: Literal["answer", "thought"]
    text: str


class ThoughtSplitter:
    """Feed it text cut anywhere; it gives back pieces of answer and thought, markers taken out.

    Text that may still become a marker is held back until it is decided; ``finish`` hands out the rest.
    """

    def __init__(self) -> None:
        self.thinking = False
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that ``text`` decides, in order."""
        self._held += text
        pieces = []
        while (marker := self._marker) in self._held:
            before, self._held = self._held.split(marker, 1)
            pieces += self._piece(before)
            self.thinking = not self.thinking
        keep = _overlap(self._held, self._marker)
        decided, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return pieces + self._piece(decided)

    def finish(self) -> list[Piece]:
        """What was held back at the end of the stream. ``thinking`` then says whether the thought was never closed."""
        rest, self._held = self._held, ""
        return self._piece(rest)

    @property
    def _marker(self) -> str:
        return CLOSE if self.thinking else OPEN

    def _piece(self, text: str) -> list[Piece]:
        return [Piece("thought" if self.thinking else "answer", text)] if text else []


def _overlap(text: str, marker: str) -> int:
    """How many characters at the end of ``text`` begin ``marker``."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if marker.startswith(text[-n:])), 0)


def split_thought(text: str) -> tuple[str, str | None]:
    """Text -> (answer, thought). A thought that was never closed means that there is no answer; without one it is None."""
    splitter = ThoughtSplitter()
    pieces = splitter.feed(text) + splitter.finish()
    thought = "".join(piece.text for piece in pieces if piece.kind == "thought").removeprefix(LABEL).strip()
    answer = "" if splitter.thinking else "".join(piece.text for piece in pieces if piece.kind == "answer")
    return answer, thought if OPEN in text else None
