"""Runs tasks: load, guard, act, commit, publish, next.

The lease is the task's own `check_at`: while it lies ahead, the holder works; once it has passed, the watchdog raises
the epoch and sends a message. A holder that was overtaken finds its etag stale and stops.
"""

import contextlib
from collections.abc import Mapping
from datetime import timedelta

from shared.core import ids
from shared.core.clock import is_future, iso, parse
from shared.core.errors import Conflict, NotFound, Stale
from shared.core.log import Log
from shared.core.messages import read
from shared.core.ports import Json, Put
from shared.core.resources import TASK_OVER, Step, Subject
from shared.core.store import Commit, Message, Store, retry_stale
from shared.tasks.changes import QUEUE, rescheduled, task_event, tell_subject
from shared.tasks.holder import Holder, Overtaken
from shared.tasks.models import Plan, TaskMessage, TaskRecord

log = Log(__name__)

LEASE_SECONDS = 30.0


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
            events=[task_event("task.created", record)],
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
        asked = read(TaskMessage, message)
        try:
            record, etag = await self.load(asked.task_id)
        except NotFound:
            log.warning("task.unknown", task_id=asked.task_id)
            return
        if record.status not in TASK_OVER:
            if record.epoch != asked.epoch:
                return
            try:
                await Holder(self._store, self._plans[record.plan], record, etag, self._lease).run_on()
            except Overtaken:
                return
        if record.status in TASK_OVER:
            await self._store.settle(record.reference)

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
            await self._store.settle(reference)
        elif parse(record.check_at) < self._store.clock.now() or is_future(record.updated_at, self._store.clock):
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
            await tell_subject(self._plans.get(record.plan), record, reason)
            record.status, record.error = "needs_attention", reason
            put = Put("task", record.json_body(), etag)
            await self._store.commit(Commit(partition, [put], [task_event("task.failed", record)]))

        await retry_stale(attempt)
        await self._store.settle(f"task/{task_id}")

    async def _reschedule(self, record: TaskRecord, etag: str, delay: float) -> None:
        await self._store.commit(rescheduled(record, etag, delay, self._store, self._lease))


def _reset(step: Step) -> None:
    step.status, step.error, step.attempts, step.progress, step.note = "pending", None, 0, None, None
    step.started_at = step.finished_at = None
