"""Who may clone and push what, with GitHub's refusals."""

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from local.github import git_http
from local.github.auth import NOBODY, Actor, Credentials
from local.github.errors import GitHubError
from local.github.git_http import Served
from local.github.store import Repo, Store


class SmartHttp:
    """ASGI app for /{owner}/{repo}[.git]/{info/refs,git-upload-pack,git-receive-pack}."""

    def __init__(self, store: Store, credentials: Credentials) -> None:
        self._store = store
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            repo, actor = self._open(request)
            administrator = actor.may(repo, "administration", "write")
            env = {"PUSHER_IS_ADMIN": "1" if administrator else "0"}
            await git_http.answer(request, Served(repo.path, env, lambda: self._store.pushed(repo)), send)
        except GitHubError as error:
            await git_http.refuse(send, error, "GitHub")

    def _open(self, request: Request) -> tuple[Repo, Actor]:
        """401 makes git ask for credentials; who has some and may not see the repository gets 404."""
        pushing = git_http.service_of(request) == git_http.RECEIVE_PACK
        actor = self._identify(request.headers.get("authorization", ""))
        owner, name = request.path_params["owner"], request.path_params["repo"].removesuffix(".git")
        repo = self._store.find(owner, name)
        level = "write" if pushing else "read"
        if actor == NOBODY and (repo is None or not actor.may(repo, "contents", level)):
            raise GitHubError(401, "Repository not found.")
        if repo is None or not actor.may(repo, "contents", "read"):
            raise GitHubError(404, "Repository not found.")
        if not actor.may(repo, "contents", level):
            raise GitHubError(403, "Write access to repository not granted.")
        return repo, actor

    def _identify(self, authorization: str) -> Actor:
        if authorization and not authorization.lower().startswith("basic "):
            raise GitHubError(401, "Use basic authentication: x-access-token and an installation token.")
        try:
            return self._credentials.identify(authorization)
        except GitHubError:
            raise GitHubError(401, "Invalid username or token.") from None
