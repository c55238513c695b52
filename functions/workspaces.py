"""/api/workspaces."""

from typing import Literal

from fastapi import Response

from functions.context import Caller, Here
from functions.idempotency import IdempotentRoute
from functions.routing import AreaRouter
from shared.core.resources import StartedTask
from shared.workspaces.models import NewWorkspace, StartedWorkspace, Workspace, WorkspaceList

router = AreaRouter(prefix="/api/workspaces", tags=["workspaces"], route_class=IdempotentRoute)


@router.get("")
async def list_workspaces(here: Here, caller: Caller) -> WorkspaceList:
    teams = await here.teams.mine(caller)
    return WorkspaceList(items=await here.workspaces.of_teams(caller, [team.id for team in teams]))


@router.post("", status_code=202)
async def create_workspace(here: Here, caller: Caller, body: NewWorkspace, response: Response) -> StartedWorkspace:
    started = await here.workspaces.create(caller, body)
    response.headers["location"] = f"/api/tasks/{started.task_id}"
    return started


@router.get("/{workspace_id}")
async def get_workspace(here: Here, caller: Caller, workspace_id: str) -> Workspace:
    return await here.workspaces.get(caller, workspace_id)


@router.delete("/{workspace_id}", status_code=202)
async def delete_workspace(
    here: Here, caller: Caller, workspace_id: str, response: Response, repository: Literal["keep", "delete"] = "keep"
) -> StartedTask:
    """With its team and its board, whatever its state. `repository`: what becomes of it and all that was pushed."""
    started = await here.workspaces.delete(caller, workspace_id, repository)
    response.headers["location"] = f"/api/tasks/{started.task_id}"
    return started
