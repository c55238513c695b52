"""/api/realtime: where browsers get their events from."""

from functions.context import Caller, Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.teams.models import RealtimeConnection

router = AreaRouter(prefix="/api/realtime", tags=["realtime"], route_class=JsonRoute)


@router.get("/negotiate")
async def negotiate(here: Here, caller: Caller) -> RealtimeConnection:
    return await here.teams.connect(caller)
