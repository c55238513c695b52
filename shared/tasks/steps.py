"""Steps of a deletion that concern tasks: the creation of what is deleted is ended first, and forgotten last."""

import contextlib

from shared.core.errors import NotFound, Stale
from shared.core.partitions import drop
from shared.core.ports import Json
from shared.core.resources import TASK_OVER
from shared.core.store import Store
from shared.tasks.changes import cancelled
from shared.tasks.models import Later, StepContext
from shared.tasks.runner import LEASE_SECONDS, load

CREATION = "creation"
"""Where a deletion finds in its state the task that created its subject."""
_LOOK_SECONDS = 1


class TaskSteps:
    def __init__(self, store: Store, lease: float = LEASE_SECONDS) -> None:
        self._store, self._lease = store, lease

    async def end_creation(self, ctx: StepContext) -> Json | Later:
        """One that is under way is cancelled, so that nothing is made any more; Later until it is over."""
        try:
            record, etag = await load(self._store, ctx.state[CREATION])
        except NotFound:  # its commit is on its way
            return Later(_LOOK_SECONDS)
        if record.status in TASK_OVER:
            return {}
        if record.status != "rolling_back":
            reason = f"The {ctx.subject.kind} is being deleted."
            with contextlib.suppress(Stale):  # it has just moved on: next time
                await self._store.commit(cancelled(record, etag, reason, self._store, self._lease))
        return Later(_LOOK_SECONDS, note="Undoing its creation")

    async def forget_creation(self, ctx: StepContext) -> None:
        task_id = ctx.state[CREATION]
        await self._store.events.drop(f"task/{task_id}")
        await drop(self._store.documents, f"tasks/{task_id}")
        await self._store.settle(f"task/{task_id}")
