"""Workspaces: a team with a board, a Git repository and an agent."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from shared.core.permissions import Role
from shared.core.resources import COMPOSED, LINE, RepositoryInfo, Request, Resource


class NewWorkspace(Request):
    """`import_url`: copy this Git repository instead of starting from the template."""

    name: Annotated[str, LINE, Field(min_length=1, max_length=60), COMPOSED]
    import_url: str | None = Field(None, max_length=2000)


type WorkspaceStatus = Literal["pending", "active", "failed", "cancelled"]


class WorkspaceRecord(Resource):
    """That it is being deleted says its team's record."""

    id: str
    name: str
    slug: str
    status: WorkspaceStatus = "pending"
    team_id: str
    repository: RepositoryInfo | None = None
    import_url: str | None
    task_id: str
    error: str | None = None
    created_by: str
    created_at: str


class Workspace(BaseModel):
    id: str
    name: str
    status: WorkspaceStatus | Literal["deleting"]
    team_id: str
    board_id: str
    role: Role
    repository: RepositoryInfo | None
    import_url: str | None
    task_id: str
    error: str | None
    created_at: str


class WorkspaceList(BaseModel):
    items: list[Workspace]


class StartedWorkspace(BaseModel):
    workspace: Workspace
    task_id: str
