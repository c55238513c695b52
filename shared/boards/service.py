"""Boards and their columns: what people see first."""

from collections.abc import Callable
from operator import attrgetter

from shared.boards.models import BoardPage, ColumnChange, NewColumn
from shared.core import ids
from shared.core.access import Access, Principal
from shared.core.board_events import board_updated
from shared.core.boards import BoardRecord, BoardRepository, CardLine, board_partition
from shared.core.errors import Conflict, Invalid
from shared.core.events import EventPage, parse
from shared.core.permissions import Action
from shared.core.policy import AgentPolicy
from shared.core.ports import Put
from shared.core.resources import Board, CardSummary, Column, composed
from shared.core.store import Commit, Store, retry_stale

MAX_COLUMNS = 30

type ColumnEdit = Callable[[BoardRecord], None]


class BoardService:
    def __init__(self, store: Store, boards: BoardRepository, access: Access, policy: AgentPolicy) -> None:
        self._store, self._boards, self._access, self._policy = store, boards, access, policy

    async def view(self, principal: Principal, board_id: str) -> BoardPage:
        """The board with summaries of its cards. `sequence` is read first: events after it may repeat, not miss."""
        scope = ids.board_scope(board_id)
        board, _ = await self._boards.board(scope)
        role = await self._access.require(principal, board.team_id, Action.READ)
        sequence = await self._store.events.last(f"board/{board_id}")
        lines = sorted(await self._boards.lines(scope), key=attrgetter("rank"))
        shown = Board(
            id=board.id,
            name=board.name,
            team_id=board.team_id,
            workspace_id=board.workspace_id,
            role=role,
            columns=board.columns,
            labels=sorted({label for line in lines for label in line.labels}),
            repository=board.repository,
            agents=self._policy.availability(board),
            sequence=sequence,
        )
        columns = {column.id for column in board.columns}
        return BoardPage(shown, [line.summary if line.column_id in columns else _placed(board, line) for line in lines])

    async def events(self, principal: Principal, board_id: str, after: int, limit: int) -> EventPage:
        scope, subject = ids.board_scope(board_id), f"board/{board_id}"
        board, _ = await self._boards.board(scope)
        await self._access.require(principal, board.team_id, Action.READ)
        await self._store.told(board_partition(scope))
        items = [parse(event) for event in await self._store.events.read(subject, after, limit)]
        return EventPage(items=items, last=await self._store.events.last(subject))

    async def search(
        self, principal: Principal, board_id: str, text: str, label: str | None, assignee_id: str | None
    ) -> list[CardSummary]:
        """Cards whose title or body holds every word of `text`, with that label and assignee where given."""
        scope = ids.board_scope(board_id)
        board, _ = await self._boards.board(scope)
        await self._access.require(principal, board.team_id, Action.READ)
        words = composed(text).casefold().split()
        return [
            board.placed(card).summary(etag)
            for card, etag in await self._boards.cards(scope)
            if all(word in composed(f"{card.title}\n{card.body}").casefold() for word in words)
            and (label is None or label in card.labels)
            and (assignee_id is None or card.assignee_id == assignee_id)
        ]

    # -- columns --------------------------------------------------------------------------------

    async def add_column(self, principal: Principal, board_id: str, request: NewColumn) -> Column:
        column = Column(id=ids.random_text(8), name=request.name, kind=request.kind)

        def change(board: BoardRecord) -> None:
            if len(board.columns) >= MAX_COLUMNS:
                raise Conflict(f"A board holds at most {MAX_COLUMNS} columns.")
            place = len(board.columns) if request.after_id is None else _place_after(board, request.after_id)
            board.columns.insert(place, column)

        await self._change(principal, board_id, change)
        return column

    async def change_column(self, principal: Principal, board_id: str, column_id: str, request: ColumnChange) -> Column:
        def change(board: BoardRecord) -> None:
            column = board.column(column_id)
            column.name = request.name or column.name
            column.kind = request.kind or column.kind
            if "after_id" in request.model_fields_set:
                if request.after_id == column_id:
                    raise Invalid("A column cannot stand after itself.")
                board.columns.remove(column)
                place = 0 if request.after_id is None else _place_after(board, request.after_id)
                board.columns.insert(place, column)

        return (await self._change(principal, board_id, change)).column(column_id)

    async def remove_column(self, principal: Principal, board_id: str, column_id: str) -> None:
        lines = await self._boards.lines(ids.board_scope(board_id))
        occupied = [line for line in lines if line.column_id == column_id]

        def change(board: BoardRecord) -> None:
            column = board.column(column_id)
            if occupied:
                raise Conflict(f"Column {column.name!r} still holds {len(occupied)} card(s). Move them first.")
            if len(board.columns) == 1:
                raise Conflict("A board needs at least one column.")
            board.columns.remove(column)

        await self._change(principal, board_id, change)

    async def _change(self, principal: Principal, board_id: str, change: ColumnEdit) -> BoardRecord:
        scope = ids.board_scope(board_id)

        async def attempt() -> BoardRecord:
            board, etag = await self._boards.board(scope)
            await self._access.require(principal, board.team_id, Action.EDIT_BOARD)
            change(board)
            put = Put("board", board.json_body(), etag)
            await self._store.commit(Commit(board_partition(scope), [put], [board_updated(board, self._policy)]))
            return board

        return await retry_stale(attempt)


def _placed(board: BoardRecord, line: CardLine) -> bytes:
    """Its column was removed at the moment it came there."""
    summary = CardSummary.model_validate_json(line.summary)
    return summary.model_copy(update={"column_id": board.columns[0].id}).model_dump_json().encode()


def _place_after(board: BoardRecord, column_id: str) -> int:
    return board.columns.index(board.column(column_id)) + 1
