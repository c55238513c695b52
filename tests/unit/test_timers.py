"""Timers never scan: what they read does not grow with what is kept."""

from functions import timers
from shared.core.outbox import SHARDS
from shared.core.ports import Doc
from tests.unit.world import World


class Watched:
    """A world whose reads are noted while timers are at work."""

    def __init__(self) -> None:
        self.world = World()
        self.queried: list[tuple[str, str]] = []
        self.got: list[str] = []
        query, get = self.world.documents.query, self.world.documents.get

        async def noted_query(partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
            self.queried.append((partition, prefix))
            return await query(partition, prefix, after, limit)

        async def noted_get(partition: str, id: str) -> Doc | None:
            self.got.append(partition)
            return await get(partition, id)

        self.world.documents.query = noted_query  # type: ignore[method-assign]
        self.world.documents.get = noted_get  # type: ignore[method-assign]

    async def timers(self) -> None:
        self.queried.clear()
        self.got.clear()
        await timers.watch(self.world.platform)
        await timers.sweep(self.world.platform)

    async def rest(self) -> None:
        """All work is over, and all tickets of outboxes are old enough to go."""
        await self.world.platform.store.idle()
        for _ in range(4):
            await self.world.pump(seconds=3_700)
            await self.timers()
        assert self.world.open_rows("") == []


async def finished_work(world: World, name: str) -> None:
    ada = await world.person("ada")
    workspace = await world.workspace(ada, name)
    run = await world.started(ada, workspace.board_id)
    await world.succeed(run)
    await world.pump()
    for n in range(5):
        await world.card(ada, workspace.board_id, f"Card {n}")


class TestReads:
    async def test_when_nothing_is_open_only_the_open_partitions_are_read(self):
        watched = Watched()
        for name in ("Rockets", "Comets", "Planets"):
            await finished_work(watched.world, name)
        await watched.rest()
        await watched.timers()
        assert {partition for partition, _ in watched.queried} == set(SHARDS)
        assert watched.got == []

    async def test_they_do_not_grow_with_teams_and_cards(self):
        few, many = Watched(), Watched()
        await finished_work(few.world, "Rockets")
        for n in range(6):
            await finished_work(many.world, f"Rockets {n}")
        for watched in (few, many):
            await watched.rest()
            await watched.timers()
        assert len(many.queried) == len(few.queried)

    async def test_open_work_is_read_by_its_id_and_outboxes_by_their_ticket(self):
        watched = Watched()
        world = watched.world
        await finished_work(world, "Rockets")
        ada = await world.person("ada")
        workspace = await world.workspace(ada, "Comets")
        run = await world.started(ada, workspace.board_id)
        world.lose_messages()
        world.clock.advance(600)
        tickets = {row.removeprefix("outbox~") for row in world.open_rows("outbox~")}
        await watched.timers()
        assert f"run/{run.id}" in world.open_rows()
        elsewhere = [(partition, prefix) for partition, prefix in watched.queried if partition not in SHARDS]
        assert {prefix for _, prefix in elsewhere} == {"outbox/"}
        assert {partition for partition, _ in elsewhere} <= tickets
        assert watched.got != []
