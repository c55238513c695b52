"""What went wrong, as RFC 9457 tells it. It needs no web framework: one that cannot be loaded is told so as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.core.log import Log, correlation

if TYPE_CHECKING:  # loads with the first problem
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = Log(__name__)

PROBLEM = "https://kanban-platform.dev/problems/"


def problem(status: int, kind: str, title: str, detail: str, **extra: object) -> JSONResponse:
    """`extra` is plain JSON."""
    from starlette.responses import JSONResponse

    body = {"type": PROBLEM + kind, "title": title, "status": status, "detail": detail}
    body |= {"request_id": correlation.get(), **extra}
    return JSONResponse(body, status, media_type="application/problem+json")


class Unexpected:
    """Answers what nobody foresaw, within CORS and the request id.

    Stands inside the framework, whose own handler would answer in plain text, and around what makes the API.
    """

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
