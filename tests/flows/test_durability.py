"""Agents are killed, queues repeat themselves, messages are garbage: work still ends, once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueServiceClient

from local.cloud import LocalCloud
from tests.flows.world import (
    Json,
    Person,
    events_of,
    finished_run,
    make_team,
    make_workspace,
    run_card,
    run_in,
    stored,
    until,
)

BODY = "1. Create `survived.txt`:\n\n   ```\n   yes\n   ```\n\n2. Run: `sleep 4`\n"


@pytest.fixture(scope="module")
async def place(ada: Person) -> Json:
    return await make_workspace(ada, "Durable")


@pytest.fixture(scope="module")
async def queues(cloud: LocalCloud) -> AsyncGenerator[QueueServiceClient]:
    async with QueueServiceClient.from_connection_string(cloud.azurite.connection_string) as service:
        yield service


async def _send(queues: QueueServiceClient, queue: str, *bodies: Json) -> None:
    client = queues.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
    for body in bodies:
        await client.send_message(orjson.dumps(body).decode(), time_to_live=-1)


async def _drained(queues: QueueServiceClient, queue: str) -> None:
    """No message waits; what a killed host had taken stays hidden and does not count."""

    async def empty() -> bool:
        try:
            return not await queues.get_queue_client(queue).peek_messages()
        except ResourceNotFoundError:
            return True

    await until(empty, within=20, every=0.2)
    await asyncio.sleep(0.5)


async def _incident(person: Person, queue: str, text: str) -> Json:
    async def there() -> Json | None:
        items = (await person.get("/api/incidents"))["items"]
        return next((item for item in items if item["queue"] == queue and text in str(item["body"])), None)

    return await until(there, within=20, every=0.2)


class TestKilledAgent:
    async def test_its_run_fails_with_the_reason(self, ada: Person, place: Json, cloud: LocalCloud):
        _, run = await run_card(ada, place["board_id"], "Lost", "Run: `sleep 60`")
        await run_in(ada, run["id"], "running")
        job: dict[str, Any] = orjson.loads(
            (cloud.data / "jobs" / run["id"].replace("_", "-") / "job.json").read_bytes()
        )
        os.kill(job["pid"], signal.SIGKILL)
        ended = await finished_run(ada, run["id"], within=30)
        assert ended["status"] == "failed"
        assert "container" in ended["reason"]


class TestRepeatedMessages:
    async def test_of_a_finished_task_change_nothing(self, ada: Person, queues: QueueServiceClient):
        team = await make_team(ada, "Told again")
        before = await events_of(ada, f"tasks/{team['task_id']}")
        bodies = [{"version": 1, "task_id": team["task_id"], "epoch": epoch} for epoch in range(8)]
        await _send(queues, "provisioning", *bodies, *bodies)
        await _drained(queues, "provisioning")
        assert await events_of(ada, f"tasks/{team['task_id']}") == before

    async def test_of_a_working_run_start_no_second_chain(
        self, ada: Person, place: Json, cloud: LocalCloud, queues: QueueServiceClient
    ):
        _, run = await run_card(ada, place["board_id"], "Told twice", BODY.replace("survived", "twice"))
        for _ in range(10):
            async with stored(cloud) as documents:
                kept = await documents.get(f"boards/{place['id']}", f"run/{run['id']}")
            assert kept is not None
            message = {"version": 1, "run_id": run["id"], "epoch": kept.body["epoch"]}
            await _send(queues, "agent-runs", message, message, {**message, "epoch": 1})
            await asyncio.sleep(0.3)
        ended = await finished_run(ada, run["id"])
        assert ended["status"] == "succeeded", ended["reason"]
        life = [e["type"] for e in await events_of(ada, f"runs/{run['id']}") if e["type"].startswith("agent.")]
        assert [kind for kind in life if kind != "agent.progress"] == [
            "agent.queued",
            "agent.starting",
            "agent.started",
            "agent.completed",
        ]

    async def test_about_nothing_are_dropped(self, grace: Person, queues: QueueServiceClient):
        await _send(queues, "provisioning", {"version": 1, "task_id": "01m80000000000000000", "epoch": 1})
        await _send(queues, "agent-runs", {"version": 1, "run_id": "run_w0000000000_none", "epoch": 1})
        await _drained(queues, "provisioning")
        await _drained(queues, "agent-runs")
        assert not [item for item in (await grace.get("/api/incidents"))["items"] if "01m80" in str(item)]


class TestGarbageMessages:
    @pytest.mark.parametrize("queue", ["provisioning", "agent-runs", "webhooks", "usage"])
    async def test_become_incidents_that_admins_see(self, grace: Person, queues: QueueServiceClient, queue: str):
        client = queues.get_queue_client(queue)
        with contextlib.suppress(ResourceExistsError):
            await client.create_queue()
        await client.send_message("this is not base64!")
        await _send(queues, queue, {"version": 99, "what": f"unknown to {queue}"})
        raw = queues.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
        await raw.send_message(f"not JSON for {queue}")
        assert (await _incident(grace, queue, "not base64"))["reason"]
        assert (await _incident(grace, queue, f"not JSON for {queue}"))["reason"]
        assert (await _incident(grace, queue, f"unknown to {queue}"))["body"]["version"] == 99
        await _drained(queues, queue)
        await _drained(queues, f"{queue}-poison")

    async def test_are_for_platform_admins_only(self, ada: Person, grace: Person):
        assert (await ada.refused("GET", "/api/incidents"))["status"] == 404
        items = (await grace.get("/api/incidents"))["items"]
        assert (await ada.refused("POST", f"/api/incidents/{items[0]['id']}/replay"))["status"] == 404
