"""The platform in Microsoft's own worker library instead of our host: what people do, and what the wire must carry."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import orjson
import psutil
import pytest

from functions.api import LARGEST_BODY
from functions.http import AREAS
from local.child import Child, accepts_connections
from local.cloud import ROOT, LocalCloud
from shared.adapters.file_secrets import FileSecrets
from tests.flows.queues import Queues
from tests.flows.world import (
    Json,
    Person,
    bare_repository,
    git,
    make_team,
    make_workspace,
    problem,
    run_card,
    started_cloud,
)
from tests.flows.world import finished_run as ended_run
from tests.relay import Relay
from tests.waiting import until

PAUSE = 0.15
"""Seconds before each piece of the model's answers."""
UPLOAD = 30 * 1024 * 1024
MEMORY = 200 * 1024 * 1024
"""Most that the worker may grow while it takes in an upload: the gateway passes a body on whole."""
CARD = "Create `worked.txt`:\n\n```\nyes\n```\n"


class ModelWire(Relay):
    """Between the gateway and the model."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.said = bytearray()
        self.abandoned = asyncio.Event()

    def answered(self, data: bytes) -> None:
        self.said += data

    def left(self) -> None:
        self.abandoned.set()


@dataclass
class Worker:
    """A cloud whose functions run in the worker, in a process of its own."""

    cloud: LocalCloud
    child: Child
    wire: ModelWire

    def invoked(self, name: str) -> list[int]:
        """The status of each invocation of a queue or timer function; 1 is success."""
        lines = self.child.log_path.read_text().splitlines()
        said = [json.loads(line) for line in lines if line.startswith('{"invoked"')]
        return [line["status"] for line in said if line["invoked"] == name]

    def logged(self, event: str) -> list[Json]:
        lines = [line for line in self.child.log_path.read_text().splitlines() if line.startswith('{"time"')]
        return [each for each in map(json.loads, lines) if each["event"] == event]

    def memory(self) -> int:
        return psutil.Process(self.child.pid).memory_info().rss


@pytest.fixture(scope="module")
async def worker(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Worker]:
    data = tmp_path_factory.mktemp("worker")
    async with started_cloud(data, PAUSE, with_functions=False, LOG_LEVEL="DEBUG") as cloud:
        wire = ModelWire(cloud.ports.model)
        async with wire.open() as port:
            env = cloud.settings | {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}"}
            argv = [sys.executable, "-m", "tests.contracts.worker_host", str(ROOT), str(cloud.ports.api)]
            ready = lambda: accepts_connections(cloud.ports.api)  # noqa: E731
            async with Child("worker", argv, env, data / "logs" / "worker.log", ready, cwd=ROOT) as child:
                yield Worker(cloud, child, wire)


@pytest.fixture(scope="module")
async def ada(worker: Worker) -> AsyncGenerator[Person]:
    async with Person.signed_in(worker.cloud, "ada@contoso.test") as person:
        yield person


@pytest.fixture(scope="module")
async def anybody(worker: Worker) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=worker.cloud.api_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
async def key(worker: Worker, ada: Person) -> str:
    """What a team's calls of the model are paid with."""
    team = await make_team(ada, "Model users")
    found = await FileSecrets(worker.cloud.data).get(f"llm-key-{team['id']}")
    assert found
    return found


class TestWhatPeopleDo:
    async def test_an_agent_works_on_a_card_and_hands_it_over(self, worker: Worker, ada: Person):
        place = await make_workspace(ada, "In the worker")
        card, run = await run_card(ada, place["board_id"], "Work", CARD)
        ended = await ended_run(ada, run["id"], within=90)
        assert ended["status"] == "succeeded", ended["reason"]
        assert (await ada.get(f"/api/cards/{card['id']}"))["column_id"] == "review"
        files = git(bare_repository(worker.cloud, place), "ls-tree", "--name-only", ended["branch"]).splitlines()
        assert "worked.txt" in files
        for name in ("provisioning", "agent_runs", "webhooks", "usage"):
            assert set(worker.invoked(name)) == {1}, name

    async def test_timers_fire(self, worker: Worker):
        async def fired() -> bool:
            return all(len(worker.invoked(name)) >= 2 for name in ("watchdog", "outbox_sweeper"))

        await until(fired, within=40, every=0.5)
        assert {*worker.invoked("watchdog"), *worker.invoked("outbox_sweeper")} == {1}


class TestQueues:
    async def test_messages_arrive_with_their_count(self, worker: Worker, ada: Person):
        await make_team(ada, "Counted")
        taken = [line for line in worker.logged("queue.message") if line["queue"] == "provisioning"]
        assert {line["dequeue_count"] for line in taken} == {1}

    async def test_garbage_becomes_an_incident(self, worker: Worker):
        async with Person.signed_in(worker.cloud, "grace@contoso.test") as grace:
            async with Queues.of(worker.cloud) as queues:
                await queues.send_text("webhooks", "garbage for the worker!")

            async def there() -> Json | None:
                items = (await grace.get("/api/incidents"))["items"]
                return next((item for item in items if "garbage for the worker!" in str(item["body"])), None)

            assert "not base64" in (await until(there, within=30))["reason"]

    async def test_a_poison_message_becomes_an_incident(self, worker: Worker):
        body = {"version": 1, "task_id": "01m80000000000000000", "epoch": 7}
        async with Person.signed_in(worker.cloud, "grace@contoso.test") as grace:
            async with Queues.of(worker.cloud) as queues:
                await queues.send("provisioning-poison", body)

            async def there() -> Json | None:
                items = (await grace.get("/api/incidents"))["items"]
                return next((item for item in items if item["body"].get("epoch") == 7), None)

            assert "given up" in (await until(there, within=30))["reason"]
        assert worker.invoked("provisioning_poison") == [1]


