"""One REST request: who asks, with what, and the repository it is about."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.github.auth import Actor, Credentials
from local.github.config import GitHubConfig
from local.github.errors import unauthenticated
from local.github.merging import Merges
from local.github.resources import Links
from local.github.store import Repo, Store

type Answer = tuple[int, Any]
type Operation = Callable[["Call"], Awaitable[Answer]]


@dataclass(frozen=True)
class Call:
    """`body` is what the caller sent, already held against GitHub's description."""

    config: GitHubConfig
    store: Store
    credentials: Credentials
    merges: Merges
    links: Links
    actor: Actor
    params: Mapping[str, Any]
    query: Mapping[str, str]
    body: Mapping[str, Any]

    def repo(self, permission: str = "metadata", level: str = "read") -> Repo:
        """The repository of the path, which the caller may use so. Raises 401, 403 or 404."""
        repo = self.store.read(self.params["owner"], self.params["repo"])
        self.actor.require(repo, permission, level)
        return repo

    def require_app(self) -> None:
        if self.actor.kind != "app":
            raise unauthenticated("A JSON web token could not be decoded")

    def page(self, size: int) -> tuple[int, int]:
        """Page size and how many to skip."""
        text = self.query.get("per_page", ""), self.query.get("page", "")
        per_page, page = (int(part) if part.isdecimal() and len(part) < 7 else 0 for part in text)
        limit = min(per_page or size, size)
        return limit, (max(page, 1) - 1) * limit
