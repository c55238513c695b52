"""The local function host behaves as the Functions host does: HTTP over sockets, timers, its process."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import azure.functions as func
import httpx
import pytest
from azurefunctions.extensions.http.fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from functions.asgi import AsgiResponse
from local import host_app, host_config
from local.child import Child, accepts_connections
from local.free_ports import free_port
from local.host import FunctionHost
from local.host_app import AppInvalid
from local.host_config import HostConfig
from local.host_ncrontab import Schedule, ScheduleInvalid

ROOT = Path(__file__).parents[2]


class TestTimerTrigger:
    async def test_timer_fires_at_the_start_and_on_schedule_and_never_overlaps(self):
        fired: list[tuple[datetime, datetime]] = []
        app = func.FunctionApp()

        @app.timer_trigger(schedule="* * * * * *", arg_name="timer", run_on_startup=True)
        async def tick(timer: func.TimerRequest) -> None:
            started = datetime.now(UTC)
            await asyncio.sleep(1.2)
            fired.append((started, datetime.now(UTC)))

        begun = datetime.now(UTC)
        async with FunctionHost(host_app.read(app, {}), HostConfig(), {}):
            while len(fired) < 3:
                await asyncio.sleep(0.02)

        assert (fired[0][0] - begun).total_seconds() < 0.5
        assert all(fired[n + 1][0] > fired[n][1] for n in range(2))
        assert all(start.microsecond < 300_000 for start, _ in fired[1:])  # on the full second

    async def test_timer_that_failed_fires_again(self):
        fired: list[bool] = []
        app = func.FunctionApp()

        @app.timer_trigger(schedule="* * * * * *", arg_name="timer")
        def tick(timer: func.TimerRequest) -> None:
            fired.append(timer.past_due)
            raise ValueError("broken")

        async with FunctionHost(host_app.read(app, {}), HostConfig(), {}):
            while len(fired) < 2:
                await asyncio.sleep(0.02)

        assert fired == [False, False]


class TestSchedule:
    @pytest.mark.parametrize(
        ("text", "after", "expected"),
        [
            ("*/15 * * * * *", "2026-11-22T10:00:14", "2026-11-22T10:00:15"),
            ("*/15 * * * * *", "2026-11-22T10:00:45", "2026-11-22T10:01:00"),
            ("0 */5 * * * *", "2026-11-22T10:00:00", "2026-11-22T10:05:00"),
            ("0 30 9 * * Mon-Fri", "2026-11-20T09:30:00", "2026-11-23T09:30:00"),
            ("0 0 0 29 2 *", "2026-11-22T00:00:00", "2028-02-29T00:00:00"),
            ("0 0 0 13 * 5", "2026-11-22T00:00:00", "2027-08-13T00:00:00"),
            ("5,10 0 22-23 1 jan,JUL *", "2026-11-22T00:00:00", "2027-01-01T22:00:05"),
            ("0 10/20 * * * *", "2026-11-22T10:31:00", "2026-11-22T10:50:00"),
            ("59 59 23 31 12 *", "2026-12-31T23:59:59", "2027-12-31T23:59:59"),
            ("*/5 * * * *", "2026-11-22T10:04:59", "2026-11-22T10:05:00"),
        ],
    )
    def test_next_occurrence(self, text: str, after: str, expected: str):
        moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
        assert Schedule.parse(text).next_after(moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)

    @pytest.mark.parametrize("text", ["", "* * *", "60 * * * * *", "a * * * * *", "*/0 * * * * *", "5-1 * * * * *"])
    def test_malformed_schedule_is_refused(self, text: str):
        with pytest.raises(ScheduleInvalid):
            Schedule.parse(text)

    def test_day_that_never_comes_is_refused(self):
        with pytest.raises(ScheduleInvalid, match="never"):
            Schedule.parse("0 0 0 31 2 *").next_after(datetime.now(UTC))


@dataclass
class Seen:
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


def http_app(seen: Seen) -> func.FunctionApp:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        if scope["path"].endswith("/upload"):
            size, more = 0, True
            while more:
                message = await receive()
                size, more = size + len(message.get("body", b"")), message.get("more_body", False)
            await send({"type": "http.response.body", "body": str(size).encode()})
        elif scope["path"].endswith("/forever"):
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            seen.disconnected.set()
        else:
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await seen.released.wait()
            await send({"type": "http.response.body", "body": b"two"})

    @app.route("raw/{*path}", methods=["GET", "POST"])
    async def stream(req: Request) -> Response:
        return AsgiResponse(raw)

    @app.route("cards/{id}", methods=["PUT"])
    async def put_card(req: Request) -> Response:
        return Response(f"put {req.path_params['id']} {len(await req.body())}")

    @app.route("cards/{id:int}", methods=["GET"])
    def get_card(req: Request) -> dict[str, Any]:
        return {"number": req.path_params["id"], "invocation": req.headers["x-ms-invocation-id"]}

    @app.route("cards/latest", methods=["GET"])
    async def latest(req: Request) -> str:
        return "latest"

    @app.route("broken")
    async def broken(req: Request) -> Response:
        raise ValueError("broken")

    return app


@pytest.fixture
async def http() -> AsyncIterator[tuple[httpx.AsyncClient, Seen]]:
    seen = Seen()
    async with (
        FunctionHost(host_app.read(http_app(seen), {}), HostConfig(), {}, grace=1) as host,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{host.port}/api", timeout=10) as client,
    ):
        yield client, seen


class TestHttpTrigger:
    async def test_an_idle_connection_stays_open_for_longer_than_clients_keep_one(
        self, http: tuple[httpx.AsyncClient, Seen]
    ):
        client, _ = http
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        for pause in (6, 0):
            writer.write(b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
            await asyncio.sleep(pause)
        writer.close()

    async def test_stream_arrives_chunk_by_chunk(self, http: tuple[httpx.AsyncClient, Seen]):
        client, seen = http
        async with client.stream("GET", "/raw/stream") as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"one"
            seen.released.set()
            assert await anext(chunks) == b"two"

    async def test_ten_megabytes_are_uploaded(self, http: tuple[httpx.AsyncClient, Seen]):
        size = 10 * 1024 * 1024
        assert (await http[0].post("/raw/upload", content=b"x" * size)).text == str(size)

    async def test_disconnect_of_the_client_reaches_the_function(self, http: tuple[httpx.AsyncClient, Seen]):
        client, seen = http
        async with client.stream("GET", "/raw/forever") as response:
            assert await anext(response.aiter_raw()) == b"begun"
        await asyncio.wait_for(seen.disconnected.wait(), 5)

    async def test_most_specific_route_wins_and_its_parameters_are_given(self, http: tuple[httpx.AsyncClient, Seen]):
        client, _ = http
        assert (await client.get("/cards/latest")).json() == "latest"
        assert (await client.get("/Cards/7/")).json()["number"] == "7"
        assert (await client.put("/cards/a%20b", content=b"xyz")).text == "put a b 3"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/nowhere"),
            ("GET", "/cards/abc"),
            ("DELETE", "/cards/7"),
            ("HEAD", "/cards/7"),
        ],
    )
    async def test_unknown_route_or_method_is_404(self, http: tuple[httpx.AsyncClient, Seen], method: str, path: str):
        assert (await http[0].request(method, path)).status_code == 404

    async def test_catch_all_matches_the_bare_prefix_too(self, http: tuple[httpx.AsyncClient, Seen]):
        client, seen = http
        seen.released.set()
        assert (await client.post("/raw")).text == "onetwo"

    async def test_answers_on_a_kept_connection_are_not_delayed(self, http: tuple[httpx.AsyncClient, Seen]):
        took: list[float] = []
        for _ in range(40):
            begun = time.monotonic()
            await http[0].get("/cards/latest")
            took.append(time.monotonic() - begun)
        # A delayed acknowledgement takes 40 ms, each time once those are over that come at once on a new connection.
        assert min(took[-10:]) < 0.03

    async def test_clients_cannot_choose_the_invocation_id(self, http: tuple[httpx.AsyncClient, Seen]):
        answer = await http[0].get("/cards/7", headers={"x-ms-invocation-id": "mine"})
        assert answer.json()["invocation"] not in ("", "mine")

    async def test_failing_function_answers_500_and_the_host_serves_on(self, http: tuple[httpx.AsyncClient, Seen]):
        assert (await http[0].get("/broken")).status_code == 500
        assert (await http[0].get("/cards/latest")).status_code == 200


class TestRefusedApp:
    """What the Functions host would refuse, or this one cannot run, is an error at the start with its remedy."""

    def test_http_function_without_the_streaming_request(self):
        app = func.FunctionApp()

        @app.route("old")
        def old(req: func.HttpRequest) -> func.HttpResponse:
            return func.HttpResponse("")

        with pytest.raises(AppInvalid, match="HTTP function old must annotate"):
            host_app.read(app, {})

    def test_unsupported_trigger(self):
        app = func.FunctionApp()

        @app.blob_trigger("blob", path="a/{name}", connection="AzureWebJobsStorage")
        def on_blob(blob: func.InputStream) -> None: ...

        with pytest.raises(AppInvalid, match="on_blob has a blobTrigger"):
            host_app.read(app, {})

    def test_setting_in_a_trigger_is_replaced_or_missed_by_name(self):
        def app() -> func.FunctionApp:
            declared = func.FunctionApp()

            @declared.queue_trigger("message", "%QUEUE%", connection="AzureWebJobsStorage")
            def on_message(message: func.QueueMessage) -> None: ...

            return declared

        (found,) = host_app.read(app(), {"QUEUE": "Orders"})
        assert isinstance(found, host_app.QueueFunction)
        assert found.queue == "orders"
        with pytest.raises(AppInvalid, match="setting QUEUE"):
            host_app.read(app(), {})

    async def test_missing_connection_string(self):
        app = func.FunctionApp()

        @app.queue_trigger("message", "orders", connection="AzureWebJobsStorage")
        def on_message(message: func.QueueMessage) -> None: ...

        with pytest.raises(AppInvalid, match="setting AzureWebJobsStorage"):
            async with FunctionHost(host_app.read(app, {}), HostConfig(), {}):
                pass

    def test_host_json_is_read_and_overridden_by_settings(self, tmp_path: Path):
        queues = {"batchSize": 8, "visibilityTimeout": "00:00:30", "maxPollingInterval": "00:00:02"}
        (tmp_path / "host.json").write_text(json.dumps({"extensions": {"queues": queues}}))

        config = host_config.read(tmp_path, {"AzureFunctionsJobHost__extensions__queues__maxDequeueCount": "2"})

        assert config.queues.batch_size == 8
        assert config.queues.new_batch_threshold == 4 * (os.process_cpu_count() or 1)
        assert config.queues.visibility_timeout == 30
        assert config.queues.max_polling_interval == 2
        assert config.queues.max_dequeue_count == 2

    @pytest.mark.parametrize(
        "queues", [{"batchSize": 33}, {"visibilityTimeout": 30}, {"maxDequeueCount": 0}, {"messageEncoding": "utf8"}]
    )
    def test_host_json_out_of_range(self, tmp_path: Path, queues: dict[str, Any]):
        (tmp_path / "host.json").write_text(json.dumps({"extensions": {"queues": queues}}))
        with pytest.raises(AppInvalid, match=next(iter(queues))):
            host_config.read(tmp_path, {})


SMALL_APP = """
import time
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("hello")
async def hello(req: Request) -> Response:
    return Response("hello")

