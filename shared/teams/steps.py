"""Provisioning steps of a team's place and stack."""

import json

from shared.core.errors import Unavailable
from shared.core.events import NewEvent, ProvisionedData
from shared.core.ports import ANY, Blobs, ContainerHost, Json, Put
from shared.core.store import Commit, Store, retry_stale
from shared.core.teams import team_group, team_partition
from shared.tasks.models import StepContext
from shared.teams.repository import TeamRepository

HOST = "local"


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

    async def render_stack(self, ctx: StepContext) -> Json:
        """Keep the team's compose project, from which its services are started."""
        name = f"teams/{ctx.team_id}/compose.json"
        await self._blobs.put(name, json.dumps(compose_project(ctx.team_id), indent=2).encode())
        return {"stack": name}

    async def activate(self, ctx: StepContext) -> Json:
        async def attempt() -> None:
            team, etag = await self._repository.team(ctx.team_id)
            if team.status == "active":
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

    async def failed(self, ctx: StepContext, reason: str) -> None:
        async def attempt() -> None:
            team, etag = await self._repository.team(ctx.team_id)
            team.status = "failed"
            await self._store.commit(Commit(team_partition(team.id), [Put("team", team.json_body(), etag)]))

        await retry_stale(attempt)


def compose_project(team_id: str) -> Json:
    """The team's Compose project (JSON is YAML): one internal network and one volume for its agents' caches."""
    return {
        "name": f"kanban-{team_id}",
        "networks": {"agents": {"internal": True}},
        "volumes": {"cache": {"labels": {"team": team_id}}},
        "services": {},
    }
