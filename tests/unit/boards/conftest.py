from dataclasses import dataclass

import pytest

from shared.boards.models import BoardPage, Card, CardChange, NewCard
from shared.core.access import Principal
from shared.core.permissions import Role
from shared.core.ports import Json
from tests.unit.world import World


@dataclass
class Desk:
    """A workspace's board, a member and a viewer."""

    world: World
    ada: Principal
    vera: Principal
    stranger: Principal
    team: str
    board: str

    async def view(self) -> BoardPage:
        return await self.world.platform.boards.view(self.ada, self.board)

    async def column(self, column_id: str) -> list[str]:
        """Titles of a column's cards, as the board shows them."""
        return [card.title for card in (await self.view()).cards if card.column_id == column_id]

    async def card(self, title: str = "Card", **fields: object) -> Card:
        request = NewCard.model_validate({"title": title, **fields})
        return await self.world.platform.cards.create(self.ada, self.board, request)

    async def change(self, card: Card, if_match: str | None = None, **fields: object) -> Card:
        request = CardChange.model_validate(fields)
        return await self.world.platform.cards.update(self.ada, card.id, request, if_match)

    async def events(self) -> list[Json]:
        page = await self.world.platform.boards.events(self.ada, self.board, 0, 1000)
        return [event.model_dump(mode="json") for event in page.items]

    async def last_event(self) -> Json:
        return (await self.events())[-1]


@pytest.fixture
async def desk() -> Desk:
    world = World()
    ada = await world.person("Ada")
    workspace = await world.workspace(ada)
    vera = await world.member(ada, workspace.team_id, "Vera", Role.VIEWER)
    return Desk(world, ada, vera, await world.person("Bob"), workspace.team_id, workspace.board_id)
