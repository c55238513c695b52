"""The step that makes a board's agent, with its own webhook secret, and what undoes it."""

import base64
import contextlib
import secrets

from shared.agents.lifecycle import RunLifecycle
from shared.agents.models import AgentRecord
from shared.agents.repository import AgentRepository
from shared.core import deliveries, ids
from shared.core.board_events import board_updated
from shared.core.boards import AgentRef, BoardRepository, board_partition
from shared.core.clock import iso
from shared.core.errors import NotFound
from shared.core.policy import AgentPolicy
from shared.core.ports import Json, Put, Secrets
from shared.core.resources import RUN_OVER
from shared.core.store import Commit, Store, retry_stale
from shared.tasks.models import StepContext


class AgentSteps:
    def __init__(
        self,
        store: Store,
        agents: AgentRepository,
        boards: BoardRepository,
        lifecycle: RunLifecycle,
        secret_store: Secrets,
        policy: AgentPolicy,
        api_url: str,
    ) -> None:
        self._store, self._agents, self._boards, self._secrets = store, agents, boards, secret_store
        self._lifecycle = lifecycle
        self._policy, self._api_url = policy, api_url

    async def provision_agent(self, ctx: StepContext) -> Json:
        scope = ctx.subject.id
        agent_id, secret_name = _agent_id(scope), deliveries.secret_name(scope)
        if await self._secrets.get(secret_name) is None:
            await self._secrets.put(secret_name, "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
        agent = AgentRecord(
            id=agent_id,
            team_id=ctx.team_id,
            scope=scope,
            board_id=ids.board_id(scope),
            name="Agent",
            secret_name=secret_name,
            key_hash=ctx.state["llm_key"],
            created_at=iso(self._store.clock.now()),
        )
        await self._agents.save(agent)
        url = f"{self._api_url}/api/agents/{agent_id}/webhook"
        await retry_stale(
            lambda: self._attach(scope, AgentRef(agent_id=agent_id, webhook_url=url, secret_name=secret_name))
        )
        return {"agent_id": agent_id}

    async def remove_agent(self, ctx: StepContext) -> None:
        """Its board starts no runs any more, and nobody can sign for it."""
        scope = ctx.subject.id
        with contextlib.suppress(NotFound):  # the board was never made, or is gone
            await retry_stale(lambda: self._attach(scope, None))
        await self._agents.remove(_agent_id(scope))
        await self._secrets.delete(deliveries.secret_name(scope))

    async def stop_runs(self, ctx: StepContext) -> Json:
        for run in await self._boards.runs(ctx.subject.id):
            if run.status not in RUN_OVER:
                with contextlib.suppress(NotFound):
                    await self._lifecycle.cancel(run.id, f"The {ctx.subject.kind} is being deleted.")
        return {}

    async def _attach(self, scope: str, agent: AgentRef | None) -> None:
        board, etag = await self._boards.board(scope)
        if board.agent == agent:
            return
        board.agent = agent
        put = Put("board", board.json_body(), etag)
        await self._store.commit(Commit(board_partition(scope), [put], [board_updated(board, self._policy)]))


def _agent_id(scope: str) -> str:
    return ids.scoped("agent", scope, "default")
