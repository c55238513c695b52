"""Workspaces: from the template or imported, and every way of asking for one that cannot be."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.cloud import APP_ID, INSTALLATION, ORG, LocalCloud
from local.keys import app_key
from shared.adapters.github import GitHubRepositories
from tests.flows.world import (
    Json,
    Person,
    bare_repository,
    board_of,
    events_of,
    events_to_end,
    finished_task,
    git,
    join,
    make_team,
    make_workspace,
)
from tests.waiting import until


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with two branches and a tag, whose default branch is not main."""
    folder = tmp_path / "source"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    (folder / "README.md").write_text("# Imported\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Start")
    git(folder, "tag", "v1")
    git(folder, "checkout", "-q", "-b", "feature/login")
    (folder / "login.py").write_text("LOGIN = True\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Add login")
    git(folder, "checkout", "-q", "trunk")
    return folder


async def _ended(person: Person, name: str, import_url: str) -> tuple[Json, Json]:
    """The task, once it is over, and the workspace, which learns of it a moment later."""
    started = await person.post("/api/workspaces", {"name": name, "import_url": import_url})
    task = await finished_task(person, started["task_id"])

    async def settled() -> Json | None:
        workspace = await person.get(f"/api/workspaces/{started['workspace']['id']}")
        return workspace if workspace["status"] != "pending" else None

    return task, await until(settled, within=5)


