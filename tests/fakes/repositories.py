"""Repositories in memory: commits are trees of text files, `push` stands for what git would do."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

from shared.core.clock import Clock, ManualClock
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, PlatformError
from shared.core.ports import Comparison, FileChange, GitToken, PullRequest, Repository

type Files = Mapping[str, str]


@dataclass(frozen=True)
class _Commit:
    parent: str | None
    files: Files


@dataclass
class Pull:
    """A pull request as somebody at GitHub sees it."""

    base: str
    head: str
    title: str
    body: str
    shown: PullRequest
    open: bool = True


@dataclass
class _Hosted:
    repository: Repository
    description: str
    branches: dict[str, str] = field(default_factory=dict[str, str])
    protected: set[str] = field(default_factory=set[str])
    pulls: list[Pull] = field(default_factory=list[Pull])


class FakeRepositories:
    """`templates` are files by full name. `repositories` may be looked at; names are case-insensitive.

    `refusal` is raised by the next call that would open a pull request, once.
    """

    def __init__(
        self, org: str = "acme", templates: Mapping[str, Files] | None = None, clock: Clock | None = None
    ) -> None:
        self.repositories: dict[str, _Hosted] = {}
        self.refusal: PlatformError | None = None
        self._org = org
        self._templates = dict(templates or {})
        self._clock = clock or ManualClock()
        self._commits: dict[str, _Commit] = {}
        self._tokens: dict[str, tuple[str, bool]] = {}
        self._numbers = count(1)

    async def ensure(
        self, name: str, description: str, template: str | None = None, *, empty: bool = False
    ) -> Repository:
        if not name or not all(part.isalnum() or part in "._-" for part in name) or name in {".", ".."}:
            raise Invalid(f"{name!r} cannot be the name of a repository.")
        if template and empty:
            raise Invalid("A repository is either made from a template or left empty for an import, not both.")
        full_name = f"{self._org}/{name}"
        if found := self.repositories.get(full_name.lower()):
            if found.description != description:
                raise Conflict(f"There is a repository {full_name} already. Choose another name.")
            return found.repository
        if template and template not in self._templates:
            raise NotFound(f"There is no template {template}.")
        url = f"https://git.example/{full_name}"
        hosted = _Hosted(Repository(full_name, url, f"{url}.git", "main"), description)
        self.repositories[full_name.lower()] = hosted
        if not empty:
            first = self._templates[template] if template else {"README.md": f"# {name}\n"}
            hosted.branches["main"] = self._commit(None, first)
        return hosted.repository

    async def remove(self, name: str, description: str) -> bool:
        key = f"{self._org}/{name}".lower()
        if key in self.repositories and self.repositories[key].description != description:
            return False
        self.repositories.pop(key, None)
        return True

    async def get(self, full_name: str) -> Repository | None:
        hosted = self.repositories.get(full_name.lower())
        return hosted.repository if hosted else None

    async def protect(self, full_name: str, branch: str) -> None:
        hosted = self._hosted(full_name)
        if branch not in hosted.branches:
            raise NotFound(f"There is no branch {branch} in {full_name}.")
        hosted.protected.add(branch)

    async def token(self, full_name: str) -> GitToken:
        return self._token(full_name, platform=False)

    async def platform_token(self, full_name: str) -> GitToken:
        return self._token(full_name, platform=True)

    async def branch_sha(self, full_name: str, branch: str) -> str | None:
        hosted = self.repositories.get(full_name.lower())
        return hosted.branches.get(branch) if hosted else None

    async def compare(self, full_name: str, base: str, head: str) -> Comparison:
        hosted = self._hosted(full_name)
        ends = [hosted.branches.get(name, name if name in self._commits else "") for name in (base, head)]
        if not all(ends):
            raise NotFound(f"{full_name} has no {base} or no {head}.")
        known, ahead = self._ancestry(ends[0]), self._ancestry(ends[1])
        fork = next((sha for sha in ahead if sha in known), None)
        if fork is None:
            raise NotFound(f"{base} and {head} have no common ancestor.")
        before, after = self._commits[fork].files, self._commits[ends[1]].files
        return Comparison(ahead.index(fork), ends[1], tuple(_changes(before, after)))

    async def ensure_pull_request(self, full_name: str, base: str, head: str, title: str, body: str) -> PullRequest:
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        hosted = self._hosted(full_name)
        for pull in hosted.pulls:
            if pull.open and (pull.base, pull.head) == (base, head):
                return pull.shown
        if not {base, head} <= hosted.branches.keys() or not (await self.compare(full_name, base, head)).commits:
            raise Invalid(f"No commits between {base} and {head}.")
        number = len(hosted.pulls) + 1
        made = PullRequest(number, f"{hosted.repository.html_url}/pull/{number}")
        hosted.pulls.append(Pull(base, head, title, body, made))
        return made

    def merge(self, full_name: str, number: int) -> None:
        """As somebody does at GitHub; the fake knows no conflicts."""
        hosted = self._hosted(full_name)
        pull = hosted.pulls[number - 1]
        tip = hosted.branches[pull.head]
        hosted.branches[pull.base] = self._commit(tip, self._commits[tip].files)
        pull.open = False

    def push(self, full_name: str, branch: str, files: Files, token: GitToken) -> str:
        """Commits `files` (the whole tree) on `branch`, made from the default branch; the commit's SHA."""
        hosted = self._hosted(full_name)
        if self._tokens.get(token.token, ("", False))[0] != full_name.lower():
            raise Forbidden("This token is not for this repository.")
        if branch in hosted.protected:
            raise Forbidden(f"GH006: Protected branch update failed for refs/heads/{branch}.")
        parent = hosted.branches.get(branch) or hosted.branches.get(hosted.repository.default_branch)
        hosted.branches[branch] = self._commit(parent, files)
        return hosted.branches[branch]

    def _hosted(self, full_name: str) -> _Hosted:
        if found := self.repositories.get(full_name.lower()):
            return found
        raise NotFound(f"There is no repository {full_name}.")

    def _token(self, full_name: str, platform: bool) -> GitToken:
        self._hosted(full_name)
        token = f"ghs_{next(self._numbers)}"
        self._tokens[token] = (full_name.lower(), platform)
        return GitToken(token, self._clock.now() + timedelta(hours=1))

    def _commit(self, parent: str | None, files: Files) -> str:
        sha = hashlib.sha1(f"{next(self._numbers)}".encode()).hexdigest()
        self._commits[sha] = _Commit(parent, dict(files))
        return sha

    def _ancestry(self, sha: str) -> list[str]:
        """The commit and all before it, newest first."""
        line: list[str] = []
        at: str | None = sha
        while at:
            line.append(at)
            at = self._commits[at].parent
        return line


def _changes(before: Files, after: Files) -> list[FileChange]:
    changes: list[FileChange] = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        lines = list(difflib.unified_diff((old or "").splitlines(), (new or "").splitlines(), n=3, lineterm=""))[2:]
        added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
        status = "added" if old is None else "removed" if new is None else "modified"
        changes.append(FileChange(path, status, added, removed, "\n".join(lines)))
    return changes
