"""Repositories on GitHub, as an installed GitHub App, through PyGithub."""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from shared.core.clock import Clock, SystemClock, parse
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, PlatformError, Unavailable
from shared.core.ports import Comparison, FileChange, GitToken, PullRequest, Repository
from shared.core.threads import in_thread

if TYPE_CHECKING:
    from github import Github, GithubException
    from github.Auth import Auth
    from github.File import File
    from github.PullRequest import PullRequest as GitHubPullRequest
    from github.Repository import Repository as GitHubRepository

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_FULL_NAME = re.compile(r"[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}\Z")
_RENEW_BEFORE = timedelta(minutes=5)
_TIMEOUT = 15
_COPY_POLLS = 20
_COPY_INTERVAL = 0.5


class GitHubRepositories:
    """Every call takes its own client: PyGithub's clients must not be shared between threads."""

    def __init__(
        self,
        api_url: str,
        org: str,
        app_id: str,
        installation_id: int,
        private_key_pem: str,
        clock: Clock | None = None,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._org = org
        self._app_id = app_id
        self._installation_id = installation_id
        self._key = private_key_pem
        self._signing_key: Any = None
        self._clock = clock or SystemClock()
        self._own: GitToken | None = None

    async def ensure(
        self, name: str, description: str, template: str | None = None, *, empty: bool = False
    ) -> Repository:
        if not _NAME.match(name) or name in {".", ".."}:
            raise Invalid(
                f"{name!r} cannot be the name of a repository: use letters, digits, dots, dashes, underscores."
            )
        if template and empty:
            raise Invalid("A repository is either made from a template or left empty for an import, not both.")
        description = _line(description)
        found = await self._adopted(name, description)
        if found is None:
            found = await self._create(name, description, template, empty)
        if template:
            await self._copied(found)
        return found

    async def remove(self, name: str, description: str) -> bool:
        def work(github: "Github") -> bool:
            found = github.get_repo(_checked(f"{self._org}/{name}")).complete()
            if found.description != _line(description):
                return False
            if not self._is_called(found, name):
                raise Conflict(
                    f"{self._org}/{name} is called {found.full_name} now, so it was not deleted. Give it its old name "
                    "on GitHub, or delete it there, then retry; or delete the workspace and keep it."
                )
            found.delete()
            return True

        try:
            return await self._run(work)
        except NotFound:
            return True

    async def get(self, full_name: str) -> Repository | None:
        if not _is_full_name(full_name):
            return None
        try:
            return await self._run(lambda github: _repository(github.get_repo(full_name).complete()))
        except NotFound:
            return None

    async def protect(self, full_name: str, branch: str) -> None:
        def work(github: "Github") -> None:
            github.get_repo(_checked(full_name)).get_branch(branch).edit_protection(
                enforce_admins=True,
                required_approving_review_count=0,
                allow_force_pushes=False,
                allow_deletions=False,
            )

        await self._run(work)

    async def token(self, full_name: str) -> GitToken:
        return await self._limited(full_name, {"contents": "write"})

    async def platform_token(self, full_name: str) -> GitToken:
        return await self._limited(full_name, {})

    async def branch_sha(self, full_name: str, branch: str) -> str | None:
        def work(github: "Github") -> str:
            return github.get_repo(_checked(full_name)).get_branch(branch).commit.sha

        try:
            return await self._run(work)
        except NotFound:
            return None

    async def compare(self, full_name: str, base: str, head: str) -> Comparison:
        return await self._run(lambda github: _compare(github, _checked(full_name), base, head))

    async def ensure_pull_request(self, full_name: str, base: str, head: str, title: str, body: str) -> PullRequest:
        def create(github: "Github") -> PullRequest:
            return _pull_request(github.get_repo(_checked(full_name)).create_pull(base, head, title=title, body=body))

        def find(github: "Github") -> PullRequest | None:
            owner = full_name.partition("/")[0]
            found = github.get_repo(full_name).get_pulls("open", base=base, head=f"{owner}:{head}")
            return next(map(_pull_request, found), None)

        try:
            return await self._run(create)
        except Invalid:
            opened = await self._run(find)
            if opened is None:
                raise
            return opened

    async def _adopted(self, name: str, description: str) -> Repository | None:
        """What an earlier try made. Conflict for anybody else's repository: its description tells."""

        def work(github: "Github") -> Repository:
            found = github.get_repo(f"{self._org}/{name}").complete()
            if not self._is_called(found, name):
                raise NotFound(f"{found.full_name} was renamed: the name {name} is free.")
            if found.description != description:
                raise Conflict(f"There is a repository {found.full_name} already. Choose another name.")
            return _repository(found)

        try:
            return await self._run(work)
        except NotFound:
            return None

    def _is_called(self, found: "GitHubRepository", name: str) -> bool:
        """GitHub leads on to what had this name before it was renamed or given to somebody else."""
        return found.full_name.lower() == f"{self._org}/{name}".lower()

    async def _create(self, name: str, description: str, template: str | None, empty: bool) -> Repository:
        def work(github: "Github") -> Repository:
            owner = github.get_organization(self._org)
            if template:
                source = github.get_repo(_checked(template))
                return _repository(owner.create_repo_from_template(name, source, description, private=True))
            made = owner.create_repo(name, description=description, private=True, auto_init=not empty)
            return _repository(made)

        try:
            return await self._run(work)
        except Invalid:
            # Somebody else made it in the meantime, or an earlier try did and its answer was lost.
            found = await self._adopted(name, description)
            if found is None:
                raise
            return found

    async def _copied(self, repository: Repository) -> None:
        """GitHub answers before it has copied the template's files."""
        for _ in range(_COPY_POLLS):
            if await self.branch_sha(repository.full_name, repository.default_branch):
                return
            await asyncio.sleep(_COPY_INTERVAL)
        raise Unavailable(f"GitHub is still copying the template to {repository.full_name}.", retry_after=5)

    async def _limited(self, full_name: str, permissions: Mapping[str, str]) -> GitToken:
        """An installation token for one repository; without `permissions`, all of the App's."""
        owner, _, name = _checked(full_name).partition("/")
        if owner.lower() != self._org.lower():
            raise NotFound(f"{full_name} does not belong to the organisation {self._org}.")
        body: dict[str, Any] = {"repositories": [name]}
        try:
            return await self._issue(body | ({"permissions": dict(permissions)} if permissions else {}))
        except Invalid as error:
            raise NotFound(f"GitHub gives no access to {full_name}: {error.detail}") from error

    async def _issue(self, body: Mapping[str, Any]) -> GitToken:
        def work() -> GitToken:
            from github import Auth

            if not self._key:
                raise Invalid("Set GITHUB_APP_PRIVATE_KEY to the GitHub App's private key (PEM).")
            path = f"/app/installations/{self._installation_id}/access_tokens"
            with self._client(Auth.AppAuth(self._app_id, sign_func=self._signed)) as github:
                _, answer = github.requester.requestJsonAndCheck("POST", path, input=dict(body))
            return GitToken(answer["token"], parse(answer["expires_at"]))

        return await in_thread(lambda: _translated(work))

    def _signed(self, claims: dict[str, Any]) -> str:
        """The App's token. Reading a key, which is checked then, takes fifty times as long as signing with it."""
        import jwt

        if self._signing_key is None:
            self._signing_key = jwt.get_algorithm_by_name("RS256").prepare_key(self._key)
        return jwt.encode(claims, self._signing_key, "RS256")

    async def _run[T](self, work: Callable[["Github"], T]) -> T:
        """`work` in a thread, with a client that acts as the installation."""
        token = await self._platform()

        def call() -> T:
            from github import Auth

            with self._client(Auth.Token(token)) as github:
                return work(github)

        try:
            return await in_thread(lambda: _translated(call))
        except Forbidden:
            self._own = None  # it may have been revoked, or lack what was granted since
            raise

    async def _platform(self) -> str:
        if self._own is None or self._own.expires_at - self._clock.now() < _RENEW_BEFORE:
            self._own = await self._issue({})
        return self._own.token

    def _client(self, auth: "Auth") -> "Github":
        """Without PyGithub's own retries: they sleep for up to an hour, and tasks retry by themselves."""
        from github import Github

        pace: dict[str, Any] = {"seconds_between_requests": None, "seconds_between_writes": None}
        if urlsplit(self._api_url).hostname == "api.github.com":
            pace = {}
        return Github(auth=auth, base_url=self._api_url, timeout=_TIMEOUT, retry=None, lazy=True, **pace)


def _line(description: str) -> str:
    """As GitHub takes it."""
    return " ".join(description.split())[:350]


def _repository(found: "GitHubRepository") -> Repository:
    return Repository(found.full_name, found.html_url, found.clone_url, found.default_branch)


def _pull_request(found: "GitHubPullRequest") -> PullRequest:
    return PullRequest(found.number, found.html_url)


def _compare(github: "Github", full_name: str, base: str, head: str) -> Comparison:
    """One commit per page: their number is known anyway, and the files come with the first page."""
    repository = github.get_repo(full_name)
    found = repository.compare(base, head, comparison_commits_per_page=1)
    files = tuple(_change(file) for file in found.files)
    if not found.total_commits:
        return Comparison(0, found.merge_base_commit.sha, files)
    url = f"{repository.url}/compare/{quote(base)}...{quote(head)}"
    page = {"per_page": 1, "page": found.total_commits}
    _, last = github.requester.requestJsonAndCheck("GET", url, parameters=page)
    return Comparison(found.total_commits, last["commits"][-1]["sha"], files)


def _change(file: "File") -> FileChange:
    return FileChange(file.filename, file.status, file.additions, file.deletions, file.patch or None)


def _is_full_name(text: str) -> bool:
    return bool(_FULL_NAME.match(text)) and text.partition("/")[2] not in {".", ".."}


def _checked(full_name: str) -> str:
    if not _is_full_name(full_name):
        raise NotFound(f"{full_name!r} is not a repository's name (owner/name).")
    return full_name


def _translated[T](work: Callable[[], T]) -> T:
    """Runs `work`; whatever PyGithub or its transport raises becomes an error of ours."""
    import jwt
    import requests
    from github import GithubException

    try:
        return work()
    except GithubException as error:
        raise _error(error) from error
    except requests.RequestException as error:
        raise Unavailable("GitHub did not answer. Try again in a moment.") from error
    except jwt.InvalidKeyError as error:
        raise Invalid("GITHUB_APP_PRIVATE_KEY is not a private key in PEM format.") from error


def _error(error: "GithubException") -> PlatformError:
    said = _said(error)
    wait = _retry_after(error)
    match error.status:
        case 403 | 429 if wait is not None:
            return Unavailable(f"GitHub limits our requests: {said}", retry_after=wait)
        case 401 if "('exp')" in said or "('iat')" in said:
            return Unavailable("GitHub's clock and ours differ. Try again once ours is right.", retry_after=5)
        case 401:
            return Forbidden(
                f"GitHub does not accept the App's credentials ({said}). Check GITHUB_APP_ID, "
                "GITHUB_INSTALLATION_ID and GITHUB_APP_PRIVATE_KEY."
            )
        case 403:
            return Forbidden(f"GitHub does not let the App do this ({said}). Check the installation's permissions.")
        case 404:
            return NotFound(f"GitHub does not know it, or the App has no access to it ({said}).")
        case 409:
            return Conflict(f"GitHub refuses: {said}")
        case status if status >= 500:
            return Unavailable(f"GitHub answered {status}. Try again in a moment.")
        case _:
            return Invalid(f"GitHub refuses: {said}")


def _said(error: "GithubException") -> str:
    data: Any = error.data
    if not isinstance(data, dict):
        return str(data)[:300]
    details = [
        part.get("message") or part.get("code", "") if isinstance(part, dict) else part
        for part in data.get("errors") or []
    ]
    return ": ".join(str(part) for part in [data.get("message", "no reason given"), *details])[:300]


def _retry_after(error: "GithubException") -> float | None:
    """Seconds, when this is a rate limit: GitHub says so in headers (primary) or in words (secondary)."""
    from github import RateLimitExceededException

    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if headers.get("retry-after", "").isdecimal():
        return float(headers["retry-after"])
    if headers.get("x-ratelimit-remaining") == "0" and headers.get("x-ratelimit-reset", "").isdecimal():
        reset = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC)
        return max(1.0, (reset - datetime.now(UTC)).total_seconds())
    limited = error.status == 429 or isinstance(error, RateLimitExceededException)
    return 60.0 if limited else None
