"""What routers need of a request."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from shared.bootstrap import Platform
from shared.core.access import Principal


def platform_of(connection: HTTPConnection) -> Platform:
    return connection.app.state.platform


async def _here(connection: HTTPConnection) -> Platform:
    """A coroutine, because FastAPI calls a plain function in a thread."""
    return platform_of(connection)


class _Caller(SecurityBase):
    """Whoever has a token, in one step: a described scheme and a header would be two more dependencies per request."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An access token, or a personal API token (`kbp_...`)")
        self.scheme_name = "HTTPBearer"

    async def __call__(self, request: Request) -> Principal:
        return await platform_of(request).auth.principal(request.headers.get("authorization"))


type Here = Annotated[Platform, Depends(_here)]
"""The platform."""

type Caller = Annotated[Principal, Depends(_Caller())]
"""Whoever calls, signed in."""
