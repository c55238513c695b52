"""The FastAPI application: routers, errors as problem+json, CORS, request ids, OpenAPI."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions import (
    agents,
    auth,
    boards,
    cards,
    health,
    llm,
    realtime,
    runs,
    tasks,
    teams,
    usage,
    workspaces,
)
from shared.bootstrap import Platform
from shared.core import ids
from shared.core.errors import PlatformError, RateLimited, Unavailable
from shared.core.log import Log, correlation

log = Log(__name__)

AREAS = (auth, teams, workspaces, boards, cards, tasks, runs, agents, llm, usage, realtime, health)
PROBLEM = "https://kanban-platform.dev/problems/"
REQUEST_ID = "x-request-id"
LARGEST_BODY = 4 * 1024 * 1024
"""Several times the largest body a route takes. The model gateway has a limit of its own."""


def create_api(build: Callable[[], Platform]) -> FastAPI:
    """The application. `build` is called once, at the first request."""
    api = FastAPI(
        title="Kanban Platform",
        version="0.1.0",
        openapi_url="/api/openapi.json",
        docs_url="/api/docs",
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    api.state.platform = platform = build()
    plain = api.openapi
    api.openapi = lambda: _as_problems(plain())
    api.add_exception_handler(PlatformError, _platform_error)
    api.add_exception_handler(RequestValidationError, _validation_error)
    api.add_exception_handler(HTTPException, _http_error)
    for area in AREAS:
        api.include_router(area.router, responses=None if area is llm else ERRORS)
    api.add_middleware(BodyLimit)
    api.add_middleware(Unexpected)
    api.add_middleware(
        CORSMiddleware,
        allow_origins=[platform.settings.public_web_url],
        allow_methods=["*"],
        allow_headers=["authorization", "content-type", "if-match", "idempotency-key", REQUEST_ID],
        expose_headers=["etag", "location", "retry-after", REQUEST_ID],
        max_age=600,
    )
    api.add_middleware(RequestId)
    return api


class BodyLimit:
    """Reads no more of a body than any route could take: anybody may send one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(f"{llm.router.prefix}/"):
            await self._app(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > LARGEST_BODY:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


class Unexpected:
    """Answers what nobody foresaw, within CORS and the request id: the framework's own handler stands outside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            log.exception("api.unexpected_error", error=type(error).__name__)
            detail = "Something went wrong on our side. Try again; quote request_id."
            await problem(500, "internal", "Internal error", detail)(scope, receive, send)


class RequestId:
    """Gives every request an id that its answer, its logs and its problem report carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        request_id = sent if ids.is_plain(sent.replace("-", "")) else ids.sortable()
        token = correlation.set(request_id)

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        finally:
            correlation.reset(token)


class Problem(BaseModel):
    """RFC 9457. `type` is stable, `detail` says what to do, `request_id` is what to quote."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": Problem, "description": "Any error"}}


def _as_problems(description: dict[str, Any]) -> dict[str, Any]:
    """FastAPI describes every body as application/json; errors are problem+json."""
    for operations in description["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("default", {}).get("content", {})
            if "application/json" in content:
                content["application/problem+json"] = content.pop("application/json")
    return description


def problem(status: int, kind: str, title: str, detail: str, **extra: object) -> JSONResponse:
    """RFC 9457."""
    body = {"type": PROBLEM + kind, "title": title, "status": status, "detail": detail}
    body |= {"request_id": correlation.get(), **extra}
    return JSONResponse(jsonable_encoder(body), status, media_type="application/problem+json")


async def _platform_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PlatformError):
        raise error
    answer = problem(error.status, error.type, error.title, error.detail, **error.extra)
    if isinstance(error, RateLimited | Unavailable) and error.retry_after is not None:
        answer.headers["retry-after"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return problem(400, "bad-request", "Bad request", "The body is not valid JSON.")
    errors = [{"field": ".".join(str(part) for part in item["loc"][1:]), "message": item["msg"]} for item in found]
    detail = "; ".join(f"{item['field'] or 'body'}: {item['message']}" for item in errors)
    return problem(422, "invalid", "Not valid", detail, errors=errors)


_HTTP_ERRORS = {
    400: ("bad-request", "Bad request", "The body cannot be read. Send JSON in UTF-8."),
    404: ("not-found", "Not found", "There is nothing at this address."),
    413: ("too-large", "Request too large", f"A body holds at most {LARGEST_BODY // 1024**2} MB. Send less at once."),
    405: ("method-not-allowed", "Method not allowed", "This address does not take this method."),
}


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    kind, title, detail = _HTTP_ERRORS.get(error.status_code, ("http", str(error.detail), str(error.detail)))
    answer = problem(error.status_code, kind, title, detail)
    answer.headers.update(error.headers or {})
    return answer
