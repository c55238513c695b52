"""Our own errors, in the shape of the Anthropic API, which clients of the gateway understand."""

import orjson

from shared.core import ids
from shared.core.errors import PlatformError
from shared.llm.upstream import Headers

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def answer(error: PlatformError) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error that came before any answer."""
    request_id = f"req_{ids.sortable()}"
    body = orjson.dumps(_body(error) | {"request_id": request_id})
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("request-id", request_id),
    ]
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers.append(("retry-after", str(max(1, round(retry_after)))))
    return error.status, headers, body


def event(error: PlatformError) -> bytes:
    """An error in the middle of a stream."""
    return b"event: error\ndata: " + orjson.dumps(_body(error)) + b"\n\n"


def _body(error: PlatformError) -> dict[str, object]:
    return {"type": "error", "error": {"type": _TYPES.get(error.status, "api_error"), "message": error.detail}}
