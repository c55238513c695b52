"""Wakes connections that have mail. Losing a ring delays a message; it never loses one."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from shared.core.log import Log

_log = Log(__name__)


class Doorbell:
    """One Redis subscription for all connections of this process, on the channel of its node."""

    def __init__(self, client: "redis.asyncio.Redis", node: str) -> None:
        self._redis = client
        self._channel = f"wps:n:{node}"
        self._bells: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def listening(self, connection: str) -> Generator[asyncio.Event]:
        """An event that is set whenever `connection` may have something to read."""
        bell = asyncio.Event()
        self._bells.setdefault(connection, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells[connection]
            bells.discard(bell)
            if not bells:
                del self._bells[connection]

    async def run(self, subscribed: asyncio.Event) -> None:
        """Listens for ever; after an interruption it rings everywhere, since rings may have been missed."""
        while True:
            try:
                await self._listen(subscribed)
            except RedisError as error:
                _log.warning("doorbell.interrupted", reason=type(error).__name__)
                await asyncio.sleep(0.2)

    async def _listen(self, subscribed: asyncio.Event) -> None:
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            while True:
                message: Any = await subscription.get_message(timeout=None)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    subscribed.set()
                    self._ring(*self._bells)
                elif message["type"] == "message":
                    self._ring(message["data"].decode())

    def _ring(self, *connections: str) -> None:
        for connection in connections:
            for bell in self._bells.get(connection, ()):
                bell.set()
