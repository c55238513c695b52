"""/api/cards."""

from typing import Annotated

from fastapi import Header, Response

from functions.context import Caller, Here
from functions.idempotency import IdempotentRoute
from functions.routing import AreaRouter
from shared.agents.models import RunList
from shared.boards.models import Card, CardChange, CardMove, CardPut, CommentList, History, NewComment
from shared.core.resources import Comment

router = AreaRouter(prefix="/api/cards", tags=["cards"], route_class=IdempotentRoute)

type IfMatch = Annotated[str | None, Header(description="ETag of the card you changed; 412 when it is stale")]


@router.get("/{card_id}")
async def get_card(here: Here, caller: Caller, card_id: str, response: Response) -> Card:
    return _tagged(await here.cards.get(caller, card_id), response)


@router.patch("/{card_id}")
async def change_card(
    here: Here, caller: Caller, card_id: str, body: CardChange, response: Response, if_match: IfMatch = None
) -> Card:
    return _tagged(await here.cards.update(caller, card_id, body, _etag(if_match)), response)


@router.put("/{card_id}")
async def put_card(
    here: Here, caller: Caller, card_id: str, body: CardPut, response: Response, if_match: IfMatch = None
) -> Card:
    return _tagged(await here.cards.put(caller, card_id, body, _etag(if_match)), response)


@router.post("/{card_id}/move")
async def move_card(here: Here, caller: Caller, card_id: str, body: CardMove, response: Response) -> Card:
    return _tagged(await here.cards.move(caller, card_id, body), response)


@router.delete("/{card_id}", status_code=204)
async def delete_card(here: Here, caller: Caller, card_id: str) -> Response:
    await here.cards.delete(caller, card_id)
    return Response(status_code=204)


@router.post("/{card_id}/restore")
async def restore_card(here: Here, caller: Caller, card_id: str, response: Response) -> Card:
    return _tagged(await here.cards.restore(caller, card_id), response)


@router.get("/{card_id}/comments")
async def list_comments(here: Here, caller: Caller, card_id: str) -> CommentList:
    return CommentList(items=await here.cards.comments(caller, card_id))


@router.post("/{card_id}/comments", status_code=201)
async def add_comment(here: Here, caller: Caller, card_id: str, body: NewComment) -> Comment:
    return await here.cards.comment(caller, card_id, body)


@router.get("/{card_id}/history")
async def card_history(here: Here, caller: Caller, card_id: str) -> History:
    return History(items=await here.cards.history(caller, card_id))


@router.get("/{card_id}/runs")
async def card_runs(here: Here, caller: Caller, card_id: str) -> RunList:
    return RunList(items=await here.runs.of_card(caller, card_id))


def _tagged(card: Card, response: Response) -> Card:
    response.headers["etag"] = f'"{card.etag}"'
    return card


def _etag(if_match: str | None) -> str | None:
    if if_match is None or if_match.strip() == "*":
        return None
    return if_match.strip().removeprefix("W/").strip('"')
