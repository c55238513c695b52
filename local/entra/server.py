"""Serves the emulator over TLS for MSAL and over plain HTTP for the browser, from one state."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from local.entra.app import create_app
from local.entra.config import EntraConfig
from shared.core.clock import Clock

type SocketPair = tuple[socket.socket, socket.socket]


class _Server(uvicorn.Server):
    """Leaves the process's signal handlers to whoever serves it."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def served(
    config: EntraConfig, certificate: Path, sockets: SocketPair | None = None, clock: Clock | None = None
) -> AsyncGenerator[None]:
    """Answers at `config.https_url` and `config.http_url` until the block ends.

    `certificate` holds chain and key. Without bound `sockets` (TLS first) it listens on 127.0.0.1 at the URLs' ports;
    OSError when one is taken.
    """
    app = create_app(config, clock)
    secure, plain = sockets or (_listen(config.https_url), _listen(config.http_url))
    async with _running(app, secure, certificate), _running(app, plain, None):
        yield


def _listen(url: str) -> socket.socket:
    """Binds here, since uvicorn would end the whole process when a port is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", urlsplit(url).port or 0))
    except OSError:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def _running(app: Starlette, sock: socket.socket, certificate: Path | None) -> AsyncGenerator[None]:
    config = uvicorn.Config(
        app, ssl_certfile=certificate, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            await asyncio.wait([task], timeout=0.005)
            if task.done():
                await task
                raise RuntimeError("The Entra ID emulator stopped before it answered.")
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        sock.close()
