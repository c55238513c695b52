"""The step that makes a board, and what undoes it."""

import contextlib

from shared.core import ids
from shared.core.boards import BoardRecord, BoardRepository, board_partition
from shared.core.errors import Exists
from shared.core.partitions import drop
from shared.core.ports import Blobs, Json, Put
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
    def __init__(self, store: Store, boards: BoardRepository, blobs: Blobs) -> None:
        self._store, self._boards, self._blobs = store, boards, blobs

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

    async def erase_board(self, ctx: StepContext) -> None:
        """Cards, comments, runs with what they left, and all their events. What led to it goes last."""
        scope, events = ctx.subject.id, self._store.events
        for run in await self._boards.runs(scope):
            await self._blobs.delete(f"runs/{run.id}/diff.json")
            await events.drop(f"run/{run.id}")
            await self._store.settle(run.reference)
        await events.drop(f"board/{ids.board_id(scope)}")
        await drop(self._store.documents, board_partition(scope))
