"""The LLM gateway over HTTP: the Anthropic Messages API under /api/v1.

It stands before FastAPI, whose way to a route takes longer than all that the gateway does, and which it does without:
a process that is asked for nothing else never loads it. functions/llm.py describes its routes.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from shared.core.errors import NotFound, PlatformError
from shared.core.log import Log
from shared.llm import errors
from shared.llm.gateway import Gateway
from shared.llm.models import Answer, Call, TooLarge
from shared.llm.upstream import Headers

log = Log(__name__)

LARGEST_BODY = 32 * 1024 * 1024
_MODEL = re.compile(r"/v1/models/([A-Za-z0-9][A-Za-z0-9._:@-]{0,199})")
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))
_UNWATCHED = 0.05
"""Seconds until it is watched whether the client leaves: a short answer is over by then."""

type Operation = Callable[[Call], AbstractAsyncContextManager[Answer]]


class ModelGateway:
    """An ASGI application that answers every call below /api/v1; `otherwise` answers the rest, HEAD and OPTIONS too."""

    def __init__(self, otherwise: ASGIApp, gateway: Gateway) -> None:
        self._otherwise = otherwise
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/v1/") and scope["method"] in _METHODS:
            await _Exchange(scope, receive, send).run(_operation(self._gateway, scope), self._gateway.check_key)
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

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = False
        self._gone = False
        self._watching: asyncio.Task[None] | None = None

    async def run(self, operation: Operation, check_key: Callable[[Headers], Awaitable[None]]) -> None:
        """`check_key` raises for headers whose body is not worth keeping."""
        try:
            body = await self._body(check_key)
            if body is not None:
                await self._unless_gone(operation, _call(self._scope, body))
        except PlatformError as error:
            if self._started:
                raise
            await self._refuse(error)
        except Exception as error:
            log.exception("llm.unexpected_error", error=type(error).__name__)
            if self._started:
                raise
            await self._refuse(PlatformError("Something went wrong on our side. Try again; quote request_id."))

    async def _body(self, check_key: Callable[[Headers], Awaitable[None]]) -> bytes | None:
        """None when the client left.

        One that is refused is read to its end, unless it is much too large, or the client would see a cut connection
        and not our answer; but nothing of it is kept.
        """
        parts: list[bytes] = []
        size, more, refusal = 0, True, None
        while more and size <= 4 * LARGEST_BODY:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(part := message.get("body", b""))
            more = message.get("more_body", False)
            if more and not parts and refusal is None:
                refusal = await _refusal(check_key(_headers(self._scope)))
            if size > LARGEST_BODY:
                refusal = refusal or TooLarge("The request body is over 32 MB. Send less at once.")
            if refusal:
                parts.clear()
            else:
                parts.append(part)
        if refusal:
            raise refusal
        return b"".join(parts)

    async def _unless_gone(self, operation: Operation, call: Call) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An ASGI application runs in a task.")
        soon = asyncio.get_running_loop().call_later(_UNWATCHED, self._watch, task)
        try:
            async with operation(call) as answer:
                await self._start(answer.status, answer.headers)
                if answer.chunks:
                    async for chunk in answer.chunks:
                        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._unwatch(soon)  # servers tell a whole answer as a disconnect
                await self._send({"type": "http.response.body", "body": answer.body, "more_body": False})
        except asyncio.CancelledError:
            if not self._gone or task.uncancel():
                raise
        finally:
            self._unwatch(soon)

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._watching = asyncio.create_task(self._until_gone(task))

    async def _until_gone(self, task: asyncio.Task[None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        task.cancel()

    def _unwatch(self, soon: asyncio.TimerHandle) -> None:
        soon.cancel()
        if self._watching:
            self._watching.cancel()

    async def _refuse(self, error: PlatformError) -> None:
        status, headers, body = errors.answer(error)
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})


def _call(scope: Scope, body: bytes) -> Call:
    query = scope["query_string"].decode("latin-1")
    return Call(scope["method"], scope["path"].removeprefix("/api"), query, _headers(scope), body)


def _headers(scope: Scope) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


async def _refusal(check: Awaitable[None]) -> PlatformError | None:
    try:
        await check
    except PlatformError as error:
        return error
    return None
