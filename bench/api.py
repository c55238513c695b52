"""Board read, move, create and edit over HTTP with 1,000 cards, beside an in-memory floor that keeps nothing."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.report import OURS, Row, report
from local.client import Client
from local.cloud import LocalCloud
from local.ports import CloudPorts
from local.serving import serve

CARDS = 1000
SECONDS = 5.0
FLOOR = "limit: in-memory Starlette"

type Call = Callable[[int], Awaitable[Any]]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kanban-bench-") as folder:
        report("api", asyncio.run(_run(Path(folder))))


async def _run(folder: Path) -> list[Row]:
    async with LocalCloud(folder / "data", CloudPorts.free()) as cloud, Client(cloud.api_url) as client:
        await client.sign_in("ada@contoso.test")
        ours = await _measure(OURS, await _platform(client))
    async with serve(_floor()) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        floor = await _measure(FLOOR, _floor_calls(http))
    return ours + floor


async def _platform(client: Client) -> dict[str, Call]:
    started = await client.post("/api/teams", {"name": "Benchmark"})
    board_id = started["team"]["board_id"]
    await client.finished(started["task_id"])
    cards = [
        (await client.post(f"/api/boards/{board_id}/cards", {"title": f"Card {n}", "body": "Text. " * 40}))["id"]
        for n in range(CARDS)
    ]
    columns = [
        c["id"] for c in (await client.get(f"/api/boards/{board_id}"))["board"]["columns"] if c["kind"] == "plain"
    ]
    return {
        "read the board": lambda n: client.get(f"/api/boards/{board_id}"),
        "move a card": lambda n: client.post(
            f"/api/cards/{cards[n % CARDS]}/move", {"column_id": columns[n // CARDS % len(columns)]}
        ),
        "edit a card": lambda n: client.patch(f"/api/cards/{cards[n % CARDS]}", {"title": f"Edited {n}"}),
    }


def _floor() -> Starlette:
    cards = {str(n): {"id": str(n), "title": f"Card {n}", "body": "Text. " * 40, "column": "a"} for n in range(CARDS)}

    async def read(_: Request) -> Response:
        return JSONResponse(list(cards.values()))

    async def change(request: Request) -> Response:
        card = cards[request.path_params["id"]]
        card.update(await request.json())
        return JSONResponse(card)

    return Starlette(routes=[Route("/board", read), Route("/cards/{id}", change, methods=["PATCH"])])


def _floor_calls(http: httpx.AsyncClient) -> dict[str, Call]:
    return {
        "read the board": lambda n: http.get("/board"),
        "move a card": lambda n: http.patch(f"/cards/{n % CARDS}", json={"column": "b"}),
        "edit a card": lambda n: http.patch(f"/cards/{n % CARDS}", json={"title": f"Edited {n}"}),
    }


async def _measure(subject: str, calls: dict[str, Call]) -> list[Row]:
    rows: list[Row] = []
    for case, call in calls.items():
        times: list[float] = []
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            began = time.perf_counter()
            await call(len(times))
            times.append(time.perf_counter() - began)
        rows.append(Row(case, subject, "p50", statistics.median(times) * 1000, "ms"))
        rows.append(Row(case, subject, "rate, one at a time", len(times) / sum(times), "req/s"))
    return rows


if __name__ == "__main__":
    main()
