"""/api/tasks."""

from typing import Literal

from pydantic import BaseModel

from functions.boards import After, Limit
from functions.context import Caller, Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.core.events import EventPage
from shared.core.resources import Task

router = AreaRouter(prefix="/api/tasks", tags=["tasks"], route_class=JsonRoute)


class TaskList(BaseModel):
    items: list[Task]


@router.get("")
async def list_tasks(here: Here, caller: Caller, owner: Literal["me"] = "me") -> TaskList:
    teams = await here.teams.mine(caller)
    return TaskList(items=await here.tasks.mine(caller, [team.task_id for team in teams]))


@router.get("/{task_id}")
async def get_task(here: Here, caller: Caller, task_id: str) -> Task:
    return await here.tasks.get(caller, task_id)


@router.get("/{task_id}/events")
async def task_events(here: Here, caller: Caller, task_id: str, after: After = 0, limit: Limit = 500) -> EventPage:
    return await here.tasks.events(caller, task_id, after, limit)


@router.post("/{task_id}/cancel", status_code=202)
async def cancel_task(here: Here, caller: Caller, task_id: str) -> Task:
    """End it now and undo what it made, also of one that failed. Repeating it is fine. 409 once it has succeeded."""
    return await here.tasks.cancel(caller, task_id)


@router.post("/{task_id}/retry", status_code=202)
async def retry_task(here: Here, caller: Caller, task_id: str) -> Task:
    """Go on with the step that failed, be it done or undone. A task that was undone begins anew."""
    return await here.tasks.retry(caller, task_id)
