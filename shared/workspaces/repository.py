"""Typed access to `portal/workspace/<id>`, and names that only one workspace can have."""

from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Conflict, Exists, NotFound, Stale
from shared.core.ports import Delete, Documents, Json, Put
from shared.workspaces.models import WorkspaceRecord

_FOLLOWS_WITHIN = 60


def workspace_partition(workspace_id: str) -> str:
    return f"portal/workspace/{workspace_id}"


class WorkspaceRepository:
    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents, self._clock = documents, clock

    async def workspace(self, workspace_id: str) -> tuple[WorkspaceRecord, str]:
        known = ids.is_plain(workspace_id)
        doc = await self._documents.get(workspace_partition(workspace_id), "workspace") if known else None
        if doc is None:
            raise NotFound("There is no such workspace.")
        return WorkspaceRecord.model_validate(doc.body), doc.etag

    async def of_team(self, team_id: str) -> str | None:
        """The workspace a team belongs to."""
        doc = await self._documents.get(f"portal/team/{team_id}", "team")
        return doc.body["workspace_id"] if doc else None

    async def reserve_name(self, slug: str, workspace_id: str) -> None:
        """Conflict when another workspace has it. One whose workspace did not follow within a minute is taken over."""
        partition = f"portal/name/workspace-{slug}"
        reservation: Json = {"workspace_id": workspace_id, "at": iso(self._clock.now())}
        try:
            await self._documents.commit(partition, [Put("reservation", reservation, await self._abandoned(slug))])
        except (Exists, Stale):
            raise Conflict("A workspace of this name exists already. Choose another name.") from None

    async def _abandoned(self, slug: str) -> str | None:
        """ETag of a reservation that nobody uses."""
        doc = await self._documents.get(f"portal/name/workspace-{slug}", "reservation")
        if doc is None:
            return None
        age = (self._clock.now() - parse(doc.body["at"])).total_seconds()
        used = await self._documents.get(workspace_partition(doc.body["workspace_id"]), "workspace")
        return doc.etag if used is None and age > _FOLLOWS_WITHIN else None

    async def release_name(self, slug: str) -> None:
        await self._documents.commit(f"portal/name/workspace-{slug}", [Delete("reservation")])
