"""The emulator as one ASGI application: REST under / and /api/v3, git under /{owner}/{repo}.git, pages for people."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.github import branches, description, git, pulls, repositories
from local.github.auth import Credentials
from local.github.call import Call, Operation
from local.github.config import GitHubConfig
from local.github.errors import GitHubError, not_found
from local.github.merging import Merges
from local.github.pages import Pages
from local.github.resources import Links
from local.github.smart_http import SmartHttp
from local.github.store import Store
from local.github.webhook import Webhook
from shared.core.log import Log

type _Endpoint = Callable[[Request], Awaitable[Response]]

_log = Log(__name__)

_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/app"): repositories.get_app,
    ("GET", "/app/installations/{installation_id}"): repositories.get_installation,
    ("POST", "/app/installations/{installation_id}/access_tokens"): repositories.create_token,
    ("GET", "/orgs/{org}"): repositories.get_organization,
    ("POST", "/orgs/{org}/repos"): repositories.create_repository,
    ("POST", "/repos/{template_owner}/{template_repo}/generate"): repositories.generate,
    ("GET", "/repos/{owner}/{repo}"): repositories.get_repository,
    ("DELETE", "/repos/{owner}/{repo}"): repositories.delete_repository,
    ("GET", "/repos/{owner}/{repo}/branches"): branches.list_branches,
    ("GET", "/repos/{owner}/{repo}/branches/{branch}/protection"): branches.get_protection,
    ("PUT", "/repos/{owner}/{repo}/branches/{branch}/protection"): branches.put_protection,
    ("DELETE", "/repos/{owner}/{repo}/branches/{branch}/protection"): branches.delete_protection,
    ("GET", "/repos/{owner}/{repo}/branches/{branch}"): branches.get_branch,
    ("GET", "/repos/{owner}/{repo}/compare/{basehead}"): branches.compare,
    ("GET", "/repos/{owner}/{repo}/git/ref/{ref}"): branches.get_ref,
    ("POST", "/repos/{owner}/{repo}/git/refs"): branches.create_ref,
    ("DELETE", "/repos/{owner}/{repo}/git/refs/{ref}"): branches.delete_ref,
    ("GET", "/repos/{owner}/{repo}/pulls"): pulls.listing,
    ("POST", "/repos/{owner}/{repo}/pulls"): pulls.create,
    ("GET", "/repos/{owner}/{repo}/pulls/{pull_number}"): pulls.get,
    ("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/merge"): pulls.merge,
}
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_LARGEST_BODY = 1_000_000


def create_app(config: GitHubConfig) -> Starlette:
    """Data is kept in `config.data` across starts. One process may serve it at a time."""
    if not os.access(git.HOOKS / "update", os.X_OK):
        raise PermissionError(f"{git.HOOKS / 'update'} must be executable, or branch protection would not hold.")
    store = Store(config.data, config.clock)
    credentials = Credentials(config, store)
    webhook = Webhook(config)
    merges = Merges(config, store, webhook)
    emulator = _Emulator(config, store, credentials, merges)
    rest = [
        Route(prefix + description.route(path), emulator.endpoint(method, path, operation), methods=[method])
        for prefix in ("/api/v3", "")
        for (method, path), operation in _OPERATIONS.items()
    ]
    unknown = [
        Route(f"{prefix}/{{rest:path}}", _unknown, methods=_METHODS)
        for prefix in ("/api/v3", "/repos", "/orgs", "/app")
    ]
    pages = Pages(config, store, merges).routes()
    return Starlette(routes=[*rest, *unknown, *_git(store, credentials), *pages], lifespan=webhook.lifespan)


def git_routes(config: GitHubConfig) -> list[Route]:
    """Git alone, for who must see nothing else of the emulator: nothing opens without a token."""
    store = Store(config.data, config.clock)
    return _git(store, Credentials(config, store))


def _git(store: Store, credentials: Credentials) -> list[Route]:
    smart_http = SmartHttp(store, credentials)
    return [
        Route(f"/{{owner}}/{{repo}}/{action}", smart_http, methods=[method])
        for action, method in (("info/refs", "GET"), ("git-upload-pack", "POST"), ("git-receive-pack", "POST"))
    ]


class _Emulator:
    """Turns an operation into an endpoint: caller, body, operation, and the answer held against the description."""

    def __init__(self, config: GitHubConfig, store: Store, credentials: Credentials, merges: Merges) -> None:
        self._config = config
        self._merges = merges
        self._store = store
        self._credentials = credentials

    def endpoint(self, method: str, path: str, operation: Operation) -> _Endpoint:
        async def serve(request: Request) -> Response:
            try:
                status, body = await operation(await self._call(request, method, path))
            except GitHubError as error:
                status, body = error.status, error.body()
            return self._respond(method, path, status, body)

        return serve

    async def _call(self, request: Request, method: str, path: str) -> Call:
        actor = self._credentials.identify(request.headers.get("authorization", ""))
        body = description.without_nulls(path, method.lower(), await _json(request))
        wrong = description.request_complaints(path, method.lower(), body)
        if wrong:
            raise GitHubError(422, f"Invalid request.\n\n{wrong[0]}", None)
        return Call(
            self._config,
            self._store,
            self._credentials,
            self._merges,
            Links.of(request, self._config),
            actor,
            request.path_params,
            request.query_params,
            body,
        )

    def _respond(self, method: str, path: str, status: int, body: object) -> Response:
        if self._config.validate_answers and (wrong := description.complaints(path, method.lower(), status, body)):
            _log.warning("github.answer_invalid", method=method, path=path, status=status, wrong=wrong[:5])
            message = f"The emulator's own answer ({status}) is not as GitHub describes it: {'; '.join(wrong[:5])}"
            status, body = 500, GitHubError(500, message).body()
        return _json_response(status, body)


async def _unknown(request: Request) -> Response:
    return _json_response(404, not_found().body())


def _json_response(status: int, body: object) -> Response:
    content = b"" if body is None else orjson.dumps(body)
    return Response(content, status, media_type="application/json; charset=utf-8")


async def _json(request: Request) -> dict[str, object]:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _LARGEST_BODY:
            raise GitHubError(422, "The request body is too large.")
    try:
        body = orjson.loads(content) if content.strip() else {}
    except orjson.JSONDecodeError:
        raise GitHubError(400, "Problems parsing JSON") from None
    if not isinstance(body, dict):
        raise GitHubError(400, "Body should be a JSON object")
    return body


async def seed_template(config: GitHubConfig, owner: str, name: str, folder: Path) -> None:
    """Makes `owner/name` a template repository holding the files of `folder`; one that is there stays as it is."""
    store = Store(config.data, config.clock)
    if store.find(owner, name):
        return
    files = await asyncio.to_thread(_read, folder)

    async def fill(path: Path) -> None:
        await git.commit_tree(path, await git.write_tree(path, files), "Initial commit", "main")

    await store.create(owner, name, "Template", private=owner.lower() == config.org.lower(), template=True, fill=fill)


def _read(folder: Path) -> dict[str, tuple[bytes, bool]]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), os.access(path, os.X_OK)) for path in paths}
