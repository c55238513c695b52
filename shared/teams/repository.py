"""Typed access to `portal/team/<id>` and to a person's list of teams."""

from shared.core import ids
from shared.core.errors import NotFound
from shared.core.ports import Documents
from shared.core.teams import MemberRecord, TeamRecord, team_partition
from shared.teams.models import InvitationRecord


class TeamRepository:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def team(self, team_id: str) -> tuple[TeamRecord, str]:
        doc = await self._documents.get(team_partition(team_id), "team") if ids.is_plain(team_id) else None
        if doc is None:
            raise NotFound("There is no such team.")
        return TeamRecord.model_validate(doc.body), doc.etag

    async def team_ids(self, user_id: str) -> list[str]:
        docs = await self._documents.query(f"portal/user/{user_id}", "team/")
        return [doc.body["team_id"] for doc in docs]

    async def members(self, team_id: str) -> list[MemberRecord]:
        docs = await self._documents.query(team_partition(team_id), "member/")
        return [MemberRecord.model_validate(doc.body) for doc in docs]

    async def member(self, team_id: str, user_id: str) -> tuple[MemberRecord, str] | None:
        doc = await self._documents.get(team_partition(team_id), f"member/{user_id}")
        return (MemberRecord.model_validate(doc.body), doc.etag) if doc else None

    async def invitations(self, team_id: str) -> list[InvitationRecord]:
        docs = await self._documents.query(team_partition(team_id), "invite/")
        return [InvitationRecord.model_validate(doc.body) for doc in docs]

    async def invitation(self, team_id: str, invitation_id: str) -> tuple[InvitationRecord, str] | None:
        if not (ids.is_plain(team_id) and ids.is_plain(invitation_id)):
            return None
        doc = await self._documents.get(team_partition(team_id), f"invite/{invitation_id}")
        return (InvitationRecord.model_validate(doc.body), doc.etag) if doc else None
