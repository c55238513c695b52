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
from shared.core.errors import Conflict, PlatformError, Stale
from shared.core.events import NewEvent
from shared.core.groups import Groups
from shared.core.log import Log
from shared.core.outbox import SHARDS, Outbox, open_shard
from shared.core.ports import Delete, Documents, EventLog, Json, Op, Put, Queues, Realtime

log = Log(__name__)

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
    events_soon: bool = False
    """Whoever commits does not wait for its events, if nothing else must be sent."""


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
        self._outbox = Outbox(documents, clock, self._deliver)
        self._publishing = Groups[Json, None](self._publish)

    async def commit(self, change: Commit) -> dict[str, str]:
        """Commits and sends what belongs to it, `events_soon` a moment later.

        Raises Exists or Stale, and then nothing at all has happened.

        Commits of a partition by one process are sent in the order they were made.
        """
        for reference in change.watch:
            await self.file_open(reference)
        rows = self._rows(change)
        if not rows:
            return await self.documents.commit(change.partition, change.ops)
        wait = not change.events_soon or len(rows) > len(change.events)
        return await self._outbox.commit(change.partition, change.ops, rows, wait)

    async def told(self, partition: str) -> None:
        """Waits for events of this process's commits that did not wait for them."""
        await self._outbox.told(partition)

    async def sweep(self) -> int:
        """Send what commits could not; returns how many rows. Called by a timer."""
        return await self._outbox.sweep()

    async def idle(self) -> None:
        """Waits until what was committed here is sent, or left to the sweeper."""
        await self._outbox.idle()
        await self._publishing.idle()

    async def to_come(self, partition: str, wanted: str) -> list[Json]:
        """Bodies of the documents that a commit of `partition` has still to create in the partition `wanted`."""
        for doc in await self.documents.query(partition, "outbox/"):
            row = doc.body
            if row["kind"] == "commit" and row["partition"] == wanted:
                return [created["body"] for created in row["creates"]]
        return []

    async def file_open(self, reference: str) -> None:
        """File open work for the watchdog; repeating it is fine."""
        entry = {"kind": reference.split("/", 1)[0], "ref": reference, "at": iso(self.clock.now())}
        await self.documents.commit(open_shard(reference), [Put(reference, entry, "*")])

    async def settle(self, reference: str) -> None:
        await self.documents.commit(open_shard(reference), [Delete(reference)])

    async def settle_unborn(self, reference: str) -> None:
        """Drop open work that is not there an hour after it was filed: its commit was refused."""
        if await self.open_seconds(reference) > _UNBORN_SECONDS:
            await self.settle(reference)

    async def open_seconds(self, reference: str) -> float:
        """How long a piece of work has been open; 0 for one that is not."""
        doc = await self.documents.get(open_shard(reference), reference)
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

    async def _deliver(self, batches: list[list[Json]]) -> list[Exception | None]:
        """Events of all batches first, then what else each must send; then browsers are told."""
        errors: list[Exception | None] = [None] * len(batches)
        published = await self._keep_events(batches, errors)
        for place, rows in enumerate(batches):
            if errors[place] is None:
                errors[place] = await _error_of(self._send(rows))
        for place, event, groups in published:
            if errors[place] is None:
                self._announce(event, groups)
        return errors

    async def _keep_events(
        self, batches: list[list[Json]], errors: list[Exception | None]
    ) -> list[tuple[int, Json, list[str]]]:
        """Append per subject; returns (place of the batch, event with its sequence, groups)."""
        subjects: dict[str, list[tuple[int, Json]]] = {}
        for place, rows in enumerate(batches):
            for row in rows:
                if row["kind"] == "event":
                    subjects.setdefault(row["event"]["subject"], []).append((place, row))
        published: list[tuple[int, Json, list[str]]] = []
        for subject, found in subjects.items():
            try:
                sequences = await self.events.append(subject, [row["event"] for _, row in found])
            except (PlatformError, ValueError) as error:
                for place, _ in found:
                    errors[place] = error
                continue
            for (place, row), sequence in zip(found, sequences, strict=True):
                published.append((place, {**row["event"], "sequence": sequence}, row["groups"]))
        return published

    async def _send(self, rows: list[Json]) -> None:
        for row in rows:
            match row["kind"]:
                case "event":
                    pass  # kept already
                case "message":
                    await self._queues.send(row["queue"], row["body"], row["delay"])
                case "commit":
                    await self._follow(row)
                case "membership":
                    await self._set_membership(row)
                case unknown:
                    raise Conflict(f"Unknown outbox row kind {unknown!r}.")

    async def publish(self, event: Json, groups: Sequence[str]) -> None:
        """Losing it is allowed: clients see the gap in the sequence and catch up."""
        await asyncio.gather(*self._announce(event, groups))

    def _announce(self, event: Json, groups: Sequence[str]) -> list[asyncio.Future[None]]:
        return [self._publishing.post(group, event) for group in groups]

    async def _publish(self, group: str, events: list[Json]) -> list[None]:
        try:
            await self._realtime.publish(group, events)
        except PlatformError as error:
            log.warning("realtime.publish_lost", group=group, events=len(events), reason=error.detail)
        return [None] * len(events)

    async def _follow(self, row: Json) -> None:
        for reference in row["watch"]:
            await self.file_open(reference)
        ops: list[Op] = [Put(op["id"], op["body"]) for op in row["creates"]]
        await self._outbox.follow(row["partition"], ops, row["batch"], row["rows"])

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


async def _error_of(work: Awaitable[None]) -> Exception | None:
    try:
        await work
    except (PlatformError, ValueError) as error:
        return error
    return None


async def retry_stale[T](attempt: Callable[[], Awaitable[T]], tries: int = 40) -> T:
    """Run an optimistic read-change-commit again while somebody else was faster: later each time, so that all pass."""
    for tried in range(1, tries):
        try:
            return await attempt()
        except Stale:
            await asyncio.sleep(random.uniform(0.002, min(0.008 * tried, 0.1)))
    return await attempt()
