"""Commits with an outbox: a change, its events and the messages it must send are rows of one commit.

Nothing is sent that was not committed, nothing committed is never sent. Consumers are idempotent.
Before a commit leaves work open, a row is filed under one of `open/<00..15>`; the sweeper reads only those.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.core import events as catalogue
from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Conflict, Exists, PlatformError, Stale
from shared.core.events import NewEvent
from shared.core.log import Log
from shared.core.ports import Delete, Doc, Documents, EventLog, Json, Op, Put, Queues, Realtime

log = Log(__name__)

SHARDS = tuple(f"open/{n:02d}" for n in range(16))
_STRIPES = 64
_FLUSH_SECONDS = 5
"""Whoever waits for a commit waits no longer for a queue that hangs; the sweeper sends what is left."""
_SETTLE_SECONDS = 60
"""An open row without its outbox is dropped only after this: its commit may still be under way."""
_UNBORN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Message:
    """A queue message to be sent after the commit."""

    queue: str
    body: Json
    delay: float = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """Live connections of a user join or leave a group."""

    user_id: str
    group: str
    member: bool = True


@dataclass(frozen=True, slots=True)
class Commit:
    """A change of one partition; as a row of another commit's outbox it must only create."""

    partition: str
    ops: Sequence[Op]
    events: Sequence[NewEvent] = ()
    messages: Sequence[Message] = ()
    follow: Sequence["Commit"] = ()
    memberships: Sequence[Membership] = ()
    watch: Sequence[str] = field(default=())
    """Open work (`task/<id>`, `run/<id>`) that this commit begins: filed before it, for the watchdog."""


