"""Cards: create, edit, move, delete, restore, comment; and the move that starts an agent."""

from dataclasses import replace
from operator import attrgetter
from typing import Any

from shared.boards.models import Card, CardChange, CardMove, CardPut, HistoryEntry, NewCard, NewComment
from shared.core import deliveries, ids, rank
from shared.core.access import Access, Principal
from shared.core.board_events import CardEventType, card_event, comment_commit
from shared.core.boards import BoardRecord, BoardRepository, CardRecord, card_key, card_partition
from shared.core.clock import iso
from shared.core.errors import Conflict, Invalid, Stale
from shared.core.events import CardEvent, CommentEvent, NewEvent, parse
from shared.core.permissions import Action
from shared.core.policy import AgentPolicy
from shared.core.ports import Delete, Json, Op, Put
from shared.core.resources import RUN_OVER, Actor, Column, Comment
from shared.core.store import Commit, Message, Store, retry_stale

MAX_CARDS = 10_000


class CardService:
    def __init__(self, store: Store, boards: BoardRepository, access: Access, policy: AgentPolicy) -> None:
        self._store, self._boards, self._access, self._policy = store, boards, access, policy

    async def get(self, principal: Principal, card_id: str) -> Card:
        card, etag, _ = await self._allowed(principal, card_id, Action.READ)
        return _shown(card, etag)

    async def create(self, principal: Principal, board_id: str, request: NewCard) -> Card:
        scope = ids.board_scope(board_id)
        board, _ = await self._boards.board(scope)
        await self._access.require(principal, board.team_id, Action.EDIT_CARDS)
        column = board.column(request.column_id) if request.column_id else board.columns[0]
        if column.kind == "start":
            raise Conflict(f"{column.name!r} starts an agent: create the card in another column, then move it here.")
        await self._check_assignee(board, request.assignee_id)
        ends = await self._boards.ends(scope)
        if ends.cards >= MAX_CARDS:
            raise Conflict(f"A board holds at most {MAX_CARDS} cards. Delete some first.")
        now = iso(self._store.clock.now())
        fields = request.model_dump(mode="json", exclude={"column_id"})
        card = CardRecord(
            **fields,
            id=ids.scoped("card", scope),
            board_id=board_id,
            column_id=column.id,
            rank=ends.below(column.id),
            created_at=now,
            created_by=principal.user_id,
            updated_at=now,
        )
        return await self._save(board, card, None, "card.created", principal.actor)

    async def update(
        self, principal: Principal, card_id: str, request: CardChange, if_match: str | None = None
    ) -> Card:
        """Change the fields that were sent. With `if_match`, Stale when somebody was faster."""

        async def attempt() -> Card:
            card, etag, board = await self._allowed(principal, card_id, Action.EDIT_CARDS, if_match)
            changed, names = await self._changed(board, card, request)
            if not names:
                return _shown(card, etag)
            return await self._save(board, changed, etag, "card.updated", principal.actor, changes=names)

        return await (retry_stale(attempt) if if_match is None else attempt())

    async def put(self, principal: Principal, card_id: str, request: CardPut, if_match: str | None) -> Card:
        """Update and move in one commit: a move that is refused leaves the fields as they are."""
        if request.column_id is None:
            return await self.update(principal, card_id, request, if_match)
        move = CardMove(column_id=request.column_id)

        async def attempt() -> Card:
            card, etag, board = await self._allowed(principal, card_id, Action.EDIT_CARDS, if_match)
            changed, names = await self._changed(board, card, request)
            if move.column_id != card.column_id:
                return await self._moved(principal, board, changed, etag, move, names)
            if not names:
                return _shown(card, etag)
            return await self._save(board, changed, etag, "card.updated", principal.actor, changes=names)

        return await (retry_stale(attempt) if if_match is None else attempt())

    async def _changed(self, board: BoardRecord, card: CardRecord, request: CardChange) -> tuple[CardRecord, list[str]]:
        """The card with the fields that were sent, and the names of those that differ."""
        sent = request.model_dump(mode="json", include=request.model_fields_set - {"column_id"})
        changes = {name: value for name, value in sent.items() if _differs(card, name, value)}
        await self._check_assignee(board, changes.get("assignee_id"))
        moment = {"updated_at": iso(self._store.clock.now())} if changes else {}
        return CardRecord.model_validate(card.json_body() | changes | moment), sorted(changes)

    async def move(self, principal: Principal, card_id: str, request: CardMove) -> Card:
        """One document changes. A move into a start column also sends the signed webhook that starts an agent."""

        async def attempt() -> Card:
            card, etag, board = await self._allowed(principal, card_id, Action.EDIT_CARDS)
            return await self._moved(principal, board, card, etag, request)

        return await retry_stale(attempt)

    async def _moved(
        self,
        principal: Principal,
        board: BoardRecord,
        card: CardRecord,
        etag: str,
        request: CardMove,
        changes: list[str] | None = None,
    ) -> Card:
        """The commit of a move; `changes` names fields of the card that changed with it."""
        target, origin = board.column(request.column_id), card.column_id
        if request.expected_column is not None and request.expected_column != origin:
            raise Conflict(f"The card has moved to {_name(board, origin)!r} in the meantime.")
        card.rank = await self._rank(card, request)
        card.column_id = target.id
        card.updated_at = iso(self._store.clock.now())
        starts = target.kind == "start" and origin != target.id
        if starts:
            await self._access.require(principal, board.team_id, Action.START_AGENT)
            self._refuse_start(board, card, target)
        return await self._save(
            board, card, etag, "card.moved", principal.actor, changes=changes, origin=origin, starts=starts
        )

    def _refuse_start(self, board: BoardRecord, card: CardRecord, target: Column) -> None:
        reason = self._policy.refusal(board)
        if reason is not None:
            raise Conflict(f"No agent can start from {target.name!r}. {reason}")
        if card.run is not None and card.run.status not in RUN_OVER:
            raise Conflict("An agent is still working on this card. Stop its run first, or wait.")

    def _delivery(self, board: BoardRecord, event: NewEvent) -> Json:
        agent = board.agent
        if agent is None:
            raise Conflict("This board has no agent.")
        return {
            "version": 1,
            "url": agent.webhook_url,
            "secret_name": agent.secret_name,
            "event": self._store.envelope(event),
        }

    async def _rank(self, card: CardRecord, request: CardMove) -> str:
        """Between the neighbours named, else at the end of the column."""
        scope = ids.scope_of(card.id, "card")
        if request.after_id is None and request.before_id is None:
            return (await self._boards.ends(scope)).below(request.column_id, but=card.id)
        column = [c for c in await self._boards.lines(scope) if c.column_id == request.column_id and c.id != card.id]
        column.sort(key=attrgetter("rank"))
        places = {c.id: index for index, c in enumerate(column)}
        if request.after_id in places:
            place = places[request.after_id]
        elif request.before_id in places:
            place = places[request.before_id] + 1
        else:
            place = len(column)
        above = column[place - 1].rank if place > 0 else None
        # After two simultaneous moves neighbours may have equal ranks: go below both.
        below = next((c.rank for c in column[place:] if above is None or c.rank > above), None)
        return rank.between(above, below)

    async def delete(self, principal: Principal, card_id: str) -> None:
        """Into the trash, from where it can be restored."""

        async def attempt() -> None:
            card, etag, board = await self._allowed(principal, card_id, Action.EDIT_CARDS)
            if card.run is not None and card.run.status not in RUN_OVER:
                raise Conflict("An agent is working on this card. Stop its run first.")
            card.revision += 1
            event = card_event("card.deleted", board, card, principal.actor)
            ops = [Delete(card_key(card_id), etag), Put(f"trash/{card_id}", card.json_body(), "*")]
            await self._store.commit(Commit(card_partition(card_id), ops, [event], events_soon=True))

        await retry_stale(attempt)

    async def restore(self, principal: Principal, card_id: str) -> Card:
        board, _ = await self._boards.board(ids.scope_of(card_id, "card"))
        await self._access.require(principal, board.team_id, Action.EDIT_CARDS)
        card, etag = await self._boards.trashed(card_id)
        trash = Delete(f"trash/{card_id}", etag)
        return await self._save(board, board.placed(card), None, "card.created", principal.actor, extra=[trash])

    # -- comments and history -------------------------------------------------------------------

    async def comment(self, principal: Principal, card_id: str, request: NewComment) -> Comment:
        return await retry_stale(lambda: self._comment(principal, card_id, request))

    async def _comment(self, principal: Principal, card_id: str, request: NewComment) -> Comment:
        card, etag, board = await self._allowed(principal, card_id, Action.COMMENT)
        comment = Comment(
            id=ids.sortable(),
            card_id=card_id,
            author_id=principal.user_id,
            author_name=principal.name,
            author_kind="user",
            body=request.body,
            created_at=iso(self._store.clock.now()),
        )
        await self._store.commit(comment_commit(board, card, etag, comment))
        return comment

    async def comments(self, principal: Principal, card_id: str) -> list[Comment]:
        await self._allowed(principal, card_id, Action.READ)
        return await self._boards.comments(card_id)

    async def history(self, principal: Principal, card_id: str) -> list[HistoryEntry]:
        """What happened to the card, newest first, from the board's events."""
        _, _, board = await self._allowed(principal, card_id, Action.READ)
        names = {column.id: column.name for column in board.columns}
        entries: list[HistoryEntry] = []
        after = 0
        await self._store.told(card_partition(card_id))
        while page := await self._store.events.read(f"board/{board.id}", after, 1000):
            entries += [entry for event in page if (entry := _entry(event, card_id, names))]
            after = page[-1]["sequence"]
        return entries[::-1]

    # -- shared ---------------------------------------------------------------------------------

    async def _allowed(
        self, principal: Principal, card_id: str, action: Action, if_match: str | None = None
    ) -> tuple[CardRecord, str, BoardRecord]:
        board, _ = await self._boards.board(ids.scope_of(card_id, "card"))
        await self._access.require(principal, board.team_id, action)
        card, etag = await self._boards.card(card_id)
        if if_match not in (None, etag):
            raise Stale("Somebody changed this card since you opened it. Load their version, then apply yours.")
        return board.placed(card), etag, board

    async def _check_assignee(self, board: BoardRecord, user_id: str | None) -> None:
        if user_id is not None and await self._access.role(user_id, board.team_id) is None:
            raise Invalid("Cards can be assigned to members of the team only.")

    async def _save(
        self,
        board: BoardRecord,
        card: CardRecord,
        etag: str | None,
        kind: CardEventType,
        by: Actor,
        *,
        changes: list[str] | None = None,
        origin: str | None = None,
        starts: bool = False,
        extra: list[Delete] | None = None,
    ) -> Card:
        """One commit; with `starts` it also sends the webhook that starts an agent."""
        card.revision += 1
        event = card_event(kind, board, card, by, changes, origin, ids.sortable())
        put = Put(card_key(card.id), card.json_body(), etag)
        ops: list[Op] = [put, *(extra or [])]
        commit = Commit(card_partition(card.id), ops, [event], events_soon=True)
        if starts:
            delivery = self._delivery(board, event)
            ops.append(deliveries.kept(self._store, delivery))
            message = Message(deliveries.QUEUE, delivery)
            commit = replace(commit, messages=[message], watch=[deliveries.reference(delivery["event"])])
        etags = await self._store.commit(commit)
        return _shown(card, etags[put.id])


