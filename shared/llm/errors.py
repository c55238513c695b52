"""Our own errors, in the shape of the Anthropic API, which clients of the gateway understand."""

import math

import orjson

from shared.core.errors import PlatformError
from shared.llm.headers import request_id
from shared.llm.upstream import Headers, NoAnswer

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES = {422: 400, 503: 529}
"""Where the Anthropic API uses another one for the same."""


def answer(error: PlatformError) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error that came before any answer."""
    own_id = request_id()
    kind = _TYPES.get(_status(error), "api_error")
    body = orjson.dumps(_body(kind, error) | {"request_id": own_id})
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("request-id", own_id)]
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers.append(("retry-after", str(max(1, math.ceil(retry_after)))))
    return _status(error), headers, body


def event(error: PlatformError) -> bytes:
    """An error in the middle of a stream."""
    return b"event: error\ndata: " + orjson.dumps(_body("api_error", error)) + b"\n\n"


def _body(kind: str, error: PlatformError) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": error.detail}}


def _status(error: PlatformError) -> int:
    return 504 if isinstance(error, NoAnswer) else _STATUSES.get(error.status, error.status)
