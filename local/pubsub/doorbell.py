"""Wakes connections that have mail, and brings it along. Losing a ring delays a message; it never loses one."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from shared.core.log import Log

_log = Log(__name__)

_MOST_CARRIED = 1000

type Message = tuple[int, str]
"""Sequence and JSON text."""


class Bell:
    """One socket's. A ring may carry the message, so that a socket that has sent all before need not ask Redis."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._carried: list[Message | None] = []

    def ring(self, message: Message | None) -> None:
        """None: there is something else to be told than messages."""
        if len(self._carried) < _MOST_CARRIED:  # else a gap will show
            self._carried.append(message)
        self._rung.set()

    def take(self, after: int) -> list[Message]:
        """What was carried if it follows on sequence `after` without a gap, else nothing; the bell is still again."""
        self._rung.clear()
        rung, self._carried = self._carried, []
        carried = [message for message in rung if message is not None]
        follows = [sequence for sequence, _ in carried] == [*range(after + 1, after + 1 + len(rung))]
        return carried if follows else []

    async def wait(self, seconds: float) -> None:
        """For a ring, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()


class Doorbell:
    """One Redis subscription for all connections of this process, on the channel of its node."""

    def __init__(self, client: "redis.asyncio.Redis", node: str) -> None:
        self._redis = client
        self._channel = f"wps:n:{node}"
        self._bells: dict[str, set[Bell]] = {}

    @contextmanager
    def listening(self, connection: str) -> Generator[Bell]:
        """A bell that is rung whenever `connection` may have something to read."""
        bell = Bell()
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
        for bell in self._bells.get(connection, ()):
            bell.ring(message)
