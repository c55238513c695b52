"""Teams: founding, members, invitations by link, and who sees which events."""

import contextlib
import hmac
from dataclasses import replace
from datetime import timedelta

from shared.core import ids
from shared.core.access import Access, Principal
from shared.core.clock import iso, parse
from shared.core.errors import Conflict, Exists, Forbidden, NotFound
from shared.core.live import LiveConnections
from shared.core.permissions import Action, Role, allows
from shared.core.ports import Delete, Put, Realtime
from shared.core.resources import StartedTask, Subject
from shared.core.store import Commit, Membership, Store, retry_stale
from shared.core.teams import MemberRecord, TeamRecord, founding, team_group, team_partition, user_group
from shared.tasks.deletions import Deletions
from shared.tasks.runner import Runner
from shared.teams.models import (
    Invitation,
    InvitationPreview,
    InvitationRecord,
    Member,
    NewInvitation,
    NewTeam,
    RealtimeConnection,
    StartedTeam,
    Team,
)
from shared.teams.repository import TeamRepository

CONNECT_MINUTES = 5
"""How long a negotiated address opens new connections. Those of somebody removed since are cut by `watch`."""
_LINKS_AT_ONCE = 90
_MARGIN_SECONDS = 60
"""A removal may be under way for so long, and clocks may differ by it."""