@app.route("stuck")
def stuck(req: Request) -> Response:
    time.sleep(60)
    return Response("late")
"""


class TestProcess:
    async def test_host_serves_an_app_folder_and_exits_0_on_sigterm_in_spite_of_a_stuck_thread(self, tmp_path: Path):
        (tmp_path / "function_app.py").write_text(SMALL_APP)
        (tmp_path / "host.json").write_text('{"version": "2.0"}')
        port, log_path = free_port(), tmp_path / "host.log"
        argv = [sys.executable, "-m", "local.host", "--port", str(port), "--app-dir", str(tmp_path)]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

        async with (
            Child("host", argv, env, log_path, lambda: accepts_connections(port), cwd=tmp_path) as child,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api") as client,
        ):
            assert (await client.get("/hello")).text == "hello"
            stuck = asyncio.create_task(client.get("/stuck"))
            await asyncio.sleep(0.3)
            os.kill(child.pid, signal.SIGTERM)
            assert await asyncio.wait_for(child.wait(), 12) == 0
            with pytest.raises(httpx.HTTPError):
                await stuck

        events = [json.loads(line)["event"] for line in log_path.read_text().splitlines() if line.startswith("{")]
        assert events[0] == "host.started"
        assert events[-1] == "host.stopped"

    async def test_folder_without_an_app_is_an_error_that_says_so(self, tmp_path: Path):
        argv = [sys.executable, "-m", "local.host", "--port", str(free_port()), "--app-dir", str(tmp_path)]
        (tmp_path / "host.json").write_text("{}")
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

        async with Child("host", argv, env, tmp_path / "host.log") as child:
            assert await asyncio.wait_for(child.wait(), 15) == 1
            assert "There is no function_app.py" in child.last_log_lines()
