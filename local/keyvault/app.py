"""The secret calls of Key Vault's REST API that the platform uses, and App Service's token endpoint.

learn.microsoft.com/rest/api/keyvault/secrets, learn.microsoft.com/azure/key-vault/general/rest-error-codes,
learn.microsoft.com/azure/app-service/overview-managed-identity (REST endpoint reference).
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.keyvault.vault import RETENTION, Refusal, Secret, Vault
from shared.core.clock import Clock, SystemClock

TENANT = "00000000-0000-4000-8000-000000000001"
_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_LARGEST = 25_600


class KeyVault:
    """`url` is where it will be served, over TLS.

    `allowed`: the identity may use it. `refusing`: how many of the next requests are throttled.
    `lifetime`: seconds of the next tokens.
    """

    def __init__(self, url: str, clock: Clock | None = None, settling: float = 0) -> None:
        self.url = url
        self.clock = clock or SystemClock()
        self.vault = Vault(self.clock, settling)
        self.identity_header = secrets.token_hex(16)
        self.allowed = True
        self.refusing = 0
        self.lifetime = 86_400
        self.tokens_given = 0
        self._key = secrets.token_hex(32)

    @property
    def resource(self) -> str:
        """What tokens are for. The SDK wants the vault's host to be within it: a.vault.azure.net in vault.azure.net,
        and 127.0.0.1 in 0.0.1."""
        return f"https://{self.url.removeprefix('https://').partition('.')[2]}"

    def token(self, resource: str) -> tuple[str, int]:
        self.tokens_given += 1
        now = int(self.clock.now().timestamp())
        claims = {"aud": resource, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT}
        claims |= {"iat": now, "nbf": now, "exp": now + self.lifetime, "oid": "platform", "appid": "platform"}
        return jwt.encode(claims, self._key, "HS256"), now + self.lifetime

    def authenticate(self, header: str) -> None:
        try:
            jwt.decode(header.removeprefix("Bearer "), self._key, ["HS256"], audience=self.resource)
        except jwt.InvalidTokenError as error:
            text = "Request is missing a Bearer or PoP token." if not header else f"AKV10000: {error}"
            raise Refusal(401, "Unauthorized", text) from error


def create_app(state: KeyVault) -> Starlette:
    return Starlette(routes=_Endpoints(state).routes())


class _Endpoints:
    def __init__(self, state: KeyVault) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/msi/token", self.token),
            Route("/secrets/{name}", self._guarded(self.put), methods=["PUT"]),
            Route("/secrets/{name}", self._guarded(self.delete), methods=["DELETE"]),
            Route("/secrets/{name}/{version:path}", self._guarded(self.get), methods=["GET"]),
            Route("/secrets/{name}", self._guarded(self.get), methods=["GET"]),
            Route("/deletedsecrets/{name}", self._guarded(self.deleted), methods=["GET"]),
            Route("/deletedsecrets/{name}/recover", self._guarded(self.recover), methods=["POST"]),
        ]

    async def token(self, request: Request) -> Response:
        if request.headers.get("X-IDENTITY-HEADER") != self._state.identity_header:
            return JSONResponse({"statusCode": 401, "message": "the identity header is missing or wrong"}, 401)
        resource = request.query_params.get("resource", "")
        token, expires = self._state.token(resource)
        return JSONResponse(
            {"access_token": token, "expires_on": str(expires), "resource": resource, "token_type": "Bearer"}
        )

    async def put(self, request: Request) -> Response:
        try:
            value = json.loads(await request.body())["value"]
        except (ValueError, KeyError, TypeError):
            value = None
        if not isinstance(value, str) or len(value.encode()) > _LARGEST:
            raise Refusal(400, "BadParameter", f"The value is missing, or longer than {_LARGEST} bytes.")
        return self._bundle(*self._state.vault.put(request.path_params["name"], value), with_value=True)

    async def get(self, request: Request) -> Response:
        version = request.path_params.get("version", "")
        return self._bundle(*self._state.vault.get(request.path_params["name"], version), with_value=True)

    async def delete(self, request: Request) -> Response:
        return self._bundle(*self._state.vault.delete(request.path_params["name"]))

    async def deleted(self, request: Request) -> Response:
        return self._bundle(*self._state.vault.deleted(request.path_params["name"]))

    async def recover(self, request: Request) -> Response:
        return self._bundle(*self._state.vault.recover(request.path_params["name"]))

    def _bundle(self, secret: Secret, version: str, *, with_value: bool = False) -> Response:
        value, created = secret.versions[version]
        found: dict[str, Any] = {
            "id": f"{self._state.url}/secrets/{secret.name}/{version}",
            "attributes": {
                "enabled": True,
                "created": created,
                "updated": created,
                "recoveryLevel": "Recoverable",
                "recoverableDays": RETENTION // 86_400,
            },
        }
        if with_value:
            found["value"] = value
        if secret.deleted_at is not None:
            found |= {
                "recoveryId": f"{self._state.url}/deletedsecrets/{secret.name}",
                "deletedDate": secret.deleted_at,
                "scheduledPurgeDate": secret.deleted_at + RETENTION,
            }
        return JSONResponse(found)

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                self._admit(request)
                return await endpoint(request)
            except Refusal as refusal:
                return self._refused(refusal)

        return guarded

    def _admit(self, request: Request) -> None:
        self._state.authenticate(request.headers.get("Authorization", ""))
        if not self._state.allowed:
            raise Refusal(403, "Forbidden", "The caller lacks the permission for this action.", "ForbiddenByRbac")
        if self._state.refusing > 0:
            self._state.refusing -= 1
            raise Refusal(429, "Throttled", "Too many requests.")
        if not request.query_params.get("api-version"):
            raise Refusal(400, "BadParameter", "api-version must be specified")
        if not _NAME.fullmatch(request.path_params["name"]):
            raise Refusal(400, "BadParameter", "The name is not one: 1 to 127 of 0-9, a-z, A-Z and -.")

    def _refused(self, refusal: Refusal) -> Response:
        error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
        if refusal.inner:
            error["innererror"] = {"code": refusal.inner}
        headers: dict[str, str] = {}
        if refusal.status == 401:
            authority = f"https://login.windows.net/{TENANT}"
            headers["WWW-Authenticate"] = f'Bearer authorization="{authority}", resource="{self._state.resource}"'
        return JSONResponse({"error": error}, refusal.status, headers)
