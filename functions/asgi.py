"""Serves one ASGI application from streaming HTTP functions."""

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The worker's own router leaves `app`, `router`, `path_params` and more in the scope; they would break `url_for`.
_CONNECTION_KEYS = frozenset(
    (
        *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"),
        *("root_path", "headers", "client", "server", "extensions"),
    )
)
# The host pairs a request with its invocation by this header; an application must not see one a client chose.
_INVOCATION_HEADER = b"x-ms-invocation-id"


class AsgiResponse(Response):
    """A response that, when sent, runs `app` on the raw connection: bodies stream both ways, disconnects arrive.

    The function that returns it must not have read the request's body.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(_connection(scope), receive, send)


def _connection(scope: Scope) -> Scope:
    kept = {key: value for key, value in scope.items() if key in _CONNECTION_KEYS}
    kept["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != _INVOCATION_HEADER]
    return kept


class WithLifespan:
    """Starts `app`'s lifespan on the first request, because the worker never sends one.

    Raises what the start-up raised, for every request until a start-up succeeds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lifespan: _Lifespan | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = await self._started()
        await self._app({**scope, "state": dict(state)}, receive, send)

    async def stop(self) -> None:
        """Runs the shutdown half and waits for it; the next request starts the application anew."""
        lifespan, self._lifespan = self._lifespan, None
        if lifespan:
            await lifespan.stop()

    async def _started(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        if self._lifespan is None or self._lifespan.over or self._lifespan.loop is not loop:
            self._lifespan = _Lifespan(self._app, loop)
        return await self._lifespan.started()


class _Lifespan:
    """One run of the ASGI lifespan protocol, in a task of its own: its contexts must be left by whoever entered."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._app = app
        self._state: dict[str, Any] = {}
        self._ready: asyncio.Future[None] = loop.create_future()
        self._stop = asyncio.Event()
        self._asked = False
        self._task = loop.create_task(self._run())

    @property
    def over(self) -> bool:
        return self._task.done()

    async def started(self) -> dict[str, Any]:
        await asyncio.shield(self._ready)
        return self._state

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        try:
            await self._app(
                {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}, self._receive, self._send
            )
        except Exception as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            elif self._ready.exception() is None:  # else: told already, by `lifespan.startup.failed`
                raise
        if not self._ready.done():  # it returned without an answer: it has nothing to start
            self._ready.set_result(None)

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._ready.set_result(None)
        elif message["type"] == "lifespan.startup.failed":
            self._ready.set_exception(RuntimeError(message.get("message") or "The application did not start."))
        elif message["type"] == "lifespan.shutdown.failed":
            raise RuntimeError(message.get("message") or "The application did not shut down.")
