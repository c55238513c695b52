"""/api/auth: sign-in, sessions, personal API tokens."""

from typing import Any

from fastapi import Response

from functions.context import Caller, Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.auth.models import (
    ApiToken,
    CreatedApiToken,
    NewApiToken,
    RefreshRequest,
    Session,
    SignInFinish,
    SignInStart,
    User,
)

router = AreaRouter(prefix="/api/auth", tags=["auth"], route_class=JsonRoute)


@router.get("/login")
async def begin_sign_in(here: Here, redirect_uri: str | None = None) -> SignInStart:
    return await here.auth.begin(redirect_uri)


@router.post("/callback")
async def finish_sign_in(here: Here, body: SignInFinish) -> Session:
    return await here.auth.finish(body.code, body.state)


@router.post("/refresh")
async def refresh_session(here: Here, body: RefreshRequest) -> Session:
    return await here.auth.refresh(body.refresh_token)


@router.post("/logout", status_code=204)
async def sign_out(here: Here, body: RefreshRequest) -> Response:
    await here.auth.sign_out(body.refresh_token)
    return Response(status_code=204)


@router.get("/me")
async def who_am_i(here: Here, caller: Caller) -> User:
    return await here.auth.me(caller)


@router.get("/jwks")
async def signing_keys(here: Here) -> dict[str, Any]:
    return await here.tokens.jwks()


@router.get("/tokens")
async def list_api_tokens(here: Here, caller: Caller) -> list[ApiToken]:
    return await here.auth.api_tokens(caller)


@router.post("/tokens", status_code=201)
async def create_api_token(here: Here, caller: Caller, body: NewApiToken) -> CreatedApiToken:
    return await here.auth.create_api_token(caller, body)


@router.delete("/tokens/{token_id}", status_code=204)
async def delete_api_token(here: Here, caller: Caller, token_id: str) -> Response:
    await here.auth.delete_api_token(caller, token_id)
    return Response(status_code=204)


@router.post("/users/{user_id}/disable")
async def disable_user(here: Here, caller: Caller, user_id: str) -> User:
    return await here.auth.set_disabled(caller, user_id, True)


@router.post("/users/{user_id}/enable")
async def enable_user(here: Here, caller: Caller, user_id: str) -> User:
    return await here.auth.set_disabled(caller, user_id, False)
