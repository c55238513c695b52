"""The LLM gateway over HTTP: the Anthropic Messages API under /api/v1.

It stands beside FastAPI, whose way to a route takes longer than all that the gateway does; the router describes it.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import Depends, Response
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.routing import AreaRouter
from shared.core.errors import NotFound, PlatformError
from shared.core.log import Log
from shared.llm import errors
from shared.llm.gateway import Gateway
from shared.llm.models import Answer, Call, TooLarge
from shared.llm.upstream import Headers

log = Log(__name__)

_key = HTTPBearer(auto_error=False, scheme_name="ModelKey", description="A team's model key, or a run's token")
router = AreaRouter(prefix="/api/v1", tags=["llm"], dependencies=[Depends(_key)])

LARGEST_BODY = 32 * 1024 * 1024
_MODEL = re.compile(r"/v1/models/([A-Za-z0-9][A-Za-z0-9._:@-]{0,199})")
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))

_ASKED = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {"model": {"type": "string", "minLength": 1}},
                    "description": "As the Anthropic Messages API describes it",
                }
            }
        },
    }
}

_CREATE = "Create a message (Anthropic Messages API)"
_COUNT = "Count the tokens of a message"

type Operation = Callable[[Call], AbstractAsyncContextManager[Answer]]


# ModelGateway answers before FastAPI is asked for these: they are there to be described.
async def _described() -> None: ...


async def _described_by_id(model_id: str) -> None: ...


_MESSAGES: dict[str, Any] = {"methods": ["POST"], "response_class": Response, "openapi_extra": _ASKED}
_MODELS: dict[str, Any] = {"methods": ["GET"], "response_class": Response}
router.add_api_route("/messages", _described, name="messages", summary=_CREATE, **_MESSAGES)
router.add_api_route("/messages/count_tokens", _described, name="count_tokens", summary=_COUNT, **_MESSAGES)
router.add_api_route("/models", _described, name="models", summary="List models", **_MODELS)
router.add_api_route("/models/{model_id}", _described_by_id, name="model", summary="Get a model", **_MODELS)


@router.head("", include_in_schema=False)
@router.head("/", include_in_schema=False)
async def probe() -> Response:
    """Clients look whether somebody is there before they sign in."""
    return Response()


class ModelGateway:
    """An ASGI application that answers every call below /api/v1; `otherwise` answers the rest, HEAD and OPTIONS too."""

    def __init__(self, otherwise: ASGIApp, gateway: Callable[[], Gateway]) -> None:
        self._otherwise = otherwise
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/v1/") and scope["method"] in _METHODS:
            await _Exchange(receive, send).run(scope, _operation(self._gateway(), scope))
        else:
            await self._otherwise(scope, receive, send)


def _operation(gateway: Gateway, scope: Scope) -> Operation:
    match scope["method"], scope["path"].removeprefix("/api"):
        case "POST", "/v1/messages":
            return gateway.messages
        case "POST", "/v1/messages/count_tokens":
            return gateway.count_tokens
        case "GET", "/v1/models":
            return gateway.models
        case "GET", path if found := _MODEL.fullmatch(path):  # no path of the caller's making reaches the model service
            return lambda call: gateway.model(call, found[1])
        case _:
            return _unknown


@asynccontextmanager
async def _unknown(call: Call) -> AsyncGenerator[Answer]:
    raise NotFound(
        f"{call.method} {call.path} is not part of this gateway, which has POST /v1/messages, "
        "POST /v1/messages/count_tokens and GET /v1/models."
    )
    yield


class _Exchange:
    """One request and its answer, sent chunk by chunk. The operation ends when the client is gone."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._started = False
        self._gone = False

    async def run(self, scope: Scope, operation: Operation) -> None:
        try:
            body = await self._body()
            if body is not None:
                await self._unless_gone(operation, _call(scope, body))
        except PlatformError as error:
            if self._started:
                raise
            await self._refuse(error)
        except Exception as error:
            log.exception("llm.unexpected_error", error=type(error).__name__)
            if self._started:
                raise
            await self._refuse(PlatformError("Something went wrong on our side. Try again; quote request_id."))

    async def _body(self) -> bytes | None:
        """None when the client left.

        A body somewhat too large is read to its end, or the client would see a cut connection and not our answer.
        """
        parts: list[bytes] = []
        size, more = 0, True
        while more and size <= 4 * LARGEST_BODY:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(part := message.get("body", b""))
            if size <= LARGEST_BODY:
                parts.append(part)
            more = message.get("more_body", False)
        if size > LARGEST_BODY:
            raise TooLarge("The request body is over 32 MB. Send less at once.")
        return b"".join(parts)

    async def _unless_gone(self, operation: Operation, call: Call) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An ASGI application runs in a task.")
        watch = asyncio.create_task(self._watch(task))
        try:
            async with operation(call) as answer:
                await self._start(answer.status, answer.headers)
                if answer.chunks:
                    async for chunk in answer.chunks:
                        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                watch.cancel()  # servers tell a whole answer as a disconnect
                await self._send({"type": "http.response.body", "body": answer.body, "more_body": False})
        except asyncio.CancelledError:
            if not self._gone or task.uncancel():
                raise
        finally:
            watch.cancel()

    async def _watch(self, task: asyncio.Task[None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        task.cancel()

    async def _refuse(self, error: PlatformError) -> None:
        status, headers, body = errors.answer(error)
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})


def _call(scope: Scope, body: bytes) -> Call:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    path = (scope.get("raw_path") or scope["path"].encode()).split(b"?")[0].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return Call(scope["method"], path.removeprefix("/api"), query, headers, body)
