"""Git's smart HTTP protocol: upload-pack and receive-pack, streamed both ways, with GitHub's refusals."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from local.github import git
from local.github.auth import NOBODY, Actor, Credentials
from local.github.errors import GitHubError
from local.github.store import Repo, Store

_CHUNK = 65536
_SERVICES = ("git-upload-pack", "git-receive-pack")
_PROTOCOL = re.compile(r"[a-z0-9=:]{1,64}\Z")
_CHALLENGE = (b"www-authenticate", b'Basic realm="GitHub"')


class SmartHttp:
    """ASGI app for /{owner}/{repo}[.git]/{info/refs,git-upload-pack,git-receive-pack}."""

    def __init__(self, store: Store, credentials: Credentials) -> None:
        self._store = store
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path
        action = "info/refs" if path.endswith("/info/refs") else path.rpartition("/")[2]
        service = request.query_params.get("service", "") if action == "info/refs" else action
        try:
            repo, actor = self._open(request, service)
        except GitHubError as error:
            await _refuse(send, error)
            return
        if action == "info/refs":
            await self._advertise(request, repo, service, send)
        elif request.headers.get("content-type") != f"application/x-{service}-request":
            await _refuse(send, GitHubError(415, f"Content-Type must be application/x-{service}-request."))
        else:
            await self._serve(request, repo, actor, service, send)

    def _open(self, request: Request, service: str) -> tuple[Repo, Actor]:
        """401 makes git ask for credentials; who has some and may not see the repository gets 404."""
        if service not in _SERVICES:
            raise GitHubError(403, "Please upgrade your git client: the dumb protocol is not supported.")
        actor = self._identify(request.headers.get("authorization", ""))
        owner, name = request.path_params["owner"], request.path_params["repo"].removesuffix(".git")
        repo = self._store.find(owner, name)
        level = "write" if service == "git-receive-pack" else "read"
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

    async def _advertise(self, request: Request, repo: Repo, service: str, send: Send) -> None:
        protocol = _protocol(request)
        command = service.removeprefix("git-")
        running = await git.spawn(
            repo.path, command, "--stateless-rpc", "--advertise-refs", ".", env={"GIT_PROTOCOL": protocol}
        )
        output, _ = await running.process.communicate()
        if "version=2" not in protocol.split(":") or command == "receive-pack":
            banner = f"# service={service}\n".encode()
            output = f"{len(banner) + 4:04x}".encode() + banner + b"0000" + output
        await _start(send, f"application/x-{service}-advertisement")
        await send({"type": "http.response.body", "body": output})

    async def _serve(self, request: Request, repo: Repo, actor: Actor, service: str, send: Send) -> None:
        administrator = actor.may(repo, "administration", "write")
        env = {"GIT_PROTOCOL": _protocol(request), "PUSHER_IS_ADMIN": "1" if administrator else "0"}
        running = await git.spawn(repo.path, service.removeprefix("git-"), "--stateless-rpc", ".", env=env)
        feeding = asyncio.create_task(_feed(request, running))
        watching = asyncio.create_task(_discard_errors(running))
        try:
            await _start(send, f"application/x-{service}-result")
            while chunk := await running.stdout.read(_CHUNK):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await running.process.wait()
            if service == "git-receive-pack":
                await self._store.pushed(repo)
            await send({"type": "http.response.body", "body": b""})
        finally:
            for task in (feeding, watching):
                task.cancel()
            if running.process.returncode is None:
                running.process.terminate()
                await running.process.wait()
            await asyncio.gather(feeding, watching, return_exceptions=True)


async def _feed(request: Request, running: git.Running) -> None:
    """Passes the request's body on; afterwards ends the process when the client goes away."""
    try:
        async for chunk in _body(request):
            running.stdin.write(chunk)
            await running.stdin.drain()
        running.stdin.close()
        while (await request.receive())["type"] != "http.disconnect":
            pass
    except (BrokenPipeError, ConnectionResetError):
        return
    except (ClientDisconnect, zlib.error):
        pass
    if running.process.returncode is None:
        running.process.terminate()


async def _body(request: Request) -> AsyncIterator[bytes]:
    """git compresses larger requests."""
    unzip = zlib.decompressobj(31) if request.headers.get("content-encoding") in {"gzip", "x-gzip"} else None
    async for chunk in request.stream():
        yield unzip.decompress(chunk) if unzip else chunk


async def _discard_errors(running: git.Running) -> None:
    """A full pipe would stop git; what the pusher must see travels in the side band."""
    while await running.stderr.read(_CHUNK):
        pass


def _protocol(request: Request) -> str:
    protocol = request.headers.get("git-protocol", "")
    return protocol if _PROTOCOL.match(protocol) else ""


async def _start(send: Send, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-cache, max-age=0, must-revalidate")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _refuse(send: Send, error: GitHubError) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if error.status == 401:
        headers.append(_CHALLENGE)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.message.encode()})
