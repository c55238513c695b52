"""/api/boards."""

from typing import Annotated

from fastapi import Query, Response

from functions.context import Caller, Here
from functions.idempotency import IdempotentRoute
from functions.routing import AreaRouter
from shared.boards.models import BoardView, Card, CardList, ColumnChange, NewCard, NewColumn
from shared.core.events import EventPage
from shared.core.resources import Column

router = AreaRouter(prefix="/api/boards", tags=["boards"], route_class=IdempotentRoute)

type After = Annotated[int, Query(ge=0, le=2**53, description="Sequence of the last event you have")]
type Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/{board_id}", response_model=BoardView)
async def get_board(here: Here, caller: Caller, board_id: str) -> Response:
    return Response((await here.boards.view(caller, board_id)).json(), media_type="application/json")


@router.get("/{board_id}/events")
async def board_events(here: Here, caller: Caller, board_id: str, after: After = 0, limit: Limit = 500) -> EventPage:
    return await here.boards.events(caller, board_id, after, limit)


@router.get("/{board_id}/search")
async def search_cards(
    here: Here, caller: Caller, board_id: str, q: str = "", label: str | None = None, assignee_id: str | None = None
) -> CardList:
    return CardList(items=await here.boards.search(caller, board_id, q, label, assignee_id))


@router.post("/{board_id}/columns", status_code=201)
async def add_column(here: Here, caller: Caller, board_id: str, body: NewColumn) -> Column:
    return await here.boards.add_column(caller, board_id, body)


@router.patch("/{board_id}/columns/{column_id}")
async def change_column(here: Here, caller: Caller, board_id: str, column_id: str, body: ColumnChange) -> Column:
    return await here.boards.change_column(caller, board_id, column_id, body)


@router.delete("/{board_id}/columns/{column_id}", status_code=204)
async def remove_column(here: Here, caller: Caller, board_id: str, column_id: str) -> Response:
    await here.boards.remove_column(caller, board_id, column_id)
    return Response(status_code=204)


@router.post("/{board_id}/cards", status_code=201)
async def create_card(here: Here, caller: Caller, board_id: str, body: NewCard, response: Response) -> Card:
    card = await here.cards.create(caller, board_id, body)
    response.headers["etag"] = f'"{card.etag}"'
    response.headers["location"] = f"/api/cards/{card.id}"
    return card
