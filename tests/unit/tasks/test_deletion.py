import asyncio
from collections.abc import Callable, Sequence

import pytest

from shared.core.access import Principal
from shared.core.errors import Conflict, Forbidden, NotFound, Unavailable
from shared.core.permissions import Role
from shared.core.ports import Op, Put
from shared.core.store import Commit
from shared.tasks.changes import context, untold
from shared.teams.models import NewInvitation
from shared.workspaces.models import NewWorkspace, Workspace
from tests.unit.world import World

SOURCE = "https://git.example/other/repository.git"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def ada(world: World) -> Principal:
    return await world.person("Ada")


async def used(world: World, ada: Principal) -> tuple[Workspace, Principal]:
    """A workspace with a member, cards, comments and a run that is at work and one that is done."""
    workspace = await world.workspace(ada)
    bob = await world.member(ada, workspace.team_id, "Bob")
    done = await world.started(ada, workspace.board_id)
    await world.succeed(done)
    await world.pump(10)
    run = await world.started(bob, workspace.board_id)
    assert run.status == "running"
    return workspace, bob


async def deleted(world: World, ada: Principal, workspace: Workspace, repository: str = "keep") -> str:
    started = await world.platform.workspaces.delete(ada, workspace.id, repository)  # type: ignore[arg-type]
    await world.pump(30)
    await world.platform.store.idle()
    return started.task_id


