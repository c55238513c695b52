"""Who is calling, and the one helper that checks what they may do."""

from dataclasses import dataclass

from shared.core.errors import Conflict, Forbidden, NotFound
from shared.core.permissions import Action, Role, allows
from shared.core.ports import Documents
from shared.core.resources import Actor


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in person, or an API token acting for one."""

    user_id: str
    name: str
    email: str
    platform_admin: bool = False

    @property
    def actor(self) -> Actor:
        return Actor(id=self.user_id, name=self.name, kind="user")


_WHILE_DELETED = frozenset({Action.READ, Action.DELETE_TEAM})


class Access:
    """Reads memberships: `portal/team/<team>`, document `member/<user>`."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def role(self, user_id: str, team_id: str) -> Role | None:
        doc = await self._documents.get(f"portal/team/{team_id}", f"member/{user_id}")
        return Role(doc.body["role"]) if doc else None

    async def require(self, principal: Principal, team_id: str, action: Action) -> Role:
        """The caller's role. NotFound for strangers, Forbidden for members whose role does not allow it.

        Conflict for all but reading while the team is being deleted.
        """
        role = await self.role(principal.user_id, team_id)
        if role is None:
            raise NotFound("It does not exist, or you are not a member of its team.")
        if not allows(role, action):
            raise Forbidden(f"Your role in this team ({role}) does not allow this: {action.replace('_', ' ')}.")
        if action not in _WHILE_DELETED and await self.is_deleting(team_id):
            raise Conflict("This team is being deleted. Nothing in it can be changed any more.")
        return role

    async def require_deletion(self, principal: Principal, team_id: str) -> None:
        """For owners, and for administrators of the platform."""
        if not principal.platform_admin:
            await self.require(principal, team_id, Action.DELETE_TEAM)

    async def is_deleting(self, team_id: str) -> bool:
        """Also of a team that is gone."""
        doc = await self._documents.get(f"portal/team/{team_id}", "team")
        return doc is None or doc.body["status"] == "deleting"
