"""/api/teams and /api/invitations."""

from fastapi import Response

from functions.context import Caller, Here
from functions.idempotency import IdempotentRoute
from functions.routing import AreaRouter
from shared.agents.models import StoppedRuns
from shared.core.resources import StartedTask
from shared.teams.models import (
    Invitation,
    InvitationList,
    InvitationPreview,
    Member,
    MemberList,
    NewInvitation,
    NewTeam,
    RoleChange,
    StartedTeam,
    Team,
    TeamList,
)

router = AreaRouter(prefix="/api", tags=["teams"], route_class=IdempotentRoute)


@router.get("/teams")
async def list_teams(here: Here, caller: Caller) -> TeamList:
    return TeamList(items=await here.teams.mine(caller))


@router.post("/teams", status_code=202)
async def create_team(here: Here, caller: Caller, body: NewTeam, response: Response) -> StartedTeam:
    started = await here.teams.create(caller, body)
    response.headers["location"] = f"/api/tasks/{started.task_id}"
    return started


@router.get("/teams/{team_id}")
async def get_team(here: Here, caller: Caller, team_id: str) -> Team:
    return await here.teams.get(caller, team_id)


@router.delete("/teams/{team_id}", status_code=202)
async def delete_team(here: Here, caller: Caller, team_id: str, response: Response) -> StartedTask:
    """With everything in it, whatever its state. Repeating it takes up a deletion that stopped."""
    started = await here.teams.delete(caller, team_id)
    response.headers["location"] = f"/api/tasks/{started.task_id}"
    return started


@router.get("/teams/{team_id}/members")
async def list_members(here: Here, caller: Caller, team_id: str) -> MemberList:
    return MemberList(items=await here.teams.members(caller, team_id))


@router.patch("/teams/{team_id}/members/{user_id}")
async def change_role(here: Here, caller: Caller, team_id: str, user_id: str, body: RoleChange) -> Member:
    return await here.teams.change_role(caller, team_id, user_id, body.role)


@router.delete("/teams/{team_id}/members/{user_id}", status_code=204)
async def remove_member(here: Here, caller: Caller, team_id: str, user_id: str) -> Response:
    await here.teams.remove(caller, team_id, user_id)
    return Response(status_code=204)


@router.get("/teams/{team_id}/invitations")
async def list_invitations(here: Here, caller: Caller, team_id: str) -> InvitationList:
    return InvitationList(items=await here.teams.invitations(caller, team_id))


@router.post("/teams/{team_id}/invitations", status_code=201)
async def invite(here: Here, caller: Caller, team_id: str, body: NewInvitation, response: Response) -> Invitation:
    response.headers["cache-control"] = "no-store"
    return await here.teams.invite(caller, team_id, body)


@router.delete("/teams/{team_id}/invitations/{invitation_id}", status_code=204)
async def revoke_invitation(here: Here, caller: Caller, team_id: str, invitation_id: str) -> Response:
    await here.teams.revoke(caller, team_id, invitation_id)
    return Response(status_code=204)


@router.post("/teams/{team_id}/stop-agents")
async def stop_agents(here: Here, caller: Caller, team_id: str) -> StoppedRuns:
    return await here.runs.stop_all(caller, team_id)


@router.get("/invitations/{token}")
async def preview_invitation(here: Here, caller: Caller, token: str) -> InvitationPreview:
    return await here.teams.preview(caller, token)


@router.post("/invitations/{token}/accept")
async def accept_invitation(here: Here, caller: Caller, token: str) -> Team:
    return await here.teams.accept(caller, token)
