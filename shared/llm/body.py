"""The few things the gateway reads of a request's body, and the one it may change."""

import json
from typing import Any, NamedTuple

import orjson

from shared.core.errors import BadRequest
from shared.core.ports import Json

_MOST_OUTPUT = 10_000_000
"""Tokens. No model gives as many, and what so many cost can still be counted."""
_UNSAID_OUTPUT = 4096
"""Where a call sets no limit: Anthropic refuses it, llama.cpp ends after so many."""
_MOST_SEARCHES = 1000
_SEARCHES = 10
"""Where a request sets no limit: the service ends a turn after so many rounds of its own tools."""
_DECODER = json.JSONDecoder()
_BLANK = " \t\n\r"


class Asked(NamedTuple):
    """`max_tokens` is the most that a service may give; 0 for nonsense, which is between the client and the service.

    `fast`, `us_only` and `web_searches`, of which it may make so many, cost more.
    """

    model: str
    streamed: bool = False
    max_tokens: int = _UNSAID_OUTPUT
    fast: bool = False
    us_only: bool = False
    web_searches: int = 0


def asked(body: bytes) -> Asked:
    """Raises BadRequest for what is no JSON, or names no model."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("The request body is not valid JSON.") from None
    model = fields.get("model") if isinstance(fields, dict) else None
    if not isinstance(model, str) or not model:
        raise BadRequest("model: name the model, for example with GET /api/v1/models.")
    return Asked(
        model,
        fields.get("stream") is True,
        _most_output(fields.get("max_tokens", _UNSAID_OUTPUT)),
        fields.get("speed") == "fast",
        fields.get("inference_geo") == "us",
        _most_searches(fields.get("tools")),
    )


def _most_output(given: Any) -> int:
    """64.0 is 64, as some services take it. For null and -1 llama.cpp goes on to the end of its context, and who knows
    what others make of "64" and the like: the most is held, and given back at once where it is refused."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return _MOST_OUTPUT
    return _MOST_OUTPUT if given < 0 else int(min(given, _MOST_OUTPUT))


def _most_searches(tools: Any) -> int:
    if not isinstance(tools, list):
        return 0
    typed = [tool for tool in tools if isinstance(tool, dict) and "type" in tool]
    return min(sum(_uses(tool) for tool in typed if str(tool["type"]).startswith("web_search")), _MOST_SEARCHES)


def _uses(tool: Json) -> int:
    most = tool.get("max_uses")
    return max(most, 0) if isinstance(most, int) else _SEARCHES


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
