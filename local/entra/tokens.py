"""Signs id and access tokens as Entra's v2.0 endpoint does."""

import base64
import hashlib
import json
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from local.entra.config import EntraConfig, User
from local.entra.grants import Request
from shared.core.clock import Clock

LIFETIME = 3600
_GRAPH = "00000003-0000-0000-c000-000000000000"


class Signer:
    """One RSA key per start; its kid is the RFC 7638 thumbprint, so a restart is noticed by who caches keys."""

    def __init__(self, config: EntraConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        members = {name: public[name] for name in ("e", "kty", "n")}
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
        self._kid = _base64url(hashlib.sha256(canonical).digest())
        self.jwks = {"keys": [{**members, "kid": self._kid, "use": "sig", "alg": "RS256"}]}

    def id_token(self, user: User, request: Request, *, with_nonce: bool) -> str:
        claims: dict[str, Any] = {
            "aud": request.client_id,
            "sub": self._subject(user, request.client_id),
            "oid": user.object_id,
            "name": user.name,
            "preferred_username": user.username,
            "email": user.username,
        }
        if with_nonce and request.nonce:
            claims["nonce"] = request.nonce
        return self._sign(claims)

    def access_token(self, user: User, request: Request) -> str:
        claims = {"aud": _GRAPH, "sub": self._subject(user, _GRAPH), "oid": user.object_id, "name": user.name}
        return self._sign({**claims, "appid": request.client_id, "scp": "User.Read", "upn": user.username})

    def app_token(self, client_id: str, resource: str) -> str:
        claims = {"aud": resource, "sub": client_id, "oid": client_id, "appid": client_id, "idtyp": "app"}
        return self._sign(claims)

    def client_info(self, user: User) -> str:
        return _base64url(json.dumps({"uid": user.object_id, "utid": self._config.tenant}).encode())

    def _sign(self, claims: dict[str, Any]) -> str:
        now = int(self._clock.now().timestamp())
        standard = {"iss": self._config.issuer, "iat": now, "nbf": now, "exp": now + LIFETIME}
        directory = {"tid": self._config.tenant, "uti": uuid4().hex[:22], "ver": "2.0"}
        return jwt.encode({**standard, **directory, **claims}, self._key, "RS256", headers={"kid": self._kid})

    def _subject(self, user: User, audience: str) -> str:
        """Pairwise: another application sees another subject."""
        return _base64url(hashlib.sha256(f"{user.object_id}/{audience}".encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
