"""Begins the deletion of a team, alone or with its workspace."""

import contextlib
from collections.abc import Mapping

from shared.core import ids
from shared.core.access import Access, Principal
from shared.core.errors import Conflict, NotFound, Stale
from shared.core.ports import Put
from shared.core.resources import StartedTask, Subject
from shared.core.store import Commit, Store, retry_stale
from shared.core.teams import TeamRecord, team_partition
from shared.tasks.changes import rescheduled
from shared.tasks.models import TaskRecord
from shared.tasks.runner import LEASE_SECONDS, Runner
from shared.tasks.steps import CREATION

_STOPPED = ("failed", "needs_attention")


class Deletions:
    def __init__(self, store: Store, access: Access, runner: Runner) -> None:
        self._store, self._access, self._runner = store, access, runner

    async def begin(
        self, principal: Principal, team_id: str, subject: Subject, optional: Mapping[str, bool] | None = None
    ) -> StartedTask:
        """One commit marks the team as `deleting` and starts the task. Repeating it takes up one that stopped.

        `optional` tells of steps of the plan whether they are wanted. Such a step of a deletion under way can still be
        left out until it begins, or when it failed; Conflict for other changes of mind.
        """
        await self._access.require_deletion(principal, team_id)
        task_id = await retry_stale(lambda: self._begin(principal, team_id, subject, optional or {}))
        return StartedTask(task_id=task_id)

    async def _begin(self, principal: Principal, team_id: str, subject: Subject, optional: Mapping[str, bool]) -> str:
        doc = await self._store.documents.get(team_partition(team_id), "team")
        if doc is None:
            raise NotFound("There is no such team.")
        team = TeamRecord.model_validate(doc.body)
        if team.status == "deleting":
            await self._take_up(team.task_id, optional)
            return team.task_id
        task_id, given = ids.new_task(team_id), {CREATION: team.task_id}
        plan = f"{subject.kind}.delete"
        leave_out = [name for name, wanted in optional.items() if not wanted]
        task = self._runner.creation(task_id, plan, subject, team_id, principal.user_id, given, leave_out)
        team.status, team.task_id = "deleting", task_id
        await self._store.commit(
            Commit(team_partition(team_id), [Put("team", team.json_body(), doc.etag)], follow=[task])
        )
        return task_id

    async def _take_up(self, task_id: str, optional: Mapping[str, bool]) -> None:
        try:
            record, etag = await self._runner.load(task_id)
        except NotFound:
            raise Stale("It has just been asked to be deleted. Try again in a moment.") from None
        left_out = _leave_out(record, optional)
        if record.status in _STOPPED:
            if left_out:
                put = Put("task", record.json_body(), etag)
                await self._store.documents.commit(f"tasks/{task_id}", [put])
            with contextlib.suppress(Conflict):  # somebody else has taken it up
                await self._runner.retry(task_id)
        elif left_out:  # whoever holds it is overtaken
            await self._store.commit(rescheduled(record, etag, 0, self._store, LEASE_SECONDS))


def _leave_out(record: TaskRecord, optional: Mapping[str, bool]) -> bool:
    """Whether steps went from the record that are not wanted any more. Conflict when it is too late for a change."""
    steps = {step.name: step for step in record.steps}
    for name, wanted in optional.items():
        if wanted and name not in steps:
            raise Conflict(
                f"It is being deleted already, without the step {name}, which cannot be added. "
                "Ask for the same as before, and remove by hand what that leaves."
            )
    unwanted = [steps[name] for name, wanted in optional.items() if not wanted and name in steps]
    for step in unwanted:
        if step.status == "succeeded" or (step.status == "running" and record.status not in _STOPPED):
            raise Conflict(f"{step.title} has begun already and cannot be left out. Ask for the same as before.")
        record.steps.remove(step)
    return bool(unwanted)
