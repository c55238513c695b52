"""The table of contents of every flow of long work."""

from dataclasses import dataclass

from shared.agents.steps import AgentSteps
from shared.boards.steps import BoardSteps
from shared.llm.steps import LlmSteps
from shared.tasks.models import Plan, PlannedStep, StepContext
from shared.teams.steps import TeamSteps
from shared.workspaces.steps import WorkspaceSteps


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of every feature."""

    teams: TeamSteps
    boards: BoardSteps
    llm: LlmSteps
    agents: AgentSteps
    workspaces: WorkspaceSteps


def plans(steps: Steps) -> dict[str, Plan]:
    reserve_host = PlannedStep("reserve_host", "Reserving a host", steps.teams.reserve_host)
    render_stack = PlannedStep("render_stack", "Creating team", steps.teams.render_stack)
    create_board = PlannedStep("create_board", "Creating board", steps.boards.create_board)
    issue_llm_key = PlannedStep("issue_llm_key", "Issuing model key", steps.llm.issue_llm_key)
    create_repository = PlannedStep("create_repository", "Creating repo", steps.workspaces.create_repository)
    import_repository = PlannedStep("import_repository", "Importing repo", steps.workspaces.import_repository)
    publish_repository = PlannedStep("publish_repository", "Protecting repo", steps.workspaces.publish_repository)
    provision_agent = PlannedStep("provision_agent", "Provisioning agent", steps.agents.provision_agent)
    activate = PlannedStep("activate", "Activating team", steps.teams.activate)
    open_workspace = PlannedStep("open_workspace", "Opening workspace", steps.workspaces.open_workspace)

    team = (reserve_host, render_stack, create_board, issue_llm_key)

    async def workspace_failed(ctx: StepContext, reason: str) -> None:
        await steps.teams.failed(ctx, reason)
        await steps.workspaces.failed(ctx, reason)

    return {
        plan.name: plan
        for plan in (
            Plan("team.create", "Creating team", (*team, provision_agent, activate), steps.teams.failed),
            Plan(
                "workspace.create",
                "Creating workspace",
                (*team, create_repository, publish_repository, provision_agent, activate, open_workspace),
                workspace_failed,
            ),
            Plan(
                "workspace.import",
                "Importing workspace",
                (
                    *team,
                    create_repository,
                    import_repository,
                    publish_repository,
                    provision_agent,
                    activate,
                    open_workspace,
                ),
                workspace_failed,
            ),
        )
    }
