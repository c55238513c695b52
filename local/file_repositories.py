"""Repositories in folders of this machine, for imports by containers, which see none of its files: to read only."""

import base64
import binascii
import hmac
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from local.github import git_http
from local.github.errors import GitHubError
from local.github.git_http import Served

USER = "importer"


def create_app(password: str) -> Starlette:
    """`/<path of a folder>` is what `file:///<path of a folder>` is outside, for who knows the password."""
    serve = _Files(password)
    return Starlette(
        routes=[
            Route(f"/{{folder:path}}/{action}", serve, methods=[method])
            for action, method in (("info/refs", "GET"), (git_http.UPLOAD_PACK, "POST"))
        ]
    )


class _Files:
    def __init__(self, password: str) -> None:
        self._password = password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            self._check(request.headers.get("authorization", ""))
            await git_http.answer(request, Served(_folder(request)), send)
        except GitHubError as error:
            await git_http.refuse(send, error, "Files")

    def _check(self, authorization: str) -> None:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            given = b""
        if scheme.lower() != "basic" or not hmac.compare_digest(given, f"{USER}:{self._password}".encode()):
            raise GitHubError(401, "The password of this local cloud is needed.")


def _folder(request: Request) -> Path:
    if git_http.service_of(request) != git_http.UPLOAD_PACK:
        raise GitHubError(403, "Repositories in folders can only be read.")
    folder = Path("/") / request.path_params["folder"].replace("\0", "/")
    try:
        if folder.is_dir():
            return folder
    except OSError:  # may not be looked at
        pass
    raise GitHubError(404, "Repository not found.")
