"""Workspaces: created from a name, with their team, board, repository and agent."""

import contextlib
import re
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from shared.core import ids
from shared.core.access import Access, Principal
from shared.core.clock import iso
from shared.core.errors import Conflict, Exists, Invalid, NotFound
from shared.core.permissions import Action, Role
from shared.core.ports import Put
from shared.core.resources import StartedTask, Subject
from shared.core.store import Commit, Store
from shared.core.teams import TeamRecord, founding
from shared.tasks.deletions import Deletions
from shared.tasks.runner import Runner
from shared.workspaces.models import NewWorkspace, StartedWorkspace, Workspace, WorkspaceRecord
from shared.workspaces.repository import NAME_TAKEN, WorkspaceRepository, workspace_partition
from shared.workspaces.steps import DELETE_REPOSITORY


class WorkspaceService:
    def __init__(
        self,
        store: Store,
        repository: WorkspaceRepository,
        access: Access,
        runner: Runner,
        deletions: Deletions,
        import_schemes: tuple[str, ...],
    ) -> None:
        self._store, self._repository, self._access = store, repository, access
        self._runner, self._deletions, self._import_schemes = runner, deletions, import_schemes

    async def create(self, principal: Principal, request: NewWorkspace) -> StartedWorkspace:
        """202: the workspace exists as `pending`, and a task provisions it."""
        source = self._import_source(request.import_url)
        slug, team_id = _slug(request.name), ids.new_team()
        # A creation that failed half-way goes on under its id: of two that do, only one can create the workspace.
        workspace_id = await self._repository.unborn(slug, principal.user_id) or ids.new_workspace()
        await self._repository.reserve_name(slug, workspace_id, principal.user_id)
        task_id = ids.new_task(workspace_id)
        now = iso(self._store.clock.now())
        workspace = WorkspaceRecord(
            id=workspace_id,
            name=request.name,
            slug=slug,
            team_id=team_id,
            import_url=source,
            task_id=task_id,
            created_by=principal.user_id,
            created_at=now,
        )
        team = TeamRecord(
            id=team_id,
            name=request.name,
            workspace_id=workspace_id,
            scope=workspace_id,
            task_id=task_id,
            created_by=principal.user_id,
            created_at=now,
        )
        plan = "workspace.import" if source else "workspace.create"
        subject = Subject(kind="workspace", id=workspace_id, name=request.name)
        task = self._runner.creation(task_id, plan, subject, team_id, principal.user_id, {})
        follow = [*founding(team, principal), task]
        put = Put("workspace", workspace.json_body())
        try:
            await self._store.commit(Commit(workspace_partition(workspace_id), [put], follow=follow))
        except Exists:
            raise Conflict(NAME_TAKEN) from None
        return StartedWorkspace(workspace=_shown(workspace, Role.OWNER, team), task_id=task_id)

    async def get(self, principal: Principal, workspace_id: str) -> Workspace:
        workspace, _ = await self._repository.workspace(workspace_id)
        role = await self._access.require(principal, workspace.team_id, Action.READ)
        return _shown(workspace, role, await self._repository.team(workspace.team_id))

    async def of_teams(self, principal: Principal, team_ids: list[str]) -> list[Workspace]:
        """The workspaces of these teams, in their order."""
        teams = [await self._repository.team(team_id) for team_id in team_ids]
        found: list[Workspace] = []
        for workspace_id in [team.workspace_id for team in teams if team]:
            if workspace_id:
                with contextlib.suppress(NotFound):  # it has just been deleted
                    found.append(await self.get(principal, workspace_id))
        return found

    async def delete(
        self, principal: Principal, workspace_id: str, repository: Literal["keep", "delete"]
    ) -> StartedTask:
        """With its team, its board and everything on it. Its repository stays unless that is asked for.

        Asked again, `keep` saves a repository that is not deleted yet; Conflict when one deletion cannot be the other.
        """
        workspace, _ = await self._repository.workspace(workspace_id)
        await self._access.require_deletion(principal, workspace.team_id)
        subject = Subject(kind="workspace", id=workspace_id, name=workspace.name)
        optional = {DELETE_REPOSITORY: repository == "delete"}
        return await self._deletions.begin(principal, workspace.team_id, subject, optional)

    def _import_source(self, url: str | None) -> str | None:
        if not url or not url.strip():
            return None
        if not url.strip().isprintable() or " " in url.strip():  # the parser below would overlook line ends
            raise Invalid("The address of the repository to import holds spaces or control characters.")
        parts = _address(url.strip())
        if parts.scheme not in self._import_schemes:
            allowed = ", ".join(f"{scheme}://" for scheme in self._import_schemes)
            raise Invalid(f"A repository can be imported from {allowed} addresses only.")
        if parts.username or parts.password:
            raise Invalid("Put no credentials into the address: it is kept with the workspace.")
        if not (parts.path.strip("/") if parts.scheme == "file" else parts.hostname):
            raise Invalid("The address of the repository to import is not complete.")
        return url.strip()


def _address(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise Invalid("The address of the repository to import cannot be read.") from None


def _slug(name: str) -> str:
    """The name as a repository name: letters, digits and dashes."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        raise Invalid("The name needs at least one letter (a-z) or digit: the repository is named after it.")
    return slug


def _shown(workspace: WorkspaceRecord, role: Role, team: TeamRecord | None) -> Workspace:
    shown = workspace.model_dump(exclude={"slug", "created_by"})
    if team is None or team.status == "deleting":
        shown |= {"status": "deleting", "task_id": team.task_id if team else workspace.task_id}
    return Workspace(**shown, role=role, board_id=ids.board_id(workspace.id))