class TestCreateWorkspace:
    async def test_is_accepted_at_once_with_a_task_to_follow(self, ada: Person):
        answer = await ada.request("POST", "/api/workspaces", json={"name": "Accepted"})
        assert answer.status_code == 202
        started = answer.json()
        assert answer.headers["location"] == f"/api/tasks/{started['task_id']}"
        assert started["workspace"]["status"] == "pending"
        assert started["workspace"]["role"] == "owner"
        task = await finished_task(ada, started["task_id"])
        assert task["status"] == "succeeded", task["error"]
        made = await ada.get(f"/api/workspaces/{started['workspace']['id']}")
        assert (made["status"], made["error"]) == ("active", None)
        assert made["id"] in [item["id"] for item in (await ada.get("/api/workspaces"))["items"]]
        assert task["id"] in [item["id"] for item in (await ada.get("/api/tasks", owner="me"))["items"]]

    async def test_takes_its_steps_in_order_and_tells_each(self, ada: Person, workspace: Json):
        task = await ada.get(f"/api/tasks/{workspace['task_id']}")
        assert [step["name"] for step in task["steps"]] == [
            "reserve_host",
            "render_stack",
            "create_board",
            "issue_llm_key",
            "create_repository",
            "publish_repository",
            "provision_agent",
            "activate",
            "open_workspace",
        ]
        assert {step["status"] for step in task["steps"]} == {"succeeded"}
        assert all(step["title"] and step["started_at"] <= step["finished_at"] for step in task["steps"])
        started = [step["started_at"] for step in task["steps"]]
        assert started == sorted(started)
        events = await events_to_end(ada, f"tasks/{task['id']}")
        assert events[0]["type"] == "task.created"
        assert events[-1]["type"] == "task.completed"
        assert {event["type"] for event in events[1:-1]} == {"task.progress"}
        done = [sum(step["status"] == "succeeded" for step in event["data"]["task"]["steps"]) for event in events]
        assert done == sorted(done)
        assert set(done) == set(range(10))
        assert events[-1]["sequence"] == task["sequence"]

    async def test_events_can_be_asked_for_from_where_one_stopped(self, ada: Person, workspace: Json):
        path = f"/api/tasks/{workspace['task_id']}/events"
        everything = await ada.get(path)
        rest = await ada.get(path, after=3)
        assert rest["items"] == everything["items"][3:]
        assert rest["last"] == everything["last"] == len(everything["items"])
        assert (await ada.get(path, after=10_000))["items"] == []

    async def test_its_repository_holds_the_template_on_a_protected_branch(
        self, ada: Person, workspace: Json, cloud: LocalCloud
    ):
        repository = workspace["repository"]
        assert repository["full_name"] == "kanban/shared-workspace"
        assert repository["default_branch"] == "main"
        bare = bare_repository(cloud, workspace)
        files = git(bare, "ls-tree", "-r", "--name-only", "main").splitlines()
        assert {"README.md", "app.py", "pyproject.toml", "test_app.py"} <= set(files)

    async def test_an_agents_credentials_push_branches_but_not_the_default_one(
        self, workspace: Json, cloud: LocalCloud, tmp_path: Path
    ):
        key = app_key(cloud.data / "certificates" / "github-app.pem")
        github = GitHubRepositories(cloud.github_url, ORG, APP_ID, INSTALLATION, key.private)
        token = (await github.token(workspace["repository"]["full_name"])).token
        url = workspace["repository"]["clone_url"].replace("://", f"://x-access-token:{token}@")
        await asyncio.to_thread(git, tmp_path, "clone", "-q", url, "checkout")
        (tmp_path / "checkout" / "new.txt").write_text("new\n")
        git(tmp_path / "checkout", "add", "-A")
        git(tmp_path / "checkout", "commit", "-q", "-m", "New")
        with pytest.raises(subprocess.CalledProcessError) as refused:
            await asyncio.to_thread(git, tmp_path / "checkout", "push", "-q", "origin", "HEAD:main")
        assert "protected branch" in refused.value.stderr.lower()
        await asyncio.to_thread(git, tmp_path / "checkout", "push", "-q", "origin", "HEAD:agent/by-hand")

    async def test_opens_a_board_whose_agent_is_ready(self, ada: Person, workspace: Json, cloud: LocalCloud):
        board = await board_of(ada, workspace["board_id"])
        assert [column["kind"] for column in board["columns"]] == ["plain", "plain", "start", "review", "done"]
        assert board["agents"]["enabled"] is True
        assert board["agents"]["reason"] is None
        assert board["agents"]["demo_model"] is True
        assert board["agents"]["isolated"] is cloud.containers.docker
        assert board["workspace_id"] == workspace["id"]
        assert board["role"] == "owner"

    async def test_many_at_once_all_succeed(self, ada: Person):
        made = await asyncio.gather(*(make_workspace(ada, f"Parallel {number}") for number in range(3)))
        assert len({item["repository"]["full_name"] for item in made}) == 3

    async def test_a_taken_name_is_a_conflict(self, ada: Person, bob: Person, workspace: Json):
        for person, name in ((ada, "Shared Workspace"), (bob, "shared  workspace!")):
            refused = await person.refused("POST", "/api/workspaces", {"name": name})
            assert refused["status"] == 409, name
            assert "another name" in refused["detail"]

    async def test_two_who_want_the_same_name_at_once_do_not_both_get_it(self, ada: Person, bob: Person):
        answers = await asyncio.gather(
            *(person.request("POST", "/api/workspaces", json={"name": "Contested"}) for person in (ada, bob) * 2)
        )
        assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]

    @pytest.mark.parametrize("name", ["", "   ", "!!!", "x" * 61, None])
    async def test_a_name_that_cannot_be_is_refused(self, ada: Person, name: str | None):
        assert (await ada.refused("POST", "/api/workspaces", {"name": name}))["status"] == 422

    async def test_repeating_the_request_with_its_key_makes_one(self, ada: Person):
        answers = [
            await ada.request(
                "POST", "/api/workspaces", json={"name": "Once Only"}, headers={"idempotency-key": "once-only-1"}
            )
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()

    async def test_strangers_cannot_tell_that_it_exists(self, grace: Person, workspace: Json):
        for path in (
            f"/api/workspaces/{workspace['id']}",
            f"/api/boards/{workspace['board_id']}",
            f"/api/tasks/{workspace['task_id']}",
            f"/api/tasks/{workspace['task_id']}/events",
            f"/api/teams/{workspace['team_id']}",
        ):
            assert (await grace.refused("GET", path))["status"] == 404, path
        assert (await grace.refused("POST", f"/api/tasks/{workspace['task_id']}/retry"))["status"] == 404
        assert workspace["id"] not in [item["id"] for item in (await grace.get("/api/workspaces"))["items"]]

    async def test_a_task_that_succeeded_cannot_be_retried(self, ada: Person, workspace: Json):
        refused = await ada.refused("POST", f"/api/tasks/{workspace['task_id']}/retry")
        assert refused["status"] == 409


class TestImportWorkspace:
    async def test_brings_branches_tags_and_the_default_branch(self, ada: Person, source: Path, cloud: LocalCloud):
        workspace = await make_workspace(ada, "Brought Along", source.as_uri())
        assert workspace["import_url"] == source.as_uri()
        assert workspace["repository"]["default_branch"] == "trunk"
        bare = bare_repository(cloud, workspace)
        for branch in ("trunk", "feature/login"):
            assert git(bare, "rev-parse", branch) == git(source, "rev-parse", branch)
        assert git(bare, "tag") == "v1"
        assert git(bare, "symbolic-ref", "--short", "HEAD") == "trunk"
        assert (await board_of(ada, workspace["board_id"]))["agents"]["enabled"] is True

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.com/x.git",
            "git@github.com:a/b.git",
            "ssh://git@host/x",
            "/etc",
            "javascript:alert(1)",
            "ext::sh",
        ],
    )
    async def test_an_address_of_another_kind_is_refused(self, ada: Person, url: str):
        refused = await ada.refused("POST", "/api/workspaces", {"name": "Bad Address", "import_url": url})
        assert refused["status"] == 422
        assert "https://" in refused["detail"]

    @pytest.mark.parametrize("login", ["user:secret", "token"])
    async def test_credentials_in_the_address_are_refused(self, ada: Person, login: str):
        body = {"name": "Leaky", "import_url": f"https://{login}@example.com/x.git"}
        refused = await ada.refused("POST", "/api/workspaces", body)
        assert refused["status"] == 422
        assert login not in str(refused)

    @pytest.mark.parametrize(
        "url", ["https://x\n--upload-pack=y", "https://a b/", "file:///a\x00", "https://x/\u2028y"]
    )
    async def test_an_address_with_what_cannot_be_seen_is_refused(self, ada: Person, url: str):
        refused = await ada.refused("POST", "/api/workspaces", {"name": "Unseen", "import_url": url})
        assert refused["status"] == 422

    @pytest.mark.parametrize("url", ["https://", "https:///x", "http://[", "file://"])
    async def test_half_an_address_is_refused(self, ada: Person, url: str):
        answer = await ada.request("POST", "/api/workspaces", json={"name": "Half Address", "import_url": url})
        assert answer.status_code == 422, answer.text

    async def test_a_source_that_is_no_repository_is_refused_with_one_sentence_and_undone(
        self, ada: Person, tmp_path: Path
    ):
        empty = tmp_path / "nothing-here"
        empty.mkdir()
        task, workspace = await _ended(ada, "No Repository", empty.as_uri())
        assert task["status"] == "rolled_back"
        undone = [step["name"] for step in task["steps"] if step["status"] == "undone"]
        assert undone[-1] == "import_repository"
        assert {step["status"] for step in task["steps"]} == {"undone", "pending"}
        assert task["error"].startswith("Importing repo failed: ")
        assert "\n" not in task["error"]
        assert str(empty) in task["error"]
        assert "host.docker.internal" not in task["error"]
        assert workspace["status"] == "failed"
        assert workspace["error"] == task["error"]
        assert "Traceback" not in task["error"]
        events = await events_to_end(ada, f"tasks/{task['id']}")
        assert events[-1]["type"] == "task.rolled_back"

    async def test_it_can_be_retried_once_the_source_is_there(self, ada: Person, tmp_path: Path, source: Path):
        late = tmp_path / "late"
        task, workspace = await _ended(ada, "Late Source", late.as_uri())
        assert task["status"] == "rolled_back"
        source.rename(late)
        answer = await ada.request("POST", f"/api/tasks/{task['id']}/retry")
        assert answer.status_code == 202
        assert answer.json()["status"] == "pending"
        again = await finished_task(ada, task["id"])
        assert again["status"] == "succeeded", again["error"]
        assert again["error"] is None
        made = await ada.get(f"/api/workspaces/{workspace['id']}")
        assert (made["status"], made["error"]) == ("active", None)
        assert (await ada.get(f"/api/teams/{workspace['team_id']}"))["status"] == "active"
        await events_of(ada, f"tasks/{task['id']}")

    async def test_a_viewer_cannot_retry_it(self, ada: Person, bob: Person, tmp_path: Path):
        task, workspace = await _ended(ada, "Viewed Failure", (tmp_path / "missing").as_uri())
        await join(ada, workspace["team_id"], bob, "viewer")
        assert (await bob.get(f"/api/tasks/{task['id']}"))["status"] == "rolled_back"
        assert (await bob.refused("POST", f"/api/tasks/{task['id']}/retry"))["status"] == 403


class TestCreateTeam:
    async def test_has_a_board_for_people_and_says_why_agents_cannot_work(self, ada: Person):
        team = await make_team(ada, "  Board Only  ")
        assert team["name"] == "Board Only"
        assert team["status"] == "active"
        agents = (await board_of(ada, team["board_id"]))["agents"]
        assert agents["enabled"] is False
        assert "no repository" in agents["reason"]

    @pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "  "}, {"name": "x" * 81}, {"name": 7}])
    async def test_a_name_that_cannot_be_is_refused(self, ada: Person, body: Any):
        assert (await ada.refused("POST", "/api/teams", body))["status"] == 422
