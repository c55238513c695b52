"""Agents are killed, queues repeat themselves: work still ends, once."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from local.cloud import LocalCloud
from tests.flows import jobs
from tests.flows.queues import Queues
from tests.flows.world import (
    Json,
    Person,
    events_of,
    events_to_end,
    finished_run,
    make_team,
    make_workspace,
    run_card,
    run_in,
    stored,
)

BODY = "1. Create `survived.txt`:\n\n   ```\n   yes\n   ```\n\n2. Run: `sleep 4`\n"


@pytest.fixture(scope="module")
async def place(ada: Person) -> Json:
    return await make_workspace(ada, "Durable")


@pytest.fixture(scope="module")
async def queues(cloud: LocalCloud) -> AsyncGenerator[Queues]:
    async with Queues.of(cloud) as client:
        yield client


class TestKilledAgent:
    async def test_its_run_fails_with_the_reason(self, ada: Person, place: Json, cloud: LocalCloud):
        _, run = await run_card(ada, place["board_id"], "Lost", "Run: `sleep 60`")
        await run_in(ada, run["id"], "running")
        jobs.kill(cloud, run["id"])
        ended = await finished_run(ada, run["id"], within=30)
        assert ended["status"] == "failed"
        assert "container" in ended["reason"]


class TestRepeatedMessages:
    async def test_of_a_finished_task_change_nothing(self, ada: Person, queues: Queues):
        team = await make_team(ada, "Told again")
        before = await events_to_end(ada, f"tasks/{team['task_id']}")
        bodies = [{"version": 1, "task_id": team["task_id"], "epoch": epoch} for epoch in range(8)]
        await queues.send("provisioning", *bodies, *bodies)
        await queues.drained("provisioning")
        assert await events_of(ada, f"tasks/{team['task_id']}") == before

    async def test_of_a_working_run_start_no_second_chain(
        self, ada: Person, place: Json, cloud: LocalCloud, queues: Queues
    ):
        _, run = await run_card(ada, place["board_id"], "Told twice", BODY.replace("survived", "twice"))
        for _ in range(10):
            async with stored(cloud) as documents:
                kept = await documents.get(f"boards/{place['id']}", f"run/{run['id']}")
            assert kept is not None
            message = {"version": 1, "run_id": run["id"], "epoch": kept.body["epoch"]}
            await queues.send("agent-runs", message, message, {**message, "epoch": 1})
            await asyncio.sleep(0.3)
        ended = await finished_run(ada, run["id"])
        assert ended["status"] == "succeeded", ended["reason"]
        life = [e["type"] for e in await events_to_end(ada, f"runs/{run['id']}") if e["type"].startswith("agent.")]
        assert [kind for kind in life if kind != "agent.progress"] == [
            "agent.queued",
            "agent.starting",
            "agent.started",
            "agent.completed",
        ]

    async def test_about_nothing_are_dropped(self, grace: Person, queues: Queues):
        await queues.send("provisioning", {"version": 1, "task_id": "01m80000000000000000", "epoch": 1})
        await queues.send("agent-runs", {"version": 1, "run_id": "run_w0000000000_none", "epoch": 1})
        await queues.drained("provisioning")
        await queues.drained("agent-runs")
        assert not [item for item in (await grace.get("/api/incidents"))["items"] if "01m80" in str(item)]
