"""Steps that make a workspace: its repository, and opening it; and what undoes them."""

import contextlib
import re

from shared.core.addresses import ContainerAddresses
from shared.core.board_events import board_updated
from shared.core.boards import BoardRepository, board_partition
from shared.core.errors import Conflict, NotFound, Unavailable
from shared.core.events import DeletedData, NewEvent, ProvisionedData
from shared.core.policy import AgentPolicy
from shared.core.ports import ContainerHost, Delete, Job, JobSpec, Json, Put, Repositories, Repository
from shared.core.resources import RepositoryInfo, TaskStatus
from shared.core.store import Commit, Store, retry_stale
from shared.core.teams import team_group, user_group
from shared.tasks.models import Later, StepContext
from shared.workspaces.models import WorkspaceRecord, WorkspaceStatus
from shared.workspaces.repository import WorkspaceRepository, workspace_partition

_PROGRESS = re.compile(r"^progress (\d+)(?: (.*))?$", re.MULTILINE)
_DEFAULT_BRANCH = re.compile(r"^default-branch (\S+)$", re.MULTILINE)
IMPORT_SECONDS = 900
DELETE_REPOSITORY = "delete_repository"
"""The step of a deletion that is done only when asked for."""


class WorkspaceSteps:
    def __init__(
        self,
        store: Store,
        workspaces: WorkspaceRepository,
        boards: BoardRepository,
        repositories: Repositories,
        host: ContainerHost,
        addresses: ContainerAddresses,
        policy: AgentPolicy,
        template: str,
    ) -> None:
        self._store, self._workspaces, self._boards = store, workspaces, boards
        self._repositories, self._host, self._addresses = repositories, host, addresses
        self._policy, self._template = policy, template

    async def create_repository(self, ctx: StepContext) -> Json:
        """Our own repository: from the template, or empty when one is imported next."""
        workspace, _ = await self._workspaces.workspace(ctx.subject.id)
        imported = workspace.import_url is not None
        template = None if imported else self._template or None
        made = await self._repositories.ensure(workspace.slug, _description(workspace), template, empty=imported)
        return {"repository": made.full_name}

    async def delete_repository(self, ctx: StepContext) -> None:
        """With everything that was pushed to it; a repository that was never this workspace's stays.

        Conflict for one that was, and cannot be told from others any more.
        """
        with contextlib.suppress(NotFound):
            workspace, _ = await self._workspaces.workspace(ctx.subject.id)
            ours = _description(workspace)
            if not await self._repositories.remove(workspace.slug, ours) and workspace.repository is not None:
                raise Conflict(
                    f"{workspace.repository.full_name} is not described as “{ours}” any more, so it was not "
                    "deleted. Describe it so again on GitHub, then retry; or delete the workspace and keep it."
                )

    async def import_repository(self, ctx: StepContext) -> Json | Later:
        """Copy branches and tags in a container job, which has git; the job's own log tells how far it is."""
        workspace, _ = await self._workspaces.workspace(ctx.subject.id)
        name = _import_job(ctx, ctx.state.get("retries", 0))
        job = await self._host.job(name) or await self._start_import(ctx, workspace, name)
        if job.status == "running":
            told = _PROGRESS.findall(job.log_tail)
            progress, note = (float(told[-1][0]) / 100, told[-1][1]) if told else (None, "Starting")
            return Later(0.5, progress, note or None)
        if job.exit_code != 0:
            await self._host.stop_job(name)
            raise Conflict(self._addresses.outside(_reason(job)))
        branch = _DEFAULT_BRANCH.search(job.log_tail)
        return {"default_branch": branch.group(1) if branch else None}

    async def stop_import(self, ctx: StepContext) -> None:
        """Of all tries."""
        for tried in range(ctx.state.get("retries", 0) + 1):
            await self._host.remove(_import_job(ctx, tried))

    async def _start_import(self, ctx: StepContext, workspace: WorkspaceRecord, name: str) -> Job:
        target = await self._target(ctx)
        token = await self._repositories.platform_token(target.full_name)
        env = {
            "SOURCE_URL": self._addresses.inside(workspace.import_url or ""),
            "TARGET_URL": self._addresses.inside(target.clone_url),
            "TARGET_TOKEN": token.token,
        }
        return await self._host.start_job(
            JobSpec(name, ctx.team_id, ("agent_container.importer",), env, IMPORT_SECONDS, outbound=True)
        )

    async def publish_repository(self, ctx: StepContext) -> Json:
        """Protect the default branch, and let the workspace and its board know their repository."""
        target = await self._target(ctx)
        branch = ctx.state.get("default_branch") or target.default_branch
        await self._repositories.protect(target.full_name, branch)
        info = RepositoryInfo(
            full_name=target.full_name,
            html_url=target.html_url,
            clone_url=target.clone_url,
            default_branch=branch,
        )
        await retry_stale(lambda: self._attach(ctx, info))
        return {"default_branch": branch}

    async def detach_repository(self, ctx: StepContext) -> None:
        with contextlib.suppress(NotFound):  # the board was never made, or is gone
            await retry_stale(lambda: self._attach(ctx, None))

    async def _target(self, ctx: StepContext) -> Repository:
        found = await self._repositories.get(ctx.state["repository"])
        if found is None:
            raise Unavailable("The repository is not there yet.")
        return found

    async def _attach(self, ctx: StepContext, info: RepositoryInfo | None) -> None:
        scope = ctx.subject.id
        workspace, etag = await self._workspaces.workspace(scope)
        workspace.repository = info
        await self._save(workspace, etag)
        board, board_etag = await self._boards.board(scope)
        if board.repository == info:
            return
        board.repository = info
        put = Put("board", board.json_body(), board_etag)
        await self._store.commit(Commit(board_partition(scope), [put], [board_updated(board, self._policy)]))

    async def open_workspace(self, ctx: StepContext) -> Json:
        async def attempt() -> None:
            workspace, etag = await self._workspaces.workspace(ctx.subject.id)
            if workspace.status == "active":
                return
            workspace.status, workspace.error = "active", None
            data = ProvisionedData(team_id=ctx.team_id, workspace_id=workspace.id, name=workspace.name)
            event = NewEvent("workspace.provisioned", f"team/{ctx.team_id}", data, (team_group(ctx.team_id),))
            await self._save(workspace, etag, event)

        await retry_stale(attempt)
        return {}

    async def close_workspace(self, ctx: StepContext) -> None:
        await self._set(ctx, "pending", None)

    async def ended(self, ctx: StepContext, status: TaskStatus, reason: str) -> None:
        """A workspace that was undone gives its name back."""
        await self._set(ctx, "cancelled" if status == "cancelled" else "failed", reason)
        if status in ("cancelled", "rolled_back"):
            workspace, _ = await self._workspaces.workspace(ctx.subject.id)
            await self._workspaces.release_name(workspace.slug, workspace.id)

    async def renew(self, ctx: StepContext) -> None:
        """Its creation begins anew, or goes on. Conflict when its name was taken meanwhile."""
        workspace, _ = await self._workspaces.workspace(ctx.subject.id)
        await self._workspaces.reserve_name(workspace.slug, workspace.id, ctx.owner_id)
        if workspace.status != "active":
            await self._set(ctx, "pending", None)

    async def _set(self, ctx: StepContext, status: WorkspaceStatus, error: str | None) -> None:
        async def attempt() -> None:
            workspace, etag = await self._workspaces.workspace(ctx.subject.id)
            workspace.status, workspace.error = status, error
            await self._save(workspace, etag)

        await retry_stale(attempt)

    async def forget(self, ctx: StepContext) -> Json:
        """Its name is free again; all its members hear that it is gone."""
        with contextlib.suppress(NotFound):
            await retry_stale(lambda: self._forget(ctx))
        return {}

    async def _forget(self, ctx: StepContext) -> None:
        workspace, etag = await self._workspaces.workspace(ctx.subject.id)
        await self._workspaces.release_name(workspace.slug, workspace.id)
        data = DeletedData(team_id=ctx.team_id, workspace_id=workspace.id, name=workspace.name)
        watching = dict.fromkeys([ctx.owner_id, *await self._workspaces.members(ctx.team_id)])
        event = NewEvent("workspace.deleted", f"team/{ctx.team_id}", data, [user_group(user) for user in watching])
        gone = Delete("workspace", etag)
        await self._store.commit(Commit(workspace_partition(workspace.id), [gone], [event]))

    async def _save(self, workspace: WorkspaceRecord, etag: str, *events: NewEvent) -> None:
        put = Put("workspace", workspace.json_body(), etag)
        await self._store.commit(Commit(workspace_partition(workspace.id), [put], events))


def _reason(job: Job) -> str:
    lines = [line for line in job.log_tail.splitlines() if line.strip() and not _PROGRESS.match(line)]
    return lines[-1] if lines else f"The import ended with exit code {job.exit_code}."


def _description(workspace: WorkspaceRecord) -> str:
    """By which its repository is known to be its own."""
    return f"Workspace {workspace.name} ({workspace.id})"


def _import_job(ctx: StepContext, tried: int) -> str:
    return f"import-{ctx.task_id}-{tried}"
