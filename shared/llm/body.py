"""The few things the gateway reads of a request's body, and the one it may change."""

import json
from dataclasses import dataclass
from typing import Any

import orjson

from shared.core.errors import BadRequest

_MOST_OUTPUT = 10_000_000
"""Tokens. No model gives as many, and what so many cost can still be counted."""
_DECODER = json.JSONDecoder()
_BLANK = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Asked:
    """`max_tokens` is 0 where none, or nonsense, was given: that is between the client and the model service."""

    model: str
    streamed: bool
    max_tokens: int


def asked(body: bytes) -> Asked:
    """Raises BadRequest for what is no JSON, or names no model."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("The request body is not valid JSON.") from None
    model = fields.get("model") if isinstance(fields, dict) else None
    if not isinstance(model, str) or not model:
        raise BadRequest("model: name the model, for example with GET /api/v1/models.")
    return Asked(model, fields.get("stream") is True, _most_output(fields.get("max_tokens")))


def _most_output(given: Any) -> int:
    """64.0 is 64: some services take it as that."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return 0
    return int(min(max(given, 0), _MOST_OUTPUT))


def with_model(body: bytes, model: str) -> bytes:
    """`body`, whose bytes but those of its top-level model stay as they are. It must have passed `asked`."""
    text = body.decode()
    parts: list[str] = []
    end = 0
    for start, stop in _models(text):
        parts += text[end:start], json.dumps(model)
        end = stop
    return "".join([*parts, text[end:]]).encode()


def _models(text: str) -> list[tuple[int, int]]:
    """Where the values of top-level `model` members stand."""
    found: list[tuple[int, int]] = []
    at = _past_blanks(text, _past_blanks(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _past_blanks(text, _past_blanks(text, at) + 1)
        _, at = _DECODER.raw_decode(text, start)
        if key == "model":
            found.append((start, at))
        at = _past_blanks(text, at)
        if text[at] == ",":
            at = _past_blanks(text, at + 1)
    return found


def _past_blanks(text: str, at: int) -> int:
    while text[at] in _BLANK:
        at += 1
    return at
