"""The emulator as an application; any number of processes may serve it on one Redis."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis.asyncio
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from local.pubsub.client import serve_client
from local.pubsub.doorbell import Doorbell
from local.pubsub.rest import DataPlane
from local.pubsub.store import Store

_START_WITHIN = 10
_MOST_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class _Running:
    store: Store
    doorbell: Doorbell


def create_app(redis_url: str, access_key: str) -> Starlette:
    """Web PubSub at the root: `/api/hubs/...`, `/client/hubs/<hub>`, `/api/health`. Startup fails without Redis."""
    running: list[_Running] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with _started(redis_url) as started:
            running.append(started)
            try:
                yield
            finally:
                running.clear()

    async def health(request: Request) -> Response:
        try:
            await running[0].store.ping()
        except RedisError:
            return Response(status_code=503)
        return Response(status_code=200)

    async def client(socket: WebSocket) -> None:
        await serve_client(socket, running[0].store, running[0].doorbell, access_key)

    routes = [
        Route("/api/health", health, methods=["GET", "HEAD"]),
        WebSocketRoute("/client/hubs/{hub}", client),
        *DataPlane(lambda: running[0].store, access_key).routes(),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


@asynccontextmanager
async def _started(redis_url: str) -> AsyncGenerator[_Running]:
    """Ready once the doorbell is subscribed, so that no connection misses a ring."""
    node = secrets.token_hex(8)
    pool = redis.asyncio.BlockingConnectionPool.from_url(redis_url, max_connections=_MOST_CONNECTIONS, timeout=20)
    client = redis.asyncio.Redis.from_pool(pool)
    doorbell = Doorbell(client, node)
    subscribed = asyncio.Event()
    listener = asyncio.create_task(doorbell.run(subscribed))
    try:
        await _ready(subscribed)
        store = Store(client, node)
        yield _Running(store, doorbell)
        await store.idle()
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        await client.aclose()


async def _ready(subscribed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_START_WITHIN):
            await subscribed.wait()
    except TimeoutError:
        raise RuntimeError("The Web PubSub emulator cannot start: Redis does not answer.") from None
