"""Wakes connections that have mail, and brings it along. Losing a ring delays a message; it never loses one."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from shared.core.log import Log

_log = Log(__name__)

type Message = tuple[int, str]
"""Sequence and JSON text."""

type Ring = Callable[[Message | None], None]
"""Called with a message that came along, or None when there is something else to be told."""


class Doorbell:
    """One Redis subscription for all connections of this process, on the channel of its node."""

    def __init__(self, client: "redis.asyncio.Redis", node: str) -> None:
        self._redis = client
        self._channel = f"wps:n:{node}"
        self._bells: dict[str, set[Ring]] = {}

    @contextmanager
    def listening(self, connection: str, bell: Ring) -> Generator[None]:
        """`bell` is rung whenever `connection` may have something to read."""
        self._bells.setdefault(connection, set()).add(bell)
        try:
            yield
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
                    for connection in self._bells:
                        self._ring(connection, None)
                elif message["type"] == "message":
                    self._take(message["data"].decode())

    def _take(self, data: str) -> None:
        rings, _, text = data.partition("\n")
        for ring in rings.split(" "):
            connection, _, sequence = ring.partition(":")
            self._ring(connection, (int(sequence), text) if sequence else None)

    def _ring(self, connection: str, message: Message | None) -> None:
        for bell in [*self._bells.get(connection, ())]:
            bell(message)
