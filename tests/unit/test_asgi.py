"""The adapter that lets HTTP functions run our API on the raw connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from functions.asgi import AsgiResponse, WithLifespan


def worker(app: Any) -> FastAPI:
    """What the Functions worker puts around a function: its own application with a catch-all route."""
    outer = FastAPI()

    @outer.api_route("/{path:path}", methods=["GET", "POST"])
    async def catch_all(request: Request) -> AsgiResponse:
        return AsgiResponse(app)

    return outer


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test")


class TestAsgiResponse:
    async def test_inner_application_routes_the_whole_path_and_builds_its_own_urls(self):
        inner = FastAPI()

        @inner.get("/api/things/{name}")
        async def thing(request: Request, name: str) -> dict[str, Any]:
            return {"name": name, "url": str(request.url_for("thing", name="b")), "params": request.path_params}

        async with client(worker(inner)) as http:
            answer = (await http.get("/api/things/a?x=1")).json()

        assert answer == {"name": "a", "url": "http://api.test/api/things/b", "params": {"name": "a"}}

    async def test_request_body_reaches_the_inner_application_unread(self):
        inner = FastAPI()

        @inner.post("/api/echo")
        async def echo(request: Request) -> dict[str, int]:
            return {"bytes": len(await request.body())}

        async with client(worker(inner)) as http:
            assert (await http.post("/api/echo", content=b"x" * 100_000)).json() == {"bytes": 100_000}

    async def test_invocation_id_of_a_client_is_dropped_and_other_headers_kept(self):
        inner = FastAPI()

        @inner.get("/api/headers")
        async def headers(request: Request) -> dict[str, str]:
            return dict(request.headers)

        async with client(worker(inner)) as http:
            seen = (await http.get("/api/headers", headers={"X-MS-Invocation-Id": "spoof", "X-Mine": "1"})).json()

        assert "x-ms-invocation-id" not in seen
        assert seen["x-mine"] == "1"

    async def test_disconnect_of_the_client_arrives_in_the_inner_application(self):
        received: list[str] = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            received.append((await receive())["type"])

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        await AsgiResponse(inner)({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)

        assert received == ["http.disconnect"]


def counting(events: list[str], fail: list[bool] | None = None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        if fail and fail.pop():
            raise ValueError("no database")
        events.append("started")
        await asyncio.sleep(0)
        yield {"pool": "open"}
        events.append("stopped")

    app = FastAPI(lifespan=lifespan)

    @app.get("/api/pool")
    async def pool(request: Request) -> str:
        return request.state.pool

    return app


class TestWithLifespan:
    async def test_application_starts_once_for_concurrent_first_requests_and_stops_when_asked(self):
        events: list[str] = []
        wrapped = WithLifespan(counting(events))

        async with client(worker(wrapped)) as http:
            answers = await asyncio.gather(*(http.get("/api/pool") for _ in range(5)))
            assert [answer.json() for answer in answers] == ["open"] * 5
            assert events == ["started"]
            await wrapped.stop()
            assert events == ["started", "stopped"]
            assert (await http.get("/api/pool")).json() == "open"

        assert events == ["started", "stopped", "started"]
        await wrapped.stop()

    async def test_failed_start_fails_the_request_and_is_tried_again_by_the_next(self):
        events: list[str] = []
        wrapped = WithLifespan(counting(events, fail=[False, True]))

        async with client(worker(wrapped)) as http:
            with pytest.raises((RuntimeError, ValueError), match="no database"):
                await http.get("/api/pool")
            assert (await http.get("/api/pool")).json() == "open"

        await wrapped.stop()
        assert events == ["started", "stopped"]

    async def test_application_without_a_lifespan_is_served(self):
        async def bare(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})

        async with client(worker(WithLifespan(bare))) as http:
            assert (await http.get("/")).status_code == 204