class Store:
    """The only way features change documents."""

    def __init__(
        self, documents: Documents, event_log: EventLog, queues: Queues, realtime: Realtime, clock: Clock
    ) -> None:
        self.documents = documents
        self.events = event_log
        self.clock = clock
        self._queues = queues
        self._realtime = realtime
        self._order = [asyncio.Lock() for _ in range(_STRIPES)]

    async def commit(self, change: Commit) -> dict[str, str]:
        """Commits and flushes. Raises Exists or Stale, and then nothing at all has happened."""
        for reference in change.watch:
            await self.file_open(reference)
        rows = self._rows(change)
        if not rows:
            return await self.documents.commit(change.partition, change.ops)
        batch = ids.sortable()
        ticket = f"outbox~{change.partition}~{batch}"
        shard = f"open/{ids.shard(change.partition)}"
        entry = {"kind": "outbox", "partition": change.partition, "batch": batch, "at": iso(self.clock.now())}
        puts = [Put(f"outbox/{batch}/{n:03d}", row) for n, row in enumerate(rows)]
        async with self._in_order(change.partition):
            await self.documents.commit(shard, [Put(ticket, entry)])
            try:
                etags = await self.documents.commit(change.partition, [*change.ops, *puts])
            except PlatformError:
                await self._drop(shard, ticket)
                raise
            try:
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._flush(change.partition, batch)
            except (PlatformError, ValueError, TimeoutError) as error:
                reason = str(error) or f"it takes longer than {_FLUSH_SECONDS} s"
                log.warning("outbox.flush_postponed", partition=change.partition, reason=reason)
                return etags
        await self._drop(shard, ticket)
        return etags

    async def _drop(self, shard: str, ticket: str) -> None:
        """What happened stays so when its ticket cannot be removed: the sweeper does it."""
        try:
            await self.documents.commit(shard, [Delete(ticket)])
        except PlatformError as error:
            log.warning("outbox.ticket_left", shard=shard, reason=error.detail)

    def _in_order(self, partition: str) -> asyncio.Lock:
        """Within a process, commits of a partition send in the order they were made; others may share the lock."""
        return self._order[int(ids.digest(partition)[:8], 16) % _STRIPES]

    async def file_open(self, reference: str) -> None:
        """File open work for the watchdog; repeating it is fine."""
        entry = {"kind": reference.split("/", 1)[0], "ref": reference, "at": iso(self.clock.now())}
        await self.documents.commit(f"open/{ids.shard(reference)}", [Put(reference, entry, "*")])

    async def settle(self, reference: str) -> None:
        await self.documents.commit(f"open/{ids.shard(reference)}", [Delete(reference)])

    async def settle_unborn(self, reference: str) -> None:
        """Drop open work that is not there an hour after it was filed: its commit was refused."""
        if await self.open_seconds(reference) > _UNBORN_SECONDS:
            await self.settle(reference)

    async def open_seconds(self, reference: str) -> float:
        """How long a piece of work has been open; 0 for one that is not."""
        doc = await self.documents.get(f"open/{ids.shard(reference)}", reference)
        return (self.clock.now() - parse(doc.body["at"])).total_seconds() if doc else 0

    async def open_work(self, kind: str) -> list[str]:
        """References of open work of a kind."""
        found: list[str] = []
        for shard in SHARDS:
            found += [doc.id for doc in await self.documents.query(shard, f"{kind}/")]
        return found

    async def watch(self, kind: str, look: Callable[[str], Awaitable[bool]]) -> int:
        """Look at every open work of a kind; returns how often `look` took it up. One that fails keeps none waiting."""
        taken = 0
        for reference in await self.open_work(kind):
            try:
                taken += await look(reference)
            except PlatformError as error:
                log.warning(f"{kind}.watch_failed", reference=reference, reason=error.detail)
        return taken

    async def sweep(self) -> int:
        """Flush every outbox that its commit could not; returns how many. Called by a timer."""
        flushed = 0
        for shard in SHARDS:
            for doc in await self.documents.query(shard, "outbox~"):
                flushed += await self._sweep_one(shard, doc)
        return flushed

    async def _sweep_one(self, shard: str, doc: Doc) -> int:
        partition, batch = doc.body["partition"], doc.body["batch"]
        age = (self.clock.now() - parse(doc.body["at"])).total_seconds()
        if age < 5:
            return 0
        async with self._in_order(partition):
            try:
                found = await self._flush(partition, batch)
            except (PlatformError, ValueError) as error:  # the others must not wait for this one
                log.warning("outbox.sweep_failed", partition=partition, reason=str(error))
                return 0
        if found or age > _SETTLE_SECONDS:
            await self.documents.commit(shard, [Delete(doc.id)])
        return found

    async def _flush(self, partition: str, batch: str) -> int:
        rows = await self.documents.query(partition, f"outbox/{batch}/")
        for row in rows:
            await self._send(row.body)
        if rows:
            await self.documents.commit(partition, [Delete(row.id) for row in rows])
        return len(rows)

    async def _send(self, row: Json) -> None:
        match row["kind"]:
            case "event":
                await self.emit(row["event"], row["groups"])
            case "message":
                await self._queues.send(row["queue"], row["body"], row["delay"])
            case "commit":
                await self._follow(row)
            case "membership":
                await self._set_membership(row)
            case unknown:
                raise Conflict(f"Unknown outbox row kind {unknown!r}.")

    async def emit(self, event: Json, groups: Sequence[str]) -> None:
        """Keep an event under its subject's next sequence, then publish it. Safe to repeat by event id."""
        sequence = (await self.events.append(event["subject"], [event]))[0]
        await self.publish({**event, "sequence": sequence}, groups)

    async def publish(self, event: Json, groups: Sequence[str]) -> None:
        """Losing it is allowed: clients see the gap in the sequence and catch up."""
        for group in groups:
            try:
                await self._realtime.publish(group, event)
            except PlatformError as error:
                log.warning("realtime.publish_lost", subject=event["subject"], reason=error.detail)

    async def _follow(self, row: Json) -> None:
        for reference in row["watch"]:
            await self.file_open(reference)
        ops: list[Op] = [Put(op["id"], op["body"]) for op in row["creates"]]
        change = Commit(row["partition"], ops)
        puts = [Put(f"outbox/{row['batch']}/{n:03d}", inner) for n, inner in enumerate(row["rows"])]
        try:
            await self.documents.commit(change.partition, [*ops, *puts])
        except Exists:
            log.info("outbox.already_followed", partition=row["partition"])
        await self._flush(row["partition"], row["batch"])

    async def _set_membership(self, row: Json) -> None:
        try:
            change = self._realtime.add_to_group if row["member"] else self._realtime.remove_from_group
            await change(row["user_id"], row["group"])
        except PlatformError as error:
            if not row["member"]:
                raise  # whoever was removed must stop seeing events: keep trying
            log.warning("realtime.join_lost", group=row["group"], reason=error.detail)

    def _rows(self, change: Commit) -> list[Json]:
        rows: list[Json] = [self._follow_row(follow) for follow in change.follow]
        rows += [
            {"kind": "membership", "user_id": m.user_id, "group": m.group, "member": m.member}
            for m in change.memberships
        ]
        rows += [{"kind": "event", "event": self.envelope(new), "groups": list(new.groups)} for new in change.events]
        rows += [{"kind": "message", "queue": m.queue, "body": m.body, "delay": m.delay} for m in change.messages]
        return rows

    def _follow_row(self, change: Commit) -> Json:
        creates: list[Json] = []
        for op in change.ops:
            if not isinstance(op, Put) or op.etag is not None:
                raise ValueError("a commit that follows another may only create documents")
            creates.append({"id": op.id, "body": op.body})
        return {
            "kind": "commit",
            "partition": change.partition,
            "batch": ids.sortable(),
            "creates": creates,
            "rows": self._rows(change),
            "watch": list(change.watch),
        }

    def envelope(self, new: NewEvent) -> Json:
        """The CloudEvent of a new event; raises ValueError for one that is not in the catalogue."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": new.id or ids.sortable(),
            "type": new.type,
            "source": catalogue.SOURCE,
            "time": iso(self.clock.now()),
            "subject": new.subject,
            "datacontenttype": "application/json",
            "data": new.data.model_dump(mode="json", exclude_none=new.type == "agent.progress"),
        }
        catalogue.check(event)
        return event


async def retry_stale[T](attempt: Callable[[], Awaitable[T]], tries: int = 40) -> T:
    """Run an optimistic read-change-commit again while somebody else was faster: later each time, so that all pass."""
    for tried in range(1, tries):
        try:
            return await attempt()
        except Stale:
            await asyncio.sleep(random.uniform(0.002, min(0.008 * tried, 0.1)))
    return await attempt()
