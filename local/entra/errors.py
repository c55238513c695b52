"""Entra's error answers, with the texts of its own AADSTS codes."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from starlette.responses import JSONResponse


@dataclass(frozen=True, slots=True)
class Refusal:
    """`error` as RFC 6749 names it, the AADSTS code and its text."""

    error: str
    code: int
    text: str
    status: int = 400

    @property
    def description(self) -> str:
        return f"AADSTS{self.code}: {self.text}"


class EntraError(Exception):
    """A request is refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.description)
        self.refusal = refusal


def response(refusal: Refusal) -> JSONResponse:
    trace, correlation = str(uuid4()), str(uuid4())
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    body = {
        "error": refusal.error,
        "error_description": f"{refusal.description} Trace ID: {trace} Correlation ID: {correlation} "
        f"Timestamp: {stamp}",
        "error_codes": [refusal.code],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={refusal.code}",
    }
    return JSONResponse(body, refusal.status, headers={"Cache-Control": "no-store"})


def tenant_not_found(tenant: str) -> Refusal:
    text = (
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
        "correct cloud. Check with your subscription administrator, this may happen if there are no active "
        "subscriptions for the tenant."
    )
    return Refusal("invalid_tenant", 90002, text)


def unknown_client(client_id: str, tenant: str, status: int = 400) -> Refusal:
    text = (
        f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You may have sent your authentication request to the wrong tenant."
    )
    return Refusal("unauthorized_client", 700016, text, status)


def redirect_mismatch(redirect_uri: str, client_id: str) -> Refusal:
    text = (
        f"The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs configured for "
        f"the application '{client_id}'. Make sure the redirect URI sent in the request matches one added to your "
        "application in the Azure portal."
    )
    return Refusal("invalid_request", 50011, text)


def missing_parameter(name: str) -> Refusal:
    text = f"The request body must contain the following parameter: '{name}'."
    return Refusal("invalid_request", 900144, text)


def bad_secret(client_id: str) -> Refusal:
    text = (
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not "
        f"the client secret ID, for a secret added to app '{client_id}'."
    )
    return Refusal("invalid_client", 7000215, text, 401)


def bad_scope(scope: str) -> Refusal:
    text = (
        f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value with "
        "/.default suffixed to the resource identifier (application ID URI)."
    )
    return Refusal("invalid_scope", 1002012, text)


def unsupported_grant(grant: str) -> Refusal:
    text = f"The app requested an unsupported grant type '{grant}'."
    return Refusal("unsupported_grant_type", 70003, text)


CODE_REDEEMED = Refusal(
    "invalid_grant", 54005, "OAuth2 Authorization code was already redeemed, please retry with a new valid code."
)
CODE_EXPIRED = Refusal(
    "invalid_grant",
    70008,
    "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive "
    "authorization request for this user and resource.",
)
CODE_INVALID = Refusal(
    "invalid_grant", 70000, "The provided value for the 'code' parameter is not valid for this application."
)
REDIRECT_DIFFERS = Refusal(
    "invalid_grant",
    500112,
    "The reply address does not match the reply address provided when requesting Authorization code.",
)
VERIFIER_MISMATCH = Refusal(
    "invalid_grant",
    501481,
    "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
)
CHALLENGE_METHOD = Refusal("invalid_request", 50149, "Invalid Code_challenge_method parameter.")
REFRESH_INVALID = Refusal(
    "invalid_grant", 9002313, "Invalid request. Request is malformed or invalid: the refresh token is not known."
)
RESPONSE_TYPE = Refusal(
    "unsupported_response_type", 700054, "response_type must be 'code': nothing else is enabled for the application."
)
RESPONSE_MODE = Refusal("invalid_request", 900144, "response_mode must be 'query' or 'fragment'.")
NOT_SIGNED_IN = Refusal("login_required", 50058, "A silent sign-in request was sent but no user is signed in.")
DECLINED = Refusal("access_denied", 65004, "User declined to consent to access the app.")
