import asyncio

import pytest

from shared.core.access import Principal
from shared.core.errors import Conflict, Invalid, NotFound, Unavailable
from shared.core.ports import Put
from shared.workspaces.models import NewWorkspace, Workspace
from tests.unit.world import World

SOURCE = "https://git.example/other/repository.git"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def ada(world: World) -> Principal:
    return await world.person("Ada")


async def importing(world: World, ada: Principal) -> tuple[Workspace, str]:
    """A workspace whose import job has just started, and the job's name."""
    started = await world.platform.workspaces.create(ada, NewWorkspace(name="Imported", import_url=SOURCE))
    await world.pump()
    return started.workspace, world.host.specs[-1].name


def imported(world: World, name: str = "acme/imported", branch: str = "trunk") -> None:
    """What the import job leaves behind on the Git host."""
    hosted = world.repositories.repositories[name]
    hosted.branches[branch] = world.repositories._commit(None, {"README.md": "# Imported"})


class TestCreateWorkspace:
    async def test_it_is_pending_until_its_task_is_done(self, world: World, ada: Principal) -> None:
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="My App!"))
        assert (started.workspace.status, started.workspace.repository) == ("pending", None)
        assert started.workspace.role == "owner"
        await world.pump()
        workspace = await world.platform.workspaces.get(ada, started.workspace.id)
        assert workspace.status == "active"
        assert workspace.repository is not None
        assert (workspace.repository.full_name, workspace.repository.default_branch) == ("acme/my-app", "main")
        assert world.open_rows() == []

    async def test_its_team_board_and_agent_belong_together(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        team = await world.platform.teams.get(ada, workspace.team_id)
        assert (team.status, team.workspace_id, team.board_id) == ("active", workspace.id, workspace.board_id)
        board = (await world.platform.boards.view(ada, workspace.board_id)).board
        assert (board.workspace_id, board.team_id) == (workspace.id, team.id)
        assert board.repository == workspace.repository
        assert board.agents.enabled

    async def test_its_repository_comes_from_the_template_and_is_protected(self, world: World, ada: Principal) -> None:
        await world.workspace(ada)
        hosted = world.repositories.repositories["acme/rockets"]
        assert hosted.protected == {"main"}
        assert world.repositories._commits[hosted.branches["main"]].files == {"app.py": "print(1)\n"}

    async def test_its_members_are_told_when_it_is_ready(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        assert await world.types(f"team/{workspace.team_id}") == ["team.provisioned", "workspace.provisioned"]

    async def test_a_name_is_taken_once(self, world: World, ada: Principal) -> None:
        await world.workspace(ada, "My App")
        for same in ("My App", "my  app", "MY-APP!"):
            with pytest.raises(Conflict, match="exists already"):
                await world.platform.workspaces.create(ada, NewWorkspace(name=same))

    async def test_of_two_who_want_a_name_at_once_one_gets_it(self, world: World, ada: Principal) -> None:
        wanting = (world.another_platform().workspaces.create(ada, NewWorkspace(name="My App")) for _ in range(4))
        results = await asyncio.gather(*wanting, return_exceptions=True)
        assert sum(isinstance(result, Conflict) for result in results) == 3
        assert len(await world.platform.teams.mine(ada)) == 1

    @pytest.mark.parametrize("error", [Unavailable("disk full"), KeyboardInterrupt()])
    async def test_whose_workspace_never_came_has_the_name_at_once(
        self, world: World, ada: Principal, error: BaseException
    ) -> None:
        world.documents.fail("portal/workspace/", error)
        with pytest.raises(type(error)):
            await world.platform.workspaces.create(ada, NewWorkspace(name="My App"))
        wanting = (world.another_platform().workspaces.create(ada, NewWorkspace(name="My App")) for _ in range(4))
        results = await asyncio.gather(*wanting, return_exceptions=True)
        assert [str(result) for result in results if isinstance(result, Exception)] == [
            "A workspace of this name exists already. Choose another name."
        ] * 3
        await world.pump()
        assert [
            one.status
            for one in await world.platform.workspaces.of_teams(
                ada, [team.id for team in await world.platform.teams.mine(ada)]
            )
        ] == ["active"]

    async def test_a_name_whose_workspace_never_came_is_free_for_others_after_a_minute(
        self, world: World, ada: Principal
    ) -> None:
        bob = await world.person("Bob")
        world.documents.fail("portal/workspace/", Unavailable("disk full"))
        with pytest.raises(Unavailable):
            await world.platform.workspaces.create(ada, NewWorkspace(name="My App"))
        with pytest.raises(Conflict):
            await world.platform.workspaces.create(bob, NewWorkspace(name="My App"))
        world.clock.advance(61)
        await world.workspace(bob, "My App")
        with pytest.raises(Conflict):
            await world.platform.workspaces.create(ada, NewWorkspace(name="My App"))

    @pytest.mark.parametrize("name", ["!!!", "Ünï"[:1], "日本"])
    async def test_a_name_needs_something_a_repository_can_be_named_after(
        self, world: World, ada: Principal, name: str
    ) -> None:
        with pytest.raises(Invalid, match="at least one letter"):
            await world.platform.workspaces.create(ada, NewWorkspace(name=name))

    async def test_strangers_do_not_learn_that_it_exists(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        with pytest.raises(NotFound):
            await world.platform.workspaces.get(await world.person("Bob"), workspace.id)

    @pytest.mark.parametrize("workspace", ["", "unknown", "../x", "w0123456789"])
    async def test_an_unknown_one_is_not_found(self, world: World, ada: Principal, workspace: str) -> None:
        with pytest.raises(NotFound):
            await world.platform.workspaces.get(ada, workspace)

    async def test_people_see_the_workspaces_of_their_teams(self, world: World, ada: Principal) -> None:
        workspace, team = await world.workspace(ada), await world.team(ada, "No code")
        found = await world.platform.workspaces.of_teams(ada, [team.id, workspace.team_id])
        assert [one.id for one in found] == [workspace.id]

    async def test_repeating_every_step_makes_nothing_twice(self, world: World, ada: Principal) -> None:
        workspace = await world.workspace(ada)
        secrets = dict(world.secrets.secrets)
        record, etag = await world.platform.runner.load(workspace.task_id)
        record.status = "failed"
        for step in record.steps:
            step.status = "pending"
        await world.documents.commit(f"tasks/{record.id}", [Put("task", record.json_body(), etag)])
        await world.platform.tasks.retry(ada, workspace.task_id)
        await world.pump()
        assert await world.platform.workspaces.get(ada, workspace.id) == workspace
        assert world.secrets.secrets == secrets
        assert len(world.repositories.repositories) == 1
        assert (await world.types(f"team/{workspace.team_id}")).count("workspace.provisioned") == 1


class TestFailure:
    async def test_a_repository_that_was_there_before_is_nobodys_to_take(self, world: World, ada: Principal) -> None:
        await world.repositories.ensure("payroll", "Made by hand")
        for url in (None, SOURCE):
            request = NewWorkspace(name="Payroll" if url is None else "pay-roll", import_url=url)
            if url:
                await world.repositories.ensure("pay-roll", "Made by hand")
            started = await world.platform.workspaces.create(ada, request)
            await world.pump(60)
            workspace = await world.platform.workspaces.get(ada, started.workspace.id)
            assert (workspace.status, workspace.repository) == ("failed", None)
            assert "already" in (workspace.error or "")
        assert world.repositories._tokens == {}

    async def test_a_workspace_that_cannot_be_made_says_why(self, world: World, ada: Principal) -> None:
        world.settings = world.settings.__class__(github_template="acme/gone")
        world.platform = world.another_platform()
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        await world.pump(600)
        workspace = await world.platform.workspaces.get(ada, started.workspace.id)
        assert workspace.status == "failed"
        assert workspace.error == "Creating repo failed: There is no template acme/gone."
        assert (await world.platform.teams.get(ada, workspace.team_id)).status == "failed"
        assert world.open_rows() == []

    async def test_one_its_queue_gave_up_on_says_so_too(self, world: World, ada: Principal) -> None:
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        world.lose_messages()
        await world.platform.runner.abandon(started.task_id, 1, "Given up.")
        workspace = await world.platform.workspaces.get(ada, started.workspace.id)
        assert (workspace.status, workspace.error) == ("failed", "Given up.")

    async def test_after_a_retry_it_is_well(self, world: World, ada: Principal) -> None:
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets"))
        world.lose_messages()
        await world.platform.runner.abandon(started.task_id, 1, "Given up.")
        await world.platform.tasks.retry(ada, started.task_id)
        await world.pump()
        workspace = await world.platform.workspaces.get(ada, started.workspace.id)
        assert (workspace.status, workspace.error) == ("active", None)


class TestImport:
    @pytest.mark.parametrize(
        "url", ["http://git.example/a", "file:///etc", "ssh://git@git.example/a", "git.example/a", "https://", "-x"]
    )
    async def test_only_allowed_addresses_are_imported(self, world: World, ada: Principal, url: str) -> None:
        with pytest.raises(Invalid):
            await world.platform.workspaces.create(ada, NewWorkspace(name="Imported", import_url=url))
        await world.workspace(ada, "Imported")

    async def test_credentials_in_an_address_are_refused(self, world: World, ada: Principal) -> None:
        url = "https://user:secret@git.example/a.git"
        with pytest.raises(Invalid, match="no credentials") as refusal:
            await world.platform.workspaces.create(ada, NewWorkspace(name="Imported", import_url=url))
        assert "secret" not in refusal.value.detail

    @pytest.mark.parametrize("url", [None, "", "  "])
    async def test_without_an_address_the_template_is_used(self, world: World, ada: Principal, url: str | None) -> None:
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Rockets", import_url=url))
        assert started.workspace.import_url is None

    async def test_a_container_job_copies_the_repository(self, world: World, ada: Principal) -> None:
        workspace, job = await importing(world, ada)
        (spec,) = world.host.specs
        assert spec.command == ("agent_container.importer",)
        assert spec.env["SOURCE_URL"] == SOURCE
        assert spec.env["TARGET_URL"] == "https://git.example/acme/imported.git"
        assert spec.env["TARGET_TOKEN"] not in repr(spec)
        imported(world)
        world.host.finish(job, 0, "progress 100 Done\ndefault-branch trunk\n")
        await world.pump(2)
        done = await world.platform.workspaces.get(ada, workspace.id)
        assert done.status == "active"
        assert done.repository is not None
        assert done.repository.default_branch == "trunk"
        assert world.repositories.repositories["acme/imported"].protected == {"trunk"}

    async def test_its_progress_shows(self, world: World, ada: Principal) -> None:
        workspace, job = await importing(world, ada)
        world.host._jobs[job] = world.host._jobs[job].__class__(
            job, "running", None, "progress 10 Cloning\nnoise\nprogress 40 Pushing branches\n"
        )
        await world.pump(1)
        task = await world.platform.tasks.get(ada, workspace.task_id)
        step = next(step for step in task.steps if step.name == "import_repository")
        assert (step.status, step.progress, step.note) == ("running", 0.4, "Pushing branches")
        assert len(world.host.specs) == 1

    async def test_a_long_import_tells_its_progress_at_most_once_a_second(self, world: World, ada: Principal) -> None:
        workspace, _ = await importing(world, ada)
        before = len(await world.subject(f"task/{workspace.task_id}"))
        await world.pump(60)
        assert len(await world.subject(f"task/{workspace.task_id}")) - before <= 61

    async def test_a_failed_one_says_why(self, world: World, ada: Principal) -> None:
        workspace, job = await importing(world, ada)
        world.host.finish(job, 1, "progress 10 Cloning\nThe repository does not exist, or is private.\n")
        await world.pump(2)
        failed = await world.platform.workspaces.get(ada, workspace.id)
        assert failed.status == "failed"
        assert failed.error == "Importing repo failed: The repository does not exist, or is private."

    async def test_retrying_it_starts_another_job(self, world: World, ada: Principal) -> None:
        workspace, job = await importing(world, ada)
        world.host.finish(job, 1, "The network is down.")
        await world.pump(2)
        await world.platform.tasks.retry(ada, workspace.task_id)
        await world.pump()
        assert len({spec.name for spec in world.host.specs}) == 2
        imported(world)
        world.host.finish(world.host.specs[-1].name, 0, "default-branch trunk")
        await world.pump(2)
        assert (await world.platform.workspaces.get(ada, workspace.id)).status == "active"

    async def test_a_host_that_is_away_for_a_moment_does_not_end_it(self, world: World, ada: Principal) -> None:
        world.host.refusal = Unavailable("Docker does not answer.")
        started = await world.platform.workspaces.create(ada, NewWorkspace(name="Imported", import_url=SOURCE))
        await world.pump(10)
        assert (await world.platform.workspaces.get(ada, started.workspace.id)).status == "pending"
        imported(world)
        world.host.finish(world.host.specs[-1].name, 0, "default-branch trunk")
        await world.pump(10)
        assert (await world.platform.workspaces.get(ada, started.workspace.id)).status == "active"
