"""Repositories on disk: one bare git repository each, with what only GitHub knows about it in `github.json` inside."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from local.github import git
from local.github.errors import GitHubError, invalid
from shared.core.clock import Clock, iso

type Json = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_STATE = "github.json"


def is_name(name: str) -> bool:
    """Whether an owner or a repository can be called so. Everything that becomes part of a path passes here."""
    return bool(_NAME.match(name)) and name not in {".", ".."} and not name.lower().endswith(".git")


@dataclass(frozen=True)
class Repo:
    """A repository: its folder, and the state as it was when read."""

    path: Path
    state: Json

    @property
    def id(self) -> int:
        return self.state["id"]

    @property
    def owner(self) -> str:
        return self.state["owner"]

    @property
    def name(self) -> str:
        return self.state["name"]

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def private(self) -> bool:
        return self.state["private"]

    @property
    def default_branch(self) -> str:
        return (self.path / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")

    @property
    def protection(self) -> dict[str, Json]:
        """The accepted body of PUT protection, by branch."""
        return self.state["protection"]

    @property
    def pulls(self) -> list[Json]:
        return self.state["pulls"]


class Store:
    """Names are case-insensitive, as on GitHub. State is replaced atomically, never edited in place."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._root = data / "repositories"
        self._trash = data / "trash"
        self._clock = clock

    def find(self, owner: str, name: str) -> Repo | None:
        if not (is_name(owner) and is_name(name)):
            return None
        path = self._path(owner, name)
        try:
            return Repo(path, orjson.loads((path / _STATE).read_bytes()))
        except FileNotFoundError:
            return None

    def of_owner(self, owner: str) -> list[Repo]:
        folder = self._root / owner.lower()
        names = sorted(path.stem for path in folder.glob("*.git")) if is_name(owner) else []
        return [repo for name in names if (repo := self.find(owner, name))]

    async def create(
        self,
        owner: str,
        name: str,
        description: str | None,
        *,
        private: bool = False,
        template: bool = False,
        fill: Callable[[Path], Awaitable[None]] | None = None,
    ) -> Repo:
        """`fill` makes the first commit. The repository appears complete or not at all."""
        if not (is_name(owner) and is_name(name)):
            raise invalid("Repository", "name", "name can only contain ASCII letters, digits, and the characters .-_")
        draft = self._root / owner.lower() / f".{secrets.token_hex(8)}"
        draft.mkdir(parents=True)
        try:
            await git.run(draft, "init", "-q", "--bare", "--initial-branch=main", ".")
            if fill:
                await fill(draft)
            now = _seconds(self._clock)
            state = {"id": secrets.randbits(40), "owner": owner, "name": name, "description": description}
            state |= {"private": private, "template": template, "created_at": now, "pushed_at": now}
            _write(draft / _STATE, orjson.dumps(state | {"protection": {}, "pulls": []}))
            draft.rename(self._path(owner, name))
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            message = "name already exists on this account"
            raise GitHubError(
                422,
                "Repository creation failed.",
                [{"resource": "Repository", "code": "custom", "field": "name", "message": message}],
            ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return self.read(owner, name)

    def read(self, owner: str, name: str) -> Repo:
        repo = self.find(owner, name)
        if repo is None:
            raise GitHubError(404, "Not Found")
        return repo

    def save(self, repo: Repo, **changes: Any) -> Repo:
        """Reads, changes and writes without a pause in between, so two requests cannot undo each other."""
        fresh = self.read(repo.owner, repo.name)
        state = fresh.state | changes | {"updated_at": _seconds(self._clock)}
        if "protection" in changes:
            _write(repo.path / "protection", _rules(changes["protection"]).encode())
        _write(repo.path / _STATE, orjson.dumps(state))
        return Repo(repo.path, state)

    def delete(self, repo: Repo) -> None:
        self._trash.mkdir(parents=True, exist_ok=True)
        grave = self._trash / secrets.token_hex(8)
        repo.path.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    async def pushed(self, repo: Repo) -> None:
        """After a push: an empty repository takes its first branch as the default one. One just deleted is let be."""
        if self.find(repo.owner, repo.name) is None:
            return
        branches = await git.branches(repo.path)
        if branches and repo.default_branch not in branches:
            chosen = next((name for name in ("main", "master") if name in branches), min(branches))
            await git.run(repo.path, "symbolic-ref", "HEAD", f"refs/heads/{chosen}")
        self.save(repo, pushed_at=_seconds(self._clock))

    def _path(self, owner: str, name: str) -> Path:
        return self._root / owner.lower() / f"{name.lower()}.git"


def _rules(protection: dict[str, Json]) -> str:
    """The lines hooks/update reads."""
    lines: list[str] = []
    for branch, rule in protection.items():
        reviewed = rule["required_pull_request_reviews"] is not None
        refused = {
            "push": reviewed or rule["restrictions"] is not None or rule.get("lock_branch"),
            "force": not rule.get("allow_force_pushes"),
            "delete": not rule.get("allow_deletions"),
            "admins": rule["enforce_admins"],
        }
        lines.append(f"refs/heads/{branch} {' '.join(word for word, applies in refused.items() if applies)}\n")
    return "".join(lines)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _seconds(clock: Clock) -> str:
    """GitHub's timestamps have no fractions."""
    return iso(clock.now())[:19] + "Z"
