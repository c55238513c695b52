"""The HTTP side of the demo model: the Anthropic Messages API, as the SDKs and any gateway speak it."""

import re
import secrets
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.model import errors
from local.model.conversation import read
from local.model.errors import ApiError
from local.model.messages import CountRequest, Json, MessageRequest, parse
from local.model.reply import build
from local.model.usage import PromptCache, input_tokens
from local.model.worker import Turn, next_turn

MODEL = "demo-1"
_LARGEST_BODY = 32 * 1024 * 1024
_ABOUT = """\
I am demo-1, the demo model: a program that follows instructions in a small grammar, not a language model. \
As an agent I carry out cards such as:

Create `hello.txt`:

```
Hello
```

Run: `cat hello.txt`

For that I need a card between <card> and </card> in the first message, and the agent's tools. \
docs/demo-model.md describes the whole grammar."""


def create_app(delay: float = 0.015) -> Starlette:
    """`delay` is the pause before each streamed piece, in seconds, so that people can watch."""
    api = _Api(delay)
    return Starlette(
        routes=[
            Route("/", _about),
            Route("/v1/messages", api.messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", api.count_tokens, methods=["POST"]),
            Route("/v1/models", api.models),
            Route("/v1/models/{model}", api.model),
        ],
        middleware=[Middleware(_RequestId)],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _internal_error},
    )


class _Api:
    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._cache = PromptCache()

    async def messages(self, request: Request) -> Response:
        key = _authenticated(request)
        asked = parse(MessageRequest, await _body(request))
        _known(asked.model)
        reply = build(asked, _turn(asked), self._cache.usage(asked, key))
        if not asked.stream:
            return JSONResponse(reply.message())
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(reply.stream(self._delay), media_type="text/event-stream", headers=headers)

    async def count_tokens(self, request: Request) -> Response:
        _authenticated(request)
        asked = parse(CountRequest, await _body(request))
        _known(asked.model)
        return JSONResponse({"input_tokens": input_tokens(asked)})

    async def models(self, request: Request) -> Response:
        _authenticated(request)
        page = {"data": [_MODEL_INFO], "has_more": False, "first_id": MODEL, "last_id": MODEL}
        return JSONResponse(page)

    async def model(self, request: Request) -> Response:
        _authenticated(request)
        _known(request.path_params["model"])
        return JSONResponse(_MODEL_INFO)


_MODEL_INFO: Json = {
    "type": "model",
    "id": MODEL,
    "display_name": "Demo model",
    "created_at": "2026-01-01T00:00:00Z",
    "lifecycle": "active",
}


def _turn(request: MessageRequest) -> Turn:
    conversation = read(request.messages)
    if conversation is None or not request.offered():
        return Turn(_ABOUT)
    return next_turn(conversation, request.offered(), request.max_tokens)


def _authenticated(request: Request) -> str:
    """The caller's key. Any will do, but there must be one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = request.headers.get("x-api-key", "").strip() or (token.strip() if scheme.lower() == "bearer" else "")
    if not key:
        raise ApiError(401, "x-api-key header is required")
    version = request.headers.get("anthropic-version", "2023-06-01")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", version):
        raise ApiError(400, f"anthropic-version: {version!r} is not a version; use 2023-06-01")
    return key


def _known(model: str) -> None:
    if model != MODEL:
        raise ApiError(404, f"model: {model}")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise ApiError(413, "Request exceeds the maximum allowed number of bytes.")
    return bytes(body)


async def _about(request: Request) -> Response:
    return PlainTextResponse("Demo model: an Anthropic-compatible API at /v1/messages\n")


class _RequestId:
    """Gives every answer its `request-id`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = f"req_{secrets.token_hex(12)}"

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"request-id", scope["state"]["request_id"].encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)


def _answer(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(errors.body(status, message, request.state.request_id), status, headers)


async def _api_error(request: Request, error: Any) -> Response:
    return _answer(request, error.status, error.message)


async def _http_error(request: Request, error: Any) -> Response:
    return _answer(request, error.status_code, error.detail, error.headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    request_id = f"req_{secrets.token_hex(12)}"
    return JSONResponse(errors.body(500, "Internal server error", request_id), 500, {"request-id": request_id})
