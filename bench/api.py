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

from bench.report import OURS, Row, report
from local.child import Child, accepts_connections
from local.client import Client
from local.cloud import ROOT, LocalCloud
from local.ports import CloudPorts
from local.serving import listening_socket
from shared.bootstrap import adapters
from shared.core import ids, rank
from shared.core.ports import ANY, Documents, Put
from shared.core.settings import Settings

CARDS = 1000
GROWTH = (100, 10_000)
SECONDS = 3.0
FLOOR = "limit: in-memory Starlette"
STORES = {"tinydb": OURS, "tables": "ours on Azurite tables"}
BATCH = 100

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
    parser.add_argument("--no-growth", action="store_true", help="skip the boards of other sizes")
    options = parser.parse_args()
    if options.floor:
        uvicorn.run(_floor(), port=options.floor, log_level="warning", access_log=False)
        return
    if cores := sorted(os.sched_getaffinity(0))[1:]:
        os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory(prefix="kanban-bench-") as folder:
        stores = options.store or list(STORES)
        report("api", asyncio.run(_run(Path(folder), stores, () if options.no_growth else GROWTH)))


async def _run(folder: Path, stores: list[str], growth: tuple[int, ...]) -> list[Row]:
    rows: list[Row] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for store in stores:
            rows += await _ours(http, folder / store, store, growth)
        rows += await _measure_floor(http, folder)
    return rows


async def _ours(http: aiohttp.ClientSession, folder: Path, store: str, growth: tuple[int, ...]) -> list[Row]:
    environ = dict(os.environ) | {"STORE": store}
    async with LocalCloud(folder, CloudPorts.free(), environ) as cloud, Client(cloud.api_url) as client:
        token = (await client.sign_in("ada@contoso.test"))["access_token"]
        documents = adapters(Settings.from_env(cloud.settings)).documents
        host = cloud.functions
        assert host is not None
        _pin(host.pid)
        headers = {"authorization": f"Bearer {token}"}

        async def subject(cards: int) -> Subject:
            return Subject(STORES[store], host.pid, await _platform(http, client, headers, documents, cards))

        rows = await _measure(await subject(CARDS))
        for cards in growth:
            rows += await _grown(await subject(cards), cards)
        return rows


async def _platform(
    http: aiohttp.ClientSession, client: Client, headers: dict[str, str], documents: Documents, count: int
) -> dict[str, Call]:
    started = await client.post("/api/teams", {"name": f"Benchmark {count}"})
    await client.finished(started["task_id"])
    board_id = started["team"]["board_id"]
    first = await client.post(f"/api/boards/{board_id}/cards", {"title": "Card 0", "body": "Text. " * 40})
    cards = [first["id"], *await _copies(documents, first["id"], count - 1)]
    board = await client.get(f"/api/boards/{board_id}")
    assert len(board["cards"]) == count
    columns = [c["id"] for c in board["board"]["columns"] if c["kind"] == "plain"]
    base = f"{client.base_url}/api"

    async def send(method: str, path: str, body: Any = None) -> int:
        async with http.request(method, base + path, json=body, headers=headers) as answer:
            data = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
            return len(data)

    return {
        "read the board": lambda _: send("GET", f"/boards/{board_id}"),
        "move a card": lambda n: send(
            "POST", f"/cards/{cards[n % count]}/move", {"column_id": columns[n // count % len(columns)]}
        ),
        "edit a card": lambda n: send("PATCH", f"/cards/{cards[n % count]}", {"title": f"Edited {n}"}),
        "create a card": lambda n: send("POST", f"/boards/{board_id}/cards", {"title": f"Card {n}"}),
    }


async def _copies(documents: Documents, card_id: str, count: int) -> list[str]:
    """More cards like the first, straight into the store: making them over HTTP would take most of the time."""
    scope = ids.scope_of(card_id, "card")
    doc = await documents.get(f"boards/{scope}", f"card/{card_id}")
    assert doc is not None
    place, made = doc.body["rank"], list[str]()
    for start in range(0, count, BATCH):
        puts: list[Put] = []
        for n in range(start, min(start + BATCH, count)):
            place = rank.between(place, None)
            made.append(ids.scoped("card", scope))
            body = doc.body | {"id": made[-1], "rank": place, "title": f"Card {n + 1}"}
            puts.append(Put(f"card/{made[-1]}", body, ANY))
        await documents.commit(f"boards/{scope}", puts)
    return made


async def _measure_floor(http: aiohttp.ClientSession, folder: Path) -> list[Row]:
    with listening_socket() as sock:
        port = sock.getsockname()[1]
    argv = [sys.executable, "-m", "bench.api", "--floor", str(port)]
    child = Child("floor", argv, os.environ, folder / "floor.log", lambda: accepts_connections(port), cwd=ROOT)
    async with child:
        _pin(child.pid)
        base = f"http://127.0.0.1:{port}"

        async def send(method: str, path: str, body: Any = None) -> int:
            async with http.request(method, base + path, json=body) as answer:
                return len(await answer.read())

        calls: dict[str, Call] = {
            "read the board": lambda _: send("GET", "/board"),
            "move a card": lambda n: send("PATCH", f"/cards/{n % CARDS}", {"column": "b"}),
            "edit a card": lambda n: send("PATCH", f"/cards/{n % CARDS}", {"title": f"Edited {n}"}),
            "create a card": lambda n: send("POST", "/cards", {"title": f"Card {n}"}),
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
            await _load(call, concurrent, 0.3)
            times, seconds, size = await _load(call, concurrent, SECONDS)
            name = f"{case}, {concurrent} at once"
            rows.append(Row(name, subject.name, "rps", len(times) / seconds, "req/s"))
            rows.append(Row(name, subject.name, "p50", statistics.median(times) * 1000, "ms"))
            rows.append(Row(name, subject.name, "p99", statistics.quantiles(times, n=100)[98] * 1000, "ms"))
            if concurrent == 1 and case.startswith("read"):
                rows.append(Row(name, subject.name, "answer", size / 1000, "KB"))
    rows.append(Row("after all of it", subject.name, "rss", _rss_mb(subject.pid), "MB"))
    return rows


async def _grown(subject: Subject, cards: int) -> list[Row]:
    rows: list[Row] = []
    for case in ("read the board", "move a card", "edit a card"):
        await _load(subject.calls[case], 1, 0.3)
        times, seconds, _ = await _load(subject.calls[case], 1, SECONDS / 2)
        rows.append(Row(f"{case}, 1 at once, {cards} cards", subject.name, "rps", len(times) / seconds, "req/s"))
    rows.append(Row(f"with {cards} cards too", subject.name, "rss", _rss_mb(subject.pid), "MB"))
    return rows


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


def _pin(pid: int) -> None:
    """All threads of a process, to the first core."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {0})


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


if __name__ == "__main__":
    main()
