"""Tokens of Web PubSub: HS256 with the access key, good for one address only."""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt

type Claims = dict[str, Any]


class Refused(Exception):
    """The token does not open this door."""


def verify(token: str, access_key: str, path: str, *, expired_is_fine: bool = False) -> Claims:
    """The claims of a token whose audience is `path` (the host may be a proxy's). Raises Refused."""
    options: Any = {"verify_aud": False, "require": ["exp", "aud"], "verify_exp": not expired_is_fine}
    try:
        claims: Claims = jwt.decode(token, access_key, algorithms=["HS256"], options=options)
    except jwt.InvalidTokenError as error:
        raise Refused(f"The token is not valid: {error}.") from None
    audience = claims["aud"]
    if not isinstance(audience, str) or unquote(urlsplit(audience).path).rstrip("/") != path.rstrip("/"):
        raise Refused(f"The token is for {audience}, not for {path}.")
    return claims


def client_token(
    access_key: str, audience: str, *, user: str | None, roles: Sequence[str], groups: Sequence[str], minutes: int
) -> str:
    now = int(time.time())
    claims: Claims = {"aud": audience, "iat": now, "exp": now + 60 * minutes}
    optional = {"sub": user, "role": list(roles), "webpubsub.group": list(groups)}
    return jwt.encode(claims | {name: value for name, value in optional.items() if value}, access_key, "HS256")


def texts(claims: Claims, name: str) -> list[str]:
    """A claim that may be missing, one text or several."""
    value = claims.get(name, [])
    return [value] if isinstance(value, str) else [str(item) for item in value]
