"""Sends what happens in a run to the platform in small batches, and brings back what people say meanwhile."""

import asyncio
import contextlib
import uuid
from datetime import UTC, datetime
from typing import Any

from agent_container.api import Comment, Json, Platform
from agent_container.redact import Redactor

_TEXT_LIMIT = 4_000
_BATCH = 20
_INTERVAL = 0.2
_HEARTBEAT = 5.0
_CAPACITY = 1_000


class EventSender:
    """`emit` waits when the platform is behind, so nothing is dropped; `run` ends only by an error or `close`.

    `stopped` is set once a person stopped the run.
    """

    def __init__(self, platform: Platform, redactor: Redactor) -> None:
        self._platform = platform
        self._redactor = redactor
        self._queue: asyncio.Queue[Json | None] = asyncio.Queue(_CAPACITY)
        self._comments: list[Comment] = []
        self.stopped = asyncio.Event()

    async def emit(self, kind: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event: Json = {"id": uuid.uuid4().hex, "time": now, "kind": kind}
        await self._queue.put(event | self._redactor.value(fields, _TEXT_LIMIT))

    def take_comments(self) -> tuple[Comment, ...]:
        """Comments of people that nobody took yet."""
        taken, self._comments = tuple(self._comments), []
        return taken

    async def run(self) -> None:
        """Sends until `close`; without events it asks every few seconds whether somebody spoke."""
        closing = False
        while not closing:
            batch, closing = await self._batch()
            if batch or not closing:
                stop, comments = await self._platform.events(batch)
                self._comments += comments
                if stop:
                    self.stopped.set()

    async def close(self) -> None:
        """Lets `run` send the rest and return."""
        await self._queue.put(None)

    async def _batch(self) -> tuple[list[Json], bool]:
        batch: list[Json] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT) as patience:
                while len(batch) < _BATCH:
                    event = await self._queue.get()
                    if event is None:
                        return batch, True
                    if not batch:
                        patience.reschedule(asyncio.get_running_loop().time() + _INTERVAL)
                    batch.append(event)
        return batch, False
