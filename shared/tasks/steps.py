"""Steps of a deletion that concern tasks: the creation of what is deleted is ended first, and forgotten last."""

import contextlib

from shared.core.errors import NotFound, Stale
from shared.core.partitions import drop
from shared.core.ports import Json, Put
from shared.core.resources import TASK_OVER
from shared.core.store import Commit, Store
from shared.tasks.changes import cancelled
from shared.tasks.models import Later, StepContext, TaskRecord
from shared.tasks.runner import LEASE_SECONDS, load

CREATION = "creation"
"""Where a deletion finds in its state the task that created its subject."""
_LOOK_SECONDS = 1


class TaskSteps:
    def __init__(self, store: Store, lease: float = LEASE_SECONDS) -> None:
        self._store, self._lease = store, lease

    async def end_creation(self, ctx: StepContext) -> Json | Later:
        """One that is under way is cancelled, so that nothing is made any more; Later until it is over.

        One that is over is written once more: a retry that saw it before the team was marked finds it changed, looks
        again, and is refused.
        """
        try:
            record, etag = await load(self._store, ctx.state[CREATION])
        except NotFound:  # its commit is on its way
            return Later(_LOOK_SECONDS)
        if record.status != "rolling_back":
            with contextlib.suppress(Stale):  # it has just moved on: next time
                if record.status in TASK_OVER:
                    await self._store.commit(_closed(record, etag))
                    return {}
                reason = f"The {ctx.subject.kind} is being deleted."
                await self._store.commit(cancelled(record, etag, reason, self._store, self._lease))
        return Later(_LOOK_SECONDS, note="Undoing its creation")

    async def forget_creation(self, ctx: StepContext) -> None:
        task_id = ctx.state[CREATION]
        await self._store.events.drop(f"task/{task_id}")
        await drop(self._store.documents, f"tasks/{task_id}")
        await self._store.settle(f"task/{task_id}")


def _closed(record: TaskRecord, etag: str) -> Commit:
    """As it was, with another ETag."""
    record.epoch += 1
    return Commit(f"tasks/{record.id}", [Put("task", record.json_body(), etag)])
