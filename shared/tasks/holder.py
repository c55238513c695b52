"""One runner's hold on one task: step after step, each committed with its event, while the lease is kept."""

import asyncio
import contextlib
import random
from datetime import timedelta

from shared.core.clock import iso
from shared.core.errors import PlatformError, Stale
from shared.core.log import Log
from shared.core.ports import Put
from shared.core.resources import Step
from shared.core.store import Commit, Store
from shared.tasks.changes import context, just_told, rescheduled, tell_subject, told
from shared.tasks.models import Later, Plan, PlannedStep, TaskRecord

log = Log(__name__)

RUN_ON_SECONDS = 60.0


class Overtaken(Exception):
    """Somebody else holds the task."""


class Holder:
    """One runner's hold on one task."""

    def __init__(self, store: Store, plan: Plan, record: TaskRecord, etag: str, lease: float) -> None:
        self._store, self._plan, self._record, self._etag, self._lease = store, plan, record, etag, lease
        self._writing = asyncio.Lock()

    async def run_on(self) -> None:
        """Step after step until one says Later, one fails, or the time for one message is up."""
        started = self._store.clock.now()
        self._record.status = "running"
        self._record.epoch += 1  # duplicates of the message that brought us here are void
        while (step := self._record.next_step()) is not None:
            if (self._store.clock.now() - started).total_seconds() > RUN_ON_SECONDS:
                return await self._postpone(0)
            if not await self._step(step, self._planned(step)):
                return None
        self._record.status = "succeeded"
        return await self._write("task.completed")

    async def _step(self, step: Step, planned: PlannedStep) -> bool:
        """True when the step is done and the next may begin."""
        again, step.status, step.error = step.status == "running", "running", None
        step.started_at = step.started_at or iso(self._store.clock.now())
        await self._write("task.progress", mere=again)
        try:
            async with asyncio.timeout(planned.timeout), self._heartbeat():
                result = await planned.run(context(self._record, self._report))
        except Overtaken:
            raise
        except TimeoutError:
            return await self._failed(step, planned, f"It took longer than {planned.timeout:.0f} s.", transient=True)
        except Stale as error:
            return await self._failed(step, planned, error.detail, transient=True)
        except PlatformError as error:
            wait = getattr(error, "retry_after", None)
            return await self._failed(step, planned, error.detail, error.transient, wait)
        except Exception as error:
            log.exception("task.step_raised", task_id=self._record.id, step=step.name)
            return await self._failed(step, planned, f"An unexpected {type(error).__name__}.", transient=True)
        if isinstance(result, Later):
            step.progress, step.note = result.progress, result.note
            await self._postpone(result.seconds, mere=True)
            return False
        step.status, step.progress, step.finished_at = "succeeded", None, iso(self._store.clock.now())
        self._record.state |= result
        await self._write("task.progress")
        return True

    async def _failed(
        self, step: Step, planned: PlannedStep, reason: str, transient: bool, wait: float | None = None
    ) -> bool:
        step.attempts += 1
        step.error = reason
        if transient and step.attempts < planned.attempts:
            await self._postpone(wait or min(60.0, 2**step.attempts * random.uniform(0.5, 1)))
            return False
        step.status, step.finished_at = "failed", iso(self._store.clock.now())
        await self._hold()
        self._record.status, self._record.error = "failed", f"{step.title} failed: {reason}"
        await tell_subject(self._plan, self._record, self._record.error)
        await self._write("task.failed")
        log.warning("task.failed", task_id=self._record.id, step=step.name, reason=reason)
        return False

    async def _hold(self) -> None:
        """Overtaken unless the task is still ours: its subject must not hear of a failure that does not count."""
        try:
            await self._beat()
        except Stale:
            raise Overtaken from None

    async def _report(self, progress: float | None, note: str | None) -> None:
        step = self._record.next_step()
        if step is None or just_told(self._record, self._store.clock.now()):
            return
        step.progress, step.note = progress, note
        await self._write("task.progress")

    def _planned(self, step: Step) -> PlannedStep:
        return next(planned for planned in self._plan.steps if planned.name == step.name)

    async def _write(self, event: str, mere: bool = False) -> None:
        """Commit the record with an event, renewing the lease. `mere` progress is not told again within a second."""
        async with self._writing:
            self._renew()
            events = told(event, self._record, self._store.clock.now(), mere)
            put = Put("task", self._record.json_body(), self._etag)
            await self._commit(Commit(f"tasks/{self._record.id}", [put], events))

    async def _commit(self, change: Commit) -> None:
        try:
            self._etag = (await self._store.commit(change))["task"]
        except Stale:
            raise Overtaken from None

    async def _postpone(self, seconds: float, mere: bool = False) -> None:
        async with self._writing:
            await self._commit(rescheduled(self._record, self._etag, seconds, self._store, self._lease, mere))

    def _renew(self) -> None:
        now = self._store.clock.now()
        self._record.updated_at = iso(now)
        self._record.check_at = iso(now + timedelta(seconds=self._lease))

    @contextlib.asynccontextmanager
    async def _heartbeat(self):  # noqa: ANN202 - an async context manager without a value
        """Keep the lease while a step works; a lost lease cancels the step."""
        owner = asyncio.current_task()
        stop, lost = asyncio.Event(), False

        async def beat() -> None:
            nonlocal lost
            while not await _set_within(stop, self._lease / 3):
                try:
                    await self._beat()
                except Stale:
                    lost = True
                    if owner is not None:
                        owner.cancel()
                    return
                except PlatformError as error:
                    log.warning("task.heartbeat_missed", task_id=self._record.id, reason=error.detail)

        beating = asyncio.create_task(beat())
        try:
            try:
                yield
            finally:
                stop.set()  # a beat under way ends first: its commit has the etag that the next one needs
                await asyncio.gather(beating, return_exceptions=True)
        except asyncio.CancelledError:
            if not lost or owner is None:
                raise
            owner.uncancel()
            raise Overtaken from None

    async def _beat(self) -> None:
        async with self._writing:
            self._renew()
            put = Put("task", self._record.json_body(), self._etag)
            self._etag = (await self._store.documents.commit(f"tasks/{self._record.id}", [put]))["task"]


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