class TestStreams:
    async def test_a_model_answers_through_the_gateway_piece_by_piece(self, anybody: httpx.AsyncClient, key: str):
        moments: list[float] = []
        async with _ask(anybody, key) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            said = ""
            async for piece in answer.aiter_text():
                moments.append(time.monotonic())
                said += piece
        assert said.endswith("\n\n")
        assert "message_stop" in said
        deltas = said.count("event: content_block_delta")
        assert deltas >= 4
        assert len(moments) > deltas / 2  # a busy machine finds several at once
        assert moments[-1] - moments[0] > 0.8 * PAUSE * (deltas - 1)

    async def test_who_leaves_ends_the_call_of_the_model(self, worker: Worker, anybody: httpx.AsyncClient, key: str):
        worker.wire.abandoned.clear()
        worker.wire.said.clear()
        async with _ask(anybody, key) as answer:
            async for piece in answer.aiter_text():
                if "content_block_delta" in piece:
                    break
        await asyncio.wait_for(worker.wire.abandoned.wait(), 5)
        assert b"content_block_delta" in worker.wire.said
        assert b"message_stop" not in worker.wire.said


class TestUploads:
    async def test_30_megabytes_reach_the_model(self, worker: Worker, anybody: httpx.AsyncClient, key: str):
        question = orjson.dumps(_question("x" * UPLOAD, stream=False))
        before, watching = worker.memory(), asyncio.create_task(_most(worker))
        answer = await anybody.post("/api/v1/messages", content=_chunks(question), headers=_paid(key))
        watching.cancel()
        assert answer.status_code == 200, answer.text[:300]
        assert answer.json()["usage"]["input_tokens"] > UPLOAD // 8
        assert await watching - before < MEMORY

    async def test_too_much_json_is_refused_before_it_is_taken_in(
        self, worker: Worker, ada: Person, anybody: httpx.AsyncClient
    ):
        body = orjson.dumps({"name": "x" * UPLOAD})
        headers = {"authorization": f"Bearer {ada.session['access_token']}", "content-type": "application/json"}
        before, watching = worker.memory(), asyncio.create_task(_most(worker))
        refused = problem(await anybody.post("/api/teams", content=_chunks(body), headers=headers))
        watching.cancel()
        assert refused["status"] == 413
        assert f"{LARGEST_BODY // 1024**2} MB" in refused["detail"]
        assert await watching - before < UPLOAD


OPEN = {"health": 200, "openapi": 200, "docs": 200}
PATHS = {
    "auth": "/api/auth/me",
    "teams": "/api/teams",
    "invitations": "/api/invitations/none/accept",
    "workspaces": "/api/workspaces",
    "boards": "/api/boards/board_w0000000000",
    "cards": "/api/cards/card_w0000000000_none",
    "tasks": "/api/tasks",
    "runs": "/api/runs/run_w0000000000_none",
    "agents": "/api/agents/agent_w0000000000_none/webhook",
    "github": "/api/github/webhook",
    "llm": "/api/v1/models",
    "incidents": "/api/incidents",
    "usage_report": "/api/usage",
    "realtime": "/api/realtime/negotiate",
    "health": "/api/health",
    "openapi": "/api/openapi.json",
    "docs": "/api/docs",
}
POSTED = ("invitations", "agents", "github")


class TestCredentials:
    @pytest.mark.parametrize("area", AREAS)
    async def test_every_http_function_asks_for_them_itself(self, anybody: httpx.AsyncClient, area: str):
        method = "POST" if area in POSTED else "GET"
        for headers in ({}, {"authorization": "Bearer nonsense"}, {"x-functions-key": "anything"}):
            answer = await anybody.request(method, PATHS[area], headers=headers)
            assert answer.status_code == OPEN.get(area, 401), answer.text[:300]
            if area not in OPEN and area != "llm":  # which answers in the model API's own form
                problem(answer)
            if area == "llm":
                assert answer.json()["error"]["type"] == "authentication_error"


@asynccontextmanager
async def _ask(client: httpx.AsyncClient, key: str) -> AsyncGenerator[httpx.Response]:
    async with client.stream("POST", "/api/v1/messages", json=_question("Hello"), headers=_paid(key)) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield answer


def _question(text: str, stream: bool = True) -> Json:
    messages = [{"role": "user", "content": text}]
    return {"model": "demo-1", "max_tokens": 500, "stream": stream, "messages": messages}


def _paid(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}


async def _chunks(body: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


async def _most(worker: Worker) -> int:
    most = 0
    try:
        while True:
            most = max(most, worker.memory())
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return most
