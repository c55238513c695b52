"""The outbox: what a commit must send lies in rows of that commit until it is sent.

A partition with a row in its outbox has a ticket in `open/<00..15>`, filed before the commit and kept for a while,
so that a busy partition files one now and then, and the sweeper finds what a dead process left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import PlatformError, Stale, Unavailable
from shared.core.groups import Groups
from shared.core.log import Log
from shared.core.partitions import MOST_OPS
from shared.core.ports import ANY, Delete, Doc, Documents, Json, Op, Put

log = Log(__name__)

SHARDS = tuple(f"open/{n:02d}" for n in range(16))

_FLUSH_SECONDS = 5
"""Whoever waits for a commit waits no longer for a queue that hangs; the sweeper sends what is left."""
_FRESH_SECONDS = 5
"""Younger rows are their maker's business."""
_UNDER_WAY_SECONDS = 1
"""Younger rows of another process are probably being sent; sent twice they change nothing."""
_LINGER_SECONDS = 0.05
"""Rows that are sent lie so long, that one commit may remove those of several."""
_FILED_SECONDS = 20
"""A ticket is filed anew when its partition commits again after this."""
_SETTLE_SECONDS = 60
"""A ticket without an outbox is dropped only after this: a commit may still be under way."""
_REMEMBERED = 1_000

type Deliver = Callable[[list[list[Json]]], Awaitable[list[Exception | None]]]
"""Sends the rows of several commits of one partition, oldest first; answers for each commit why it could not."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The outbox rows of one commit."""

    keys: list[str]
    rows: list[Json]


