"""The adapter that lets HTTP functions run our API on the raw connection."""

from typing import Any

import httpx
from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from functions.asgi import AsgiResponse


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
