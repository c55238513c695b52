"""/api/teams/{id}/keys and /limits: what calls of the model gateway are paid with, and how much they may use."""

from fastapi import Response

from functions.context import Caller, Here
from functions.idempotency import IdempotentRoute
from functions.routing import AreaRouter
from shared.llm.models import TeamLimits
from shared.llm.requests import CreatedKey, Key, KeyChanges, KeyList, NewKey, Rotation

router = AreaRouter(prefix="/api/teams", tags=["keys"], route_class=IdempotentRoute)


@router.get("/{team_id}/keys")
async def list_keys(here: Here, caller: Caller, team_id: str) -> KeyList:
    return KeyList(items=await here.keys.list(caller, team_id))


@router.post("/{team_id}/keys", status_code=201)
async def create_key(here: Here, caller: Caller, team_id: str, body: NewKey, response: Response) -> CreatedKey:
    """The answer is the only one that holds the key."""
    response.headers["cache-control"] = "no-store"
    return await here.keys.create(caller, team_id, body)


@router.patch("/{team_id}/keys/{key_id}")
async def change_key(here: Here, caller: Caller, team_id: str, key_id: str, body: KeyChanges) -> Key:
    """It holds everywhere within five seconds."""
    return await here.keys.change(caller, team_id, key_id, body)


@router.post("/{team_id}/keys/{key_id}/rotate", status_code=201)
async def rotate_key(
    here: Here, caller: Caller, team_id: str, key_id: str, body: Rotation, response: Response
) -> CreatedKey:
    """A new key with the same settings, budgets and usage; the old one is good until the overlap is over."""
    response.headers["cache-control"] = "no-store"
    return await here.keys.rotate(caller, team_id, key_id, body)


@router.delete("/{team_id}/keys/{key_id}", status_code=204)
async def revoke_key(here: Here, caller: Caller, team_id: str, key_id: str) -> Response:
    """It holds everywhere within five seconds."""
    await here.keys.revoke(caller, team_id, key_id)
    return Response(status_code=204)


@router.get("/{team_id}/limits")
async def get_limits(here: Here, caller: Caller, team_id: str) -> TeamLimits:
    return await here.keys.limits(caller, team_id)


@router.put("/{team_id}/limits")
async def set_limits(here: Here, caller: Caller, team_id: str, body: TeamLimits) -> TeamLimits:
    return await here.keys.set_limits(caller, team_id, body)
