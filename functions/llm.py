"""The LLM gateway over HTTP: the Anthropic Messages API under /api/v1."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from functions.context import platform_of
from functions.routing import AreaRouter
from shared.core.errors import NotFound, PlatformError
from shared.llm import errors
from shared.llm.models import Answer, Call, TooLarge
from shared.llm.upstream import Headers

_key = HTTPBearer(auto_error=False, scheme_name="ModelKey", description="A team's model key, or a run's token")
router = AreaRouter(prefix="/api/v1", tags=["llm"], dependencies=[Depends(_key)])

LARGEST_BODY = 32 * 1024 * 1024
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}")
_ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]

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

type Operation = Callable[[Call], AbstractAsyncContextManager[Answer]]


@router.post(
    "/messages", response_class=Response, openapi_extra=_ASKED, summary="Create a message (Anthropic Messages API)"
)
async def messages(request: Request) -> Response:
    return _PassThrough(request, platform_of(request).llm.messages)


@router.post(
    "/messages/count_tokens", response_class=Response, openapi_extra=_ASKED, summary="Count the tokens of a message"
)
async def count_tokens(request: Request) -> Response:
    return _PassThrough(request, platform_of(request).llm.count_tokens)


@router.get("/models", response_class=Response, summary="List models")
async def models(request: Request) -> Response:
    return _PassThrough(request, platform_of(request).llm.models)


@router.get("/models/{model_id}", response_class=Response, summary="Get a model")
async def model(request: Request, model_id: str) -> Response:
    if not _MODEL.fullmatch(model_id):  # the model service must not see a path of the caller's making
        return _PassThrough(request, _unknown)
    return _PassThrough(request, lambda call: platform_of(request).llm.model(call, model_id))


@router.head("", include_in_schema=False)
@router.head("/", include_in_schema=False)
async def probe() -> Response:
    """Clients look whether somebody is there before they sign in."""
    return Response()


@router.api_route("/{rest:path}", methods=_ANY_METHOD, include_in_schema=False)
async def unknown(request: Request) -> Response:
    return _PassThrough(request, _unknown)


@asynccontextmanager
async def _unknown(call: Call) -> AsyncGenerator[Answer]:
    raise NotFound(
        f"{call.method} {call.path} is not part of this gateway, which has POST /v1/messages, "
        "POST /v1/messages/count_tokens and GET /v1/models."
    )
    yield


class _PassThrough(Response):
    """Sends an operation's answer chunk by chunk, and ends the operation when the client is gone."""

    def __init__(self, request: Request, operation: Operation) -> None:
        super().__init__()
        self._request = request
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            call = await _call(self._request)
        except ClientDisconnect:
            return
        except PlatformError as error:
            await _send_error(send, error)
            return
        work = asyncio.create_task(self._answer(call, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = not work.done()
            await _stop(gone, work)
        if not left:
            work.result()

    async def _answer(self, call: Call, send: Send) -> None:
        started = False
        try:
            async with self._operation(call) as answer:
                started = True
                await _start(send, answer.status, answer.headers)
                async for chunk in answer.chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except PlatformError as error:
            if started:
                raise
            await _send_error(send, error)


async def _call(request: Request) -> Call:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
    raw_path = (request.scope.get("raw_path") or request.url.path.encode()).split(b"?")[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return Call(request.method, raw_path.removeprefix("/api"), query, headers, await _body(request))


async def _body(request: Request) -> bytes:
    """A body somewhat too large is read to its end, or the client would see a cut connection and not our answer."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= LARGEST_BODY:
            parts.append(chunk)
        elif size > 4 * LARGEST_BODY:
            break
    if size > LARGEST_BODY:
        raise TooLarge("The request body is over 32 MB. Send less at once.")
    return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _send_error(send: Send, error: PlatformError) -> None:
    status, headers, body = errors.answer(error)
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _start(send: Send, status: int, headers: Headers) -> None:
    lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
