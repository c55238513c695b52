"""The step that issues the team's key for the model gateway, and what undoes it."""

from shared.core.ports import Json
from shared.llm.keys import Keys
from shared.tasks.models import StepContext


class LlmSteps:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def issue_llm_key(self, ctx: StepContext) -> Json:
        """Records the key's hash; the key itself stays among the secrets."""
        return {"llm_key": (await self._keys.ensure_key(ctx.team_id)).key_hash}

    async def revoke_llm_key(self, ctx: StepContext) -> None:
        await self._keys.revoke_all(ctx.team_id)
