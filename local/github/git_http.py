"""Git's smart HTTP protocol for one repository, streamed both ways. Whoever calls has checked who may do what."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.types import Send

from local.github import git
from local.github.errors import GitHubError

UPLOAD_PACK, RECEIVE_PACK = "git-upload-pack", "git-receive-pack"
_CHUNK = 65536
_PROTOCOL = re.compile(r"[a-z0-9=:]{1,64}\Z")


async def _nothing() -> None:
    return


@dataclass(frozen=True)
class Served:
    """A repository, what git's hooks are told, and what follows a push before its answer ends."""

    path: Path
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    pushed: Callable[[], Awaitable[None]] = _nothing


def service_of(request: Request) -> str:
    """git-upload-pack or git-receive-pack. Raises GitHubError for anything else."""
    path = request.url.path
    service = request.query_params.get("service", "") if path.endswith("/info/refs") else path.rpartition("/")[2]
    if service not in (UPLOAD_PACK, RECEIVE_PACK):
        raise GitHubError(403, "Please upgrade your git client: the dumb protocol is not supported.")
    return service


async def answer(request: Request, served: Served, send: Send) -> None:
    """Raises GitHubError before anything was sent."""
    service = service_of(request)
    if request.url.path.endswith("/info/refs"):
        await _advertise(request, served.path, service, send)
    elif request.headers.get("content-type") != f"application/x-{service}-request":
        raise GitHubError(415, f"Content-Type must be application/x-{service}-request.")
    else:
        await _serve(request, served, service, send)


async def refuse(send: Send, error: GitHubError, challenge: str) -> None:
    """`challenge` makes git ask for credentials when the status is 401."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if error.status == 401:
        headers.append((b"www-authenticate", f'Basic realm="{challenge}"'.encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.message.encode()})


async def _advertise(request: Request, repository: Path, service: str, send: Send) -> None:
    protocol = _protocol(request)
    command = service.removeprefix("git-")
    running = await git.spawn(
        repository, command, "--stateless-rpc", "--advertise-refs", ".", env={"GIT_PROTOCOL": protocol}
    )
    output, _ = await running.process.communicate()
    if running.process.returncode:
        raise GitHubError(404, "Repository not found.")
    if "version=2" not in protocol.split(":") or command == "receive-pack":
        banner = f"# service={service}\n".encode()
        output = f"{len(banner) + 4:04x}".encode() + banner + b"0000" + output
    await _start(send, f"application/x-{service}-advertisement")
    await send({"type": "http.response.body", "body": output})


async def _serve(request: Request, served: Served, service: str, send: Send) -> None:
    environ = {**served.env, "GIT_PROTOCOL": _protocol(request)}
    running = await git.spawn(served.path, service.removeprefix("git-"), "--stateless-rpc", ".", env=environ)
    feeding = asyncio.create_task(_feed(request, running))
    watching = asyncio.create_task(_discard_errors(running))
    try:
        await _start(send, f"application/x-{service}-result")
        while chunk := await running.stdout.read(_CHUNK):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await running.process.wait()
        if service == RECEIVE_PACK:
            await served.pushed()
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
