"""Microsoft's own worker library indexes and runs what we write for it, and our local host reads the same."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.requires import require

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("functions_worker.py")
READ_LOCALLY = """
import json, os, sys
from pathlib import Path
from local import host_app
found = host_app.read(host_app.load(Path(sys.argv[1])), os.environ)
print("RESULT " + json.dumps({each.name: type(each).__name__ for each in found}))
"""
KINDS = {"httpTrigger": "HttpFunction", "queueTrigger": "QueueFunction", "timerTrigger": "TimerFunction"}

APP = """
import asyncio

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from functions.asgi import AsgiResponse

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
api = FastAPI()
seen = {"disconnected": False, "queue": None, "past_due": None}


@api.get("/api/events/stream")
async def stream() -> StreamingResponse:
    async def numbers():
        for number in range(3):
            yield str(number)
            await asyncio.sleep(0.3)
    return StreamingResponse(numbers())


@api.get("/api/events/endless")
async def endless() -> StreamingResponse:
    async def numbers():
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.05)
        finally:
            seen["disconnected"] = True
    return StreamingResponse(numbers())


async def raw(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/api/events/upload":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})
    else:
        await api(scope, receive, send)


@api.get("/api/events/seen")
async def what_was_seen() -> dict:
    return seen


@app.route("events/{*path}", methods=["GET", "POST"])
async def events(req: Request) -> Response:
    return AsgiResponse(raw)


@app.queue_trigger("message", "work", connection="AzureWebJobsStorage")
async def work(message: func.QueueMessage) -> None:
    if message.get_body() == b"fail":
        raise ValueError("broken")
    seen["queue"] = [message.id, message.get_body().decode(), message.dequeue_count, str(message.insertion_time)]


@app.timer_trigger(schedule="*/15 * * * * *", arg_name="timer", run_on_startup=False, use_monitor=False)
async def sweep(timer: func.TimerRequest) -> None:
    seen["past_due"] = timer.past_due
"""


async def run(*argv: str, cwd: Path) -> Any:
    """The value a child process printed after RESULT; its output is the error when there is none."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, *argv),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(ROOT)},
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), 90)
    except TimeoutError:
        child.kill()
        raise
    lines = [line for line in output.decode().splitlines() if line.startswith("RESULT ")]
    assert lines, output.decode()[-4000:]
    return json.loads(lines[-1].removeprefix("RESULT "))


def triggers(bindings: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {name: next(b for b in each if b["type"].endswith("Trigger")) for name, each in bindings.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    created = tmp_path_factory.mktemp("app")
    (created / "function_app.py").write_text(APP)
    (created / "host.json").write_text('{"version": "2.0"}')
    return created


@pytest.fixture(scope="module")
async def driven(folder: Path) -> dict[str, Any]:
    return await run(str(DRIVER), str(folder), "drive", cwd=folder)


class TestWorkerRunsASmallApp:
    def test_every_function_is_indexed(self, driven: dict[str, Any]):
        kinds = {name: trigger["type"] for name, trigger in triggers(driven["bindings"]).items()}
        assert kinds == {"events": "httpTrigger", "work": "queueTrigger", "sweep": "timerTrigger"}

    def test_stream_arrives_chunk_by_chunk(self, driven: dict[str, Any]):
        times, chunks = zip(*driven["stream"]["chunks"], strict=True)
        assert chunks == ("0", "1", "2")
        assert times[2] - times[0] > 0.4
        assert driven["stream"]["status"] == 1

    def test_thirty_megabytes_are_uploaded_and_not_held(self, driven: dict[str, Any]):
        assert "".join(text for _, text in driven["upload"]["chunks"]) == "31457280"
        assert driven["upload"]["grown"] < 10_000_000

    def test_disconnect_message_and_timer_reach_the_functions(self, driven: dict[str, Any]):
        seen = json.loads("".join(text for _, text in driven["seen"]["chunks"]))
        assert seen == {
            "disconnected": True,
            "queue": ["m1", "hello", 2, "2026-11-01 10:00:00+00:00"],
            "past_due": True,
        }
        assert (driven["queue"], driven["timer"]) == (1, 1)

    def test_nothing_is_kept_of_requests_that_are_over(self, driven: dict[str, Any]):
        assert driven["kept"] == 0

    def test_failing_queue_function_is_reported_as_failed(self, driven: dict[str, Any]):
        assert driven["queue_failure"]["status"] == 0
        assert "broken" in driven["queue_failure"]["message"]

    async def test_local_host_reads_the_same_functions(self, folder: Path, driven: dict[str, Any]):
        local = await run("-c", READ_LOCALLY, str(folder), cwd=folder)
        assert local == {name: KINDS[trigger["type"]] for name, trigger in triggers(driven["bindings"]).items()}


@pytest.fixture(scope="module")
async def indexed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    require((ROOT / "function_app.py").exists(), "function_app.py is missing from the repository's root.")
    return await run(str(DRIVER), str(ROOT), "index", cwd=tmp_path_factory.mktemp("empty"))


class TestWorkerIndexesThePlatform:
    """The repository's own function_app.py, with no setting set: indexing must not need any."""

    async def test_worker_and_local_host_list_the_same_functions(self, indexed: dict[str, Any], tmp_path: Path):
        local = await run("-c", READ_LOCALLY, str(ROOT), cwd=tmp_path)
        assert local == {name: KINDS[trigger["type"]] for name, trigger in triggers(indexed).items()}
        assert set(local.values()) == set(KINDS.values())

    def test_every_function_has_these_bindings_and_no_others(self, indexed: dict[str, Any]):
        assert indexed == {name: http(route) for name, route in ROUTES.items()} | {
            **{name.replace("-", "_"): queue(name) for name in QUEUES},
            **{f"{name.replace('-', '_')}_poison": queue(f"{name}-poison") for name in QUEUES},
            "watchdog": timer("*/15 * * * * *"),
            "outbox_sweeper": timer("*/10 * * * * *"),
        }


ROUTES = {
    "auth": "auth/{*path}",
    "teams": "teams/{*path}",
    "invitations": "invitations/{*path}",
    "workspaces": "workspaces/{*path}",
    "boards": "boards/{*path}",
    "cards": "cards/{*path}",
    "tasks": "tasks/{*path}",
    "runs": "runs/{*path}",
    "agents": "agents/{*path}",
    "github": "github/{*path}",
    "llm": "v1/{*path}",
    "incidents": "incidents/{*path}",
    "usage_report": "usage",
    "realtime": "realtime/{*path}",
    "health": "health",
    "openapi": "openapi.json",
    "docs": "docs",
}
QUEUES = ("provisioning", "agent-runs", "webhooks", "usage")


def http(route: str) -> list[dict[str, Any]]:
    """Anonymous, because the API authenticates."""
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    trigger = {"type": "httpTrigger", "name": "req", "methods": methods, "authLevel": "ANONYMOUS", "route": route}
    return [{"direction": "IN", **trigger}, {"direction": "OUT", "type": "http", "name": "$return"}]


def queue(name: str) -> list[dict[str, Any]]:
    trigger = {"type": "queueTrigger", "name": "msg", "queueName": name, "connection": "AzureWebJobsStorage"}
    return [{"direction": "IN", **trigger}]


def timer(schedule: str) -> list[dict[str, Any]]:
    trigger = {"type": "timerTrigger", "name": "timer", "schedule": schedule, "runOnStartup": True}
    return [{"direction": "IN", **trigger}]
