"""Runs tasks: load, guard, act, commit, publish, next.

The lease is the task's own `check_at`: while it lies ahead, the holder works; once it has passed, the watchdog raises
the epoch and sends a message. A holder that was overtaken finds its etag stale and stops.
"""

import contextlib
from collections.abc import Collection, Mapping
from datetime import timedelta

from shared.core import ids
from shared.core.clock import is_future, iso, parse
from shared.core.errors import Conflict, Invalid, NotFound, Stale
from shared.core.log import Log
from shared.core.messages import read
from shared.core.ports import Json, Put
from shared.core.resources import TASK_OVER, Step, Subject, TaskStatus
from shared.core.store import Commit, Message, Store, retry_stale
from shared.tasks.changes import (
    ENDS,
    QUEUE,
    cancelled,
    context,
    rescheduled,
    reset,
    task_event,
    tell_subject,
    undo,
    untold,
)
from shared.tasks.holder import Holder
from shared.tasks.lease import Overtaken
from shared.tasks.models import Plan, TaskMessage, TaskRecord

log = Log(__name__)

LEASE_SECONDS = 30.0
RETRIES = "retries"
"""Where steps find in their state how often the task was retried."""

_RETRIED: frozenset[TaskStatus] = frozenset({"failed", "needs_attention", "rolled_back", "cancelled"})
_UNDONE: frozenset[TaskStatus] = frozenset({"rolled_back", "cancelled"})
_UNDOING: frozenset[TaskStatus] = frozenset({"rolling_back", "rolled_back", "cancelled"})
_NOT_RETRIED: dict[TaskStatus, str] = {
    "pending": "This task is about to begin.",
    "running": "This task is under way.",
    "succeeded": "This task has succeeded.",
    "rolling_back": "This task is being undone.",
}


