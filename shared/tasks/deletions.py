"""Begins the deletion of a team, alone or with its workspace."""

import contextlib
from collections.abc import Collection

from shared.core import ids
from shared.core.access import Access, Principal
from shared.core.errors import Conflict, NotFound
from shared.core.ports import Put
from shared.core.resources import StartedTask, Subject
from shared.core.store import Commit, Store, retry_stale
from shared.core.teams import TeamRecord, team_partition
from shared.tasks.runner import Runner
from shared.tasks.steps import CREATION

_STOPPED = ("failed", "needs_attention")


class Deletions:
    def __init__(self, store: Store, access: Access, runner: Runner) -> None:
        self._store, self._access, self._runner = store, access, runner

    async def begin(
        self, principal: Principal, team_id: str, subject: Subject, leave_out: Collection[str] = ()
    ) -> StartedTask:
        """One commit marks the team as `deleting` and starts the task. Repeating it takes up one that stopped.

        `leave_out` names steps of the plan that are not wanted.
        """
        await self._access.require_deletion(principal, team_id)
        task_id = await retry_stale(lambda: self._begin(principal, team_id, subject, leave_out))
        return StartedTask(task_id=task_id)

    async def _begin(self, principal: Principal, team_id: str, subject: Subject, leave_out: Collection[str]) -> str:
        doc = await self._store.documents.get(team_partition(team_id), "team")
        if doc is None:
            raise NotFound("There is no such team.")
        team = TeamRecord.model_validate(doc.body)
        if team.status == "deleting":
            await self._take_up(team.task_id)
            return team.task_id
        task_id, given = ids.sortable(), {CREATION: team.task_id}
        plan = f"{subject.kind}.delete"
        task = self._runner.creation(task_id, plan, subject, team_id, principal.user_id, given, leave_out)
        team.status, team.task_id = "deleting", task_id
        await self._store.commit(
            Commit(team_partition(team_id), [Put("team", team.json_body(), doc.etag)], follow=[task])
        )
        return task_id

    async def _take_up(self, task_id: str) -> None:
        with contextlib.suppress(NotFound, Conflict):  # its commit is on its way; somebody else has taken it up
            record, _ = await self._runner.load(task_id)
            if record.status in _STOPPED:
                await self._runner.retry(task_id)
