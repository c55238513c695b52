"""Agents in containers, while the engine or the platform goes away, and what is left when the local cloud stops."""

from pathlib import Path

import pytest
from docker import APIClient

from local.cloud import LocalCloud
from shared.adapters.docker_containers import PLATFORM, container_name
from tests.engine import Engine
from tests.flows import jobs
from tests.flows.world import Json, Person, finished_run, make_workspace, run_card, run_in, started_cloud

pytestmark = pytest.mark.docker

BODY = "1. Create `survived.txt`:\n\n   ```\n   yes\n   ```\n\n2. Run: `sleep 4`\n"


@pytest.fixture(scope="module")
async def place(owner: Person) -> Json:
    return await make_workspace(owner, "Contained")


async def _working(person: Person, place: Json) -> Json:
    _, run = await run_card(person, place["board_id"], "Survive", BODY)
    return await run_in(person, run["id"], "running")


async def _tried(person: Person, place: Json, *commands: str) -> str:
    """What an agent's commands printed, none of which may succeed."""
    line = "; ".join(f"({command}) 2>&1 && echo done-it" for command in commands)
    _, run = await run_card(person, place["board_id"], "Look around", f"Run: `{line}; echo looked`\n\n" + BODY)
    ended = await finished_run(person, run["id"])
    assert ended["status"] == "succeeded", ended["reason"]
    events = (await person.get(f"/api/runs/{run['id']}/events"))["items"]
    (printed,) = [
        e["data"]["output"]
        for e in events
        if e["data"].get("kind") == "tool_result" and "looked" in e["data"]["output"]
    ]
    assert "done-it" not in printed
    return printed


def _ours(api: APIClient, cloud: LocalCloud) -> tuple[int, int]:
    """How many containers and networks of this cloud the engine has."""
    labelled = {"label": f"{PLATFORM}={cloud.api_url}"}
    return len(api.containers(all=True, filters=labelled)), len(api.networks(filters=labelled))


class TestContainer:
    async def test_outlives_the_function_host_and_is_found_again(
        self, own: LocalCloud, owner: Person, place: Json, engine: Engine
    ):
        run = await _working(owner, place)
        api, name = engine.api(), container_name(jobs.job_name(run["id"]))
        before = api.inspect_container(name)
        assert own.functions
        await own.functions.kill()
        assert api.inspect_container(name)["State"]["Running"]
        await own.functions.start()
        ended = await finished_run(owner, run["id"])
        assert (ended["status"], ended["attempt"]) == ("succeeded", 1), ended["reason"]
        assert api.inspect_container(name)["Id"] == before["Id"]

    async def test_outlives_the_engine_and_is_found_again(self, owner: Person, place: Json, engine: Engine):
        run = await _working(owner, place)
        await engine.restart()
        ended = await finished_run(owner, run["id"])
        assert (ended["status"], ended["attempt"]) == ("succeeded", 1), ended["reason"]

    async def test_reaches_no_other_server_and_no_file_of_this_machine(
        self, own: LocalCloud, owner: Person, place: Json
    ):
        look = "import urllib.request; urllib.request.urlopen('http://host.docker.internal:{}', timeout=3)"
        tries = [f'python3 -c "{look.format(port)}"' for port in (own.ports.entra, own.ports.model, own.ports.web)]
        printed = await _tried(owner, place, *tries, f"ls {own.data}")
        assert printed.count("refused") == len(tries)
        assert "No such file or directory" in printed

    async def test_gives_its_token_to_no_command(self, owner: Person, place: Json):
        printed = await _tried(owner, place, "grep -l RUN_TOKEN /proc/[0-9]*/environ", "env | grep TOKEN")
        assert "Permission denied" in printed

    async def test_without_its_image_the_run_says_what_is_missing(self, cloud_parts: None, tmp_path: Path):
        gone = {"AGENT_IMAGE": "kanban-agent:gone"}
        async with (
            started_cloud(tmp_path / "gone", host_environ=gone) as cloud,
            Person.signed_in(cloud, "ada@contoso.test") as person,
        ):
            place = await make_workspace(person, "Imageless")
            _, run = await run_card(person, place["board_id"], "Start", BODY)
            ended = await finished_run(person, run["id"])
            assert ended["status"] == "failed"
            assert "kanban-agent:gone is not on the container host" in ended["reason"]

    async def test_ends_with_the_local_cloud(self, cloud_parts: None, engine: Engine, tmp_path: Path):
        api = engine.api()
        async with (
            started_cloud(tmp_path / "short") as cloud,
            Person.signed_in(cloud, "ada@contoso.test") as person,
        ):
            place = await make_workspace(person, "Short")
            await _working(person, place)
            assert _ours(api, cloud) == (1, 1)
        assert _ours(api, cloud) == (0, 0)