class Outbox:
    def __init__(self, documents: Documents, clock: Clock, deliver: Deliver) -> None:
        self._documents, self._clock, self._deliver = documents, clock, deliver
        self._filed: dict[str, datetime] = {}
        self._in_step: set[str] = set()
        """Partitions in whose outbox this process has left nothing behind, nor found anything."""
        self._held: set[str] = set()
        """First rows of batches that this process is about to commit, send or remove."""
        self._failed: set[str] = set()
        """Rows that this process could not send."""
        self._flushing = Groups[Batch, bool](self._flush)
        self._cleaning = Groups[list[str], None](self._clean, linger=_LINGER_SECONDS)

    async def commit(self, partition: str, ops: Sequence[Op], rows: list[Json]) -> dict[str, str]:
        """Commits and sends. Raises Exists or Stale, and then nothing at all has happened."""
        await self._file(partition)
        batch, puts = self.batch(ids.sortable(), rows)
        try:
            etags = await self._documents.commit(partition, [*ops, *puts])
        except BaseException:
            self._held.discard(batch.keys[0])
            raise
        await asyncio.shield(self._flushing.post(partition, batch))
        return etags

    def batch(self, name: str, rows: list[Json]) -> tuple[Batch, list[Put]]:
        at = iso(self._clock.now())
        puts = [Put(f"outbox/{name}/{n:03d}", {"at": at, **row}) for n, row in enumerate(rows)]
        self._held.add(f"outbox/{name}/000")
        return Batch([put.id for put in puts], rows), puts

    async def flush_now(self, partition: str, name: str) -> None:
        """Send what is left of one batch. Raises what keeps it from being sent."""
        try:
            docs = await self._documents.query(partition, f"outbox/{name}/")
            if docs:
                (error,) = await self._deliver([[doc.body for doc in docs]])
                if error:
                    raise error
                await self._documents.commit(partition, [Delete(doc.id) for doc in docs])
        finally:
            self._held.discard(f"outbox/{name}/000")

    async def sweep(self) -> int:
        """Send what commits could not; returns how many rows. Called by a timer."""
        sent = 0
        for shard in SHARDS:
            for ticket in await self._documents.query(shard, "outbox~"):
                try:
                    sent += await self._sweep(shard, ticket)
                except PlatformError as error:  # the others must not wait for this one
                    log.warning("outbox.sweep_failed", partition=ticket.body["partition"], reason=error.detail)
        return sent

    async def idle(self) -> None:
        """Waits until all is sent, or given up, and put in order."""
        await self._flushing.idle()
        await self._cleaning.idle()

    async def _file(self, partition: str) -> None:
        now = self._clock.now()
        filed = self._filed.get(partition)
        if filed is not None and 0 <= (now - filed).total_seconds() < _FILED_SECONDS:
            return
        ticket = {"kind": "outbox", "partition": partition, "at": iso(now)}
        await self._documents.commit(_shard(partition), [Put(f"outbox~{partition}", ticket, ANY)])
        if len(self._filed) >= _REMEMBERED:
            self._filed.clear()
        self._filed[partition] = now

    async def _flush(self, partition: str, batches: list[Batch]) -> list[bool | Exception]:
        """What is left of earlier commits goes first: events get their sequence in the order of the changes."""
        own = {id(batch) for batch in batches}
        due = batches
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                if partition not in self._in_step:
                    due = await self._with_leftovers(partition, batches)
                errors = await self._deliver([batch.rows for batch in due])
        except (TimeoutError, PlatformError) as error:
            reason = str(error) or f"it takes longer than {_FLUSH_SECONDS} s"
            errors = [Unavailable(reason)] * len(due)
        if len(self._in_step) >= _REMEMBERED:
            self._in_step.clear()
        if len(self._failed) >= _REMEMBERED:  # the sweeper has sent them meanwhile, or will
            self._failed.clear()
        self._in_step.add(partition)
        sent: list[bool | Exception] = []
        for batch, error in zip(due, errors, strict=True):
            if error is None:
                self._failed.difference_update(batch.keys)
                self._cleaning.post(partition, batch.keys)
            else:
                self._in_step.discard(partition)
                self._held.discard(batch.keys[0])
                self._failed.update(batch.keys)
                log.warning("outbox.flush_postponed", partition=partition, reason=str(error))
            if id(batch) in own:
                sent.append(error is None)
        return sent

    async def _with_leftovers(self, partition: str, batches: list[Batch]) -> list[Batch]:
        known, now = self._held.union(batch.keys[0] for batch in batches), self._clock.now()
        docs = await self._documents.query(partition, "outbox/")
        old = [doc for doc in docs if _seconds(doc, now) > _UNDER_WAY_SECONDS or doc.id in self._failed]
        left = [batch for batch in _batches(old) if batch.keys[0] not in known]
        return sorted([*left, *batches], key=lambda batch: batch.keys[0])

    async def _clean(self, partition: str, sent: list[list[str]]) -> list[None]:
        keys = list(dict.fromkeys(key for batch in sent for key in batch))  # a batch may have been sent twice
        try:
            for start in range(0, len(keys), MOST_OPS):
                await self._documents.commit(partition, [Delete(key) for key in keys[start : start + MOST_OPS]])
        except PlatformError as error:  # what happened stays so: the sweeper sends it once more, which changes nothing
            log.warning("outbox.rows_left", partition=partition, reason=error.detail)
        self._held.difference_update(batch[0] for batch in sent)
        return [None] * len(sent)

    async def _sweep(self, shard: str, ticket: Doc) -> int:
        partition, now = ticket.body["partition"], self._clock.now()
        docs = await self._documents.query(partition, "outbox/")
        sent = 0
        for batch in _batches([doc for doc in docs if _seconds(doc, now) > _FRESH_SECONDS]):
            if await asyncio.shield(self._flushing.post(partition, batch)):
                sent += len(batch.keys)
        await self._cleaning.idle()
        if not docs and _seconds(ticket, now) > _SETTLE_SECONDS:
            try:
                await self._documents.commit(shard, [Delete(ticket.id, ticket.etag)])
            except Stale:
                log.debug("outbox.filed_anew", partition=partition)
        return sent


def _seconds(doc: Doc, now: datetime) -> float:
    return abs((now - parse(doc.body["at"])).total_seconds())


def _batches(docs: list[Doc]) -> list[Batch]:
    """The rows by commit, oldest first."""
    batches: dict[str, Batch] = {}
    for doc in docs:
        row = doc.body
        del row["at"]
        batch = batches.setdefault(doc.id.rsplit("/", 1)[0], Batch([], []))
        batch.keys.append(doc.id)
        batch.rows.append(row)
    return list(batches.values())


def _shard(partition: str) -> str:
    return f"open/{ids.shard(partition)}"
