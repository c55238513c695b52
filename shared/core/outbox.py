"""The outbox: what a commit must send lies in rows of that commit until it is sent.

A partition with a row in its outbox has a ticket in `open/<00..15>`, filed before the commit and kept for a while,
so that a busy partition files one now and then, and the sweeper finds what a dead process left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Exists, PlatformError, Stale, Unavailable
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
_MOST_UNTOLD = 100
"""Commits of a partition that did not wait: with more to send, or while sending fails, they do."""

type Deliver = Callable[[list[list[Json]]], Awaitable[list[Exception | None]]]
"""Sends the rows of several commits of one partition, oldest first; answers for each commit why it could not."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The outbox rows of one commit, written at the moment `at`. Names sort in the order of commits."""

    name: str
    at: str
    keys: list[str]
    rows: list[Json]


class Outbox:
    def __init__(self, documents: Documents, clock: Clock, deliver: Deliver) -> None:
        self._documents, self._clock, self._deliver = documents, clock, deliver
        self._filed: dict[str, datetime] = {}
        self._in_step: set[str] = set()
        """Partitions in whose outbox this process has left nothing behind, nor found anything."""
        self._held: set[str] = set()
        """Names of batches that this process is about to commit, send or remove: nobody else here sends them."""
        self._failed: set[str] = set()
        """Names of batches that this process could not send."""
        self._untold: dict[str, list[asyncio.Future[bool]]] = {}
        """By partition, flushes that nobody waits for, oldest first."""
        self._flushing = Groups[Batch, bool](self._flush)
        self._cleaning = Groups[Batch, None](self._clean, linger=_LINGER_SECONDS)

    async def commit(self, partition: str, ops: Sequence[Op], rows: list[Json], wait: bool = True) -> dict[str, str]:
        """Commits and sends, or without `wait` begins to. Raises Exists or Stale, and then nothing has happened.

        One that could not be sent is no error: the sweeper goes on.
        """
        await self._file(partition)
        batch, puts = self._batch(ids.sortable(), rows)
        try:
            etags = await self._documents.commit(partition, [*ops, *puts])
        except BaseException:
            self._held.discard(batch.name)
            raise
        flush, untold = self._flushing.post(partition, batch), self._untold.get(partition, [])
        if wait or partition not in self._in_step or len(untold) >= _MOST_UNTOLD:
            await asyncio.shield(flush)
        else:
            self._untold[partition] = [*untold, flush]
            flush.add_done_callback(lambda _: self._forget_untold(partition, flush))
        return etags

    async def told(self, partition: str) -> None:
        """Waits until what commits to `partition` did not wait for is sent, or given up."""
        if untold := self._untold.get(partition):
            await asyncio.wait([untold[-1]], timeout=_FLUSH_SECONDS)

    def _forget_untold(self, partition: str, flush: asyncio.Future[bool]) -> None:
        self._untold[partition].remove(flush)
        if not self._untold[partition]:
            del self._untold[partition]
        if not flush.cancelled() and (error := flush.exception()):  # who waits is told by the error itself
            log.warning("outbox.unexpected_error", partition=partition, reason=repr(error))

    async def follow(self, partition: str, ops: Sequence[Op], name: str, rows: list[Json]) -> None:
        """A commit that only creates, made once however often it is tried. Raises what keeps it from being sent."""
        batch, puts = self._batch(name, rows)
        try:
            try:
                await self._documents.commit(partition, [*ops, *puts])
            except Exists:
                log.info("outbox.already_followed", partition=partition)
            for left in _batches(await self._documents.query(partition, f"{batch.name}/")):
                (error,) = await self._deliver([left.rows])
                if error:
                    raise error
                await self._documents.commit(partition, [Delete(key) for key in left.keys])
        finally:
            self._held.discard(batch.name)

    def _batch(self, name: str, rows: list[Json]) -> tuple[Batch, list[Put]]:
        at = iso(self._clock.now())
        puts = [Put(f"outbox/{name}/{n:03d}", {"at": at, **row}) for n, row in enumerate(rows)]
        batch = Batch(f"outbox/{name}", at, [put.id for put in puts], rows)
        self._held.add(batch.name)
        return batch, puts

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
        await self._documents.commit(open_shard(partition), [Put(f"outbox~{partition}", ticket, ANY)])
        if len(self._filed) >= _REMEMBERED:
            self._filed.clear()
        self._filed[partition] = now

    async def _flush(self, partition: str, batches: list[Batch]) -> list[bool]:
        """What is left of earlier commits goes first: events get their sequence in the order of the changes."""
        due = batches
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                if partition not in self._in_step:
                    docs = await self._documents.query(partition, "outbox/")
                    left = self._left(docs, _UNDER_WAY_SECONDS, also=self._failed)
                    due = sorted([*left, *batches], key=lambda batch: batch.name)
                errors = await self._deliver([batch.rows for batch in due])
        except (TimeoutError, PlatformError) as error:
            reason = str(error) or f"it takes longer than {_FLUSH_SECONDS} s"
            errors = [Unavailable(reason)] * len(due)
        except BaseException as error:
            for batch in due:  # or they would be held until this process ends
                self._settle(partition, batch, error)
            raise
        for remembered in (self._in_step, self._failed):  # the sweeper has sent them meanwhile, or will
            if len(remembered) >= _REMEMBERED:
                remembered.clear()
        self._in_step.add(partition)
        for batch, error in zip(due, errors, strict=True):
            self._settle(partition, batch, error)
        refused = {batch.name for batch, error in zip(due, errors, strict=True) if error}
        return [batch.name not in refused for batch in batches]

    def _settle(self, partition: str, batch: Batch, error: BaseException | None) -> None:
        if error is None:
            self._failed.discard(batch.name)
            self._cleaning.tell(partition, batch)
        else:
            self._in_step.discard(partition)
            self._held.discard(batch.name)
            self._failed.add(batch.name)
            log.warning("outbox.flush_postponed", partition=partition, reason=str(error) or type(error).__name__)

    def _left(self, docs: list[Doc], seconds: float, also: Set[str] = frozenset()) -> list[Batch]:
        """Batches older than this, or named in `also`, that nobody here is sending: from now on, whoever asked is."""
        now = self._clock.now()
        left = [
            batch
            for batch in _batches(docs)
            if batch.name not in self._held and (_seconds(batch.at, now) > seconds or batch.name in also)
        ]
        self._held.update(batch.name for batch in left)
        return left

    async def _clean(self, partition: str, sent: list[Batch]) -> list[None]:
        keys = [key for batch in sent for key in batch.keys]
        try:
            for start in range(0, len(keys), MOST_OPS):
                await self._documents.commit(partition, [Delete(key) for key in keys[start : start + MOST_OPS]])
        except PlatformError as error:  # what happened stays so: the sweeper sends it once more, which changes nothing
            log.warning("outbox.rows_left", partition=partition, reason=error.detail)
        self._held.difference_update(batch.name for batch in sent)
        return [None] * len(sent)

    async def _sweep(self, shard: str, ticket: Doc) -> int:
        entry = ticket.body
        docs = await self._documents.query(entry["partition"], "outbox/")
        left = self._left(docs, _FRESH_SECONDS)
        flushes = [self._flushing.post(entry["partition"], batch) for batch in left]
        sent = sum([len(batch.keys) for batch, flush in zip(left, flushes, strict=True) if await asyncio.shield(flush)])
        await self._cleaning.idle()
        if not docs and _seconds(entry["at"], self._clock.now()) > _SETTLE_SECONDS:
            try:
                await self._documents.commit(shard, [Delete(ticket.id, ticket.etag)])
            except Stale:
                log.debug("outbox.filed_anew", partition=entry["partition"])
        return sent


def open_shard(reference: str) -> str:
    """The partition that open work is filed in."""
    return f"open/{ids.shard(reference)}"


def _seconds(at: str, now: datetime) -> float:
    return abs((now - parse(at)).total_seconds())


def _batches(docs: list[Doc]) -> list[Batch]:
    """The rows by commit, oldest first."""
    batches: dict[str, Batch] = {}
    for doc in docs:
        row, name = doc.body, doc.id.rsplit("/", 1)[0]
        batch = batches.setdefault(name, Batch(name, row["at"], [], []))
        del row["at"]
        batch.keys.append(doc.id)
        batch.rows.append(row)
    return list(batches.values())
