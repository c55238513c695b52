"""Steps that make a team's place and stack, and what undoes them: when its creation ends, and when it is deleted."""

import json

from shared.core.errors import Conflict, Unavailable
from shared.core.events import DeletedData, NewEvent, ProvisionedData
from shared.core.ports import ANY, Blobs, ContainerHost, Delete, Json, Put
from shared.core.resources import TaskStatus
from shared.core.store import Commit, Membership, Store, retry_stale
from shared.core.teams import TeamRecord, TeamStatus, team_group, team_partition, user_group
from shared.tasks.models import StepContext
from shared.teams.repository import TeamRepository

HOST = "local"
_AT_ONCE = 40
"""Members and invitations that one commit forgets: each member has rows of its outbox too."""


class TeamSteps:
    def __init__(
        self, store: Store, repository: TeamRepository, host: ContainerHost, blobs: Blobs, capacity: int
    ) -> None:
        self._store, self._repository, self._host = store, repository, host
        self._blobs, self._capacity = blobs, capacity

    async def reserve_host(self, ctx: StepContext) -> Json:
        """Place the team on a container host with room."""
        partition = f"portal/host/{HOST}"
        reserved = await self._store.documents.query(partition, "team/")
        others = sum(doc.id != f"team/{ctx.team_id}" for doc in reserved)
        if others >= self._capacity:
            raise Unavailable(f"Every container host is full ({others} teams). Raise HOST_TEAM_CAPACITY or add one.")
        await self._store.documents.commit(partition, [Put(f"team/{ctx.team_id}", {"team_id": ctx.team_id}, ANY)])
        return {"host": HOST, "driver": self._host.driver}

    async def release_host(self, ctx: StepContext) -> None:
        await self._store.documents.commit(f"portal/host/{HOST}", [Delete(f"team/{ctx.team_id}")])

    async def render_stack(self, ctx: StepContext) -> Json:
        """Keep the team's compose project, from which its services are started."""
        name = _stack(ctx.team_id)
        await self._blobs.put(name, json.dumps(compose_project(ctx.team_id), indent=2).encode())
        return {"stack": name}

    async def remove_stack(self, ctx: StepContext) -> None:
        """Everything of the team that a container host holds, and the project it was started from."""
        await self._host.remove_team(ctx.team_id)
        await self._blobs.delete(_stack(ctx.team_id))

    async def activate(self, ctx: StepContext) -> Json:
        async def attempt() -> None:
            team, etag = await self._repository.team(ctx.team_id)
            if team.status in ("active", "deleting"):
                return
            team.status = "active"
            event = NewEvent(
                "team.provisioned",
                f"team/{team.id}",
                ProvisionedData(team_id=team.id, workspace_id=team.workspace_id, name=team.name),
                (team_group(team.id),),
            )
            await self._store.commit(Commit(team_partition(team.id), [Put("team", team.json_body(), etag)], [event]))

        await retry_stale(attempt)
        return {}

    async def deactivate(self, ctx: StepContext) -> None:
        await self._set(ctx, "pending")

    async def ended(self, ctx: StepContext, status: TaskStatus, reason: str) -> None:
        await self._set(ctx, "cancelled" if status == "cancelled" else "failed")

    async def renew(self, ctx: StepContext) -> None:
        """Its creation begins anew, or goes on."""
        team, _ = await self._repository.team(ctx.team_id)
        if team.status == "deleting":
            raise Conflict("It is being deleted: its creation cannot go on.")
        if team.status != "active":
            await self._set(ctx, "pending")

    async def _set(self, ctx: StepContext, status: TeamStatus) -> None:
        """A team that is being deleted stays so."""

        async def attempt() -> None:
            team, etag = await self._repository.team(ctx.team_id)
            if team.status not in ("deleting", status):
                team.status = status
                await self._store.commit(Commit(team_partition(team.id), [Put("team", team.json_body(), etag)]))

        await retry_stale(attempt)

    async def forget(self, ctx: StepContext) -> Json:
        """Members, invitations, and the team itself last; whoever watched it hears of it and sees no more."""
        watching = [ctx.owner_id, *(member.user_id for member in await self._repository.members(ctx.team_id))]
        while not await retry_stale(lambda: self._forget_some(ctx, watching)):
            pass
        return {}

    async def _forget_some(self, ctx: StepContext, watching: list[str]) -> bool:
        """True when all of it is gone."""
        partition = team_partition(ctx.team_id)
        docs = await self._store.documents.query(partition)
        docs = [doc for doc in docs if not doc.id.startswith("outbox/")]
        some = docs if len(docs) <= _AT_ONCE else [doc for doc in docs if doc.id != "team"][:_AT_ONCE]
        users = [doc.body["user_id"] for doc in some if doc.id.startswith("member/")]
        for user in users:
            await self._store.commit(Commit(f"portal/user/{user}", [Delete(f"team/{ctx.team_id}")]))
        team = next((TeamRecord.model_validate(doc.body) for doc in some if doc.id == "team"), None)
        events = [_deleted(team, watching)] if team else []
        await self._store.commit(
            Commit(
                partition,
                [Delete(doc.id, doc.etag) for doc in some],
                events,
                memberships=[Membership(user, team_group(ctx.team_id), member=False) for user in users],
                watch=[f"left/{user}.{ctx.team_id}" for user in users],
            )
        )
        return len(some) == len(docs)


def _deleted(team: TeamRecord, watching: list[str]) -> NewEvent:
    """To each by name: nobody is in the team's group any more."""
    data = DeletedData(team_id=team.id, workspace_id=team.workspace_id, name=team.name)
    groups = [user_group(user) for user in dict.fromkeys(watching)]
    return NewEvent("team.deleted", f"team/{team.id}", data, groups)


def _stack(team_id: str) -> str:
    return f"teams/{team_id}/compose.json"


def compose_project(team_id: str) -> Json:
    """The team's Compose project (JSON is YAML): one internal network and one volume for its agents' caches."""
    return {
        "name": f"kanban-{team_id}",
        "networks": {"agents": {"internal": True}},
        "volumes": {"cache": {"labels": {"team": team_id}}},
        "services": {},
    }
