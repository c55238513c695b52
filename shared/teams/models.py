"""Teams, members and invitations as requested and shown."""

from typing import Annotated

from pydantic import BaseModel, Field

from shared.core.permissions import Role
from shared.core.resources import COMPOSED, LINE, WHOLE, Request, Resource
from shared.core.teams import TeamStatus


class NewTeam(Request):
    name: Annotated[str, LINE, Field(min_length=1, max_length=80), COMPOSED]


class Team(BaseModel):
    id: str
    name: str
    status: TeamStatus
    role: Role
    workspace_id: str | None
    board_id: str
    task_id: str
    created_at: str


class TeamList(BaseModel):
    items: list[Team]


class StartedTeam(BaseModel):
    team: Team
    task_id: str


class Member(BaseModel):
    user_id: str
    name: str
    email: str
    role: Role
    joined_at: str


class MemberList(BaseModel):
    items: list[Member]


class RoleChange(Request):
    role: Role = Field(strict=False)


class NewInvitation(Request):
    role: Role = Field(Role.MEMBER, strict=False)
    expires_in_days: Annotated[int, Field(ge=1, le=90), WHOLE] = 7


class InvitationRecord(Resource):
    id: str
    hash: str
    role: Role
    created_by: str
    created_at: str
    expires_at: str
    accepted_count: int = 0


class Invitation(BaseModel):
    """`url` is given once, when it is created."""

    id: str
    role: Role
    created_at: str
    expires_at: str
    accepted_count: int
    url: str | None = None


class InvitationList(BaseModel):
    items: list[Invitation]


class InvitationPreview(BaseModel):
    team_id: str
    team_name: str
    role: Role
    expires_at: str
    already_member: bool


class RealtimeConnection(BaseModel):
    """`url` opens a connection within five minutes; negotiate anew for the next one."""

    url: str
    groups: list[str]
