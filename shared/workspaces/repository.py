"""Typed access to `portal/workspace/<id>`, and names that only one workspace can have."""

import contextlib

from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Conflict, Exists, NotFound, Stale
from shared.core.ports import Delete, Documents, Json, Put
from shared.core.teams import TeamRecord, team_partition
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

    async def team(self, team_id: str) -> TeamRecord | None:
        doc = await self._documents.get(team_partition(team_id), "team")
        return TeamRecord.model_validate(doc.body) if doc else None

    async def members(self, team_id: str) -> list[str]:
        return [doc.body["user_id"] for doc in await self._documents.query(team_partition(team_id), "member/")]

    async def reserve_name(self, slug: str, workspace_id: str) -> None:
        """Conflict when another workspace has it. One whose workspace did not follow within a minute is taken over."""
        reservation: Json = {"workspace_id": workspace_id, "at": iso(self._clock.now())}
        try:
            put = Put("reservation", reservation, await self._replaceable(slug, workspace_id))
            await self._documents.commit(_name_partition(slug), [put])
        except (Exists, Stale):
            raise Conflict("A workspace of this name exists already. Choose another name.") from None

    async def _replaceable(self, slug: str, workspace_id: str) -> str | None:
        """ETag of a reservation that is the workspace's own, or that nobody uses."""
        doc = await self._documents.get(_name_partition(slug), "reservation")
        if doc is None:
            return None
        if doc.body["workspace_id"] == workspace_id:
            return doc.etag
        age = (self._clock.now() - parse(doc.body["at"])).total_seconds()
        used = await self._documents.get(workspace_partition(doc.body["workspace_id"]), "workspace")
        return doc.etag if used is None and age > _FOLLOWS_WITHIN else None

    async def release_name(self, slug: str, workspace_id: str) -> None:
        """Unless it is another workspace's meanwhile."""
        doc = await self._documents.get(_name_partition(slug), "reservation")
        if doc is not None and doc.body["workspace_id"] == workspace_id:
            with contextlib.suppress(Stale):
                await self._documents.commit(_name_partition(slug), [Delete("reservation", doc.etag)])


def _name_partition(slug: str) -> str:
    return f"portal/name/workspace-{slug}"
