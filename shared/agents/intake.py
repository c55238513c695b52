"""From a signed webhook to a run: verified, deduplicated, routed, once per move."""

from collections.abc import Mapping
from typing import Any

import orjson

from shared.agents.changes import RunChanges
from shared.agents.models import AgentRecord, WebhookAnswer
from shared.agents.repository import AgentRepository
from shared.core import ids
from shared.core.access import Access
from shared.core.boards import BoardRepository
from shared.core.errors import BadRequest, Exists, NotFound, Unauthenticated
from shared.core.events import CardEvent, parse
from shared.core.log import Log
from shared.core.ports import Secrets, WebhookSigner
from shared.core.resources import RUN_OVER
from shared.core.store import Store, retry_stale

log = Log(__name__)

_NOT_OURS = "Only moves of cards on this agent's board start runs."


class WebhookIntake:
    def __init__(
        self,
        store: Store,
        agents: AgentRepository,
        boards: BoardRepository,
        changes: RunChanges,
        secrets: Secrets,
        signer: WebhookSigner,
        access: Access,
    ) -> None:
        self._store, self._agents, self._boards, self._changes = store, agents, boards, changes
        self._secrets, self._signer, self._access = secrets, signer, access

    async def receive(self, agent_id: str, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        """Unauthenticated for a bad signature; an event that starts nothing is answered with the reason."""
        try:
            agent = await self._agents.agent(agent_id)
        except NotFound:
            raise Unauthenticated("The signature does not fit any agent here.") from None
        secret = await self._secrets.get(agent.secret_name)
        if secret is None:
            raise Unauthenticated("The signature does not fit any agent here.")
        self._signer.verify(secret, headers, body)
        event = _parsed(body)
        if not isinstance(event, CardEvent) or event.type != "card.moved":
            return WebhookAnswer(run_id=None, reason=_NOT_OURS)
        return await self.start(agent, event)

    async def start(self, agent: AgentRecord, event: CardEvent, failure: str | None = None) -> WebhookAnswer:
        """A run for this move. The same event gives the same run, however often it comes."""
        if event.data.board_id != agent.board_id or not event.data.card.id.startswith(f"card_{agent.scope}_"):
            return WebhookAnswer(run_id=None, reason=_NOT_OURS)
        run_id = ids.scoped("run", agent.scope, ids.digest(event.id)[:20])
        return await retry_stale(lambda: self._start(run_id, agent, event, failure))

    async def _start(self, run_id: str, agent: AgentRecord, event: CardEvent, failure: str | None) -> WebhookAnswer:
        if await self._boards.has_run(run_id):
            return WebhookAnswer(run_id=run_id)
        board, _ = await self._boards.board(agent.scope)
        try:
            card, etag = await self._boards.card(event.data.card.id)
        except NotFound:
            return WebhookAnswer(run_id=None, reason="The card was deleted.")
        starting = {column.id for column in board.columns if column.kind == "start"}
        if event.data.card.column_id not in starting:
            return WebhookAnswer(run_id=None, reason="The card's column does not start agents.")
        if card.column_id not in starting:
            return WebhookAnswer(run_id=None, reason="The card was moved on before its agent started.")
        if await self._access.is_deleting(board.team_id):
            return WebhookAnswer(run_id=None, reason="The team is being deleted.")
        if card.run is not None and card.run.status not in RUN_OVER:
            return WebhookAnswer(run_id=None, reason="An agent is already working on this card.")
        loaded = await self._changes.new(run_id, board, card, etag, event.data.by.name)
        try:
            if failure is None:
                await self._changes.save(loaded, "agent.queued", delay=0)
            else:
                run = loaded.run
                run.status, run.reason, run.finished_at = "failed", failure, run.created_at
                await self._changes.save(loaded, "agent.failed", delay=0)
        except Exists:
            log.info("run.duplicate", run_id=run_id)
        return WebhookAnswer(run_id=run_id)

    async def undelivered(self, event: dict[str, Any], reason: str) -> None:
        """The webhook never arrived: a run that failed for this reason, which a person can retry."""
        moved = parse({**event, "sequence": 0})
        if not isinstance(moved, CardEvent):
            return None
        try:
            board, _ = await self._boards.board(ids.board_scope(moved.data.board_id))
            agent = await self._agents.agent(board.agent.agent_id) if board.agent else None
        except NotFound as error:
            return log.info("run.undelivered_to_nobody", event_id=moved.id, reason=error.detail)
        if agent is not None:
            await self.start(agent, moved, reason)
        return None


def _parsed(body: bytes) -> Any:
    try:
        return parse({"sequence": 0, **orjson.loads(body)})
    except (orjson.JSONDecodeError, TypeError, ValueError):
        raise BadRequest("The body is not an event of this platform.") from None
