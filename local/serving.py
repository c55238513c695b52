"""Serves an ASGI application from the running loop, on a port the system picks."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

IDLE_SECONDS = 75
"""An idle connection stays open for longer than clients keep one: a call that meets its end is an error to them."""


def listening_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound socket: for an application that has to know its own address before it is made.

    The protocol is named because asyncio sets TCP_NODELAY only then; without it answers wait 40 ms.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


def base_url(sock: socket.socket, *, tls: bool = False, host: str = "127.0.0.1") -> str:
    return f"{'https' if tls else 'http'}://{host}:{sock.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Leaves the process's signal handlers to whoever serves it."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def serve(
    app: Any, sock: socket.socket | None = None, *, certfile: Path | None = None, **config: Any
) -> AsyncGenerator[str]:
    """Yields the base URL once the application answers; lifespan runs. `certfile` (chain and key) means TLS."""
    sock = sock or listening_socket()
    options: dict[str, Any] = {
        "log_level": "warning",
        "timeout_graceful_shutdown": 1,
        "timeout_keep_alive": IDLE_SECONDS,
        "ws": "websockets-sansio",
        **config,
    }
    server = _Server(uvicorn.Config(app, ssl_certfile=certfile, **options))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("The application did not start; its lifespan failed (see the log above).")
            await asyncio.sleep(0.005)
        yield base_url(sock, tls=certfile is not None)
    finally:
        server.should_exit = True
        await task
        sock.close()