class Runner:
    """The task engine. It knows nothing of what steps do."""

    def __init__(self, store: Store, plans: Mapping[str, Plan], lease_seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._plans = plans
        self._lease = lease_seconds

    # -- starting and looking -------------------------------------------------------------------

    def creation(
        self,
        task_id: str,
        plan_name: str,
        subject: Subject,
        team_id: str,
        owner_id: str,
        state: Json,
        leave_out: Collection[str] = (),
    ) -> Commit:
        """The commit that starts a task, to be made to follow the change that wants it.

        `leave_out` names steps of the plan that are not wanted.
        """
        plan = self._plans[plan_name]
        now = self._store.clock.now()
        record = TaskRecord(
            id=task_id,
            plan=plan_name,
            title=f"{plan.title} {subject.name}",
            subject=subject,
            team_id=team_id,
            owner_id=owner_id,
            steps=[
                Step(name=step.name, title=step.title, progress=None)
                for step in plan.steps
                if step.name not in leave_out
            ],
            given=state,
            state=state,
            check_at=iso(now + timedelta(seconds=self._lease)),
            created_at=iso(now),
            updated_at=iso(now),
        )
        return Commit(
            partition=f"tasks/{task_id}",
            ops=[Put("task", record.json_body())],
            events=[task_event("task.created", record)],
            messages=[Message(QUEUE, record.message())],
            watch=[record.reference],
        )

    async def load(self, task_id: str) -> tuple[TaskRecord, str]:
        return await load(self._store, task_id)

    def is_deletion(self, record: TaskRecord) -> bool:
        """Whether it is one of those that cannot be undone."""
        plan = self._plans.get(record.plan)
        return plan is not None and not plan.undoable

    async def retry(self, task_id: str) -> TaskRecord:
        """Go on with the step that failed, be it done or undone; a task that was undone begins anew."""

        async def attempt() -> TaskRecord:
            record, etag = await self.load(task_id)
            if record.status not in _RETRIED:
                raise Conflict(f"{_NOT_RETRIED[record.status]} Nothing is there to be retried.")
            plan = self._plan(record)
            forward = _take_up(record)
            if forward and plan.renew is not None:
                await plan.renew(context(record, untold))
            await self._commit(record, rescheduled(record, etag, 0, self._store, self._lease))
            return record

        return await retry_stale(attempt)

    async def cancel(self, task_id: str, by: str) -> TaskRecord:
        """End a task now and undo what it made; also one that failed. Repeating it is fine."""

        async def attempt() -> TaskRecord:
            record, etag = await self.load(task_id)
            if record.status in _UNDOING:
                return record
            if not self._plan(record).undoable:
                raise Conflict("A deletion cannot be cancelled: part of it is gone already. Let it end, or retry it.")
            if record.status == "succeeded":
                raise Conflict(f"It is done already. Delete the {record.subject.kind} to undo it.")
            await self._commit(record, cancelled(record, etag, f"Cancelled by {by}.", self._store, self._lease))
            return record

        return await retry_stale(attempt)

    # -- running --------------------------------------------------------------------------------

    async def handle(self, message: Json) -> None:
        """A queue message: duplicates, late and reordered ones are no-ops."""
        asked = read(TaskMessage, message)
        try:
            record, etag = await self.load(asked.task_id)
        except NotFound:
            log.warning("task.unknown", task_id=asked.task_id)
            return
        if record.status not in TASK_OVER:
            if record.epoch != asked.epoch:
                return
            holder = Holder(self._store, self._plan(record), record, etag, self._lease)
            try:
                await holder.run_on()
            except Overtaken:
                return
            record = holder.record
        if record.status in TASK_OVER:
            await self._settle(record.reference)

    async def watch(self) -> int:
        """Resume every task whose holder is gone; returns how many. Called by a timer."""
        return await self._store.watch("task", self._watch_one)

    async def _watch_one(self, reference: str) -> bool:
        try:
            record, etag = await self.load(reference.split("/", 1)[1])
        except NotFound:  # its commit is still to come, or never will
            await self._store.settle_unborn(reference)
            return False
        if record.status in TASK_OVER:
            await self._settle(reference)
        elif parse(record.check_at) < self._store.clock.now() or is_future(record.updated_at, self._store.clock):
            with contextlib.suppress(Stale):
                await self._store.commit(rescheduled(record, etag, 0, self._store, self._lease))
                log.warning("task.resumed", task_id=record.id, epoch=record.epoch)
                return True
        return False

    async def abandon(self, task_id: str, epoch: int, reason: str) -> None:
        """The queue gave up on the task's message of this epoch: say so, unless the task has gone on without it."""

        async def attempt() -> None:
            record, etag = await self.load(task_id)
            if record.status in TASK_OVER or record.epoch != epoch:
                return
            record.epoch += 1  # nobody begins on it now
            partition = f"tasks/{record.id}"
            record.held = False
            etag = (await self._store.documents.commit(partition, [Put("task", record.json_body(), etag)]))["task"]
            record.status, record.error = "needs_attention", f"{record.cause} {reason}" if record.cause else reason
            await tell_subject(self._plans.get(record.plan), record)
            put = Put("task", record.json_body(), etag)
            await self._store.commit(Commit(partition, [put], [task_event(ENDS[record.status], record)]))

        await retry_stale(attempt)
        await self._settle(f"task/{task_id}")

    async def _settle(self, reference: str) -> None:
        """Whoever retried or cancelled the task a moment ago may have filed it already: then it stays filed."""
        await self._store.settle(reference)
        with contextlib.suppress(NotFound):
            record, _ = await self.load(reference.split("/", 1)[1])
            if record.status not in TASK_OVER:
                await self._store.file_open(reference)

    def _plan(self, record: TaskRecord) -> Plan:
        plan = self._plans.get(record.plan)
        if plan is None:
            raise Invalid(f"There is no plan {record.plan!r} any more.")
        return plan

    async def _commit(self, record: TaskRecord, change: Commit) -> None:
        """Filed once more: whoever ended the task a moment ago may settle it only now."""
        await self._store.commit(change)
        await self._store.file_open(record.reference)


async def load(store: Store, task_id: str) -> tuple[TaskRecord, str]:
    """The record and its etag."""
    doc = await store.documents.get(f"tasks/{task_id}", "task") if ids.is_plain(task_id) else None
    if doc is None:
        raise NotFound(f"There is no task {task_id!r}.")
    return TaskRecord.model_validate(doc.body), doc.etag


def _take_up(record: TaskRecord) -> bool:
    """Set a task up to be gone on with; False when its steps are still to be undone."""
    record.kept = record.status not in _UNDONE
    if record.status in _UNDONE:
        for step in record.steps:
            reset(step)
        record.undo_to, record.cause = None, None
        record.state = record.given | {RETRIES: record.state.get(RETRIES, 0)}
    if record.undo_to and record.cause:
        undo(record, record.undo_to, record.cause)
        return False
    step = record.next_step()
    if step is not None:
        reset(step)
    record.status, record.error = "pending", None
    record.state[RETRIES] = record.state.get(RETRIES, 0) + 1
    return True
