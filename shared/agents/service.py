"""Runs as people see them: look, stop, retry, read the diff."""

from shared.agents.changes import LoadedRun, RunChanges
from shared.agents.lifecycle import RunLifecycle
from shared.agents.models import RunDiff, StoppedRuns
from shared.core import ids
from shared.core.access import Access, Principal
from shared.core.boards import BoardRepository
from shared.core.errors import Conflict, NotFound
from shared.core.events import EventPage, parse
from shared.core.permissions import Action
from shared.core.policy import AgentPolicy
from shared.core.ports import Blobs
from shared.core.resources import RUN_OVER, Run
from shared.core.store import Store, retry_stale
from shared.core.teams import TeamRecord, team_partition


class RunService:
    def __init__(
        self,
        store: Store,
        access: Access,
        boards: BoardRepository,
        changes: RunChanges,
        lifecycle: RunLifecycle,
        policy: AgentPolicy,
        blobs: Blobs,
    ) -> None:
        self._store, self._access, self._boards = store, access, boards
        self._changes, self._lifecycle, self._policy, self._blobs = changes, lifecycle, policy, blobs

    async def get(self, principal: Principal, run_id: str) -> Run:
        return await self._changes.shown((await self._allowed(principal, run_id, Action.READ)).run)

    async def of_card(self, principal: Principal, card_id: str) -> list[Run]:
        """Newest first."""
        scope = ids.scope_of(card_id, "card")
        board, _ = await self._boards.board(scope)
        await self._access.require(principal, board.team_id, Action.READ)
        runs = [run for run in await self._boards.runs(scope) if run.card_id == card_id]
        return [await self._changes.shown(run) for run in reversed(runs)]

    async def events(self, principal: Principal, run_id: str, after: int, limit: int) -> EventPage:
        await self._allowed(principal, run_id, Action.READ)
        subject = f"run/{run_id}"
        items = [parse(event) for event in await self._store.events.read(subject, after, limit)]
        return EventPage(items=items, last=await self._store.events.last(subject))

    async def diff(self, principal: Principal, run_id: str) -> RunDiff:
        await self._allowed(principal, run_id, Action.READ)
        kept = await self._blobs.get(f"runs/{run_id}/diff.json")
        if kept is None:
            raise NotFound("This run has no diff: it did not push a change.")
        return RunDiff.model_validate_json(kept)

    async def stop(self, principal: Principal, run_id: str) -> Run:
        await self._allowed(principal, run_id, Action.STOP_AGENT)
        return await self._changes.shown(await self._lifecycle.cancel(run_id, f"Stopped by {principal.name}."))

    async def stop_all(self, principal: Principal, team_id: str) -> StoppedRuns:
        """One click stops every agent of a team."""
        await self._access.require(principal, team_id, Action.STOP_AGENT)
        doc = await self._store.documents.get(team_partition(team_id), "team")
        if doc is None:
            raise NotFound("There is no such team.")
        scope = TeamRecord.model_validate(doc.body).scope
        active = [run for run in await self._boards.runs(scope) if run.status not in RUN_OVER]
        for run in active:
            await self._lifecycle.cancel(run.id, f"Stopped by {principal.name}, with every agent of the team.")
        return StoppedRuns(stopped=len(active))

    async def retry(self, principal: Principal, run_id: str) -> Run:
        """A new run for the same card, on the same branch."""
        return await retry_stale(lambda: self._retry(principal, run_id))

    async def _retry(self, principal: Principal, run_id: str) -> Run:
        old = await self._allowed(principal, run_id, Action.START_AGENT)
        board, card = old.board, old.card
        if card is None:
            raise Conflict("The card of this run was deleted.")
        if old.run.status not in RUN_OVER or (card.run is not None and card.run.status not in RUN_OVER):
            raise Conflict("An agent is still working on this card. Stop its run first, or wait.")
        refusal = self._policy.refusal(board)
        if refusal is not None:
            raise Conflict(refusal)
        if not any(column.id == card.column_id and column.kind == "start" for column in board.columns):
            raise Conflict("The card has been moved on. Move it to the column that starts an agent instead.")
        new_id = ids.scoped("run", ids.scope_of(card.id, "card"))
        loaded = await self._changes.new(new_id, board, card, old.card_etag, principal.name)
        await self._changes.save(loaded, "agent.queued", delay=0)
        return await self._changes.shown(loaded.run)

    async def _allowed(self, principal: Principal, run_id: str, action: Action) -> LoadedRun:
        loaded = await self._changes.load(run_id)
        await self._access.require(principal, loaded.board.team_id, action)
        return loaded
