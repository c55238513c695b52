"""Long work is cancelled, undone, retried and deleted, over HTTP on the local cloud."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local.cloud import LocalCloud
from shared.bootstrap import adapters
from shared.core import ids
from shared.core.settings import Settings
from tests.flows.doorway import Doorway
from tests.flows.world import (
    TASK_OVER,
    Json,
    Person,
    finished_task,
    join,
    make_card,
    make_team,
    make_workspace,
    run_card,
    run_in,
    started_cloud,
)
from tests.waiting import until

SLOW_CARD = "Run: `sleep 60`\n"


async def begin(person: Person, name: str, import_url: str | None = None) -> Json:
    started = await person.post("/api/workspaces", {"name": name, "import_url": import_url})
    return started["workspace"]


async def at_step(person: Person, task_id: str, name: str) -> Json:
    async def there() -> Json | None:
        task = await person.get(f"/api/tasks/{task_id}")
        step = next(step for step in task["steps"] if step["name"] == name)
        assert task["status"] in ("pending", "running"), (task["status"], task["error"])
        return task if step["status"] == "running" else None

    return await until(there, within=30)


async def ended(person: Person, task_id: str, status: str) -> Json:
    """The task, which must end so."""
    task = await finished_task(person, task_id, within=60)
    assert task["status"] == status, (task["status"], task["error"])
    return task


async def remove(person: Person, path: str) -> str:
    """The task that deletes it."""
    answer = await person.request("DELETE", path)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/tasks/{answer.json()['task_id']}"
    return answer.json()["task_id"]


async def left_of(cloud: LocalCloud, *names: str) -> list[str]:
    """Everything in any store or emulator that knows one of these names, beside the record that it was deleted."""
    ports = adapters(Settings.from_env(cloud.settings))
    found = [f"job {each.name}" for each in await ports.host.hosted() if each.team_id in names]
    for team in names:
        for name in (f"llm-key-{team}", f"webhook-{team}"):
            if await ports.secrets.get(name) is not None:
                found.append(f"secret {name}")
        if await ports.blobs.get(f"teams/{team}/compose.json") is not None:
            found.append(f"blob of {team}")
        found += [doc.id for doc in await ports.documents.query(f"boards/{team}")] if ids.is_scope(team) else []
        for kind in ("team", "workspace"):
            found += [f"{kind} {doc.id}" for doc in await ports.documents.query(f"portal/{kind}/{team}")]
        found += [doc.id for doc in await ports.documents.query("portal/host/local", f"team/{team}")]
        found += [f"name of {doc.id}" for doc in await ports.documents.query(f"portal/name/workspace-{team}")]
    for close in ports.closers:
        await close()
    repositories = [path.name for path in (cloud.data / "github").rglob("*.git") if path.stem in names]
    return [place for place in found if not place.startswith(("team outbox/", "workspace outbox/"))] + repositories


async def is_gone(person: Person, path: str) -> None:
    assert (await person.refused("GET", path))["status"] == 404


class TestCancel:
    async def test_a_slow_import_is_ended_within_seconds_and_nothing_of_it_is_left(
        self, ada: Person, cloud: LocalCloud, large: str
    ):
        workspace = await begin(ada, "Cancelled import", large)
        await at_step(ada, workspace["task_id"], "import_repository")
        async with asyncio.timeout(15):
            cancelled = await ada.post(f"/api/tasks/{workspace['task_id']}/cancel")
            assert cancelled["status"] == "rolling_back"
            assert (await ada.post(f"/api/tasks/{workspace['task_id']}/cancel"))["id"] == workspace["task_id"]
            task = await ended(ada, workspace["task_id"], "cancelled")
        assert {step["status"] for step in task["steps"]} == {"undone", "pending"}
        seen = await ada.get(f"/api/workspaces/{workspace['id']}")
        assert (seen["status"], seen["repository"]) == ("cancelled", None)
        names = (workspace["id"], workspace["team_id"], "cancelled-import")
        left = await left_of(cloud, *names)
        assert {place.split(" ")[0] for place in left} <= {"team", "workspace"}, left

    async def test_it_can_begin_anew(self, ada: Person, tmp_path: Path):
        workspace = await begin(ada, "Begun anew")
        await ada.request("POST", f"/api/tasks/{workspace['task_id']}/cancel")

        async def over() -> Json | None:
            task = await ada.get(f"/api/tasks/{workspace['task_id']}")
            return task if task["status"] in ("cancelled", "succeeded") else None

        if (await until(over))["status"] == "cancelled":
            assert (await ada.post(f"/api/tasks/{workspace['task_id']}/retry"))["status"] == "pending"
            await ended(ada, workspace["task_id"], "succeeded")
        assert (await ada.get(f"/api/workspaces/{workspace['id']}"))["status"] == "active"

    async def test_what_is_done_is_to_be_deleted_instead(self, ada: Person):
        team = await make_team(ada, "Done")
        refusal = await ada.refused("POST", f"/api/tasks/{team['task_id']}/cancel")
        assert refusal["status"] == 409
        assert "Delete the team" in refusal["detail"]
        assert (await ada.refused("POST", f"/api/tasks/{team['task_id']}/retry"))["status"] == 409

    async def test_members_may_not_and_strangers_do_not_learn_of_it(self, ada: Person, bob: Person, grace: Person):
        team = await make_team(ada, "Rights")
        await join(ada, team["id"], bob, "member")
        for action in ("cancel", "retry"):
            assert (await bob.refused("POST", f"/api/tasks/{team['task_id']}/{action}"))["status"] == 403
            assert (await grace.refused("POST", f"/api/tasks/{team['task_id']}/{action}"))["status"] == 404
        assert (await bob.refused("DELETE", f"/api/teams/{team['id']}"))["status"] == 403
        workspace = await make_workspace(ada, "Rights too")
        await join(ada, workspace["team_id"], bob, "admin")
        assert (await bob.refused("DELETE", f"/api/workspaces/{workspace['id']}"))["status"] == 403


class TestRefused:
    async def test_an_import_that_cannot_be_made_is_undone_and_says_why(
        self, ada: Person, cloud: LocalCloud, tmp_path: Path
    ):
        workspace = await begin(ada, "Bad import", (tmp_path / "nothing").as_uri())
        task = await ended(ada, workspace["task_id"], "rolled_back")
        assert task["error"].startswith("Importing repo failed: ")
        left = await left_of(cloud, workspace["id"], workspace["team_id"], "bad-import")
        assert {place.split(" ")[0] for place in left} <= {"team", "workspace"}, left
        again = await make_workspace(ada, "Bad import")
        assert again["id"] != workspace["id"]
        refusal = await ada.refused("POST", f"/api/tasks/{workspace['task_id']}/retry")
        assert (refusal["status"], "exists already" in refusal["detail"]) == (409, True)


class TestDelete:
    async def test_a_workspace_at_work_goes_with_all_it_held(self, ada: Person, bob: Person, cloud: LocalCloud):
        workspace = await make_workspace(ada, "Deleted workspace")
        await join(ada, workspace["team_id"], bob, "member")
        _, run = await run_card(ada, workspace["board_id"], "Slow", SLOW_CARD)
        await run_in(ada, run["id"], "running")
        async with bob.watching() as socket:
            task_id = await remove(ada, f"/api/workspaces/{workspace['id']}?repository=delete")
            assert (await bob.get(f"/api/workspaces/{workspace['id']}"))["status"] in ("deleting",)
            refusal = await bob.refused("POST", f"/api/boards/{workspace['board_id']}/cards", {"title": "Too late"})
            assert refusal["status"] in (404, 409)
            await ended(ada, task_id, "succeeded")

            async def told() -> bool:
                seen = [message["data"]["type"] for message in socket.messages]
                return "workspace.deleted" in seen and "team.deleted" in seen

            await until(told, within=5)
        for person in (ada, bob):
            for path in (
                f"/api/workspaces/{workspace['id']}",
                f"/api/teams/{workspace['team_id']}",
                f"/api/boards/{workspace['board_id']}",
                f"/api/runs/{run['id']}",
                f"/api/tasks/{workspace['task_id']}",
            ):
                await is_gone(person, path)
            assert workspace["team_id"] not in str(await person.get("/api/teams"))
            assert f"team.{workspace['team_id']}" not in (await person.get("/api/realtime/negotiate"))["groups"]
        await is_gone(bob, f"/api/tasks/{task_id}")
        assert await left_of(cloud, workspace["id"], workspace["team_id"], "deleted-workspace") == []
        await make_workspace(ada, "Deleted workspace")

    async def test_its_repository_stays_by_default(self, ada: Person, cloud: LocalCloud):
        workspace = await make_workspace(ada, "Kept code")
        await ended(ada, await remove(ada, f"/api/workspaces/{workspace['id']}"), "succeeded")
        assert await left_of(cloud, workspace["id"], workspace["team_id"], "kept-code") == ["kept-code.git"]

    async def test_while_it_is_being_made(self, ada: Person, cloud: LocalCloud, large: str):
        workspace = await begin(ada, "Never made", large)
        await at_step(ada, workspace["task_id"], "import_repository")
        task_id = await remove(ada, f"/api/workspaces/{workspace['id']}?repository=delete")
        assert await remove(ada, f"/api/workspaces/{workspace['id']}") == task_id
        assert (await ada.refused("POST", f"/api/tasks/{task_id}/cancel"))["status"] == 409
        await ended(ada, task_id, "succeeded")
        assert await left_of(cloud, workspace["id"], workspace["team_id"], "never-made") == []

    async def test_after_it_was_rolled_back_or_cancelled(self, ada: Person, cloud: LocalCloud, tmp_path: Path):
        workspace = await begin(ada, "Rolled back", (tmp_path / "nothing").as_uri())
        await ended(ada, workspace["task_id"], "rolled_back")
        await ended(ada, await remove(ada, f"/api/workspaces/{workspace['id']}"), "succeeded")
        assert await left_of(cloud, workspace["id"], workspace["team_id"], "rolled-back") == []

    async def test_a_team_by_an_administrator_of_the_platform(self, ada: Person, grace: Person, cloud: LocalCloud):
        team = await make_team(ada, "Removed by Grace")
        await make_card(ada, team["board_id"], "Something")
        await ended(grace, await remove(grace, f"/api/teams/{team['id']}"), "succeeded")
        await is_gone(ada, f"/api/teams/{team['id']}")
        assert await left_of(cloud, team["id"]) == []

    async def test_the_team_of_a_workspace_is_deleted_with_it_only(self, ada: Person):
        workspace = await make_workspace(ada, "Whole")
        assert (await ada.refused("DELETE", f"/api/teams/{workspace['team_id']}"))["status"] == 409

    async def test_strangers_do_not_learn_of_it(self, ada: Person, bob: Person):
        workspace = await make_workspace(ada, "Private")
        for path in (f"/api/teams/{workspace['team_id']}", f"/api/workspaces/{workspace['id']}"):
            assert (await bob.refused("DELETE", path))["status"] == 404


@dataclass
class Frail:
    """A cloud of its own, to break: its GitHub is behind a door."""

    cloud: LocalCloud
    ada: Person
    door: Doorway

    async def restart(self) -> None:
        """The function host is killed in the middle of things, and another one started."""
        assert self.cloud.functions
        await self.cloud.functions.kill()
        self.door.open()
        await self.cloud.functions.start()

    async def knocks(self) -> None:
        """Waits until somebody stands before the held door."""

        async def anybody() -> bool:
            return self.door.waiting > 0

        await until(anybody)

    async def ended(self, task_id: str, status: str) -> Json:
        """By a watchdog, who waits for a lease of 30 s to pass."""

        async def over() -> Json | None:
            with contextlib.suppress(httpx.TransportError):
                task = await self.ada.get(f"/api/tasks/{task_id}")
                return task if task["status"] in TASK_OVER else None
            return None

        task = await until(over, within=100, every=0.2)
        assert task["status"] == status, (task["status"], task["error"])
        return task


@pytest.fixture(scope="module")
async def frail(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Frail]:
    async with (
        Doorway.standing() as door,
        started_cloud(
            tmp_path_factory.mktemp("frail"), host_environ={"GITHUB_API_URL": f"http://127.0.0.1:{door.port}"}
        ) as cloud,
        Person.signed_in(cloud, "ada@contoso.test") as ada,
    ):
        door.target = cloud.ports.github
        yield Frail(cloud, ada, door)


class TestGitHubAway:
    async def test_what_was_made_is_kept_and_a_retry_goes_on(self, frail: Frail):
        frail.door.shut()
        workspace = await begin(frail.ada, "GitHub away")
        task = await frail.ended(workspace["task_id"], "failed")
        assert "GitHub did not answer" in task["error"]
        assert [step["status"] for step in task["steps"][:5]] == ["succeeded"] * 4 + ["failed"]
        frail.door.open()
        await frail.ada.post(f"/api/tasks/{workspace['task_id']}/retry")
        await frail.ended(workspace["task_id"], "succeeded")
        assert (await frail.ada.get(f"/api/workspaces/{workspace['id']}"))["status"] == "active"

    async def test_or_it_is_undone_instead(self, frail: Frail):
        frail.door.shut()
        workspace = await begin(frail.ada, "Given up")
        await frail.ended(workspace["task_id"], "failed")
        frail.door.open()
        await frail.ada.post(f"/api/tasks/{workspace['task_id']}/cancel")
        await frail.ended(workspace["task_id"], "cancelled")


class TestHostKilled:
    async def test_while_undoing_it_is_undone_all_the_same(self, frail: Frail, large: str):
        workspace = await begin(frail.ada, "Killed while undoing", large)
        await at_step(frail.ada, workspace["task_id"], "import_repository")
        frail.door.hold()
        await frail.ada.post(f"/api/tasks/{workspace['task_id']}/cancel")
        await frail.knocks()
        await frail.restart()
        task = await frail.ended(workspace["task_id"], "cancelled")
        assert {step["status"] for step in task["steps"]} == {"undone", "pending"}
        left = await left_of(frail.cloud, workspace["id"], workspace["team_id"], "killed-while-undoing")
        assert {place.split(" ")[0] for place in left} <= {"team", "workspace"}, left

    async def test_while_deleting_it_is_deleted_all_the_same(self, frail: Frail):
        workspace = await make_workspace(frail.ada, "Killed while deleting")
        frail.door.hold()
        task_id = await remove(frail.ada, f"/api/workspaces/{workspace['id']}?repository=delete")
        await frail.knocks()
        await frail.restart()
        await frail.ended(task_id, "succeeded")
        assert await left_of(frail.cloud, workspace["id"], workspace["team_id"], "killed-while-deleting") == []
        await is_gone(frail.ada, f"/api/workspaces/{workspace['id']}")
