"""Boards over HTTP, alone and with 16 at once, beside an in-memory floor that keeps nothing.

Each server under test has core 0 to itself; the load and everything else runs on core 1.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.boards import (
    PEERS,
    STORES,
    Bench,
    Board,
    connector,
    fill,
    full_board,
    leave_first_core,
    pin,
    rss_mb,
    started,
)
from bench.report import Row, report
from local.child import Child, accepts_connections
from local.cloud import ROOT
from local.serving import listening_socket

CARDS = 1000
GROWTH = (100, 10_000)
MOST_TO_GROW = 9_000
"""Creating needs room below the 10,000 cards that a board holds."""
SECONDS = 3.0
WARM_UP = 0.5
FLOOR = "limit: in-memory Starlette"
CREATE = "create a card"

type Call = Callable[[int], Awaitable[int]]
"""One request; returns the bytes of its answer."""


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    pid: int
    calls: dict[str, Call]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--floor", type=int, metavar="PORT", help="serve the floor (used by the benchmark itself)")
    parser.add_argument("--store", choices=STORES, action="append", help="measure this store only")
    parser.add_argument("--quick", action="store_true", help="the local store and 1,000 cards only")
    options = parser.parse_args()
    if options.floor:
        uvicorn.run(_floor(), port=options.floor, log_level="warning", access_log=False)
        return
    leave_first_core()
    stores = ["tinydb"] if options.quick else options.store or list(STORES)
    with tempfile.TemporaryDirectory(prefix="kanban-bench-") as folder:
        report("api", asyncio.run(_run(Path(folder), stores, () if options.quick else GROWTH)))


async def _run(folder: Path, stores: list[str], growth: tuple[int, ...]) -> list[Row]:
    async with aiohttp.ClientSession(connector=connector()) as http:
        rows: list[Row] = []
        for store in stores:
            rows += await _ours(http, folder / store, store, growth)
        rows += await _measure_floor(http, folder)
    return rows + [Row("read the board, 1 at once", peer, "rps", None, reason) for peer, reason in PEERS.items()]


async def _ours(http: aiohttp.ClientSession, folder: Path, store: str, growth: tuple[int, ...]) -> list[Row]:
    name = STORES[store]
    async with started(folder, store) as bench:
        rows = await _measure(Subject(name, bench.pid, _calls(http, bench, await full_board(bench, CARDS))))
        for cards in growth:
            rows += await _grown(http, bench, name, cards)
        return rows


def _calls(http: aiohttp.ClientSession, bench: Bench, board: Board) -> dict[str, Call]:
    base = f"{bench.client.base_url}/api"

    async def send(method: str, path: str, body: Any = None) -> int:
        async with http.request(method, base + path, json=body, headers=bench.headers) as answer:
            data = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
            return len(data)

    def card(n: int) -> str:
        return board.cards[n % len(board.cards)]

    def column(n: int) -> str:
        return board.columns[n // len(board.cards) % len(board.columns)]

    return {
        "read the board": lambda _: send("GET", f"/boards/{board.id}"),
        "move a card": lambda n: send("POST", f"/cards/{card(n)}/move", {"column_id": column(n)}),
        "edit a card": lambda n: send("PATCH", f"/cards/{card(n)}", {"title": f"Edited {n}"}),
        CREATE: lambda n: send("POST", f"/boards/{board.id}/cards", {"title": f"Card {n}"}),
    }


async def _measure_floor(http: aiohttp.ClientSession, folder: Path) -> list[Row]:
    with listening_socket() as sock:
        port = sock.getsockname()[1]
    argv = [sys.executable, "-m", "bench.api", "--floor", str(port)]
    child = Child("floor", argv, os.environ, folder / "floor.log", lambda: accepts_connections(port), cwd=ROOT)
    async with child:
        pin(child.pid)
        base = f"http://127.0.0.1:{port}"

        async def send(method: str, path: str, body: Any = None) -> int:
            async with http.request(method, base + path, json=body) as answer:
                return len(await answer.read())

        calls: dict[str, Call] = {
            "read the board": lambda _: send("GET", "/board"),
            "move a card": lambda n: send("PATCH", f"/cards/{n % CARDS}", {"column": "b"}),
            "edit a card": lambda n: send("PATCH", f"/cards/{n % CARDS}", {"title": f"Edited {n}"}),
            CREATE: lambda n: send("POST", "/cards", {"title": f"Card {n}"}),
        }
        return await _measure(Subject(FLOOR, child.pid, calls))


def _floor() -> Starlette:
    cards = {str(n): _card(str(n), f"Card {n}") for n in range(CARDS)}
    made: list[dict[str, Any]] = []

    async def read(_: Request) -> Response:
        return JSONResponse(list(cards.values()))

    async def change(request: Request) -> Response:
        card = cards[request.path_params["id"]]
        card.update(await request.json())
        return JSONResponse(card)

    async def create(request: Request) -> Response:
        made.append(_card(str(CARDS + len(made)), (await request.json())["title"]))
        return JSONResponse(made[-1], 201)

    return Starlette(
        routes=[
            Route("/board", read),
            Route("/cards", create, methods=["POST"]),
            Route("/cards/{id}", change, methods=["PATCH"]),
        ]
    )


def _card(id: str, title: str) -> dict[str, Any]:
    return {"id": id, "title": title, "body": "Text. " * 40, "column": "a", "labels": [], "rank": id.zfill(8)}


async def _measure(subject: Subject) -> list[Row]:
    rows: list[Row] = []
    for case, call in subject.calls.items():
        for concurrent in (1, 16):
            await _load(call, concurrent, WARM_UP)
            times, seconds, size = await _load(call, concurrent, SECONDS)
            name = f"{case}, {concurrent} at once"
            rows.append(Row(name, subject.name, "rps", len(times) / seconds, "req/s"))
            rows.append(Row(name, subject.name, "p50", statistics.median(times) * 1000, "ms"))
            rows.append(Row(name, subject.name, "p99", statistics.quantiles(times, n=100)[98] * 1000, "ms"))
            if concurrent == 1 and case.startswith("read"):
                rows.append(Row(name, subject.name, "answer", size / 1000, "KB"))
    rows.append(Row("after all of it", subject.name, "rss", rss_mb(subject.pid), "MB"))
    return rows


async def _grown(http: aiohttp.ClientSession, bench: Bench, subject: str, cards: int) -> list[Row]:
    board = await full_board(bench, min(cards, MOST_TO_GROW))
    calls = _calls(http, bench, board)
    create = calls.pop(CREATE)
    rows = [await _alone(CREATE, create, subject, MOST_TO_GROW)] if cards > MOST_TO_GROW else []
    if cards > MOST_TO_GROW:
        await fill(bench, board, cards)
    rows += [await _alone(case, call, subject, cards) for case, call in calls.items()]
    if cards <= MOST_TO_GROW:
        rows.append(await _alone(CREATE, create, subject, cards))
    return [*rows, Row(f"with {cards} cards too", subject, "rss", rss_mb(bench.pid), "MB")]


async def _alone(case: str, call: Call, subject: str, cards: int) -> Row:
    await _load(call, 1, WARM_UP)
    times, seconds, _ = await _load(call, 1, SECONDS / 3)
    return Row(f"{case}, 1 at once, {cards} cards", subject, "rps", len(times) / seconds, "req/s")


_count = iter(range(sys.maxsize))


async def _load(call: Call, concurrent: int, seconds: float) -> tuple[list[float], float, int]:
    """Seconds of each request, seconds of it all, bytes of the last answer."""
    times: list[float] = []
    size = 0
    began = time.perf_counter()

    async def work() -> None:
        nonlocal size
        while time.perf_counter() < began + seconds:
            sent = time.perf_counter()
            size = await call(next(_count))
            times.append(time.perf_counter() - sent)

    await asyncio.gather(*(work() for _ in range(concurrent)))
    return times, time.perf_counter() - began, size


if __name__ == "__main__":
    main()
