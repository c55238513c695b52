"""Whether this installation may run agents. Fail closed: a real model needs isolation or its owner's word."""

from dataclasses import dataclass

from shared.core.boards import BoardRecord
from shared.core.resources import AgentAvailability


@dataclass(frozen=True, slots=True)
class AgentPolicy:
    demo_model: bool
    isolated: bool
    allow_unsandboxed: bool
    has_upstream: bool

    def refusal(self, board: BoardRecord) -> str | None:
        """Why cards of this board cannot start agents, in a sentence with the remedy; None when they can."""
        if board.repository is None:
            return "This board has no repository for an agent to work on. Create a workspace to get one."
        if board.agent is None:
            return "The agent of this board is not provisioned yet. Wait for the workspace to be ready."
        if not self.has_upstream:
            return "No model is configured. Set ANTHROPIC_API_KEY, or use the demo model."
        if not (self.demo_model or self.isolated or self.allow_unsandboxed):
            return (
                "Agents of a real model would run as this machine's user without isolation. "
                "Use a Docker host, or set ALLOW_UNSANDBOXED=1."
            )
        return None

    def availability(self, board: BoardRecord) -> AgentAvailability:
        reason = self.refusal(board)
        return AgentAvailability(
            enabled=reason is None,
            reason=reason,
            agent_id=board.agent.agent_id if board.agent else None,
            demo_model=self.demo_model,
            isolated=self.isolated,
        )
