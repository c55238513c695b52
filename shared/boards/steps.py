"""Provisioning step: the board."""

import contextlib

from shared.core import ids
from shared.core.boards import BoardRecord, board_partition
from shared.core.errors import Exists
from shared.core.ports import Json, Put
from shared.core.resources import Column
from shared.core.store import Store
from shared.tasks.models import StepContext

STARTING_COLUMNS = (
    Column(id="backlog", name="Backlog"),
    Column(id="ready", name="Ready"),
    Column(id="progress", name="In Progress", kind="start"),
    Column(id="review", name="Review", kind="review"),
    Column(id="done", name="Done", kind="done"),
)


class BoardSteps:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def create_board(self, ctx: StepContext) -> Json:
        scope = ctx.subject.id
        board = BoardRecord(
            id=ids.board_id(scope),
            name=ctx.subject.name,
            team_id=ctx.team_id,
            workspace_id=scope if ctx.subject.kind == "workspace" else None,
            columns=list(STARTING_COLUMNS),
        )
        with contextlib.suppress(Exists):  # an earlier try made it
            await self._store.documents.commit(board_partition(scope), [Put("board", board.json_body())])
        return {"board_id": board.id}