def _shown(card: CardRecord, etag: str) -> Card:
    detail = card.model_dump(include={"board_id", "body", "created_at", "created_by"})
    return Card(**card.summary(etag).model_dump(), **detail, checklist=card.checklist, result=card.result)


def _differs(card: CardRecord, name: str, value: Any) -> bool:
    return card.json_body()[name] != value and not (value is None and name in ("title", "body", "labels", "checklist"))


def _name(board: BoardRecord, column_id: str) -> str:
    return next((column.name for column in board.columns if column.id == column_id), "another column")


_DONE_TO_IT = {"open": "reopened", "closed": "closed", "merged": "merged"}


def _entry(event: dict[str, Any], card_id: str, columns: dict[str, str]) -> HistoryEntry | None:
    known = parse(event)
    if isinstance(known, CommentEvent) and known.data.card_id == card_id:
        comment = known.data.comment
        return HistoryEntry(
            time=known.time, type=known.type, by=comment.author_name, by_kind=comment.author_kind, text="commented"
        )
    if not isinstance(known, CardEvent) or known.data.card.id != card_id:
        return None
    badge = known.data.card.run
    changed = "changed " + ", ".join(known.data.changes).replace("_id", "").replace("_", " ")
    if badge and badge.pull_request and known.data.changes == ["pull_request"]:
        changed = f"{_DONE_TO_IT[badge.pull_request]} the pull request"
    texts = {
        "card.created": "created the card",
        "card.updated": changed,
        "card.moved": f"moved it from {columns.get(known.data.from_column or '', 'a removed column')} "
        f"to {columns.get(known.data.card.column_id, 'a removed column')}",
        "card.deleted": "deleted the card",
    }
    by = known.data.by
    return HistoryEntry(time=known.time, type=known.type, by=by.name, by_kind=by.kind, text=texts[known.type])
