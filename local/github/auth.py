"""Who is calling: nobody, the App itself (RS256 JWT), or an installation token it asked for; and what each may do."""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import jwt

from local.github.config import GitHubConfig
from local.github.errors import GitHubError, forbidden, not_found, unauthenticated
from local.github.store import Repo, Store
from shared.core.clock import iso

_LEVELS = ("none", "read", "write", "admin")
_LIFETIME = timedelta(hours=1)
_LEEWAY = 60


@dataclass(frozen=True)
class Actor:
    """`repository_ids` limits an installation token; None: every repository of the organisation."""

    kind: Literal["nobody", "app", "installation"]
    org: str = ""
    permissions: Mapping[str, str] = field(default_factory=dict[str, str])
    repository_ids: frozenset[int] | None = None

    def level(self, repo: Repo, permission: str) -> str:
        """none, read, write or admin."""
        granted = self.permissions.get(permission, "none") if self._covers(repo) else "none"
        readable = not repo.private and permission in {"metadata", "contents", "pull_requests"}
        return "read" if granted == "none" and readable else granted

    def may(self, repo: Repo, permission: str, level: str) -> bool:
        return _LEVELS.index(self.level(repo, permission)) >= _LEVELS.index(level)

    def require(self, repo: Repo, permission: str, level: str) -> None:
        """404 for a repository the caller may not know of, 401 or 403 for one it may not use so."""
        if not self.may(repo, "metadata", "read"):
            raise not_found()
        if not self.may(repo, permission, level):
            raise unauthenticated("Requires authentication") if self.kind == "nobody" else forbidden()

    def _covers(self, repo: Repo) -> bool:
        mine = self.kind == "installation" and repo.owner.lower() == self.org.lower()
        return mine and (self.repository_ids is None or repo.id in self.repository_ids)


NOBODY = Actor("nobody")


class Credentials:
    """Checks the App's JWT and issues installation tokens: `ghs_<app id>_<JWT>`, so that they outlive a restart."""

    def __init__(self, config: GitHubConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._secret = _secret(config.data / "token-secret")

    def identify(self, authorization: str) -> Actor:
        """The caller of a REST request. Raises 401."""
        if not authorization:
            return NOBODY
        scheme, _, value = authorization.partition(" ")
        match scheme.lower():
            case "bearer" | "token":
                return self._installation(value) if value.startswith("ghs_") else self._app(value)
            case "basic":
                return self._installation(basic_password(value))
            case _:
                raise unauthenticated()

    def issue(self, installation_id: int, body: Mapping[str, Any]) -> tuple[str, datetime, Actor]:
        """An installation token, limited as `body` says. Raises 404 or 422."""
        if installation_id != self._config.installation_id:
            raise not_found()
        permissions = self._granted(body.get("permissions") or {})
        ids = self._selected(body)
        expires = self._config.clock.now() + _LIFETIME
        claims = {"app": self._config.app_id, "installation": installation_id, "permissions": permissions}
        claims |= {"exp": int(expires.timestamp()), "jti": secrets.token_hex(8), "repository_ids": ids}
        token = f"ghs_{self._config.app_id}_{jwt.encode(claims, self._secret, algorithm='HS256')}"
        limit = None if ids is None else frozenset(ids)
        return token, expires, Actor("installation", self._config.org, permissions, limit)

    def _granted(self, asked: Mapping[str, str]) -> dict[str, str]:
        granted = self._config.permissions
        for name, level in asked.items():
            if _LEVELS.index(level) > _LEVELS.index(granted.get(name, "none")):
                raise GitHubError(422, "The permissions requested are not granted to this installation.", [])
        return {"metadata": "read"} | dict(asked or granted)

    def _selected(self, body: Mapping[str, Any]) -> list[int] | None:
        names: list[str] | None = body.get("repositories")
        ids: list[int] | None = body.get("repository_ids")
        if not names and not ids:
            return None
        repos = self._store.of_owner(self._config.org)
        by_name = {repo.name.lower(): repo.id for repo in repos}
        found = [by_name.get(name.lower()) for name in names or []]
        found += [number if number in by_name.values() else None for number in ids or []]
        selected = [number for number in found if number is not None]
        if len(selected) != len(found):
            raise GitHubError(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
                [],
            )
        return selected

    def _installation(self, token: str) -> Actor:
        head, _, payload = token.partition("_")[2].partition("_")
        if not token.startswith("ghs_") or head != self._config.app_id:
            raise unauthenticated()
        claims = _decode(payload, self._secret, "HS256")
        if claims["installation"] != self._config.installation_id or claims["exp"] <= self._now():
            raise unauthenticated()
        ids = claims["repository_ids"]
        limit = None if ids is None else frozenset(ids)
        return Actor("installation", self._config.org, claims["permissions"], limit)

    def _app(self, token: str) -> Actor:
        claims = _decode(token, self._config.app_public_key, "RS256")
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or not isinstance(issued, int):
            raise unauthenticated("A JSON web token could not be decoded")
        if str(claims.get("iss")) != self._config.app_id:
            raise unauthenticated("Integration not found")
        if issued > self._now() + _LEEWAY:
            raise unauthenticated("'Issued at' claim ('iat') must be an Integer representing a time in the past")
        if expires <= self._now() - _LEEWAY:
            raise unauthenticated("'Expiration time' claim ('exp') must be a numeric value in the future")
        if expires > self._now() + 600 + _LEEWAY:
            raise unauthenticated("'Expiration time' claim ('exp') is too far in the future")
        return Actor("app", self._config.org)

    def _now(self) -> int:
        return int(self._config.clock.now().timestamp())


def basic_password(value: str) -> str:
    """The password of a Basic header; the user name does not matter to GitHub. Raises 401."""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        raise unauthenticated() from None


def expiry(moment: datetime) -> str:
    return iso(moment)[:19] + "Z"


def _decode(token: str, key: str | bytes, algorithm: str) -> dict[str, Any]:
    """Signature only: times are checked against the emulator's own clock."""
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        return jwt.decode(token, key, algorithms=[algorithm], options=options)
    except jwt.PyJWTError:
        raise unauthenticated("A JSON web token could not be decoded") from None


def _secret(path: Path) -> bytes:
    """Kept, so that a restart does not void the tokens in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return hashlib.sha256(path.read_bytes()).digest()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    return hashlib.sha256(path.read_bytes()).digest()
