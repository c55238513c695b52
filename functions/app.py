"""The whole HTTP application: a doorway, the model gateway, and behind it the API, which is made when it is needed."""

import asyncio
from collections.abc import Callable
from functools import cached_property

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.model_gateway import ModelGateway
from functions.problems import Unexpected
from shared.bootstrap import Platform
from shared.core import ids
from shared.core.log import correlation
from shared.core.threads import to_its_end

REQUEST_ID = "x-request-id"
_LONGEST_ID = 64


def create_app(platform: Platform) -> ASGIApp:
    """Serves without the ASGI lifespan: what has to be started is started by its first use."""
    api = Unexpected(Later(lambda: _api(platform)))
    return Doorway(ModelGateway(api, platform.llm), platform.settings.public_web_url)


def _api(platform: Platform) -> ASGIApp:
    from functions.api import create_api

    return create_api(platform)


class Later:
    """An application that the first request makes, in a thread: importing FastAPI and all routers takes its time.

    Requests meanwhile wait for it, and share its failure. Raises what the making raised; the next request tries again.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._made: ASGIApp | None = None
        self._making: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._made or await self._attempt()
        await app(scope, receive, send)

    async def _attempt(self) -> ASGIApp:
        making = self._making = self._making or asyncio.ensure_future(asyncio.to_thread(self._make))
        try:
            made = await to_its_end(asyncio.shield(making))
        finally:
            if self._making is making:
                self._making = None
        self._made = made
        return made


class Doorway:
    """Gives every request an id that its answer, its logs and its problem report carry; browsers also get CORS."""

    def __init__(self, app: ASGIApp, web_url: str) -> None:
        self._app = app
        self._web_url = web_url

    @cached_property
    def _for_browsers(self) -> ASGIApp:
        from starlette.middleware.cors import CORSMiddleware

        return CORSMiddleware(
            self._app,
            allow_origins=[self._web_url],
            allow_methods=["*"],
            allow_headers=["authorization", "content-type", "if-match", "idempotency-key", REQUEST_ID],
            expose_headers=["etag", "location", "retry-after", REQUEST_ID],
            max_age=600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # a lifespan, which servers that send one take for not supported
            return
        headers = dict(scope["headers"])
        sent = headers.get(REQUEST_ID.encode(), b"").decode("latin-1")
        plain = len(sent) <= _LONGEST_ID and ids.is_plain(sent.replace("-", ""))
        request_id = sent if plain else ids.sortable()
        token = correlation.set(request_id)

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        try:
            await (self._for_browsers if b"origin" in headers else self._app)(scope, receive, tagged)
        finally:
            correlation.reset(token)
