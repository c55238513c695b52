"""The process's one Platform, built on first use, and what routers need of a request."""

import os
from typing import Annotated

from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from shared.bootstrap import Platform, adapters, build
from shared.core.access import Principal
from shared.core.settings import Settings

_built: list[Platform] = []


def platform() -> Platform:
    """Built once per process from the environment. Raises Invalid for a setting that does not fit."""
    if not _built:
        settings = Settings.from_env(os.environ)
        _built.append(build(settings, adapters(settings)))
    return _built[0]


def platform_of(connection: HTTPConnection) -> Platform:
    return connection.app.state.platform


_bearer = HTTPBearer(auto_error=False, description="An access token, or a personal API token (`kbp_...`)")


async def _caller(
    connection: HTTPConnection,
    _described: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Principal:
    return await platform_of(connection).auth.principal(authorization)


type Here = Annotated[Platform, Depends(platform_of)]
"""The platform."""

type Caller = Annotated[Principal, Depends(_caller)]
"""Whoever calls, signed in."""
