"""The commits of a run's life: a run, its card's badge and its event always change together."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.agents.models import RunMessage
from shared.core import ids
from shared.core.board_events import card_event
from shared.core.boards import (
    BoardRecord,
    BoardRepository,
    CardRecord,
    RunRecord,
    board_partition,
    card_key,
    run_key,
)
from shared.core.clock import iso, parse
from shared.core.errors import NotFound
from shared.core.events import NewEvent, RunData
from shared.core.messages import VERSION
from shared.core.ports import Op, Put
from shared.core.resources import Actor, PullRequestState, Run, RunBadge, RunLimits
from shared.core.store import Commit, Message, Store
from shared.core.teams import team_group
from shared.core.usage import run_usage

RUNS_QUEUE = "agent-runs"
UNWATCHED_SECONDS = 45
"""A run nobody has looked at for so long after it was due is taken up by the watchdog."""
_LONGEST_LOOK = 60

type RunEventType = Literal[
    "agent.queued", "agent.starting", "agent.started", "agent.completed", "agent.failed", "agent.cancelled"
]


@dataclass(slots=True)
class LoadedRun:
    """A run with its board and, unless it was deleted, its card."""

    run: RunRecord
    run_etag: str
    board: BoardRecord
    card: CardRecord | None
    card_etag: str


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """What a run gets when it is made: settings that change later leave runs under way as they are."""

    model: str
    demo_model: bool
    limits: RunLimits


class RunChanges:
    def __init__(self, store: Store, boards: BoardRepository, defaults: RunDefaults) -> None:
        self._store, self._boards, self._defaults = store, boards, defaults

    async def new(self, run_id: str, board: BoardRecord, card: CardRecord, card_etag: str, by: str) -> LoadedRun:
        """A queued run, not saved yet: the card's next attempt."""
        earlier = [run for run in await self._boards.runs(ids.scope_of(run_id, "run")) if run.card_id == card.id]
        now = iso(self._store.clock.now())
        run = RunRecord(
            id=run_id,
            card_id=card.id,
            board_id=board.id,
            team_id=board.team_id,
            status="queued",
            attempt=len(earlier) + 1,
            branch=branch_name(card),
            model=self._defaults.model,
            demo_model=self._defaults.demo_model,
            limits=self._defaults.limits,
            created_at=now,
            started_by=by,
            check_at=now,
        )
        return LoadedRun(run, "", board, card, card_etag)

    async def load(self, run_id: str) -> LoadedRun:
        run, etag = await self._boards.run(run_id)
        board, _ = await self._boards.board(ids.scope_of(run_id, "run"))
        try:
            card, card_etag = await self._boards.card(run.card_id)
        except NotFound:
            card, card_etag = None, ""
        return LoadedRun(run=run, run_etag=etag, board=board, card=card, card_etag=card_etag)

    async def shown(self, run: RunRecord) -> Run:
        """The run with what it has used so far."""
        run.usage = await run_usage(self._store.documents, run.team_id, run.id)
        return run.run(await self._store.events.last(f"run/{run.id}"))

    async def save(self, loaded: LoadedRun, kind: RunEventType | None, delay: float | None) -> None:
        """Commit run and card. With `delay`, somebody looks at the run again after so many seconds."""
        run, card = loaded.run, loaded.card
        run.epoch += 1
        now = self._store.clock.now()
        run.seconds += _followed(run, now)
        run.looked_at = iso(now)
        run.check_at = iso(now + timedelta(seconds=(delay or 0) + UNWATCHED_SECONDS))
        ops: list[Op] = [Put(run_key(run.id), run.json_body(), loaded.run_etag or None)]
        events: list[NewEvent] = []
        if kind is not None:
            events.append(await self._event(kind, run))
        if card is not None and kind is not None:
            card.revision += 1
            card.run = RunBadge(id=run.id, status=run.status, pull_request=_pull_request(card, run))
            events += await self._hand_back(loaded.board, card, run)
            ops.append(Put(card_key(card.id), card.json_body(), loaded.card_etag))
        messages = [] if delay is None else [Message(RUNS_QUEUE, run_message(run), delay)]
        partition = board_partition(ids.scope_of(run.id, "run"))
        etags = await self._store.commit(Commit(partition, ops, events, messages, watch=[run.reference]))
        loaded.run_etag = etags[run_key(run.id)]
        loaded.card_etag = etags.get(card_key(run.card_id), loaded.card_etag)

    async def _event(self, kind: RunEventType, run: RunRecord) -> NewEvent:
        data = RunData(team_id=run.team_id, board_id=run.board_id, card_id=run.card_id, run=await self.shown(run))
        return NewEvent(kind, f"run/{run.id}", data, (team_group(run.team_id),))

    async def _hand_back(self, board: BoardRecord, card: CardRecord, run: RunRecord) -> list[NewEvent]:
        """A card whose run succeeded goes to review, unless a person has moved it elsewhere."""
        if run.status != "succeeded":
            return []
        card.result = run.result
        card.updated_at = iso(self._store.clock.now())
        review = board.first("review")
        origin = card.column_id
        if review is None or not any(c.id == origin and c.kind == "start" for c in board.columns):
            return [card_event("card.updated", board, card, agent_actor(board), changes=["result"])]
        card.rank = (await self._boards.ends(ids.scope_of(card.id, "card"))).below(review.id)
        card.column_id = review.id
        return [card_event("card.moved", board, card, agent_actor(board), origin=origin)]


def _pull_request(card: CardRecord, run: RunRecord) -> PullRequestState | None:
    """That of the run's own result, or of what the card has from an earlier one."""
    result = run.result or card.result
    return result.pull_request.state if result and result.pull_request else None


def _followed(run: RunRecord, now: datetime) -> float:
    """Seconds since the last look at a started run; a clock that jumped adds a minute at most."""
    if run.started_at is None or not run.looked_at:
        return 0
    return min(max((now - parse(run.looked_at)).total_seconds(), 0), _LONGEST_LOOK)


def agent_actor(board: BoardRecord) -> Actor:
    return Actor(id=board.agent.agent_id if board.agent else "agent", name="Agent", kind="agent")


def run_message(run: RunRecord) -> dict[str, object]:
    return RunMessage(version=VERSION, run_id=run.id, epoch=run.epoch).model_dump()


def branch_name(card: CardRecord) -> str:
    """The card's own branch: every run of the card continues on it."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in card.title.lower()).split()
    slug = "-".join(words)[:40].strip("-") or "card"
    return f"agent/{slug}-{card.id[-6:]}"
