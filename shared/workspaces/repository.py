"""Typed access to `portal/workspace/<id>`, and names that only one workspace can have."""

from shared.core import ids
from shared.core.errors import Conflict, Exists, NotFound
from shared.core.ports import ANY, Delete, Documents, Put
from shared.workspaces.models import WorkspaceRecord


def workspace_partition(workspace_id: str) -> str:
    return f"portal/workspace/{workspace_id}"


class WorkspaceRepository:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

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
        """Conflict when another workspace has it. A reservation whose workspace never came to be is taken over."""
        partition = f"portal/name/workspace-{slug}"
        reservation = {"workspace_id": workspace_id}
        try:
            await self._documents.commit(partition, [Put("reservation", reservation)])
        except Exists:
            doc = await self._documents.get(partition, "reservation")
            if doc and await self._documents.get(workspace_partition(doc.body["workspace_id"]), "workspace"):
                raise Conflict("A workspace of this name exists already. Choose another name.") from None
            await self._documents.commit(partition, [Put("reservation", reservation, doc.etag if doc else ANY)])

    async def release_name(self, slug: str) -> None:
        await self._documents.commit(f"portal/name/workspace-{slug}", [Delete("reservation")])
