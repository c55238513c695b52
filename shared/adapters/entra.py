"""Sign-in with Microsoft Entra ID: MSAL runs the code flow; the id_token is validated here, since MSAL does not."""

import asyncio
import base64
import hashlib
import json
import threading
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from shared.core.errors import Unauthenticated, Unavailable
from shared.core.log import Log
from shared.core.ports import Identity, Json, SignIn

_log = Log(__name__)
_TIMEOUT = 10
_LEEWAY = 60
_RETRY = "Sign in again."
_MICROSOFT_HOSTS = (
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
)


@dataclass(frozen=True, slots=True)
class _Provider:
    """What is made at first use: MSAL's application, the issuer it must name, and its signing keys."""

    application: Any
    issuer: str
    keys: Any


class EntraIdentity:
    """IdentityProvider on one app registration. Only people of `allowed_tenants` get in; empty means nobody.

    MSAL asks Microsoft whether an authority's host is one of its own. For any other host there is nothing to ask, so
    that instance discovery is off there; the authority is our own setting, not a caller's.
    """

    def __init__(self, authority: str, client_id: str, client_secret: str, allowed_tenants: Collection[str]) -> None:
        self._authority = authority.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._allowed_tenants = frozenset(tenant.lower() for tenant in allowed_tenants)
        self._lock = threading.Lock()
        self._provider: _Provider | None = None

    async def begin(self, redirect_uri: str) -> SignIn:
        return await asyncio.to_thread(self._begin, redirect_uri)

    async def redeem(self, flow: Json, code: str, state: str) -> Identity:
        opened = _opened(flow, state)
        if opened is None or state != opened.get("state"):
            raise Unauthenticated(f"This answer belongs to another sign-in. {_RETRY}")
        if not code:
            raise Unauthenticated(f"The sign-in was cancelled. {_RETRY}")
        return await asyncio.to_thread(self._redeem, opened, code, state)

    def _begin(self, redirect_uri: str) -> SignIn:
        application = self._connect().application
        flow: Json = application.initiate_auth_code_flow([], redirect_uri=redirect_uri, response_mode="query")
        return SignIn(url=flow["auth_uri"], state=flow["state"], flow=_sealed(flow))

    def _redeem(self, flow: Json, code: str, state: str) -> Identity:
        provider = self._connect()
        claims = self._validated(provider, self._id_token(provider, flow, code, state))
        if claims.get("nonce") != hashlib.sha256(flow["nonce"].encode()).hexdigest():
            raise Unauthenticated(f"Entra ID answered another sign-in than this one. {_RETRY}")
        if claims["tid"].lower() not in self._allowed_tenants:
            raise Unauthenticated(
                "People of your organisation may not sign in here. Ask an administrator to add the tenant "
                f"{claims['tid']} to ENTRA_ALLOWED_TENANTS."
            )
        email = str(claims.get("email") or claims.get("preferred_username") or "")
        return Identity(claims["tid"], claims["oid"], str(claims.get("name") or email), email)

    def _id_token(self, provider: _Provider, flow: Json, code: str, state: str) -> str:
        import requests

        try:
            result = provider.application.acquire_token_by_auth_code_flow(flow, {"code": code, "state": state})
        except requests.RequestException as error:
            raise _unreachable(error) from None
        except (ValueError, RuntimeError, KeyError) as error:  # MSAL's own: state, nonce, an answer it cannot read
            _log.warning("sign_in.refused", reason=type(error).__name__)
            raise Unauthenticated(f"Entra ID's answer does not belong to this sign-in. {_RETRY}") from None
        if "error" in result:
            raise _refusal(result)
        if "id_token" not in result:
            raise Unauthenticated(f"Entra ID sent no id_token. {_RETRY}")
        return result["id_token"]

    def _validated(self, provider: _Provider, token: str) -> Json:
        """Signature, issuer, audience, times; `tid` and `oid` are text. The issuer's tenant is the token's own."""
        import jwt

        try:
            key = provider.keys.get_signing_key_from_jwt(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
            claims: Json = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self._client_id,
                issuer=provider.issuer.replace("{tenantid}", str(unverified.get("tid"))),
                leeway=_LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "tid", "oid"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise _unreachable(error) from None
        except (jwt.PyJWKClientError, jwt.PyJWKSetError, jwt.InvalidTokenError) as error:
            _log.warning("sign_in.id_token_refused", reason=type(error).__name__)
            raise Unauthenticated(f"Entra ID's id_token is not valid. {_RETRY}") from None
        if not all(isinstance(claims[name], str) and claims[name] for name in ("tid", "oid")):
            raise Unauthenticated(f"Entra ID's id_token names no person. {_RETRY}")
        return claims

    def _connect(self) -> _Provider:
        with self._lock:
            if self._provider is None:
                self._provider = self._discover()
            return self._provider

    def _discover(self) -> _Provider:
        import jwt
        import msal
        import requests

        class NoTokens(msal.TokenCache):
            """Nobody's tokens are used again, so that none are kept in memory."""

            def add(self, event: Any, now: Any = None) -> None:
                """Forgets them."""

        warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended")
        try:
            answer = requests.get(f"{self._authority}/v2.0/.well-known/openid-configuration", timeout=_TIMEOUT)
            answer.raise_for_status()
            document = answer.json()
            application = msal.ConfidentialClientApplication(
                self._client_id,
                client_credential=self._client_secret,
                authority=self._authority,
                instance_discovery=None if urlsplit(self._authority).hostname in _MICROSOFT_HOSTS else False,
                token_cache=NoTokens(),
                timeout=_TIMEOUT,
            )
            return _Provider(
                application,
                document["issuer"],
                jwt.PyJWKClient(document["jwks_uri"], timeout=_TIMEOUT, cooldown_duration=0),
            )
        except (requests.RequestException, ValueError, KeyError, jwt.PyJWKClientError) as error:
            raise _unreachable(error) from None


def _sealed(flow: Json) -> Json:
    """What is kept of a sign-in holds the PKCE verifier: only whoever brings the state back can read it."""
    return {"sealed": _cipher(flow["state"]).encrypt(json.dumps(flow).encode()).decode()}


def _opened(flow: Json, state: str) -> Json | None:
    from cryptography.fernet import InvalidToken

    try:
        return json.loads(_cipher(state).decrypt(str(flow.get("sealed")).encode()))
    except InvalidToken:
        return None


def _cipher(state: str) -> Any:
    from cryptography.fernet import Fernet

    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(f"sign-in flow {state}".encode()).digest()))


def _unreachable(error: Exception) -> Unavailable:
    _log.warning("sign_in.unavailable", reason=type(error).__name__)
    return Unavailable(
        "Entra ID cannot be reached. Try again in a moment; an administrator can check ENTRA_AUTHORITY.", retry_after=5
    )


def _refusal(result: Json) -> Exception:
    """A code that is spent or too old is for the person to repeat; a refused platform is for its administrator."""
    code = str(result.get("error_description", "")).partition(":")[0]
    _log.warning("sign_in.refused", error=result["error"], code=code)
    if result["error"] == "invalid_grant":
        return Unauthenticated(f"This sign-in was used already or took too long ({code}). {_RETRY}")
    return Unavailable(
        f"Entra ID refuses this platform ({code}). An administrator must check ENTRA_CLIENT_ID, ENTRA_CLIENT_SECRET "
        "and the redirect URIs of the app registration."
    )
