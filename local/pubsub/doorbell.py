"""Wakes connections that have mail, and brings it along. Losing a ring delays a message; it never loses one."""

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
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
        self._carried: list[Message | None] = []
        self._waiter: asyncio.Future[None] | None = None
        self._looked = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def ring(self, message: Message | None) -> None:
        """None: there is something else to be told than messages."""
        if len(self._carried) < _MOST_CARRIED:  # else a gap will show
            self._carried.append(message)
        self._wake()

    def take(self, after: int) -> list[Message]:
        """What was carried if it follows on sequence `after` without a gap, else nothing; the bell is still again."""
        self._looked = time.monotonic()
        rung, self._carried = self._carried, []
        carried = [message for message in rung if message is not None]
        follows = [sequence for sequence, _ in carried] == [*range(after + 1, after + 1 + len(rung))]
        return carried if follows else []

    async def wait(self, seconds: float) -> None:
        """For a ring, but not much longer than this."""
        if self._carried:
            return
        loop = asyncio.get_running_loop()
        if self._alarm is None:
            self._alarm = loop.call_later(seconds, self._look, seconds)
        self._waiter = loop.create_future()
        await self._waiter

    def close(self) -> None:
        if self._alarm:
            self._alarm.cancel()

    def _look(self, seconds: float) -> None:
        """One timer at a time, and none set anew by each ring: rings are what comes most."""
        self._alarm = None
        left = self._looked + seconds - time.monotonic()
        if left <= 0:
            self._wake()
        else:
            self._alarm = asyncio.get_running_loop().call_later(left, self._look, seconds)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


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
            bell.close()
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
