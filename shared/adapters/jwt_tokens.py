"""The platform's own tokens: ES256, signed with a key that is made once and kept as a secret."""

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.core.clock import Clock
from shared.core.errors import Unauthenticated, Unavailable
from shared.core.ports import Json, Secrets

_SECRET = "token-signing-key"  # noqa: S105 (its name, not its value)
_REGISTERED = frozenset({"iss", "aud", "sub", "iat", "exp", "nbf"})
_RELOAD_EVERY = timedelta(seconds=10)
_SKEW = 60
_REMEMBERED = 1_000
"""Verified tokens: a signature takes longer to check than a document to read."""


@dataclass(frozen=True, slots=True)
class _Key:
    private: Any
    kid: str
    jwk: Json


class JwtTokens:
    """Tokens port. Time comes from `clock` alone.

    Two processes that start on an empty store may both make a key; the last one written wins. Both read it again
    after writing, and a token of an unknown key makes a process read it once more (at most every ten seconds).
    """

    def __init__(self, secrets: Secrets, issuer: str, clock: Clock) -> None:
        self._secrets = secrets
        self._issuer = issuer
        self._clock = clock
        self._lock = asyncio.Lock()
        self._key: _Key | None = None
        self._loaded = datetime.min.replace(tzinfo=UTC)
        self._verified: dict[tuple[str, str], tuple[str, Json]] = {}

    async def sign(self, audience: str, subject: str, claims: Json, ttl: int) -> str:
        import jwt

        if _REGISTERED & claims.keys():
            raise ValueError(f"{sorted(_REGISTERED & claims.keys())} cannot be set as claims.")
        key = await self._signing_key()
        now = int(self._clock.now().timestamp())
        registered = {"iss": self._issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + ttl}
        return jwt.encode({**claims, **registered}, key.private, "ES256", headers={"kid": key.kid})

    async def verify(self, token: str, audience: str, leeway: int = 0) -> Json:
        claims = self._verified.get((token, audience))
        if claims is None or self._key is None or claims[0] != self._key.kid:
            claims = await self._decode(token, audience)
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[token, audience] = claims
        self._check_times(claims[1], leeway)
        return dict(claims[1])

    async def _decode(self, token: str, audience: str) -> tuple[str, Json]:
        """The id of its key, and its claims, whatever the time."""
        import jwt

        try:
            key = await self._key_for(str(jwt.get_unverified_header(token).get("kid")))
            claims: Json = jwt.decode(
                token,
                key.private.public_key(),
                algorithms=["ES256"],
                audience=audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "iat", "sub", "aud", "iss"],
                    "strict_aud": True,
                    "verify_exp": False,  # these two are checked against our clock
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, UnicodeError, RecursionError):
            raise Unauthenticated("This token is not valid here. Sign in again.") from None
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise Unauthenticated("This token names nobody. Sign in again.")
        return key.kid, claims

    async def jwks(self) -> Json:
        """The public key as a JWK set."""
        return {"keys": [(await self._signing_key()).jwk]}

    def _check_times(self, claims: Json, leeway: int) -> None:
        now = self._clock.now().timestamp()
        latest = now + max(_SKEW, leeway)
        if type(claims["exp"]) is not int or type(claims["iat"]) is not int or claims["iat"] > latest:
            raise Unauthenticated("This token's times are not valid. Sign in again.")
        if claims["exp"] <= now - leeway:
            raise Unauthenticated("This token has expired. Sign in again.")

    async def _key_for(self, kid: str) -> _Key:
        key = await self._signing_key()
        if key.kid != kid and self._clock.now() - self._loaded >= _RELOAD_EVERY:
            async with self._lock:
                key = await self._load()
        if key.kid != kid:
            raise Unauthenticated("This token was signed with a key that is not in use. Sign in again.")
        return key

    async def _signing_key(self) -> _Key:
        async with self._lock:
            return self._key or await self._load()

    async def _load(self) -> _Key:
        pem = await self._secrets.get(_SECRET)
        if pem is None:
            await self._secrets.put(_SECRET, _generate())
            pem = await self._secrets.get(_SECRET)
        if pem is None:
            raise Unavailable(f"The secret store did not keep {_SECRET}.")
        self._key = _parse(pem)
        self._loaded = self._clock.now()
        return self._key


def _generate() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def _parse(pem: str) -> _Key:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt.algorithms import ECAlgorithm

    try:
        private: Any = load_pem_private_key(pem.encode(), None)
        public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    except (ValueError, TypeError):
        raise Unavailable(f"The secret {_SECRET} holds no EC private key. Delete it to have one made.") from None
    members = {name: public[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()  # RFC 7638
    return _Key(private, kid, {**members, "kid": kid, "use": "sig", "alg": "ES256"})
