"""Authorization codes and refresh tokens: single use or not, for how long, and whose."""

import base64
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from local.entra import errors
from local.entra.config import User
from local.entra.errors import EntraError
from shared.core.clock import Clock

_CODE_LIFETIME = timedelta(minutes=10)
_REFRESH_LIFETIME = timedelta(days=1)
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """What the browser asked for at the authorize endpoint."""

    client_id: str
    redirect_uri: str
    scope: str
    nonce: str
    challenge: str
    challenge_method: str


@dataclass(slots=True)
class _Grant:
    user: User
    request: Request
    expires: datetime
    redeemed: bool = False


class Grants:
    """Codes live ten minutes and are redeemed once; a spent one is remembered, so that a replay is told apart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codes: OrderedDict[str, _Grant] = OrderedDict()
        self._refresh: OrderedDict[str, _Grant] = OrderedDict()

    def new_code(self, user: User, request: Request) -> str:
        return self._keep(self._codes, user, request, _CODE_LIFETIME)

    def new_refresh_token(self, user: User, request: Request) -> str:
        return self._keep(self._refresh, user, request, _REFRESH_LIFETIME)

    def redeem_code(self, code: str, client_id: str, redirect_uri: str, verifier: str) -> tuple[User, Request]:
        grant = self._codes.get(code)
        if grant is None or grant.request.client_id != client_id:
            raise EntraError(errors.CODE_INVALID)
        if grant.redeemed:
            raise EntraError(errors.CODE_REDEEMED)
        grant.redeemed = True
        if grant.expires <= self._clock.now():
            raise EntraError(errors.CODE_EXPIRED)
        if grant.request.redirect_uri != redirect_uri:
            raise EntraError(errors.REDIRECT_DIFFERS)
        if not _verifies(grant.request, verifier):
            raise EntraError(errors.VERIFIER_MISMATCH)
        return grant.user, grant.request

    def refresh(self, token: str, client_id: str) -> tuple[User, Request]:
        grant = self._refresh.get(token)
        if grant is None or grant.request.client_id != client_id:
            raise EntraError(errors.REFRESH_INVALID)
        if grant.expires <= self._clock.now():
            raise EntraError(errors.CODE_EXPIRED)
        return grant.user, grant.request

    def _keep(self, kept: OrderedDict[str, _Grant], user: User, request: Request, lifetime: timedelta) -> str:
        while len(kept) >= _MOST:
            kept.popitem(last=False)
        token = secrets.token_urlsafe(48)
        kept[token] = _Grant(user, request, self._clock.now() + lifetime)
        return token


def _verifies(request: Request, verifier: str) -> bool:
    """RFC 7636. Without a challenge a verifier must not come either."""
    if not request.challenge:
        return not verifier
    if request.challenge_method == "plain":
        derived = verifier
    else:
        derived = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return bool(verifier) and secrets.compare_digest(derived.encode(), request.challenge.encode())