class TestDeleteWorkspace:
    async def test_nothing_of_it_is_left_but_what_it_used_and_that_it_was_deleted(
        self, world: World, ada: Principal
    ) -> None:
        workspace, bob = await used(world, ada)
        await world.platform.teams.invite(ada, workspace.team_id, NewInvitation())
        task_id = await deleted(world, ada, workspace, "delete")
        task = await world.platform.tasks.get(ada, task_id)
        assert (task.status, task.plan) == ("succeeded", "workspace.delete")
        await world.pump(400)
        world.clock.advance(400)
        await world.platform.teams.watch()
        await world.platform.runner.watch()
        await world.platform.lifecycle.watch()
        left = [
            place
            for place in world.traces(workspace.id, workspace.team_id, "rockets")
            if not place.startswith(("open/", f"usage/{workspace.team_id} "))
        ]
        assert left == sorted([f"task/{task_id}", f"tasks/{task_id} task", f"team/{workspace.team_id}"])
        assert world.open_rows() == []
        for person in (ada, bob):
            with pytest.raises(NotFound):
                await world.platform.workspaces.get(person, workspace.id)
            with pytest.raises(NotFound):
                await world.platform.boards.view(person, workspace.board_id)
            assert await world.platform.teams.mine(person) == []

    async def test_its_repository_stays_unless_asked_otherwise(self, world: World, ada: Principal) -> None:
        workspace, _ = await used(world, ada)
        task_id = await deleted(world, ada, workspace)
        assert list(world.repositories.repositories) == ["acme/rockets"]
        assert "delete_repository" not in [step.name for step in (await world.platform.tasks.get(ada, task_id)).steps]

    async def test_its_name_can_be_used_again(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        await deleted(world, ada, workspace, "delete")
        again = await world.workspace(await world.person("Bob"))
        assert again.id != workspace.id

    async def test_members_hear_of_it_and_see_nothing_more(self, world: World, ada: Principal) -> None:
        workspace, bob = await used(world, ada)
        await deleted(world, ada, workspace)
        types = await world.types(f"team/{workspace.team_id}")
        assert types == ["team.provisioned", "workspace.provisioned", "workspace.deleted", "team.deleted"]
        for person in (ada, bob):
            seen = [event["type"] for event in world.realtime.messages(f"user.{person.user_id}")]
            assert [kind for kind in seen if kind.endswith(".deleted")] == ["workspace.deleted", "team.deleted"]
            assert person.user_id not in world.realtime.groups[f"team.{workspace.team_id}"]

    async def test_while_it_lasts_it_can_be_seen_and_not_changed(self, world: World, ada: Principal) -> None:
        workspace, bob = await used(world, ada)
        card = await world.card(bob, workspace.board_id)
        link = await world.platform.teams.invite(ada, workspace.team_id, NewInvitation())
        started = await world.platform.workspaces.delete(ada, workspace.id, "keep")
        seen = await world.platform.workspaces.get(bob, workspace.id)
        assert (seen.status, seen.task_id) == ("deleting", started.task_id)
        (team,) = await world.platform.teams.mine(bob)
        assert (team.status, team.task_id) == ("deleting", started.task_id)
        assert await world.platform.boards.view(bob, workspace.board_id)
        for write in (
            world.card(bob, workspace.board_id),
            world.move(bob, card.id, "progress"),
            world.platform.teams.invite(ada, workspace.team_id, NewInvitation()),
        ):
            with pytest.raises(Conflict, match="being deleted"):
                await write
        token = (link.url or "").rpartition("/")[2]
        with pytest.raises(NotFound, match="being deleted"):
            await world.platform.teams.accept(await world.person("Carol"), token)

    async def test_runs_under_way_are_stopped(self, world: World, ada: Principal) -> None:
        workspace, _ = await used(world, ada)
        seen: list[str] = []
        forget = world.events.drop

        async def drop(subject: str) -> None:
            seen.extend(event["type"] for event in await world.events.read(subject))
            await forget(subject)

        world.events.drop = drop  # type: ignore[method-assign]
        await deleted(world, ada, workspace)
        assert "agent.cancelled" in seen
        assert await world.host.hosted(workspace.team_id) == []

    async def test_a_move_made_just_before_starts_no_run(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        card = await world.card(ada, workspace.board_id)
        await world.move(ada, card.id, "progress")
        await world.platform.workspaces.delete(ada, workspace.id, "keep")
        (delivery,) = world.waiting("webhooks")
        await world.platform.webhooks.deliver(delivery)
        assert world.answers[-1].reason == "The team is being deleted."
        assert await world.platform.runs.of_card(ada, card.id) == []

    async def test_asking_again_gives_the_same_task(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        calls = (world.another_platform().workspaces.delete(ada, workspace.id, "keep") for _ in range(4))
        assert len({started.task_id for started in await asyncio.gather(*calls)}) == 1

    async def test_one_that_stopped_is_taken_up_by_asking_again(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        world.host.outage = Unavailable("Docker does not answer.")
        started = await world.platform.workspaces.delete(ada, workspace.id, "keep")
        await world.pump(600)
        task = await world.platform.tasks.get(ada, started.task_id)
        assert (task.status, task.error) == (
            "needs_attention",
            "Removing containers failed: Docker does not answer.",
        )
        assert (await world.platform.workspaces.get(ada, workspace.id)).status == "deleting"
        world.host.outage = None
        assert await world.platform.workspaces.delete(ada, workspace.id, "keep") == started
        await world.pump(30)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "succeeded"

    async def test_one_that_stopped_when_the_workspace_was_gone_is_taken_up_by_deleting_its_team(
        self, world: World, ada: Principal
    ) -> None:
        workspace = await world.workspace(ada)
        released = world.host.remove_team

        async def away(team_id: str) -> None:
            if world.rows(f"portal/workspace/{workspace.id}", "workspace") == []:
                raise Unavailable("Docker does not answer.")
            await released(team_id)

        world.host.remove_team = away  # type: ignore[method-assign]
        started = await world.platform.workspaces.delete(ada, workspace.id, "keep")
        await world.pump(600)
        task = await world.platform.tasks.get(ada, started.task_id)
        assert (task.status, task.error) == ("needs_attention", "Removing members failed: Docker does not answer.")
        world.host.remove_team = released  # type: ignore[method-assign]
        with pytest.raises(NotFound):
            await world.platform.workspaces.delete(ada, workspace.id, "keep")
        assert await world.platform.teams.delete(ada, workspace.team_id) == started
        await world.pump(30)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "succeeded"


async def refuse(name: str, description: str) -> bool:
    raise Forbidden("The App may not delete repositories.")


class TestChangeOfMind:
    """About the repository, while the workspace is being deleted."""

    async def _steps(self, world: World, ada: Principal, task_id: str) -> list[str]:
        task = await world.platform.tasks.get(ada, task_id)
        assert task.status == "succeeded"
        return [step.name for step in task.steps]

    async def test_one_that_may_not_be_deleted_can_be_kept_instead(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        world.repositories.remove = refuse  # type: ignore[method-assign]
        started = await world.platform.workspaces.delete(ada, workspace.id, "delete")
        await world.pump(600)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "needs_attention"
        assert await world.platform.workspaces.delete(ada, workspace.id, "keep") == started
        await world.pump(60)
        assert "delete_repository" not in await self._steps(world, ada, started.task_id)
        assert list(world.repositories.repositories) == ["acme/rockets"]

    async def test_one_that_was_described_anew_is_not_said_to_be_deleted(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        world.repositories.repositories["acme/rockets"].description = "Rockets of ours"
        started = await world.platform.workspaces.delete(ada, workspace.id, "delete")
        await world.pump(600)
        task = await world.platform.tasks.get(ada, started.task_id)
        assert task.status == "needs_attention"
        assert "acme/rockets is not described as" in (task.error or "")
        await world.platform.workspaces.delete(ada, workspace.id, "keep")
        await world.pump(60)
        await self._steps(world, ada, started.task_id)
        assert list(world.repositories.repositories) == ["acme/rockets"]

    async def test_it_is_kept_when_that_is_asked_before_its_turn(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        started = await world.platform.workspaces.delete(ada, workspace.id, "delete")
        assert await world.platform.workspaces.delete(ada, workspace.id, "keep") == started
        await world.pump(60)
        assert "delete_repository" not in await self._steps(world, ada, started.task_id)
        assert list(world.repositories.repositories) == ["acme/rockets"]

    async def test_it_is_kept_when_that_is_asked_while_an_earlier_step_is_at_work(
        self, world: World, ada: Principal
    ) -> None:
        workspace = await world.workspace(ada)
        started = await world.platform.workspaces.delete(ada, workspace.id, "delete")
        released, asked = world.host.remove_team, list[str]()

        async def remove_team(team_id: str) -> None:
            if not asked:
                asked.append((await world.another_platform().workspaces.delete(ada, workspace.id, "keep")).task_id)
            await released(team_id)

        world.host.remove_team = remove_team  # type: ignore[method-assign]
        await world.pump(60)
        assert asked == [started.task_id]
        assert "delete_repository" not in await self._steps(world, ada, started.task_id)
        assert list(world.repositories.repositories) == ["acme/rockets"]
        assert world.open_rows("task/") == []

    async def test_it_cannot_be_kept_while_or_after_it_is_deleted(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        remove, refused = world.repositories.remove, list[str]()

        async def ask(name: str, description: str) -> bool:
            for _ in range(2):
                with pytest.raises(Conflict, match="Deleting repo has begun already") as error:
                    await world.another_platform().workspaces.delete(ada, workspace.id, "keep")
                refused.append(error.value.detail)
                await remove(name, description)
            return True

        world.repositories.remove = ask  # type: ignore[method-assign]
        task_id = await deleted(world, ada, workspace, "delete")
        assert len(refused) == 2
        assert "delete_repository" in await self._steps(world, ada, task_id)
        assert world.repositories.repositories == {}

    async def test_one_that_is_kept_is_not_deleted_after_all(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        started = await world.platform.workspaces.delete(ada, workspace.id, "keep")
        with pytest.raises(Conflict, match="already, without the step delete_repository"):
            await world.platform.workspaces.delete(ada, workspace.id, "delete")
        await world.pump(60)
        await self._steps(world, ada, started.task_id)
        assert list(world.repositories.repositories) == ["acme/rockets"]


class TestWho:
    async def test_owners_and_platform_admins_only(self, world: World, ada: Principal) -> None:
        workspace, bob = await used(world, ada)
        admin = await world.member(ada, workspace.team_id, "Dora", Role.ADMIN)
        for person in (bob, admin):
            with pytest.raises(Forbidden):
                await world.platform.workspaces.delete(person, workspace.id, "keep")
        with pytest.raises(NotFound):
            await world.platform.workspaces.delete(await world.person("Eve"), workspace.id, "keep")
        grace = await world.person("Grace")
        assert grace.platform_admin
        task_id = await deleted(world, grace, workspace)
        assert (await world.platform.tasks.get(grace, task_id)).status == "succeeded"
        with pytest.raises(NotFound):
            await world.platform.tasks.get(ada, task_id)

    async def test_the_team_of_a_workspace_goes_with_it_only(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        with pytest.raises(Conflict, match="Delete the workspace"):
            await world.platform.teams.delete(ada, workspace.team_id)

    async def test_a_creation_is_cancelled_by_who_started_it_or_manages_the_team(
        self, world: World, ada: Principal
    ) -> None:
        team = await world.team(ada)
        member = await world.member(ada, team.id, "Bob")
        with pytest.raises(Forbidden):
            await world.platform.tasks.cancel(member, team.task_id)
        with pytest.raises(NotFound):
            await world.platform.tasks.cancel(await world.person("Eve"), team.task_id)
        with pytest.raises(Conflict, match="Delete the team"):
            await world.platform.tasks.cancel(ada, team.task_id)

    @pytest.mark.parametrize("retried", [False, True])
    async def test_what_a_failed_creation_kept_is_undone_by_owners_only(
        self, world: World, ada: Principal, retried: bool
    ) -> None:
        workspace = await _failed(world, ada)
        owner = await world.member(ada, workspace.team_id, "Bob", Role.OWNER)
        admin = await world.member(ada, workspace.team_id, "Dora", Role.ADMIN)
        await world.platform.teams.change_role(owner, workspace.team_id, ada.user_id, Role.VIEWER)
        if retried:
            await world.platform.tasks.retry(admin, workspace.task_id)
        for person in (ada, admin):  # who started it, and who manages the team
            with pytest.raises(Forbidden, match="delete team"):
                await world.platform.tasks.cancel(person, workspace.task_id)
        await world.platform.tasks.cancel(owner, workspace.task_id)
        await world.pump(30)
        assert (await world.platform.tasks.get(owner, workspace.task_id)).status == "cancelled"

    async def test_a_creation_that_never_stopped_is_cancelled_by_who_manages_the_team(
        self, world: World, ada: Principal
    ) -> None:
        workspace = await importing(world, ada)
        admin = await world.member(ada, workspace.team_id, "Dora", Role.ADMIN)
        await world.platform.tasks.cancel(admin, workspace.task_id)
        await world.pump(30)
        assert (await world.platform.tasks.get(ada, workspace.task_id)).status == "cancelled"

    async def test_whoever_left_the_team_cannot_cancel_what_they_started(self, world: World, ada: Principal) -> None:
        team = await world.team(ada)
        await world.member(ada, team.id, "Bob", Role.OWNER)
        await world.platform.teams.remove(ada, team.id, ada.user_id)
        with pytest.raises(NotFound):
            await world.platform.tasks.cancel(ada, team.task_id)


async def importing(world: World, ada: Principal) -> Workspace:
    started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets", import_url=SOURCE))
    await world.pump()
    return started.workspace


class TestCancelCreation:
    async def test_in_the_middle_of_an_import_nothing_of_it_is_left(self, world: World, ada: Principal) -> None:
        workspace = await importing(world, ada)
        assert world.host._jobs
        await world.platform.tasks.cancel(ada, workspace.task_id)
        await world.pump(10)
        seen = await world.platform.workspaces.get(ada, workspace.id)
        assert (seen.status, seen.error) == ("cancelled", "Cancelled by Ada.")
        assert (await world.platform.teams.get(ada, workspace.team_id)).status == "cancelled"
        assert world.host._jobs == {}
        assert world.repositories.repositories == {}
        assert world.blobs.blobs == {}
        assert [name for name in world.secrets.secrets if workspace.id in name or workspace.team_id in name] == []
        assert world.rows(f"boards/{workspace.id}") == []
        assert world.rows("portal/host/local") == []

    async def test_its_name_is_free_and_a_retry_takes_it_again(self, world: World, ada: Principal) -> None:
        workspace = await importing(world, ada)
        await world.platform.tasks.cancel(ada, workspace.task_id)
        await world.pump(10)
        assert world.rows("portal/name/workspace-rockets") == []
        await world.platform.tasks.retry(ada, workspace.task_id)
        assert (await world.platform.workspaces.get(ada, workspace.id)).status == "pending"
        with pytest.raises(Conflict, match="exists already"):
            await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))

    async def test_a_retry_is_refused_when_the_name_was_taken_meanwhile(self, world: World, ada: Principal) -> None:
        workspace = await importing(world, ada)
        await world.platform.tasks.cancel(ada, workspace.task_id)
        await world.pump(10)
        await world.workspace(await world.person("Bob"))
        with pytest.raises(Conflict, match="exists already"):
            await world.platform.tasks.retry(ada, workspace.task_id)
        assert (await world.platform.tasks.get(ada, workspace.task_id)).status == "cancelled"
        assert (await world.platform.workspaces.get(ada, workspace.id)).status == "cancelled"
        assert (await world.platform.teams.get(ada, workspace.team_id)).status == "cancelled"

    async def test_a_repository_of_somebody_else_is_not_removed(self, world: World, ada: Principal) -> None:
        await world.repositories.ensure("rockets", "Made by hand")
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        await world.pump(10)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "rolled_back"
        assert list(world.repositories.repositories) == ["acme/rockets"]

    async def test_a_workspace_that_failed_at_its_last_step_is_whole_after_a_retry(
        self, world: World, ada: Principal
    ) -> None:
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        await world.platform.runner.handle(world.waiting("provisioning")[0])
        record, etag = await world.platform.runner.load(started.task_id)
        record.status, record.steps[-1].status = "failed", "failed"
        await world.platform.store.commit(Commit(f"tasks/{record.id}", [Put("task", record.json_body(), etag)]))
        plan = world.platform.runner._plans[record.plan]
        await plan.ended(context(record, untold), "failed", "no")
        assert (await world.platform.teams.get(ada, record.team_id)).status == "failed"
        await world.platform.tasks.retry(ada, record.id)
        await world.pump(10)
        assert (await world.platform.teams.get(ada, record.team_id)).status == "active"
        assert (await world.platform.workspaces.get(ada, started.workspace.id)).status == "active"


class TestRetryCreation:
    async def test_what_was_pushed_meanwhile_outlives_a_refusal(self, world: World, ada: Principal) -> None:
        async def away(full_name: str, branch: str) -> None:
            raise Unavailable("GitHub is away.")

        async def refused(full_name: str, branch: str) -> None:
            raise Forbidden("Not on this plan.")

        world.repositories.protect = away  # type: ignore[method-assign]
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        await world.pump(600)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "failed"
        token = await world.repositories.token("acme/rockets")
        pushed = world.repositories.push("acme/rockets", "main", {"app.py": "print(2)\n"}, token)
        world.repositories.protect = refused  # type: ignore[method-assign]
        await world.platform.tasks.retry(ada, started.task_id)
        await world.pump(600)
        task = await world.platform.tasks.get(ada, started.task_id)
        assert (task.status, task.error) == ("failed", "Protecting repo failed: Not on this plan.")
        assert await world.repositories.branch_sha("acme/rockets", "main") == pushed


async def _creating(world: World, ada: Principal) -> Workspace:
    return await importing(world, ada)


async def _unborn(world: World, ada: Principal) -> Workspace:
    """Its task is there, and nobody has begun it."""
    return (await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))).workspace


async def _failed(world: World, ada: Principal) -> Workspace:
    world.host.outage = Unavailable("Docker does not answer.")
    started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets", import_url=SOURCE))
    await world.pump(600)
    world.host.outage = None
    assert (await world.platform.tasks.get(ada, started.task_id)).status == "failed"
    return started.workspace


async def _stuck(world: World, ada: Principal) -> Workspace:
    """Its undoing failed."""
    workspace = await importing(world, ada)
    world.host.outage = Unavailable("Docker does not answer.")
    await world.platform.tasks.cancel(ada, workspace.task_id)
    await world.pump(600)
    world.host.outage = None
    assert (await world.platform.tasks.get(ada, workspace.task_id)).status == "needs_attention"
    return workspace


async def _cancelled(world: World, ada: Principal) -> Workspace:
    workspace = await importing(world, ada)
    await world.platform.tasks.cancel(ada, workspace.task_id)
    await world.pump(10)
    return workspace


async def _cancelling(world: World, ada: Principal) -> Workspace:
    workspace = await importing(world, ada)
    await world.platform.tasks.cancel(ada, workspace.task_id)
    return workspace


async def _active(world: World, ada: Principal) -> Workspace:
    return await world.workspace(ada)


class TestDeleteFromAnyState:
    @pytest.mark.parametrize("begin", [_unborn, _creating, _failed, _stuck, _cancelling, _cancelled, _active])
    async def test_it_ends_and_leaves_nothing(
        self, world: World, ada: Principal, begin: Callable[[World, Principal], object]
    ) -> None:
        workspace: Workspace = await begin(world, ada)  # type: ignore[misc]
        task_id = await deleted(world, ada, workspace, "delete")
        await world.pump(600)
        await world.platform.store.idle()
        assert (await world.platform.tasks.get(ada, task_id)).status == "succeeded"
        left = [p for p in world.traces(workspace.id, workspace.team_id, "rockets") if not p.startswith("open/")]
        assert left == sorted([f"task/{task_id}", f"tasks/{task_id} task", f"team/{workspace.team_id}"])
        await world.workspace(ada)

    async def test_a_team_without_a_workspace_too(self, world: World, ada: Principal) -> None:
        team = await world.team(ada)
        await world.member(ada, team.id, "Bob")
        started = await world.platform.teams.delete(ada, team.id)
        await world.pump(30)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "succeeded"
        await world.platform.store.idle()
        left = [place for place in world.traces(team.id) if not place.startswith("open/")]
        assert left == sorted([f"task/{started.task_id}", f"tasks/{started.task_id} task", f"team/{team.id}"])

    async def test_a_team_of_many_too(self, world: World, ada: Principal) -> None:
        team = await world.team(ada)
        people = [await world.member(ada, team.id, f"Member{n}") for n in range(55)]
        started = await world.platform.teams.delete(ada, team.id)
        await world.pump(30)
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "succeeded"
        for person in (ada, people[0], people[-1]):
            told = [event["type"] for event in world.realtime.messages(f"user.{person.user_id}")]
            assert told.count("team.deleted") == 1
            assert await world.platform.teams.mine(person) == []

    async def test_while_its_creation_has_not_reached_its_task(self, world: World, ada: Principal) -> None:
        """The outbox of its founding got as far as the membership."""
        world.documents.fail("tasks/", Unavailable("disk full"))
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        deletion = await world.platform.workspaces.delete(ada, started.workspace.id, "keep")
        await world.pump(3)
        assert (await world.platform.tasks.get(ada, deletion.task_id)).status == "running"
        world.clock.advance(10)
        await world.platform.store.sweep()
        await world.pump(60)
        assert (await world.platform.tasks.get(ada, deletion.task_id)).status == "succeeded"
        assert [p for p in world.traces(started.task_id) if not p.startswith(("open/", "task"))] == []

    @pytest.mark.parametrize("name", ["tasks/", "portal/team/"])
    async def test_a_retry_that_meets_it_makes_nothing(self, world: World, ada: Principal, name: str) -> None:
        """The retry has looked at everything, and writes only when half of it is deleted."""
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        workspace = started.workspace
        await world.platform.tasks.cancel(ada, started.task_id)
        await world.pump(10)
        there, go_on = asyncio.Event(), asyncio.Event()
        commit, remove = world.documents.commit, world.repositories.remove

        async def late(partition: str, ops: Sequence[Op]) -> dict[str, str]:
            if partition.startswith(name) and asyncio.current_task() is retrying:
                there.set()
                await go_on.wait()
            return await commit(partition, ops)

        async def meanwhile(repository: str, description: str) -> None:
            await remove(repository, description)
            go_on.set()
            await asyncio.wait([retrying])
            for message in world.waiting("provisioning"):
                if message["task_id"] == started.task_id:
                    await world.another_platform().runner.handle(message)

        world.documents.commit = late  # type: ignore[method-assign]
        world.repositories.remove = meanwhile  # type: ignore[method-assign]
        retrying = asyncio.create_task(world.another_platform().tasks.retry(ada, started.task_id))
        await there.wait()
        task_id = await deleted(world, ada, workspace, "delete")
        with pytest.raises(Conflict, match="being deleted"):
            await retrying
        assert (await world.platform.tasks.get(ada, task_id)).status == "succeeded"
        left = [p for p in world.traces(workspace.id, workspace.team_id, "rockets") if not p.startswith("open/")]
        assert left == sorted([f"task/{task_id}", f"tasks/{task_id} task", f"team/{workspace.team_id}"])