class TeamService:
    def __init__(
        self,
        store: Store,
        repository: TeamRepository,
        access: Access,
        runner: Runner,
        deletions: Deletions,
        realtime: Realtime,
        web_url: str,
    ) -> None:
        self._store, self._repository, self._access = store, repository, access
        self._runner, self._realtime, self._web_url = runner, realtime, web_url
        self._live, self._deletions = LiveConnections(realtime), deletions

    async def create(self, principal: Principal, request: NewTeam) -> StartedTeam:
        """A team of its own, without a repository: a board for people."""
        team_id = ids.new_team()
        task_id = ids.new_task(team_id)
        team = TeamRecord(
            id=team_id,
            name=request.name,
            workspace_id=None,
            scope=team_id,
            task_id=task_id,
            created_by=principal.user_id,
            created_at=iso(self._store.clock.now()),
        )
        index, record = founding(team, principal)
        subject = Subject(kind="team", id=team_id, name=team.name)
        task = self._runner.creation(task_id, "team.create", subject, team_id, principal.user_id, {})
        await self._store.commit(replace(record, follow=[index, task]))
        return StartedTeam(team=_shown(team, Role.OWNER), task_id=task_id)

    async def mine(self, principal: Principal) -> list[Team]:
        teams: list[Team] = []
        for team_id in await self._repository.team_ids(principal.user_id):
            with contextlib.suppress(NotFound):  # deleted, or not yet founded
                teams.append(await self.get(principal, team_id))
        return sorted(teams, key=lambda team: team.created_at)

    async def get(self, principal: Principal, team_id: str) -> Team:
        role = await self._access.require(principal, team_id, Action.READ)
        return _shown((await self._repository.team(team_id))[0], role)

    async def delete(self, principal: Principal, team_id: str) -> StartedTask:
        """With everything in it. Conflict for the team of a workspace: that is deleted with it.

        Such a deletion is taken up here too: when it stopped late, the workspace is gone already.
        """
        await self._access.require_deletion(principal, team_id)
        team, _ = await self._repository.team(team_id)
        if team.workspace_id is not None and team.status != "deleting":
            raise Conflict("This team belongs to a workspace. Delete the workspace: its team goes with it.")
        return await self._deletions.begin(principal, team_id, Subject(kind="team", id=team_id, name=team.name))

    async def connect(self, principal: Principal) -> RealtimeConnection:
        """A websocket that sees the caller's own events and those of the caller's teams."""
        groups = [user_group(principal.user_id)] + [team_group(team.id) for team in await self.mine(principal)]
        url = await self._realtime.client_url(principal.user_id, groups, CONNECT_MINUTES)
        return RealtimeConnection(url=url, groups=groups)

    # -- members --------------------------------------------------------------------------------

    async def members(self, principal: Principal, team_id: str) -> list[Member]:
        await self._access.require(principal, team_id, Action.READ)
        return [Member(**member.model_dump()) for member in await self._repository.members(team_id)]

    async def change_role(self, principal: Principal, team_id: str, user_id: str, role: Role) -> Member:
        return await retry_stale(lambda: self._change_role(principal, team_id, user_id, role))

    async def _change_role(self, principal: Principal, team_id: str, user_id: str, role: Role) -> Member:
        member, etag = await self._manageable(principal, team_id, user_id, role)
        steps_down = member.role == Role.OWNER and role != Role.OWNER
        kept = [await self._other_owner(team_id, user_id)] if steps_down else []
        member.role = role
        links = [] if allows(role, Action.MANAGE_MEMBERS) else await self._links_of(team_id, user_id)
        ops = [Put(f"member/{user_id}", member.json_body(), etag), *kept, *links]
        await self._store.commit(Commit(team_partition(team_id), ops))
        return Member(**member.model_dump())

    async def remove(self, principal: Principal, team_id: str, user_id: str) -> None:
        """Remove somebody, or leave. Live connections stop seeing the team's events at once."""
        await retry_stale(lambda: self._remove(principal, team_id, user_id))
        await self._store.commit(Commit(f"portal/user/{user_id}", [Delete(f"team/{team_id}")]))
        await self._live.cut(user_id, [team_group(team_id)], lambda: self._is_gone(user_id, team_id))

    async def _is_gone(self, user_id: str, team_id: str) -> bool:
        return await self._access.role(user_id, team_id) is None

    async def _remove(self, principal: Principal, team_id: str, user_id: str) -> None:
        if user_id == principal.user_id:
            await self._access.require(principal, team_id, Action.READ)
            found = await self._repository.member(team_id, user_id)
            if found is None:
                raise NotFound("There is no such member.")
            member, etag = found
        else:
            member, etag = await self._manageable(principal, team_id, user_id, None)
        kept = [await self._other_owner(team_id, user_id)] if member.role == Role.OWNER else []
        await self._store.commit(
            Commit(
                team_partition(team_id),
                [Delete(f"member/{user_id}", etag), *kept, *await self._links_of(team_id, user_id)],
                memberships=[Membership(user_id, team_group(team_id), member=False)],
                watch=[f"left/{user_id}.{team_id}"],
            )
        )

    async def watch(self) -> int:
        """Cut connections that somebody removed has opened since, with an address from before. Called by a timer."""
        return await self._store.watch("left", self._cut)

    async def _cut(self, reference: str) -> bool:
        user_id, _, team_id = reference.partition("/")[2].partition(".")
        open_for = await self._store.open_seconds(reference)
        gone = await self._is_gone(user_id, team_id)
        if gone:
            await self._realtime.remove_from_group(user_id, team_group(team_id))
        # Somebody who is a member was not removed after all, or is back.
        if open_for > _MARGIN_SECONDS + (CONNECT_MINUTES * 60 if gone else 0):
            await self._store.settle(reference)
        return gone

    async def _links_of(self, team_id: str, user_id: str) -> list[Delete]:
        """Invitations by somebody who may no longer invite: they could come back by them."""
        links = [link for link in await self._repository.invitations(team_id) if link.created_by == user_id]
        return [Delete(f"invite/{link.id}") for link in links[:_LINKS_AT_ONCE]]

    async def _manageable(
        self, principal: Principal, team_id: str, user_id: str, role: Role | None
    ) -> tuple[MemberRecord, str]:
        await self._access.require(principal, team_id, Action.MANAGE_MEMBERS)
        found = await self._repository.member(team_id, user_id) if ids.is_plain(user_id) else None
        if found is None:
            raise NotFound("There is no such member.")
        if Role.OWNER in (found[0].role, role):
            await self._access.require(principal, team_id, Action.MANAGE_OWNERS)
        return found

    async def _other_owner(self, team_id: str, user_id: str) -> Put:
        """Another owner, for the commit to hold on to: of two who leave at once, one stays. Conflict without one."""
        for member in await self._repository.members(team_id):
            if member.role == Role.OWNER and member.user_id != user_id:
                found = await self._repository.member(team_id, member.user_id)
                if found is not None and found[0].role == Role.OWNER:
                    return Put(f"member/{member.user_id}", found[0].json_body(), found[1])
        raise Conflict("A team needs an owner. Make somebody else owner first.")

    # -- invitations ----------------------------------------------------------------------------

    async def invite(self, principal: Principal, team_id: str, request: NewInvitation) -> Invitation:
        await self._access.require(principal, team_id, Action.MANAGE_MEMBERS)
        if request.role == Role.OWNER:
            raise Forbidden("Nobody becomes owner by a link. Invite as admin, then change the role.")
        invitation_id = ids.random_text(10)
        token = f"{team_id}-{invitation_id}-{ids.random_text(26)}"
        now = self._store.clock.now()
        record = InvitationRecord(
            id=invitation_id,
            hash=ids.digest(token),
            role=request.role,
            created_by=principal.user_id,
            created_at=iso(now),
            expires_at=iso(now + timedelta(days=request.expires_in_days)),
        )
        await self._store.commit(Commit(team_partition(team_id), [Put(f"invite/{invitation_id}", record.json_body())]))
        return _invitation(record, f"{self._web_url}/invite/{token}")

    async def invitations(self, principal: Principal, team_id: str) -> list[Invitation]:
        await self._access.require(principal, team_id, Action.MANAGE_MEMBERS)
        return [_invitation(record) for record in await self._repository.invitations(team_id)]

    async def revoke(self, principal: Principal, team_id: str, invitation_id: str) -> None:
        await self._access.require(principal, team_id, Action.MANAGE_MEMBERS)
        if await self._repository.invitation(team_id, invitation_id) is None:
            raise NotFound("There is no such invitation.")
        await self._store.commit(Commit(team_partition(team_id), [Delete(f"invite/{invitation_id}")]))

    async def preview(self, principal: Principal, token: str) -> InvitationPreview:
        team_id, record, _ = await self._invited(token)
        team, _ = await self._open(team_id)
        return InvitationPreview(
            team_id=team_id,
            team_name=team.name,
            role=record.role,
            expires_at=record.expires_at,
            already_member=await self._access.role(principal.user_id, team_id) is not None,
        )

    async def accept(self, principal: Principal, token: str) -> Team:
        """Join by link; a member who follows it again keeps the role they have."""
        try:
            team_id = await retry_stale(lambda: self._accept(principal, token))
        except NotFound:  # withdrawn, or its team deleted, while it was accepted
            await self._forget_place(principal, token.split("-")[0])
            raise
        return await self.get(principal, team_id)

    async def _accept(self, principal: Principal, token: str) -> str:
        team_id, record, etag = await self._invited(token)
        if await self._access.role(principal.user_id, team_id) is not None:
            return team_id
        team, team_etag = await self._open(team_id)
        now = iso(self._store.clock.now())
        member = MemberRecord(
            user_id=principal.user_id, name=principal.name, email=principal.email, role=record.role, joined_at=now
        )
        index = Put(f"team/{team_id}", {"team_id": team_id, "since": now}, "*")
        await self._store.commit(Commit(f"portal/user/{principal.user_id}", [index]))
        record.accepted_count += 1
        ops = [
            Put(f"member/{principal.user_id}", member.json_body()),
            Put(f"invite/{record.id}", record.json_body(), etag),
            Put("team", team.json_body(), team_etag),  # held on to: nobody joins a team that is being deleted
        ]
        joined = Membership(principal.user_id, team_group(team_id))
        try:
            await self._store.commit(Commit(team_partition(team_id), ops, memberships=[joined]))
        except Exists:
            return team_id
        return team_id

    async def _open(self, team_id: str) -> tuple[TeamRecord, str]:
        team, etag = await self._repository.team(team_id)
        if team.status == "deleting":
            raise NotFound("This team is being deleted. Nobody can join it any more.")
        return team, etag

    async def _forget_place(self, principal: Principal, team_id: str) -> None:
        """The row that led them to a team they did not come to."""
        if ids.is_plain(team_id) and await self._is_gone(principal.user_id, team_id):
            await self._store.commit(Commit(f"portal/user/{principal.user_id}", [Delete(f"team/{team_id}")]))

    async def _invited(self, token: str) -> tuple[str, InvitationRecord, str]:
        parts = token.split("-")
        found = await self._repository.invitation(parts[0], parts[1]) if len(parts) == 3 else None
        if found is None or not hmac.compare_digest(found[0].hash, ids.digest(token)):
            raise NotFound("This invitation does not exist or was withdrawn. Ask for a new link.")
        if parse(found[0].expires_at) <= self._store.clock.now():
            raise NotFound("This invitation has expired. Ask for a new link.")
        return parts[0], *found


def _shown(team: TeamRecord, role: Role) -> Team:
    shown = team.model_dump(exclude={"scope", "created_by"})
    return Team(**shown, role=role, board_id=ids.board_id(team.scope))


def _invitation(record: InvitationRecord, url: str | None = None) -> Invitation:
    return Invitation(**record.model_dump(exclude={"hash", "created_by"}), url=url)
