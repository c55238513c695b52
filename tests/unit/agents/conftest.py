from dataclasses import dataclass

import pytest

from shared.core.access import Principal
from shared.core.resources import Run
from shared.workspaces.models import Workspace
from tests.unit.world import World


@dataclass
class Site:
    """Ada's workspace."""

    world: World
    ada: Principal
    workspace: Workspace

    @property
    def board(self) -> str:
        return self.workspace.board_id

    @property
    def agent(self) -> str:
        return f"agent_{self.workspace.id}_default"

    async def run(self, run_id: str) -> Run:
        return await self.world.platform.runs.get(self.ada, run_id)

    async def moved(self) -> Run:
        """The run of a new card in In Progress, as its webhook left it."""
        card = await self.world.card(self.ada, self.board)
        await self.world.move(self.ada, card.id, "progress")
        for message in self.world.waiting("webhooks"):
            await self.world.platform.webhooks.deliver(message)
        (run,) = await self.world.platform.runs.of_card(self.ada, card.id)
        return run


@pytest.fixture
async def site() -> Site:
    world = World()
    ada = await world.person("Ada")
    return Site(world, ada, await world.workspace(ada))
