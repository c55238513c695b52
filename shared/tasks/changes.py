"""The commits and events of a task, which its runner and its holder both make."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from shared.core.clock import iso, parse
from shared.core.errors import NotFound
from shared.core.events import NewEvent, TaskData
from shared.core.log import Log
from shared.core.ports import Put
from shared.core.store import Commit, Message, Store
from shared.tasks.models import Plan, StepContext, TaskRecord

log = Log(__name__)

QUEUE = "provisioning"


async def _untold(progress: float | None, note: str | None) -> None:
    """Nobody watches a task that is over."""


async def tell_subject(plan: Plan | None, record: TaskRecord, reason: str) -> None:
    """Before the task ends, so that whoever sees it failed sees its subject failed."""
    if plan is None:
        return
    try:
        await plan.failed(context(record, _untold), reason)
    except NotFound as error:
        log.warning("task.subject_gone", task_id=record.id, reason=error.detail)


def context(record: TaskRecord, report: Callable[[float | None, str | None], Awaitable[None]]) -> StepContext:
    return StepContext(record.id, record.subject, record.team_id, record.owner_id, dict(record.state), report)


def rescheduled(record: TaskRecord, etag: str, delay: float, store: Store, lease: float, mere: bool = False) -> Commit:
    now = store.clock.now()
    record.epoch += 1
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


def told(kind: str, record: TaskRecord, now: datetime, mere: bool) -> list[NewEvent]:
    if mere and just_told(record, now):
        return []
    record.told_at = iso(now)
    return [task_event(kind, record)]


def just_told(record: TaskRecord, now: datetime) -> bool:
    return record.told_at is not None and abs(now - parse(record.told_at)) < timedelta(seconds=1)


def task_event(kind: str, record: TaskRecord) -> NewEvent:
    return NewEvent(kind, f"task/{record.id}", TaskData(task=record.task()), record.groups)
