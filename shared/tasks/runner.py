"""Runs tasks: load, guard, act, commit, publish, next.

The lease is the task's own `check_at`: while it lies ahead, the holder works; once it has passed, the watchdog raises
the epoch and sends a message. A holder that was overtaken finds its etag stale and stops.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from shared.core import ids
from shared.core.clock import iso, parse
from shared.core.errors import Conflict, Invalid, NotFound, PlatformError, Stale
from shared.core.events import NewEvent, TaskData
from shared.core.log import Log
from shared.core.ports import Json, Put
from shared.core.resources import TASK_OVER, Step, Subject
from shared.core.store import Commit, Message, Store, retry_stale
from shared.tasks.models import MESSAGE_VERSION, Later, Plan, PlannedStep, StepContext, TaskRecord

log = Log(__name__)

QUEUE = "provisioning"
LEASE_SECONDS = 30.0
RUN_ON_SECONDS = 60.0


class Overtaken(Exception):
    """Somebody else holds the task."""


class Runner:
    """The task engine. It knows nothing of what steps do."""

    def __init__(self, store: Store, plans: Mapping[str, Plan], lease_seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._plans = plans
        self._lease = lease_seconds

    # -- starting and looking -------------------------------------------------------------------

    def creation(
        self, task_id: str, plan_name: str, subject: Subject, team_id: str, owner_id: str, state: Json
    ) -> Commit:
        """The commit that starts a task, to be made to follow the change that wants it."""
        plan = self._plans[plan_name]
        now = self._store.clock.now()
        record = TaskRecord(
            id=task_id,
            plan=plan_name,
            title=f"{plan.title} {subject.name}",
            subject=subject,
            team_id=team_id,
            owner_id=owner_id,
            steps=[Step(name=step.name, title=step.title, progress=None) for step in plan.steps],
            state=state,
            check_at=iso(now + timedelta(seconds=self._lease)),
            created_at=iso(now),
            updated_at=iso(now),
        )
        return Commit(
            partition=f"tasks/{task_id}",
            ops=[Put("task", record.json_body())],
            events=[_event("task.created", record)],
            messages=[Message(QUEUE, record.message())],
            watch=[record.reference],
        )

    async def load(self, task_id: str) -> tuple[TaskRecord, str]:
        if not ids.is_plain(task_id):
            raise NotFound(f"There is no task {task_id!r}.")
        doc = await self._store.documents.get(f"tasks/{task_id}", "task")
        if doc is None:
            raise NotFound(f"There is no task {task_id!r}.")
        return TaskRecord.model_validate(doc.body), doc.etag

    async def retry(self, task_id: str) -> TaskRecord:
        """Start a failed task again from the step that failed."""
        record, etag = await self.load(task_id)
        if record.status not in ("failed", "needs_attention"):
            raise Conflict(f"Only a failed task can be retried; this one is {record.status}.")
        step = record.next_step()
        if step is not None:
            _reset(step)
        record.status, record.error = "pending", None
        record.state["retries"] = record.state.get("retries", 0) + 1
        await self._reschedule(record, etag, delay=0)
        return record

    # -- running --------------------------------------------------------------------------------

    async def handle(self, message: Json) -> None:
        """A queue message: duplicates, late and reordered ones are no-ops."""
        if message.get("version") != MESSAGE_VERSION:
            raise Invalid(f"Unknown message version {message.get('version')!r}.")
        try:
            record, etag = await self.load(message["task_id"])
        except NotFound:
            log.warning("task.unknown", task_id=message["task_id"])
            return
        if record.status not in TASK_OVER:
            if record.epoch != message["epoch"]:
                return
            try:
                await _Holder(self._store, self._plans[record.plan], record, etag, self._lease).run_on()
            except Overtaken:
                return
        if record.status in TASK_OVER:
            await self._store.settle(record.reference)

    async def watch(self) -> int:
        """Resume every task whose holder is gone; returns how many. Called by a timer."""
        resumed = 0
        for reference in await self._store.open_work("task"):
            try:
                resumed += await self._watch_one(reference)
            except PlatformError as error:  # the others must not wait for this one
                log.warning("task.watch_failed", reference=reference, reason=error.detail)
        return resumed

    async def _watch_one(self, reference: str) -> bool:
        try:
            record, etag = await self.load(reference.split("/", 1)[1])
        except NotFound:  # its commit is still to come, or never will
            await self._store.settle_unborn(reference)
            return False
        if record.status in TASK_OVER:
            await self._store.settle(reference)
        elif parse(record.check_at) < self._store.clock.now():
            with contextlib.suppress(Stale):
                await self._reschedule(record, etag, delay=0)
                log.warning("task.resumed", task_id=record.id, epoch=record.epoch)
                return True
        return False

    async def abandon(self, task_id: str, reason: str) -> None:
        """A message about this task was given up by the queue: say so on the task."""

        async def attempt() -> None:
            record, etag = await self.load(task_id)
            if record.status in TASK_OVER:
                return
            record.epoch += 1  # whoever holds it is overtaken
            partition = f"tasks/{record.id}"
            etag = (await self._store.documents.commit(partition, [Put("task", record.json_body(), etag)]))["task"]
            await _tell_subject(self._plans.get(record.plan), record, reason)
            record.status, record.error = "needs_attention", reason
            put = Put("task", record.json_body(), etag)
            await self._store.commit(Commit(partition, [put], [_event("task.failed", record)]))

        await retry_stale(attempt)
        await self._store.settle(f"task/{task_id}")

    async def _reschedule(self, record: TaskRecord, etag: str, delay: float) -> None:
        await self._store.commit(_reschedule(record, etag, delay, self._store, self._lease))


class _Holder:
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
                result = await planned.run(_context(self._record, self._report))
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
        await _tell_subject(self._plan, self._record, self._record.error)
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
        if step is None or _just_told(self._record, self._store.clock.now()):
            return
        step.progress, step.note = progress, note
        await self._write("task.progress")

    def _planned(self, step: Step) -> PlannedStep:
        return next(planned for planned in self._plan.steps if planned.name == step.name)

    async def _write(self, event: str, mere: bool = False) -> None:
        """Commit the record with an event, renewing the lease. `mere` progress is not told again within a second."""
        async with self._writing:
            self._renew()
            events = _told(event, self._record, self._store.clock.now(), mere)
            put = Put("task", self._record.json_body(), self._etag)
            await self._commit(Commit(f"tasks/{self._record.id}", [put], events))

    async def _commit(self, change: Commit) -> None:
        try:
            self._etag = (await self._store.commit(change))["task"]
        except Stale:
            raise Overtaken from None

    async def _postpone(self, seconds: float, mere: bool = False) -> None:
        async with self._writing:
            await self._commit(_reschedule(self._record, self._etag, seconds, self._store, self._lease, mere))

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


async def _untold(progress: float | None, note: str | None) -> None:
    """Nobody watches a task that is over."""


async def _tell_subject(plan: Plan | None, record: TaskRecord, reason: str) -> None:
    """Before the task ends, so that whoever sees it failed sees its subject failed."""
    if plan is None:
        return
    try:
        await plan.failed(_context(record, _untold), reason)
    except NotFound as error:
        log.warning("task.subject_gone", task_id=record.id, reason=error.detail)


def _context(record: TaskRecord, report: Callable[[float | None, str | None], Awaitable[None]]) -> StepContext:
    return StepContext(record.id, record.subject, record.team_id, record.owner_id, dict(record.state), report)


def _reschedule(record: TaskRecord, etag: str, delay: float, store: Store, lease: float, mere: bool = False) -> Commit:
    now = store.clock.now()
    record.epoch += 1
    record.updated_at = iso(now)
    record.check_at = iso(now + timedelta(seconds=delay + lease))
    events = _told("task.progress", record, now, mere)
    return Commit(
        f"tasks/{record.id}",
        [Put("task", record.json_body(), etag)],
        events,
        [Message(QUEUE, record.message(), delay)],
        watch=[record.reference],
    )


def _reset(step: Step) -> None:
    step.status, step.error, step.attempts, step.progress, step.note = "pending", None, 0, None, None
    step.started_at = step.finished_at = None


def _told(kind: str, record: TaskRecord, now: datetime, mere: bool) -> list[NewEvent]:
    if mere and _just_told(record, now):
        return []
    record.told_at = iso(now)
    return [_event(kind, record)]


def _just_told(record: TaskRecord, now: datetime) -> bool:
    return record.told_at is not None and now - parse(record.told_at) < timedelta(seconds=1)


def _event(kind: str, record: TaskRecord) -> NewEvent:
    return NewEvent(kind, f"task/{record.id}", TaskData(task=record.task()), record.groups)
