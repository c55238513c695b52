"""Tasks as their owners see them."""

import contextlib

from shared.core.access import Access, Principal
from shared.core.errors import NotFound, Unavailable
from shared.core.events import EventPage, parse
from shared.core.permissions import Action
from shared.core.resources import Task
from shared.core.store import Store
from shared.tasks.models import TaskRecord
from shared.tasks.promised import promised
from shared.tasks.runner import Runner


class TaskService:
    def __init__(self, store: Store, access: Access, runner: Runner) -> None:
        self._store, self._access, self._runner = store, access, runner

    async def get(self, principal: Principal, task_id: str) -> Task:
        return await self._shown(await self._allowed(principal, task_id, Action.READ))

    async def mine(self, principal: Principal, task_ids: list[str]) -> list[Task]:
        """Those of the given tasks that the caller started, newest first."""
        found: list[Task] = []
        for task_id in task_ids:
            try:
                record, _ = await self._found(task_id)
            except NotFound:
                continue  # its record is gone; its team is there
            if record.owner_id == principal.user_id:
                found.append(await self._shown(record))
        return sorted(found, key=lambda task: task.created_at, reverse=True)

    async def events(self, principal: Principal, task_id: str, after: int, limit: int) -> EventPage:
        await self._allowed(principal, task_id, Action.READ)
        subject = f"task/{task_id}"
        items = [parse(event) for event in await self._store.events.read(subject, after, limit)]
        return EventPage(items=items, last=await self._store.events.last(subject))

    async def retry(self, principal: Principal, task_id: str) -> Task:
        await self._allowed(principal, task_id, Action.MANAGE_TEAM)
        return await self._shown(await self._runner.retry(task_id))

    async def cancel(self, principal: Principal, task_id: str) -> Task:
        """End it now and undo what it made. What was kept for people is removed by those only who may delete it."""
        record = await self._allowed(principal, task_id, Action.MANAGE_TEAM)
        if _holds_work(record) and not self._runner.is_deletion(record):
            await self._access.require_deletion(principal, record.team_id)
        return await self._shown(await self._runner.cancel(task_id, principal.name))

    async def _allowed(self, principal: Principal, task_id: str, action: Action) -> TaskRecord:
        """For whoever may do this in the team, and for those who started it while they are in the team.

        Whoever started a deletion sees it to its end: by then nobody is in the team any more. Until a task is made, its
        team may be still to come: whoever started it sees it, and Unavailable keeps it from being changed.
        """
        record, made = await self._found(task_id)
        deletion = self._runner.is_deletion(record)
        mine = record.owner_id == principal.user_id
        if not (mine and (deletion or not made or await self._access.role(principal.user_id, record.team_id))):
            if deletion and action != Action.READ:
                await self._access.require_deletion(principal, record.team_id)
            else:
                await self._access.require(principal, record.team_id, action)
        if not made and action != Action.READ:
            raise Unavailable("This task is about to begin. Try again in a moment.", retry_after=1)
        return record

    async def _found(self, task_id: str) -> tuple[TaskRecord, bool]:
        """The task, and whether it is made already."""
        with contextlib.suppress(NotFound):
            return (await self._runner.load(task_id))[0], True
        record = await promised(self._store, task_id)
        if record is not None:
            return record, False
        return (await self._runner.load(task_id))[0], True  # made in between, or never

    async def _shown(self, record: TaskRecord) -> Task:
        return record.task(await self._store.events.last(f"task/{record.id}"))


def _holds_work(record: TaskRecord) -> bool:
    """Whether people may have used what it made: it has stopped, or was retried since."""
    return record.kept or record.status in ("failed", "needs_attention")
