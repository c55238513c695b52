"""/api/usage, /api/teams/{id}/usage and /api/incidents: what operators look at."""

from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import Depends, Query, Response
from pydantic import BaseModel

from functions.context import Caller, Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.core.access import Principal
from shared.core.errors import NotFound
from shared.core.incidents import Incident
from shared.core.permissions import Action
from shared.core.resources import Day, Reference, Usage
from shared.core.usage import DayUsage, Dimension, RunUsage, team_usage, usage_by_day, usage_by_run
from shared.llm.models import LONGEST_MODEL
from shared.llm.requests import Format, UsageReport
from shared.llm.usage_service import Question, as_csv

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


type FirstDay = Annotated[Day | None, Query(alias="from", description="First day (UTC); thirty days when left out")]
type LastDay = Annotated[Day | None, Query(alias="to", description="Last day (UTC); today when left out")]


@dataclass(frozen=True, slots=True)
class Filters:
    """Only what was used by these."""

    team_id: Reference | None = None
    workspace_id: Reference | None = None
    card_id: Reference | None = None
    run_id: Reference | None = None
    model: Annotated[str, Query(max_length=LONGEST_MODEL)] | None = None
    key_id: Reference | None = None


@router.get("/usage", responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}})
async def get_usage(
    here: Here,
    caller: Caller,
    filters: Annotated[Filters, Depends()],
    group_by: Dimension = "day",
    first: FirstDay = None,
    last: LastDay = None,
    format: Format = "json",
) -> UsageReport:
    """Of all teams of the caller, or those that are asked for."""
    report = await here.usage_reports.report(caller, Question(group_by, first, last, **asdict(filters)))
    if format == "csv":
        name = f"usage-{report.first}-{report.last}-by-{group_by}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(as_csv(report), media_type="text/csv", headers=headers)  # type: ignore[return-value]
    return report


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
