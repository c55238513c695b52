"""The emulator's endpoints, at the paths Entra ID has them."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from local.entra import errors, pages
from local.entra.config import EntraConfig, User
from local.entra.errors import EntraError, Refusal
from local.entra.grants import Grants, Request
from local.entra.tokens import LIFETIME, Signer
from shared.core.clock import Clock, SystemClock

_ANY_TENANT = ("common", "organizations")
_SCOPES = ("openid", "profile", "email", "offline_access")


def create_app(config: EntraConfig, clock: Clock | None = None) -> Starlette:
    """One tenant's endpoints. Codes, refresh tokens and the signing key live as long as the application."""
    return Starlette(routes=_Endpoints(config, clock or SystemClock()).routes())


class _Endpoints:
    def __init__(self, config: EntraConfig, clock: Clock) -> None:
        self._config = config
        self._grants = Grants(clock)
        self._signer = Signer(config, clock)

    def routes(self) -> list[Route]:
        return [
            Route("/common/discovery/instance", self.instance),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", self.discovery),
            Route("/{tenant}/discovery/v2.0/keys", self.keys),
            Route("/{tenant}/oauth2/v2.0/authorize", self.authorize, methods=["GET", "POST"]),
            Route("/{tenant}/oauth2/v2.0/token", self.token, methods=["POST"]),
            Route("/{tenant}/oauth2/v2.0/logout", self.logout),
        ]

    async def instance(self, request: HttpRequest) -> Response:
        endpoint = f"{self._config.authority}/v2.0/.well-known/openid-configuration"
        return JSONResponse({"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": []})

    async def discovery(self, request: HttpRequest) -> Response:
        tenant = request.path_params["tenant"]
        if not self._is_tenant(tenant):
            return errors.response(errors.tenant_not_found(tenant))
        secure, plain = f"{self._config.https_url}/{tenant}", f"{self._config.http_url}/{tenant}"
        issuer_tenant = "{tenantid}" if tenant in _ANY_TENANT else self._config.tenant
        return JSONResponse(
            {
                "issuer": f"{self._config.https_url}/{issuer_tenant}/v2.0",
                "authorization_endpoint": f"{plain}/oauth2/v2.0/authorize",
                "token_endpoint": f"{secure}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "jwks_uri": f"{secure}/discovery/v2.0/keys",
                "end_session_endpoint": f"{plain}/oauth2/v2.0/logout",
                "response_modes_supported": ["query", "fragment"],
                "response_types_supported": ["code"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": list(_SCOPES),
                "claims_supported": ["aud", "iss", "iat", "exp", "nonce", "preferred_username", "name", "tid", "oid"],
            }
        )

    async def keys(self, request: HttpRequest) -> Response:
        return JSONResponse(self._signer.jwks)

    async def authorize(self, request: HttpRequest) -> Response:
        """GET shows the accounts; the form posts the choice back to the same URL."""
        query = request.query_params
        refusal = self._untrustworthy(request.path_params["tenant"], query)
        if refusal:
            return pages.refused(refusal.description)
        refusal = _unsupported(query)
        if refusal:
            return _back(query, _refusal_answer(refusal))
        if request.method == "GET":
            hint = query.get("login_hint", "").strip().lower()
            return pages.pick_account(self._config.users, query["client_id"], hint)
        return await self._picked(request)

    async def _picked(self, request: HttpRequest) -> Response:
        query = request.query_params
        async with request.form() as form:
            account = str(form.get("account", ""))
        if not account:
            return _back(query, _refusal_answer(errors.DECLINED))
        user = self._config.user(account)
        if user is None:
            return pages.refused(f"AADSTS50034: The user account {account} does not exist in the directory.")
        code = self._grants.new_code(user, _asked(query))
        return _back(query, {"code": code, "session_state": str(uuid4())})

    async def token(self, request: HttpRequest) -> Response:
        async with request.form() as submitted:
            form = {name: str(value) for name, value in submitted.items()}
        try:
            body = self._tokens(request, form)
        except EntraError as error:
            return errors.response(error.refusal)
        return JSONResponse(body, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def logout(self, request: HttpRequest) -> Response:
        """Back to an origin that some application is registered for; elsewhere nobody is sent."""
        target = request.query_params.get("post_logout_redirect_uri", "")
        registered = {_origin(uri) for client in self._config.clients.values() for uri in client.redirect_uris}
        if target and _origin(target) in registered:
            return RedirectResponse(target, 302)
        return pages.signed_out()

    def _tokens(self, request: HttpRequest, form: Mapping[str, str]) -> dict[str, Any]:
        tenant = request.path_params["tenant"]
        if not self._is_tenant(tenant):
            raise EntraError(errors.tenant_not_found(tenant))
        client_id = self._authenticated(request, form)
        grant = form.get("grant_type", "")
        if grant == "client_credentials":
            return self._app_answer(client_id, form.get("scope", ""))
        if grant == "authorization_code":
            user, asked = self._grants.redeem_code(
                form.get("code", ""), client_id, form.get("redirect_uri", ""), form.get("code_verifier", "")
            )
            return self._user_answer(user, asked, with_nonce=True)
        if grant == "refresh_token":
            user, asked = self._grants.refresh(form.get("refresh_token", ""), client_id)
            return self._user_answer(user, asked, with_nonce=False)
        raise EntraError(errors.unsupported_grant(grant) if grant else errors.missing_parameter("grant_type"))

    def _user_answer(self, user: User, asked: Request, *, with_nonce: bool) -> dict[str, Any]:
        scopes = asked.scope.split()
        answer = {
            "token_type": "Bearer",
            "scope": asked.scope,
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "access_token": self._signer.access_token(user, asked),
            "client_info": self._signer.client_info(user),
        }
        if "openid" in scopes:
            answer["id_token"] = self._signer.id_token(user, asked, with_nonce=with_nonce)
        if "offline_access" in scopes:
            answer["refresh_token"] = self._grants.new_refresh_token(user, asked)
        return answer

    def _app_answer(self, client_id: str, scope: str) -> dict[str, Any]:
        resource = scope.removesuffix("/.default")
        if not resource or resource == scope:
            raise EntraError(errors.bad_scope(scope))
        token = self._signer.app_token(client_id, resource)
        return {"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": token}

    def _authenticated(self, request: HttpRequest, form: Mapping[str, str]) -> str:
        client_id, secret = _basic(request) or (form.get("client_id", ""), form.get("client_secret", ""))
        client = self._config.clients.get(client_id)
        if client is None:
            raise EntraError(errors.unknown_client(client_id, self._config.tenant))
        if not secrets.compare_digest(secret.encode(), client.secret.encode()):
            raise EntraError(errors.bad_secret(client_id))
        return client_id

    def _untrustworthy(self, tenant: str, query: Mapping[str, str]) -> Refusal | None:
        """What must be shown here, because the redirect URI cannot be trusted."""
        if not self._is_tenant(tenant):
            return errors.tenant_not_found(tenant)
        client_id, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
        client = self._config.clients.get(client_id)
        if client is None:
            return errors.unknown_client(client_id, self._config.tenant)
        return None if redirect_uri in client.redirect_uris else errors.redirect_mismatch(redirect_uri, client_id)

    def _is_tenant(self, tenant: str) -> bool:
        return tenant == self._config.tenant or tenant in _ANY_TENANT


def _unsupported(query: Mapping[str, str]) -> Refusal | None:
    if query.get("response_type") != "code":
        return errors.RESPONSE_TYPE
    if query.get("response_mode", "query") not in ("query", "fragment"):
        return errors.RESPONSE_MODE
    if not query.get("scope"):
        return errors.missing_parameter("scope")
    if query.get("code_challenge") and query.get("code_challenge_method", "plain") not in ("plain", "S256"):
        return errors.CHALLENGE_METHOD
    return errors.NOT_SIGNED_IN if "none" in query.get("prompt", "").split() else None


def _asked(query: Mapping[str, str]) -> Request:
    return Request(
        client_id=query["client_id"],
        redirect_uri=query["redirect_uri"],
        scope=query["scope"],
        nonce=query.get("nonce", ""),
        challenge=query.get("code_challenge", ""),
        challenge_method=query.get("code_challenge_method", "plain"),
    )


def _refusal_answer(refusal: Refusal) -> dict[str, str]:
    return {"error": refusal.error, "error_description": refusal.description}


def _back(query: Mapping[str, str], answer: dict[str, str]) -> Response:
    if "state" in query:
        answer["state"] = query["state"]
    uri = query["redirect_uri"]
    mark = "#" if query.get("response_mode") == "fragment" else "&" if "?" in uri else "?"
    return RedirectResponse(uri + mark + urlencode(answer), 302, headers={"Cache-Control": "no-store"})


def _basic(request: HttpRequest) -> tuple[str, str] | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise EntraError(errors.bad_secret("")) from None
    return unquote(client_id), unquote(secret)


def _origin(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.scheme, parts.netloc
