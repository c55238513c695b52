"""What a run's own container may ask and tell, with its run token and nothing else."""

from datetime import UTC

from shared.agents.changes import LoadedRun, RunChanges, agent_actor
from shared.agents.lifecycle import RunLifecycle
from shared.agents.models import (
    AgentComment,
    AgentEvent,
    AgentEvents,
    AgentEventsAnswer,
    ContextCard,
    ContextChecklistItem,
    ContextComment,
    ContextLimits,
    ContextRepository,
    GitCredentials,
    PreviousRun,
    RunCompletion,
    RunContext,
)
from shared.core import ids
from shared.core.addresses import ContainerAddresses
from shared.core.board_events import comment_commit
from shared.core.boards import BoardRepository, CardRecord, RunRecord, board_partition, run_key
from shared.core.clock import iso
from shared.core.errors import Conflict, NotFound, Unauthenticated
from shared.core.events import NewEvent, ProgressData
from shared.core.ports import Json, Put, Repositories, Tokens
from shared.core.resources import RUN_OVER, Comment, Run
from shared.core.run_tokens import CLOCK_LEEWAY, RUN_AUDIENCE
from shared.core.store import Store, retry_stale
from shared.core.teams import team_group


class ContainerApi:
    def __init__(
        self,
        store: Store,
        boards: BoardRepository,
        changes: RunChanges,
        lifecycle: RunLifecycle,
        repositories: Repositories,
        tokens: Tokens,
        addresses: ContainerAddresses,
    ) -> None:
        self._store, self._boards, self._changes = store, boards, changes
        self._lifecycle, self._repositories, self._tokens = lifecycle, repositories, tokens
        self._addresses = addresses

    async def authenticate(self, run_id: str, authorization: str | None) -> None:
        """The token of this very run. NotFound for another run's token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send the run token as 'Authorization: Bearer ...'.")
        if (await self._tokens.verify(token, RUN_AUDIENCE, CLOCK_LEEWAY))["sub"] != run_id:
            raise NotFound("There is no such run.")

    async def start(self, run_id: str, container: str) -> RunContext:
        """The container has begun: what it shall work on. Conflict when the run is over or another one has it."""
        return await retry_stale(lambda: self._start(run_id, container))

    async def _start(self, run_id: str, container: str) -> RunContext:
        loaded = await self._active(run_id)
        run = loaded.run
        if loaded.card is None or loaded.board.repository is None:
            raise Conflict("The card or its repository is gone.")
        comments = await self._boards.comments(run.card_id)
        if run.status == "running" and run.container != container:
            raise Conflict("Another container works on this run.")
        if run.status != "running":
            run.status, run.container = "running", container
            run.comment_cursor = comments[-1].id if comments else ""
            await self._changes.save(loaded, "agent.started", delay=5)
        return RunContext(
            run_id=run.id,
            card=_context_card(loaded.card, comments),
            repository=ContextRepository.of(loaded.board.repository, self._addresses),
            branch=run.branch,
            model=run.model,
            limits=ContextLimits(**run.limits.model_dump(exclude={"spend_cap_usd"})),
            previous=await self._previous(run),
        )

    async def _previous(self, run: RunRecord) -> PreviousRun | None:
        runs = await self._boards.runs(ids.scope_of(run.id, "run"))
        earlier = [other for other in runs if other.card_id == run.card_id and other.attempt < run.attempt]
        return PreviousRun(reason=earlier[-1].reason) if earlier else None

    async def progress(self, run_id: str, request: AgentEvents) -> AgentEventsAnswer:
        """Keep and publish what the agent did; repeating an event is safe. Answers what people want of it."""
        loaded = await self._changes.load(run_id)
        run = loaded.run
        over = run.status in RUN_OVER
        if request.events and not over:
            await self._keep(run, request.events)
        comments = [] if over else await self._new_comments(run_id)
        return AgentEventsAnswer(stop=over, comments=comments)

    async def _keep(self, run: RunRecord, sent: list[AgentEvent]) -> None:
        envelopes = [self._store.envelope(_progress(run, event)) for event in sent]
        sequences = await self._store.events.append(f"run/{run.id}", envelopes)
        for envelope, sequence in zip(envelopes, sequences, strict=True):
            await self._store.publish({**envelope, "sequence": sequence}, [team_group(run.team_id)])
        turns = max((event.turn or 0 for event in sent if event.kind == "turn"), default=0)
        if turns > run.turns:
            await retry_stale(lambda: self._update(run.id, turns=turns))

    async def _new_comments(self, run_id: str) -> list[ContextComment]:
        run, _ = await self._boards.run(run_id)
        comments = await self._boards.comments(run.card_id, after=run.comment_cursor)
        if not comments:
            return []
        await retry_stale(lambda: self._update(run_id, comment_cursor=comments[-1].id))
        return [_context_comment(comment) for comment in comments if comment.author_kind == "user"]

    async def _update(self, run_id: str, **changes: Json | str | int) -> None:
        """Bookkeeping that no one is told of."""
        run, etag = await self._boards.run(run_id)
        put = Put(run_key(run_id), run.model_copy(update=changes).json_body(), etag)
        await self._store.documents.commit(board_partition(ids.scope_of(run_id, "run")), [put])

    async def git_credentials(self, run_id: str) -> GitCredentials:
        loaded = await self._active(run_id)
        if loaded.board.repository is None:
            raise Conflict("The board has no repository.")
        token = await self._repositories.token(loaded.board.repository.full_name)
        expires = iso(token.expires_at.astimezone(UTC))
        return GitCredentials(username="x-access-token", password=token.token, expires_at=expires)

    async def comment(self, run_id: str, request: AgentComment) -> Comment:
        return await retry_stale(lambda: self._comment(run_id, request))

    async def _comment(self, run_id: str, request: AgentComment) -> Comment:
        loaded = await self._active(run_id)
        if loaded.card is None:
            raise Conflict("The card was deleted.")
        actor = agent_actor(loaded.board)
        comment = Comment(
            id=ids.sortable(),
            card_id=loaded.card.id,
            author_id=actor.id,
            author_name=actor.name,
            author_kind="agent",
            body=request.body,
            created_at=iso(self._store.clock.now()),
        )
        await self._store.commit(comment_commit(loaded.board, loaded.card, loaded.card_etag, comment))
        return comment

    async def complete(self, run_id: str, completion: RunCompletion) -> Run:
        return await self._changes.shown(await self._lifecycle.complete(run_id, completion))

    async def _active(self, run_id: str) -> LoadedRun:
        loaded = await self._changes.load(run_id)
        if loaded.run.status in RUN_OVER:
            raise Conflict(f"This run is over: {loaded.run.reason or loaded.run.status}")
        return loaded


def _progress(run: RunRecord, event: AgentEvent) -> NewEvent:
    detail = event.model_dump(exclude={"id", "time"}, exclude_none=True)
    data = ProgressData(team_id=run.team_id, board_id=run.board_id, card_id=run.card_id, run_id=run.id, **detail)
    return NewEvent("agent.progress", f"run/{run.id}", data, (team_group(run.team_id),), f"{run.id}-{event.id}")


def _context_card(card: CardRecord, comments: list[Comment]) -> ContextCard:
    return ContextCard(
        id=card.id,
        title=card.title,
        body=card.body,
        labels=card.labels,
        checklist=[ContextChecklistItem(text=item.text, done=item.done) for item in card.checklist],
        comments=[_context_comment(comment) for comment in comments],
    )


def _context_comment(comment: Comment) -> ContextComment:
    return ContextComment(author=comment.author_name, body=comment.body, created_at=comment.created_at)
