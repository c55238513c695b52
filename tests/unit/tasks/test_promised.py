"""A task between the 202 that names it and the moment it is made."""

import pytest

from shared.core.access import Principal
from shared.core.errors import NotFound, Unavailable
from shared.core.permissions import Role
from shared.teams.models import NewTeam
from shared.workspaces.models import NewWorkspace
from tests.unit.world import World


class Held(World):
    """The store takes no task, until it is `released`."""

    async def hold(self, partition: str = "tasks/") -> None:
        await self.platform.store.idle()  # which still removes what earlier commits have sent
        self.documents.fail(partition, Unavailable("The store is away."))

    async def release(self) -> None:
        self.clock.advance(10)
        await self.platform.store.sweep()


@pytest.fixture
def world() -> Held:
    return Held()


@pytest.fixture
async def ada(world: Held) -> Principal:
    return await world.person("Ada")


async def begun(world: Held, ada: Principal, what: str) -> str:
    """The id of a task that is not made yet."""
    if what.startswith("team"):
        if what == "team.create":
            await world.hold()
            return (await world.platform.teams.create(ada, NewTeam(name="Rockets"))).task_id
        team = await world.team(ada)
        await world.hold()
        return (await world.platform.teams.delete(ada, team.id)).task_id
    if what == "workspace.create":
        await world.hold()
        return (await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))).task_id
    workspace = await world.workspace(ada)
    await world.hold()
    return (await world.platform.workspaces.delete(ada, workspace.id, "keep")).task_id


@pytest.mark.parametrize("plan", ["team.create", "team.delete", "workspace.create", "workspace.delete"])
class TestTaskThatIsNotMadeYet:
    async def test_is_pending_for_whoever_asked_for_it(self, world: Held, ada: Principal, plan: str) -> None:
        task_id = await begun(world, ada, plan)
        with pytest.raises(NotFound):
            await world.platform.runner.load(task_id)
        task = await world.platform.tasks.get(ada, task_id)
        assert (task.id, task.plan, task.status, task.sequence) == (task_id, plan, "pending", 0)
        assert {step.status for step in task.steps} == {"pending"}
        page = await world.platform.tasks.events(ada, task_id, 0, 10)
        assert (page.items, page.last) == ([], 0)

    async def test_is_not_there_for_strangers_nor_platform_admins(self, world: Held, ada: Principal, plan: str) -> None:
        task_id = await begun(world, ada, plan)
        for other in (await world.person("Bob"), await world.person("Grace")):
            with pytest.raises(NotFound):
                await world.platform.tasks.get(other, task_id)
            with pytest.raises(NotFound):
                await world.platform.tasks.events(other, task_id, 0, 10)

    async def test_cannot_be_changed_by_strangers(self, world: Held, ada: Principal, plan: str) -> None:
        task_id = await begun(world, ada, plan)
        bob = await world.person("Bob")
        for change in (world.platform.tasks.cancel, world.platform.tasks.retry):
            with pytest.raises(NotFound):
                await change(bob, task_id)

    async def test_can_be_changed_in_a_moment(self, world: Held, ada: Principal, plan: str) -> None:
        task_id = await begun(world, ada, plan)
        for change in (world.platform.tasks.cancel, world.platform.tasks.retry):
            with pytest.raises(Unavailable, match="about to begin") as refused:
                await change(ada, task_id)
            assert refused.value.retry_after == 1

    async def test_begins_when_the_store_is_back(self, world: Held, ada: Principal, plan: str) -> None:
        task_id = await begun(world, ada, plan)
        before = await world.platform.tasks.get(ada, task_id)
        await world.release()
        made = await world.platform.tasks.get(ada, task_id)
        assert made == before.model_copy(update={"sequence": 1})
        await world.pump(30)
        assert (await world.platform.tasks.get(ada, task_id)).status == "succeeded"


class TestPromise:
    async def test_is_kept_before_the_team_is_there(self, world: Held, ada: Principal) -> None:
        await world.hold("portal/team")
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        with pytest.raises(NotFound):
            await world.platform.teams.get(ada, started.workspace.team_id)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "pending"

    async def test_of_a_deletion_is_seen_by_the_other_members(self, world: Held, ada: Principal) -> None:
        team = await world.team(ada)
        bob = await world.member(ada, team.id, "Bob", Role.VIEWER)
        await world.hold()
        started = await world.platform.teams.delete(ada, team.id)
        assert (await world.platform.tasks.get(bob, started.task_id)).plan == "team.delete"

    async def test_is_listed(self, world: Held, ada: Principal) -> None:
        await world.hold()
        started = await world.platform.teams.create(ada, NewTeam(name="Rockets"))
        assert [task.id for task in await world.platform.tasks.mine(ada, [started.task_id])] == [started.task_id]

    @pytest.mark.parametrize("made_up", ["", "x", "t0123456789", "t0123456789" + "0" * 20, "w../../etc" + "0" * 21])
    async def test_is_not_read_out_of_what_is_no_task(self, world: Held, ada: Principal, made_up: str) -> None:
        with pytest.raises(NotFound):
            await world.platform.tasks.get(ada, made_up)
