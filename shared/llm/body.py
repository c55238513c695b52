"""The few things the gateway reads of a request's body, and the one it may change."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import orjson

from shared.core.errors import BadRequest
from shared.core.ports import Json
from shared.llm.models import LONGEST_MODEL

_MOST_OUTPUT = 10_000_000
"""Tokens. No model gives as many, and what so many cost can still be counted."""
_UNSAID_OUTPUT = 4096
"""Where a call sets no limit: Anthropic refuses it, llama.cpp ends after so many."""
_MOST_SEARCHES = 1000
_SEARCHES = 10
"""Where a request sets no limit: the service ends a turn after so many rounds of its own tools."""
_MOST_FIELDS = 1000
"""Anthropic's API has some thirty."""
_DECIDING = {
    name: b'"%b"' % name.encode()
    for name in ("model", "max_tokens", "stream", "speed", "inference_geo", "tools", "fallbacks")
}
"""A service that takes the first of two, or one in capitals, would do another thing than was held for."""
_ESCAPED = re.compile(rb"\\u00(?:3\d|[4-7])")
"""A letter or digit written as its number, as nobody has to: a word may be there that cannot be seen."""
_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\n\r]*")


type PromptClass = Literal["input", "cache_write_5m", "cache_write_1h"]


class Asked(NamedTuple):
    """`max_tokens` is the most that a service may give; 0 for nonsense, which is between the client and the service.

    `fast`, `us_only` and `web_searches`, of which it may make so many, cost more; so does a prompt that may be written
    to a cache: `prompt` is the dearest of the classes in TokenCounts that it may be priced as.
    """

    model: str
    streamed: bool = False
    max_tokens: int = _UNSAID_OUTPUT
    fast: bool = False
    us_only: bool = False
    web_searches: int = 0
    prompt: PromptClass = "input"
    beside: tuple[str, ...] = ()
    """Models that may be asked by the way: by an advisor, or in place of `model`."""


def asked(body: bytes) -> Asked:
    """Raises BadRequest for what is no JSON, names no model, or could be read in two ways."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("The request body is not valid JSON.") from None
    model = fields.get("model") if isinstance(fields, dict) else None
    if not isinstance(model, str) or not model:
        raise BadRequest("model: name the model, for example with GET /api/v1/models.")
    _require_clear(body, fields)
    return Asked(
        _checked(model),
        fields.get("stream") is True,
        _most_output(fields.get("max_tokens", _UNSAID_OUTPUT)),
        fields.get("speed") == "fast",
        fields.get("inference_geo") == "us",
        _most_searches(fields.get("tools")),
        _prompt_class(body),
        tuple(_beside(fields)),
    )


def _require_clear(body: bytes, fields: Json) -> None:
    if len(fields) > _MOST_FIELDS:
        raise BadRequest(f"The request has over {_MOST_FIELDS} fields.")
    twice = False
    for name in fields:
        quoted = _DECIDING.get(name)
        if quoted:
            twice = twice or body.count(quoted) > 1
        elif name.casefold() in _DECIDING:
            raise BadRequest(f"{name}: write {name.casefold()}.")
    if twice or _escaped(body):
        names = [name for name, _, _ in _members(body.decode())]
        for name in _DECIDING:
            if names.count(name) > 1:
                raise BadRequest(f"{name}: it is there twice.")


def _escaped(body: bytes) -> bool:
    return b"\\" in body and _ESCAPED.search(body) is not None


def _prompt_class(body: bytes) -> PromptClass:
    """By what stands anywhere in the request."""
    text = body.lower()
    cached = b'"cach' in text and (b'"cache_control"' in text or b'"caching"' in text)  # the latter is an advisor's
    if _escaped(body) or (cached and b'"1h"' in text):
        return "cache_write_1h"
    return "cache_write_5m" if cached else "input"


def _beside(fields: Json) -> Iterator[str]:
    for name in ("tools", "fallbacks"):
        entries = fields.get(name)
        for entry in entries if isinstance(entries, list) else []:
            model = entry.get("model") if isinstance(entry, dict) else None
            if isinstance(model, str) and model:
                yield _checked(model)


def _checked(model: str) -> str:
    if len(model) > LONGEST_MODEL:
        raise BadRequest(f"model: a name has at most {LONGEST_MODEL} characters.")
    return model


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
    start, stop = next((start, stop) for name, start, stop in _members(text) if name == "model")
    return "".join((text[:start], json.dumps(model), text[stop:])).encode()


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The top-level members: their names, and where their values begin and end. Raises BadRequest for very many."""
    at = _past_blanks(text, _past_blanks(text, 0) + 1)
    for _ in range(_MOST_FIELDS + 1):
        if text[at] == "}":
            return
        name, at = _DECODER.raw_decode(text, at)
        start = _past_blanks(text, _past_blanks(text, at) + 1)
        _, at = _DECODER.raw_decode(text, start)
        yield name, start, at
        at = _past_blanks(text, at)
        if text[at] == ",":
            at = _past_blanks(text, at + 1)
    raise BadRequest(f"The request has over {_MOST_FIELDS} fields.")


def _past_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at
