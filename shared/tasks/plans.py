"""The table of contents of every flow of long work."""

from dataclasses import dataclass

from shared.agents.steps import AgentSteps
from shared.boards.steps import BoardSteps
from shared.core.ports import Json
from shared.core.resources import TaskStatus
from shared.llm.steps import LlmSteps
from shared.tasks.models import Later, Plan, PlannedStep, StepContext, StepRun, StepUndo
from shared.tasks.steps import TaskSteps
from shared.teams.steps import TeamSteps
from shared.workspaces.steps import DELETE_REPOSITORY, WorkspaceSteps

_LONG = 600
"""Seconds for what may be large."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of every feature."""

    teams: TeamSteps
    boards: BoardSteps
    llm: LlmSteps
    agents: AgentSteps
    workspaces: WorkspaceSteps
    tasks: TaskSteps


def plans(steps: Steps) -> dict[str, Plan]:
    return {plan.name: plan for plan in (*_creations(steps), *_deletions(steps))}


def _creations(steps: Steps) -> tuple[Plan, ...]:
    teams, boards, llm, agents, workspaces = steps.teams, steps.boards, steps.llm, steps.agents, steps.workspaces
    team = (
        PlannedStep("reserve_host", "Reserving a host", teams.reserve_host, teams.release_host),
        PlannedStep("render_stack", "Creating team", teams.render_stack, teams.remove_stack),
        PlannedStep("create_board", "Creating board", boards.create_board, boards.erase_board, timeout=_LONG),
        PlannedStep("issue_llm_key", "Issuing model key", llm.issue_llm_key, llm.revoke_llm_key),
    )

    async def open_workspace(ctx: StepContext) -> Json:
        """With its team, which had failed with it if this is another try."""
        return await teams.activate(ctx) | await workspaces.open_workspace(ctx)

    repository = PlannedStep(
        "create_repository", "Creating repo", workspaces.create_repository, workspaces.delete_repository
    )
    imported = PlannedStep("import_repository", "Importing repo", workspaces.import_repository, workspaces.stop_import)
    publish = PlannedStep(
        "publish_repository", "Protecting repo", workspaces.publish_repository, workspaces.detach_repository
    )
    agent = PlannedStep("provision_agent", "Provisioning agent", agents.provision_agent, agents.remove_agent)
    activate = PlannedStep("activate", "Activating team", teams.activate, teams.deactivate)
    opened = PlannedStep("open_workspace", "Opening workspace", open_workspace, workspaces.close_workspace)
    last = (publish, agent, activate, opened)

    async def workspace_ended(ctx: StepContext, status: TaskStatus, reason: str) -> None:
        await teams.ended(ctx, status, reason)
        await workspaces.ended(ctx, status, reason)

    async def renew_workspace(ctx: StepContext) -> None:
        await workspaces.renew(ctx)  # it may refuse, and then nothing is renewed
        await teams.renew(ctx)

    return (
        Plan("team.create", "Creating team", (*team, agent, activate), teams.ended, teams.renew),
        Plan("workspace.create", "Creating workspace", (*team, repository, *last), workspace_ended, renew_workspace),
        Plan(
            "workspace.import",
            "Importing workspace",
            (*team, repository, imported, *last),
            workspace_ended,
            renew_workspace,
        ),
    )


def _deletions(steps: Steps) -> tuple[Plan, ...]:
    """Each removes what the step of a creation made, by what undoes it there."""
    teams, boards, llm, agents, workspaces = steps.teams, steps.boards, steps.llm, steps.agents, steps.workspaces

    async def forget(ctx: StepContext) -> Json:
        """What somebody did while it was being deleted goes with the rest."""
        await teams.remove_stack(ctx)
        await boards.erase_board(ctx)
        await steps.tasks.forget_creation(ctx)
        return await teams.forget(ctx)

    first = (
        PlannedStep("end_creation", "Ending its creation", steps.tasks.end_creation),
        PlannedStep("stop_runs", "Stopping agents", agents.stop_runs),
        PlannedStep("remove_stack", "Removing containers", _run(teams.remove_stack)),
        PlannedStep("remove_agent", "Removing agent", _run(agents.remove_agent)),
        PlannedStep("revoke_llm_key", "Revoking model key", _run(llm.revoke_llm_key)),
        PlannedStep("erase_board", "Deleting board", _run(boards.erase_board), timeout=_LONG),
    )
    repository = PlannedStep(DELETE_REPOSITORY, "Deleting repo", _run(workspaces.delete_repository))
    host = PlannedStep("release_host", "Freeing its place", _run(teams.release_host))
    workspace = PlannedStep("forget_workspace", "Freeing its name", workspaces.forget)
    last = PlannedStep("forget_team", "Removing members", forget, timeout=_LONG)
    return (
        Plan("team.delete", "Deleting team", (*first, host, last), _stays),
        Plan("workspace.delete", "Deleting workspace", (*first, repository, host, workspace, last), _stays),
    )


async def _stays(ctx: StepContext, status: TaskStatus, reason: str) -> None:
    """What is being deleted stays so until it is gone: its task says why it stopped."""


def _run(undo: StepUndo) -> StepRun:
    """What undoes the step of a creation, as the step of a deletion."""

    async def run(ctx: StepContext) -> Json | Later:
        return await undo(ctx) or {}

    return run
