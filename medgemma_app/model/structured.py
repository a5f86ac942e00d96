"""Answers that are JSON of a given schema: at every step only the tokens that may come next can be drawn.

llguidance computes which these are. mlx-vlm has a logits processor for it too, but that one runs on Metal only, and takes
``<eos>`` alone for the end of an answer, where Gemma's turn ends with ``<end_of_turn>``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLTokenizer

MOST_LETTERS = 100_000  # of a schema
# One way to write a value: a model that may choose can write blanks without end. Keywords that are not supported are an error.
_STYLE: Any = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "whitespace_pattern": "", "lenient": False}


def schema_text(schema: object) -> str:
    """The schema, a dict or JSON text, as JSON text. Raises OptionError where it is not a supported schema."""
    if not isinstance(schema, (str, dict)):
        raise OptionError(f"schema must be a JSON schema, as a dict or as JSON text, not {type(schema).__name__}")
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
        grammar(text)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"the schema is not JSON: {_line(error)}") from None
    return text


@lru_cache(maxsize=16)
def grammar(schema: str) -> str:
    """The schema as llguidance takes it. Nothing is fetched: a ``$ref`` to another document is an error.

    Raises ValueError for text that is not JSON, OptionError for a schema that is not supported.
    """
    from llguidance import LLMatcher

    if len(schema) > MOST_LETTERS:
        raise OptionError(f"the schema has more than {MOST_LETTERS} characters; give a shorter one")
    if not schema.lstrip().startswith("{"):
        raise OptionError("the schema must be a JSON object")
    made = LLMatcher.grammar_from_json_schema(schema, overrides=_STYLE)
    failed, messages = LLMatcher.validate_grammar_with_warnings(made, limits=_limits())
    if failed:
        raise OptionError(f"the schema is not supported: {_line(messages[0])}")
    return made


def follows(schema: str, text: str) -> bool:
    """Whether a text is JSON of the schema, with any spacing, escapes and order of keys."""
    names: list[str] = []  # of properties, in the order in which the grammar wants them

    def collected(made: dict[str, Any]) -> dict[str, Any]:
        listed = made.get("properties")
        names.extend(listed if isinstance(listed, dict) else ())
        return made

    def plain(value: Any, order: Sequence[str]) -> Any:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: order.index(key) if key in order else len(order))
            return {key: plain(value[key], order) for key in keys}
        if isinstance(value, list):
            return [plain(each, order) for each in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    try:
        json.loads(schema, object_hook=collected)
        given = json.loads(text)
        return any(_matches(schema, json.dumps(plain(given, order), ensure_ascii=False)) for order in ((), names))
    except (ValueError, RecursionError):
        return False


def _matches(schema: str, text: str) -> bool:
    """Whether a text is JSON of the schema in the one way to write it."""
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, grammar(schema), log_level=0, limits=_limits())
    tokens = tokenizer.tokenize_str(text.replace("\x7f", "\\u007f"))
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def _limits() -> Any:
    from llguidance import LLParserLimits

    return LLParserLimits(verbose_errors=False)


def _line(message: object) -> str:
    return " ".join(str(message).split())[:200]


class SchemaMask:
    """The logits processor of one answer, as mlx-vlm calls it: [1, vocabulary] -> the same, -inf where a token may not come next.

    If llguidance gives up on a schema halfway, the logits become NaN, which fails this answer but no other in the batch.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(tokenizer, grammar(schema), log_level=0, limits=_limits())
        self._begun = False

    def __call__(self, tokens: Any, logits: Any) -> Any:
        import mlx.core as mx
        import numpy as np

        if self._begun:
            self._matcher.consume_token(int(tokens[-1].item()))
        self._begun = True  # what comes before is the prompt
        if self._matcher.is_error():
            return logits * mx.nan
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=logits.shape[-1], bitorder="little")
        return mx.where(mx.array(allowed.view(np.bool_)), logits, -mx.inf)
