"""One runner's lease of one task: every write of its record, fenced by etag, and the beats that keep the lease."""

import asyncio
import contextlib
from datetime import timedelta

from shared.core.clock import iso
from shared.core.errors import PlatformError, Stale
from shared.core.log import Log
from shared.core.ports import Put
from shared.core.store import Commit, Store
from shared.tasks.changes import just_told, rescheduled, told
from shared.tasks.models import TaskRecord

log = Log(__name__)

BEAT_SECONDS = 2.0
"""Whoever cancels a task waits no longer for the step under way to notice."""


class Overtaken(Exception):
    """Somebody else holds the task."""


class Turned(Exception):
    """The task is ours, and its steps are to be undone: somebody cancelled it. The record says so."""


class Lease:
    """The record as this holder knows it."""

    def __init__(self, store: Store, record: TaskRecord, etag: str, seconds: float) -> None:
        self.record = record
        self._store, self._etag, self._seconds = store, etag, seconds
        self._writing = asyncio.Lock()
        record.epoch += 1  # duplicates of the message that brought us here are void
        record.held = True
        self._epoch = record.epoch
        self._turned = record.undo_to is not None
        """Its steps are being undone, as far as has been committed."""

    async def write(self, event: str, mere: bool = False) -> None:
        """Commit the record with an event, renewing the lease. `mere` progress is not told again within a second."""
        async with self._writing:
            self._renew()
            events = told(event, self.record, self._store.clock.now(), mere)
            put = Put("task", self.record.json_body(), self._etag)
            await self._commit(Commit(f"tasks/{self.record.id}", [put], events))

    async def end(self, event: str) -> None:
        """The last write: nobody holds the task any more."""
        self.record.held = False
        await self.write(event)

    async def postpone(self, seconds: float, mere: bool = False) -> None:
        """Give the task back, to be gone on with in so many seconds."""
        async with self._writing:
            await self._commit(rescheduled(self.record, self._etag, seconds, self._store, self._seconds, mere))

    async def hold(self) -> None:
        """Overtaken or Turned unless the task is still ours: nobody must hear of an end that does not count."""
        try:
            await self._beat()
        except Stale:
            raise await self._lost() from None

    async def report(self, progress: float | None, note: str | None) -> None:
        step = self.record.next_undo() if self.record.undo_to else self.record.next_step()
        if step is None or just_told(self.record, self._store.clock.now()):
            return
        step.progress, step.note = progress, note
        await self.write("task.progress")

    @contextlib.asynccontextmanager
    async def kept(self):  # noqa: ANN201 - an async context manager without a value
        """Keep the lease while a step works; a lost lease or a cancelled task cancels the step."""
        owner = asyncio.current_task()
        stop = asyncio.Event()
        lost: Overtaken | Turned | None = None

        async def beat() -> None:
            nonlocal lost
            while not await _set_within(stop, min(BEAT_SECONDS, self._seconds / 3)):
                try:
                    await self.hold()
                except (Overtaken, Turned) as error:
                    lost = error
                    if owner is not None:
                        owner.cancel()
                    return
                except PlatformError as error:
                    log.warning("task.heartbeat_missed", task_id=self.record.id, reason=error.detail)

        beating = asyncio.create_task(beat())
        try:
            try:
                yield
            finally:
                stop.set()  # a beat under way ends first: its commit has the etag that the next one needs
                await asyncio.gather(beating, return_exceptions=True)
        except asyncio.CancelledError:
            if lost is None or owner is None:
                raise
            owner.uncancel()
            raise lost from None

    async def _commit(self, change: Commit) -> None:
        try:
            self._etag = (await self._store.commit(change))["task"]
        except Stale:
            raise await self._lost() from None
        self._turned = self.record.undo_to is not None

    async def _beat(self) -> None:
        async with self._writing:
            self._renew()
            put = Put("task", self.record.json_body(), self._etag)
            self._etag = (await self._store.documents.commit(f"tasks/{self.record.id}", [put]))["task"]

    async def _lost(self) -> Overtaken | Turned:
        """Whoever cancels a task that is held leaves its epoch: what was written becomes ours."""
        doc = await self._store.documents.get(f"tasks/{self.record.id}", "task")
        if doc is not None:
            found = TaskRecord.model_validate(doc.body)
            if found.epoch == self._epoch and found.undo_to and not self._turned:
                self.record, self._etag, self._turned = found, doc.etag, True
                return Turned()
        return Overtaken()

    def _renew(self) -> None:
        now = self._store.clock.now()
        self.record.updated_at = iso(now)
        self.record.check_at = iso(now + timedelta(seconds=self._seconds))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
