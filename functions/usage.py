"""/api/teams/{id}/usage and /api/incidents: what operators look at."""

from fastapi import Response
from pydantic import BaseModel

from functions.context import Caller, Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.core.access import Principal
from shared.core.errors import NotFound
from shared.core.incidents import Incident
from shared.core.permissions import Action
from shared.core.resources import Usage
from shared.core.usage import DayUsage, RunUsage, team_usage, usage_by_day, usage_by_run

router = AreaRouter(prefix="/api", tags=["usage"], route_class=JsonRoute)


class TeamUsage(BaseModel):
    total: Usage
    runs: list[RunUsage]
    days: list[DayUsage]


class IncidentList(BaseModel):
    items: list[Incident]


@router.get("/teams/{team_id}/usage")
async def get_team_usage(here: Here, caller: Caller, team_id: str) -> TeamUsage:
    await here.access.require(caller, team_id, Action.READ)
    documents = here.store.documents
    return TeamUsage(
        total=await team_usage(documents, team_id),
        runs=await usage_by_run(documents, team_id),
        days=await usage_by_day(documents, team_id),
    )


@router.get("/incidents")
async def list_incidents(here: Here, caller: Caller) -> IncidentList:
    """Messages that queues gave up on. Platform admins only."""
    _for_admins(caller)
    return IncidentList(items=await here.incidents.list())


@router.post("/incidents/{incident_id}/replay", status_code=202)
async def replay_incident(here: Here, caller: Caller, incident_id: str) -> Response:
    """Send the message again and forget the incident. 409 for a message that cannot be read."""
    _for_admins(caller)
    await here.incidents.replay(incident_id, caller.user_id)
    return Response(status_code=202)


@router.delete("/incidents/{incident_id}", status_code=204)
async def dismiss_incident(here: Here, caller: Caller, incident_id: str) -> Response:
    """Forget the incident and its message for good. The log keeps who did."""
    _for_admins(caller)
    await here.incidents.dismiss(incident_id, caller.user_id)
    return Response(status_code=204)


def _for_admins(caller: Principal) -> None:
    if not caller.platform_admin:
        raise NotFound("There is nothing here.")
