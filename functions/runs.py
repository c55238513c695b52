"""/api/runs: what people see of a run, and what its container asks and tells."""

from typing import Annotated

from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from functions.boards import After, Limit
from functions.context import Caller, Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.agents.models import (
    AgentComment,
    AgentEvents,
    AgentEventsAnswer,
    GitCredentials,
    RunCompletion,
    RunContext,
    RunDiff,
)
from shared.core.events import EventPage
from shared.core.resources import Comment, Run

router = AreaRouter(prefix="/api/runs", tags=["runs"], route_class=JsonRoute)


@router.get("/{run_id}")
async def get_run(here: Here, caller: Caller, run_id: str) -> Run:
    return await here.runs.get(caller, run_id)


@router.get("/{run_id}/events")
async def run_events(here: Here, caller: Caller, run_id: str, after: After = 0, limit: Limit = 500) -> EventPage:
    return await here.runs.events(caller, run_id, after, limit)


@router.get("/{run_id}/diff")
async def run_diff(here: Here, caller: Caller, run_id: str) -> RunDiff:
    return await here.runs.diff(caller, run_id)


@router.post("/{run_id}/stop")
async def stop_run(here: Here, caller: Caller, run_id: str) -> Run:
    return await here.runs.stop(caller, run_id)


@router.post("/{run_id}/retry", status_code=202)
async def retry_run(here: Here, caller: Caller, run_id: str) -> Run:
    return await here.runs.retry(caller, run_id)


_run_token = HTTPBearer(auto_error=False, scheme_name="RunToken", description="The token that a run's container got")


async def _container(
    here: Here,
    run_id: str,
    _described: Annotated[HTTPAuthorizationCredentials | None, Depends(_run_token)],
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> str:
    await here.container.authenticate(run_id, authorization)
    return run_id


type ContainerRun = Annotated[str, Depends(_container)]


@router.post("/{run_id}/start")
async def container_started(
    here: Here, run_id: ContainerRun, idempotency_key: Annotated[str, Header()] = ""
) -> RunContext:
    """The key names the container: it may ask again, another one is refused."""
    return await here.container.start(run_id, idempotency_key)


@router.post("/{run_id}/events")
async def container_events(here: Here, run_id: ContainerRun, body: AgentEvents) -> AgentEventsAnswer:
    return await here.container.progress(run_id, body)


@router.post("/{run_id}/git-credentials")
async def container_git_credentials(here: Here, run_id: ContainerRun) -> GitCredentials:
    return await here.container.git_credentials(run_id)


@router.post("/{run_id}/comments", status_code=201)
async def container_comment(here: Here, run_id: ContainerRun, body: AgentComment) -> Comment:
    return await here.container.comment(run_id, body)


@router.post("/{run_id}/complete")
async def container_complete(here: Here, run_id: ContainerRun, body: RunCompletion) -> Run:
    return await here.container.complete(run_id, body)
