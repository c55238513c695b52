"""Typed access to `portal/workspace/<id>`, and names that only one workspace can have."""

import contextlib
import re

from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Conflict, Exists, NotFound, Stale
from shared.core.ports import Delete, Doc, Documents, Json, Put
from shared.core.teams import TeamRecord, team_partition
from shared.workspaces.models import WorkspaceRecord

NAME_TAKEN = "A workspace of this name exists already. Choose another name."
_FOLLOWS_WITHIN = 60
_SLUG = re.compile(r"[a-z0-9-]{1,100}")


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

    async def of_repository(self, full_name: str) -> str | None:
        """Id of the workspace that has this repository; None where nobody here has it."""
        slug = full_name.rpartition("/")[2].lower()
        if not _SLUG.fullmatch(slug):
            return None
        reservation = await self._documents.get(_name_partition(slug), "reservation")
        found = await self._follower(reservation) if reservation else None
        record = WorkspaceRecord.model_validate(found.body) if found else None
        known = record.repository if record else None
        return record.id if record and known and known.full_name.lower() == full_name.lower() else None

    async def team(self, team_id: str) -> TeamRecord | None:
        doc = await self._documents.get(team_partition(team_id), "team")
        return TeamRecord.model_validate(doc.body) if doc else None

    async def members(self, team_id: str) -> list[str]:
        return [doc.body["user_id"] for doc in await self._documents.query(team_partition(team_id), "member/")]

    async def unborn(self, slug: str, user_id: str) -> str | None:
        """The workspace that this person reserved the name for and that did not follow, if there is one."""
        doc = await self._documents.get(_name_partition(slug), "reservation")
        if doc is None or doc.body.get("user_id") != user_id or await self._follower(doc):
            return None
        return doc.body["workspace_id"]

    async def reserve_name(self, slug: str, workspace_id: str, user_id: str) -> None:
        """Conflict when another workspace has it. One whose workspace did not follow within a minute is taken over."""
        reservation: Json = {"workspace_id": workspace_id, "user_id": user_id, "at": iso(self._clock.now())}
        try:
            put = Put("reservation", reservation, await self._replaceable(slug, workspace_id))
            await self._documents.commit(_name_partition(slug), [put])
        except (Exists, Stale):
            raise Conflict(NAME_TAKEN) from None

    async def _replaceable(self, slug: str, workspace_id: str) -> str | None:
        """ETag of a reservation that is the workspace's own, or that nobody uses."""
        doc = await self._documents.get(_name_partition(slug), "reservation")
        if doc is None:
            return None
        if doc.body["workspace_id"] == workspace_id:
            return doc.etag
        age = (self._clock.now() - parse(doc.body["at"])).total_seconds()
        return doc.etag if age > _FOLLOWS_WITHIN and await self._follower(doc) is None else None

    async def _follower(self, reservation: Doc) -> Doc | None:
        return await self._documents.get(workspace_partition(reservation.body["workspace_id"]), "workspace")

    async def release_name(self, slug: str, workspace_id: str) -> None:
        """Unless it is another workspace's meanwhile."""
        doc = await self._documents.get(_name_partition(slug), "reservation")
        if doc is not None and doc.body["workspace_id"] == workspace_id:
            with contextlib.suppress(Stale):
                await self._documents.commit(_name_partition(slug), [Delete("reservation", doc.etag)])


def _name_partition(slug: str) -> str:
    return f"portal/name/workspace-{slug}"
