"""The commits and events of a task, which its runner and its holder both make."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from shared.core.clock import iso, parse
from shared.core.errors import NotFound
from shared.core.events import NewEvent, TaskData
from shared.core.log import Log
from shared.core.ports import Put
from shared.core.resources import Step, TaskStatus
from shared.core.store import Commit, Message, Store
from shared.tasks.models import Plan, StepContext, TaskRecord, Undone

log = Log(__name__)

QUEUE = "provisioning"

ENDS: dict[TaskStatus, str] = {
    "succeeded": "task.completed",
    "failed": "task.failed",
    "needs_attention": "task.failed",
    "rolled_back": "task.rolled_back",
    "cancelled": "task.cancelled",
}
"""The event of each status that a task can end in."""


async def untold(progress: float | None, note: str | None) -> None:
    """Nobody watches a task that is not under way."""


async def tell_subject(plan: Plan | None, record: TaskRecord) -> None:
    """Before the task ends, so that whoever sees its end sees its subject's."""
    if plan is None:
        return
    try:
        await plan.ended(context(record, untold), record.status, record.error or "")
    except NotFound as error:
        log.warning("task.subject_gone", task_id=record.id, reason=error.detail)


def context(record: TaskRecord, report: Callable[[float | None, str | None], Awaitable[None]]) -> StepContext:
    return StepContext(record.id, record.subject, record.team_id, record.owner_id, dict(record.state), report)


def rescheduled(record: TaskRecord, etag: str, delay: float, store: Store, lease: float, mere: bool = False) -> Commit:
    now = store.clock.now()
    record.epoch += 1
    record.held = False
    record.updated_at = iso(now)
    record.check_at = iso(now + timedelta(seconds=delay + lease))
    events = told("task.progress", record, now, mere)
    return Commit(
        f"tasks/{record.id}",
        [Put("task", record.json_body(), etag)],
        events,
        [Message(QUEUE, record.message(), delay)],
        watch=[record.reference],
    )


def cancelled(record: TaskRecord, etag: str, reason: str, store: Store, lease: float) -> Commit:
    """From here on its steps are undone: by whoever holds the task, who finds its etag stale, else by the next one."""
    undo(record, "cancelled", reason)
    if not record.held:
        return rescheduled(record, etag, 0, store, lease)
    event = told("task.progress", record, store.clock.now(), mere=False)
    return Commit(f"tasks/{record.id}", [Put("task", record.json_body(), etag)], event)


def undo(record: TaskRecord, to: Undone, reason: str) -> None:
    """Turn a task round. A step that is to be undone has its attempts before it."""
    record.status, record.undo_to, record.cause, record.error = "rolling_back", to, reason, reason
    step = record.next_undo()
    if step is not None:
        step.attempts = 0


def reset(step: Step) -> None:
    step.status, step.error, step.attempts, step.progress, step.note = "pending", None, 0, None, None
    step.started_at = step.finished_at = None


def told(kind: str, record: TaskRecord, now: datetime, mere: bool) -> list[NewEvent]:
    if mere and just_told(record, now):
        return []
    record.told_at = iso(now)
    return [task_event(kind, record)]


def just_told(record: TaskRecord, now: datetime) -> bool:
    return record.told_at is not None and abs(now - parse(record.told_at)) < timedelta(seconds=1)


def task_event(kind: str, record: TaskRecord) -> NewEvent:
    return NewEvent(kind, f"task/{record.id}", TaskData(task=record.task()), record.groups)
