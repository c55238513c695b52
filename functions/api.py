"""The FastAPI application: routers, errors as problem+json, OpenAPI. functions/app.py stands before it."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions import (
    agents,
    auth,
    boards,
    cards,
    github,
    health,
    keys,
    llm,
    realtime,
    runs,
    tasks,
    teams,
    usage,
    workspaces,
)
from functions.problems import Unexpected, problem
from shared.bootstrap import Platform
from shared.core.errors import PlatformError, RateLimited, Unavailable

AREAS = (auth, teams, workspaces, boards, cards, tasks, runs, agents, github, llm, keys, usage, realtime, health)
_MOST_ERRORS = 20
LARGEST_BODY = 4 * 1024 * 1024
"""Several times the largest body a route takes. The model gateway has a limit of its own."""


def create_api(platform: Platform) -> FastAPI:
    """The API of people and programs, and the description of all routes."""
    api = FastAPI(
        title="Kanban Platform",
        version="0.1.0",
        openapi_url="/api/openapi.json",
        docs_url="/api/docs",
        redoc_url=None,
        separate_input_output_schemas=False,
        redirect_slashes=False,  # it would send clients wherever their Host header says
    )
    api.state.platform = platform
    plain = api.openapi
    api.openapi = lambda: _as_problems(plain())
    api.add_exception_handler(PlatformError, _platform_error)
    api.add_exception_handler(RequestValidationError, _validation_error)
    api.add_exception_handler(HTTPException, _http_error)
    for area in AREAS:
        api.include_router(area.router, responses=GATEWAY_ERRORS if area is llm else ERRORS)
    api.add_middleware(BodyLimit)
    api.add_middleware(Unexpected)
    return api


class BodyLimit:
    """Reads no more of a body than any route could take: anybody may send one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
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


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457. `type` is stable, `detail` says what to do, `request_id` is what to quote. `errors` with 422 only."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] | None = None


class GatewayErrorDetail(BaseModel):
    type: str
    message: str


class GatewayError(BaseModel):
    """An error as the Anthropic API tells it."""

    type: Literal["error"]
    error: GatewayErrorDetail
    request_id: str | None = None


ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": Problem, "description": "Any error"}}
GATEWAY_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": GatewayError, "description": "Any error"}}


_A_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}


def _as_problems(description: dict[str, Any]) -> dict[str, Any]:
    """FastAPI describes every body as application/json, and 422 in a form of its own; errors are problem+json."""
    for operations in description["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            content = operation["responses"]["default"]["content"]
            if content.get("application/json") == _A_PROBLEM:
                content["application/problem+json"] = content.pop("application/json")
    for unused in ("HTTPValidationError", "ValidationError"):
        description["components"]["schemas"].pop(unused, None)
    return description


async def _platform_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PlatformError):
        raise error
    answer = problem(error.status, error.type, error.title, error.detail, **jsonable_encoder(error.extra))
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
    errors = [{"field": _place(item["loc"][1:]), "message": _message(item)} for item in found[:_MOST_ERRORS]]
    detail = "; ".join(f"{item['field'] or 'body'}: {item['message']}" for item in errors)
    return problem(422, "invalid", "Not valid", detail, errors=errors)


def _place(path: Iterable[object]) -> str:
    """Names of fields are the caller's: they come back cut."""
    return ".".join(str(part) for part in path)[:100]


def _message(item: Mapping[str, Any]) -> str:
    """Patterns are for machines: the OpenAPI description has them."""
    if item["type"] == "string_pattern_mismatch":
        return "Text with characters that cannot stand here, or with nothing to read"
    return item["msg"]


_HTTP_ERRORS = {
    400: ("bad-request", "Bad request", "The body cannot be read. Send JSON in UTF-8."),
    404: ("not-found", "Not found", "There is nothing at this address."),
    413: ("too-large", "Request too large", f"A body holds at most {LARGEST_BODY // 1024**2} MB. Send less at once."),
    405: ("method-not-allowed", "Method not allowed", "This address does not take this method."),
}


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    kind, title, detail = _HTTP_ERRORS.get(error.status_code, ("http", str(error.detail), str(error.detail)))
    answer = problem(error.status_code, kind, title, detail)
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """All that the address takes; the framework names those of the first route only."""
    routes = (route for area in AREAS for route in area.router.routes if isinstance(route, APIRoute))
    shown = (route for route in routes if route.include_in_schema)
    fitting = (route for route in shown if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in fitting for method in route.methods or ()}
