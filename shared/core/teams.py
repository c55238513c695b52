"""The team as kept. In core because teams and workspaces both found one."""

from typing import Literal

from shared.core.access import Principal
from shared.core.permissions import Role
from shared.core.ports import Put
from shared.core.resources import Resource
from shared.core.store import Commit, Membership

type TeamStatus = Literal["pending", "active", "failed", "cancelled", "deleting"]


class TeamRecord(Resource):
    """`scope` is the id whose partition holds the team's board: its own, or its workspace's."""

    id: str
    name: str
    status: TeamStatus = "pending"
    workspace_id: str | None
    scope: str
    task_id: str
    """The task that creates it; once it is `deleting`, the one that deletes it."""
    created_by: str
    created_at: str


class MemberRecord(Resource):
    user_id: str
    name: str
    email: str
    role: Role
    joined_at: str


def team_partition(team_id: str) -> str:
    return f"portal/team/{team_id}"


def team_group(team_id: str) -> str:
    return f"team.{team_id}"


def user_group(user_id: str) -> str:
    return f"user.{user_id}"


def founding(team: TeamRecord, founder: Principal) -> tuple[Commit, Commit]:
    """The commits that make a team with its first owner, to follow the one that decided it."""
    owner = MemberRecord(
        user_id=founder.user_id, name=founder.name, email=founder.email, role=Role.OWNER, joined_at=team.created_at
    )
    index = Commit(
        f"portal/user/{founder.user_id}", [Put(f"team/{team.id}", {"team_id": team.id, "since": team.created_at})]
    )
    record = Commit(
        team_partition(team.id),
        [Put("team", team.json_body()), Put(f"member/{founder.user_id}", owner.json_body())],
        memberships=[Membership(founder.user_id, team_group(team.id))],
    )
    return index, record
